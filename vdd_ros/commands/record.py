"""Record demonstrations."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.echo import beside, echo, out
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Record:
    """Record scripted demonstrations of a task into a bag.

    Starts the simulated arm (mujoco_bridge), a scripted demonstrator that commands it over ROS, and the recorder, in a
    private ROS domain. Needs rclpy: a ROS installation, or the wheels of the extra `ros`. A contract with images is
    recorded without ROS, with EGL: the simulation waits for each image.
    """

    output: Path
    """The bag to write: a folder that does not exist yet."""
    task: str = 'avoiding'
    """The task: avoiding, avoiding_seen, avoiding_starts, placing, placing_seen, an entry point, FILE.py or
    MODULE:ATTRIBUTE."""
    contract: str = ''
    """Contract whose topics are recorded: a YAML file, or the name of a shipped contract; default: that of the task."""
    episodes: int = 288
    """Number of successful demonstrations."""
    seed: int = 0
    """Seed of the demonstrations."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import record

        with Bars(out) as bars:
            record(
                self.output,
                contract=self.contract,
                task=self.task,
                episodes=self.episodes,
                seed=self.seed,
                logs=beside(self.output, 'logs'),
                progress=bars,
            )
        echo(f'recorded {self.output}')


@dataclass(frozen=True)
class RecordLive:
    """Record demonstrations on a robot, episode by episode, controlled by keys in this terminal.

    Runs the recorder on the ROS graph of your robot (ROS_DOMAIN_ID). A status line shows the rate of each topic, the
    current episode, and the remaining recording time of the disk.

        space, s   start an episode; stop it
        y, n       end the episode as a success, a failure (after its end: correct its outcome)
        d          discard the episode, while it runs or afterwards
        l          set the language instruction; it stays valid until it is changed
        q          quit and close the bag

    A short time before the start belongs to the episode (--pre-roll). Messages between episodes are only recorded with
    --continuous. A crash loses the last half second; `vdd recover`, or the next recording, recovers the rest. Inspect
    the result with `vdd inspect`.
    """

    output: Annotated[Path, tyro.conf.Positional]
    """The bag to write: a folder that does not exist yet."""
    contract: str = 'avoiding_joint'
    """Contract whose topics are recorded: a YAML file, or the name of a shipped contract."""
    topics: tuple[str, ...] = ()
    """Further topics to record, of any type."""
    language: str = ''
    """The instruction."""
    pre_roll: float = 1.0
    """Duration before the start of an episode that belongs to it [s]."""
    continuous: bool = False
    """Record between episodes, too."""
    sim_time: bool = False
    """Whether the robot is simulated, with stamps in simulated time."""

    def run(self) -> None:
        """Run the command: this process becomes the recorder, and therefore receives keys and Ctrl-C."""
        values = {
            'output': str(self.output),
            'contract': self.contract,
            'language': self.language,
            'topics': list(self.topics),
            'pre_roll': self.pre_roll,
            'continuous': self.continuous,
            'use_sim_time': self.sim_time,
            'keys': True,
        }
        # JSON is YAML, the format of ROS parameters; an empty list would have no type.
        given = [f'{name}:={json.dumps(value)}' for name, value in values.items() if value != []]
        words = [word for item in given for word in ('-p', item)]
        command = [sys.executable, '-m', 'vdd_ros.entry', 'recorder', '--ros-args', '--log-level', 'warn', *words]
        environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
        os.execve(sys.executable, command, environment)
