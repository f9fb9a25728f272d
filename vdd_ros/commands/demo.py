"""All steps in a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vdd_ros.commands.say import out, summarize
from vdd_ros.commands.settings import LearningOptions
from vdd_ros.common.console import Bars, Interruption
from vdd_ros.common.output import claim_output


@dataclass(frozen=True)
class Demo(LearningOptions):
    """All steps in a row on the task that ships: record, train, distil, validate; then look at the report.

    Takes about ten minutes on two cores, without GPU and without a ROS installation.
    """

    output: Path = Path('runs/demo')
    """Folder for everything; must not exist, unless --resume."""
    task: str = 'avoiding'
    """avoiding carries a rod past posts; placing puts a pan into a tray, by an arm with a gripper."""
    contract: str = ''
    """By default the task's own: avoiding_cartesian moves the tool point; avoiding_joint commands the joints, which is
    harder. Likewise placing_cartesian and placing_joint."""
    episodes: int = 288
    """Demonstrations to record."""
    rollouts: int = 480
    """Rollouts of teacher and student in process."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS."""
    seed: int = 0
    """Draws the demonstrations and the rollouts."""
    resume: bool = False
    """Keep the steps that are finished, and go on from the first that is not."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.commands.pipeline import demo
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.sim.tasks import load_task

        contract = self.contract or load_task(self.task).contract
        if not self.resume:
            claim_output(self.output)
        settings = self.chosen(load_contract(contract))
        with Bars(out) as bars:
            report = demo(
                self.output,
                task=self.task,
                contract=contract,
                episodes=self.episodes,
                rollouts=self.rollouts,
                ros_episodes=self.ros_episodes,
                settings=settings,
                seed=self.seed,
                resume=self.resume,
                progress=bars,
                interruption=Interruption(),
            )
        summarize(report, self.output)
