"""Record demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vdd_ros.commands.say import beside, out, say
from vdd_ros.console import Bars


@dataclass(frozen=True)
class Record:
    """Record scripted demonstrations of a task into one rosbag2.

    Starts the simulated arm (mujoco_bridge), a scripted demonstrator that commands it through ROS, and the recorder.
    Needs rclpy: a ROS installation, or the wheels of the `ros` extra.
    """

    output: Path
    """The bag to write: a folder that does not exist yet."""
    contract: str = 'avoiding_cartesian'
    """The contract whose topics are recorded: a YAML file, or the name of one that ships."""
    task: str = 'avoiding'
    """What is demonstrated."""
    episodes: int = 288
    """Successful demonstrations to record."""
    seed: int = 0
    """Draws the demonstrations."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.pipeline import record

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
