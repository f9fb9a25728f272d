"""The whole pipeline in one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vdd_ros.commands.echo import out, summarize
from vdd_ros.commands.settings import LearningOptions
from vdd_ros.common.console import Bars, Interruption
from vdd_ros.common.output import claim_output


@dataclass(frozen=True)
class Demo(LearningOptions):
    """Record, train, distill and validate on a task, and write a report.

    Takes about ten minutes on two cores, without GPU and without a ROS installation.
    """

    output: Path = Path('runs/demo')
    """Folder for all results; it must not exist, except with --resume."""
    task: str = 'avoiding'
    """The task: avoiding (a rod past posts), placing (a pan into a tray, by an arm with a gripper), or FILE.py."""
    contract: str = ''
    """Contract; default: that of the task. avoiding_cartesian moves the tool point, avoiding_joint commands the
    joints, which is harder; placing_cartesian and placing_joint correspondingly."""
    episodes: int = 288
    """Number of demonstrations."""
    rollouts: int = 480
    """Number of rollouts of teacher and student, each in process."""
    ros_episodes: int = 20
    """Number of rollouts of the student over ROS."""
    seed: int = 0
    """Seed of demonstrations and rollouts."""
    resume: bool = False
    """Keep finished steps and continue with the next one."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import DemoPlan, demo
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.sim.tasks import load_task

        contract = self.contract or load_task(self.task).contract
        if not self.resume:
            claim_output(self.output)
        settings = self.chosen(load_contract(contract))
        plan = DemoPlan(contract, self.task, self.episodes, self.rollouts, self.ros_episodes, self.seed)
        with Bars(out) as bars:
            report = demo(self.output, plan, settings, bars, resume=self.resume, interruption=Interruption())
        summarize(report, self.output)
