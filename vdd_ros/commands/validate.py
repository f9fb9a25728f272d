"""Validate a student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vdd_ros.commands.say import out, summarize
from vdd_ros.console import Bars


@dataclass(frozen=True)
class Validate:
    """Roll a student out in simulation, beside its teacher, and report success, variety and latency."""

    student: Path
    """The student's artifact."""
    teacher: Path
    """The teacher's artifact."""
    output: Path
    """Folder for report.html and report.json; must not hold a report yet."""
    task: str = 'avoiding'
    """What to roll out in."""
    episodes: int = 480
    """Rollouts of each in process."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS, policy and arm in processes of their own; 0 for none."""
    seed: int = 0
    """Draws what the policies leave to chance."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.pipeline import validate

        with Bars(out) as bars:
            report = validate(
                self.student,
                self.teacher,
                self.output,
                task=self.task,
                episodes=self.episodes,
                ros_episodes=self.ros_episodes,
                seed=self.seed,
                progress=bars,
            )
        summarize(report, self.output)
