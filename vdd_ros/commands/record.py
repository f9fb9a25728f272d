"""Record demonstrations."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.say import beside, out, say
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Record:
    """Record scripted demonstrations of a task into a bag.

    Starts the simulated arm (mujoco_bridge), a scripted demonstrator that commands it over ROS, and the recorder, in a
    private ROS domain. Needs rclpy: a ROS installation, or the wheels of the extra `ros`.
    """

    output: Path
    """The bag to write: a folder that does not exist yet."""
    task: str = 'avoiding'
    """The task: avoiding, avoiding_starts, placing, an entry point, FILE.py or MODULE:ATTRIBUTE."""
    contract: str = ''
    """Contract whose topics are recorded: a YAML file, or the name of one that ships; default: that of the task."""
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
        say(f'recorded {self.output}')


@dataclass(frozen=True)
class RecordLive:
    """Record demonstrations on a robot, episode by episode, by the keys of this terminal.

    Runs the recorder on the ROS graph of your robot (ROS_DOMAIN_ID) and draws a line that says how fast each topic
    comes, which episode runs, and how long the disk will last.

        space, s   start an episode; stop it
        y, n       end it as a success, a failure (after its end: amend it)
        d          discard it, while it runs or after
        l          say in words what is demonstrated; holds until something else is said
        q          quit; the bag is whole then

    The moments before a start belong to the episode (--pre-roll); between episodes nothing else is kept, unless
    --continuous. A crash costs the last half second; `vdd recover`, or the next recording, makes a bag of the rest.
    Look at what you have with `vdd inspect`.
    """

    output: Annotated[Path, tyro.conf.Positional]
    """The bag to write: a folder that does not exist yet."""
    contract: str = 'avoiding_joint'
    """Contract whose topics are recorded: a YAML file, or the name of one that ships."""
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
        """Run the command: this process becomes the recorder, so that keys and Ctrl-C reach it."""
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
