"""Validate a policy, and judge whether it may command an arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.say import beside, out, summarize
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Validate(ReadsBags):
    """Roll a policy out in simulation, in every kind of disturbances, and judge whether it may command an arm.

    Give a student, and its teacher to compare it with; or only one of them; or bags, whose recorded actions are done
    again. Writes report.html, to look at, and report.json, which the policy node asks for before it moves an arm.
    """

    student: Path | None = None
    """The student's artifact: the one that is judged."""
    teacher: Path | None = None
    """The teacher's artifact."""
    bags: tuple[Path, ...] = ()
    """Recordings whose actions are done again, whatever the arm sees."""
    contract: str | None = None
    """That of the bags, where neither student nor teacher is given."""
    output: Path | None = None
    """Folder for the report; by default STUDENT.report, where the policy node looks for it. Must hold none yet."""
    task: str = ''
    """What to roll out in; by default the task that the contract is of."""
    scenarios: tuple[str, ...] = ()
    """Worlds to try it in, by name; by default all of config/scenarios.yaml, and those of the task."""
    scenario_file: Path | None = None
    """YAML with scenarios in place of those that ship."""
    episodes: int = 480
    """Rollouts of each policy in the nominal world."""
    disturbance_episodes: int = 120
    """Rollouts of each policy in every other one."""
    deployed_episodes: int = 240
    """Rollouts of the student as it is deployed: commands at control rate, all limits, planning beside them; 0 for
    none. A quarter of them in slow mode, too."""
    latency_scale: float = 1.0
    """By how much the robot's computer plans slower than this one."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS, policy and arm in processes of their own; 0 for none."""
    ros_scenarios: tuple[str, ...] = ('nominal',)
    """Worlds in which it is tried over ROS too."""
    ros_time: Literal['lockstep', 'real'] = 'lockstep'
    """Over ROS, lockstep: the simulation waits for the policy; real: all by the wall clock as on a robot, commands at
    control rate. Leave the computer to it then."""
    gate: Path | None = None
    """What is asked of the student; by default config/gate.yaml."""
    deployment: Path | None = None
    """Parameter file of the policy node, whose limits hold in the rollouts, too; by default config/policy.yaml."""
    video: bool = False
    """Film some episodes of each world, too. Needs EGL, and the `video` extra."""
    core_price: float = 0.05
    """Price of one core for one hour, in any currency: for the cost sheet of the report."""
    seed: int = 0
    """Draws the worlds, and what the policies leave to chance."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.validation.validate import Plan, validate

        given = [path for path in (self.student, self.teacher, *self.bags) if path is not None]
        output = self.output or beside(given[0] if given else Path('validation'), 'report')
        plan = Plan(
            task=self.task,
            scenarios=self.scenarios,
            scenario_file=self.scenario_file,
            episodes=self.episodes,
            disturbance_episodes=self.disturbance_episodes,
            deployed_episodes=self.deployed_episodes,
            latency_scale=self.latency_scale,
            ros_episodes=self.ros_episodes,
            ros_scenarios=self.ros_scenarios,
            ros_time=self.ros_time,
            seed=self.seed,
            gate=self.gate,
            deployment=self.deployment,
            films=self.video,
            core_price=self.core_price,
        )
        with Bars(out) as bars:
            report = validate(
                output,
                plan,
                student=self.student,
                teacher=self.teacher,
                bags=self.bags,
                contract=self.contract,
                progress=bars,
            )
        summarize(report, output)
