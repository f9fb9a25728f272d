"""Validation of a policy, with a verdict whether it may command an arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vdd_ros.commands.echo import beside, out, summarize
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Validate(ReadsBags):
    """Validate a policy in simulation, with a verdict whether it may command an arm.

    Give a student, its teacher for comparison, or bags whose recorded actions are replayed open loop. Each of the three
    can be validated alone. Writes report.html, and report.json, which the policy node requires before it moves an arm.
    """

    student: Path | None = None
    """Artifact of the student."""
    teacher: Path | None = None
    """Artifact of the teacher."""
    bags: tuple[Path, ...] = ()
    """Recordings whose actions are replayed open loop."""
    contract: str | None = None
    """Contract of the bags, without student and teacher."""
    output: Path | None = None
    """Folder for the report, which must not contain a report yet; default: STUDENT.report, where the policy node
    expects the report."""
    task: str = ''
    """Task: a name, an entry point, FILE.py or MODULE:ATTRIBUTE; default: the task of the contract."""
    scenarios: tuple[str, ...] = ()
    """Names of scenarios; default: all of config/scenarios.yaml and of the task."""
    scenario_file: Path | None = None
    """YAML file with scenarios, which replace those of config/scenarios.yaml and of the task."""
    episodes: int = 480
    """Rollouts of each policy in the nominal scenario."""
    disturbance_episodes: int = 120
    """Rollouts of each policy in every other scenario."""
    deployed_episodes: int = 240
    """Rollouts of the student as deployed: control rate, all limits, planning in parallel; 0 for none. Slow mode uses
    a quarter of this number."""
    latency_scale: float = 1.0
    """Planning time of the robot's computer, as a multiple of the planning time of this computer."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS, with policy and arm in separate processes; 0 for none."""
    ros_scenarios: tuple[str, ...] = ('nominal',)
    """Scenarios of the rollouts over ROS."""
    ros_time: Literal['lockstep', 'real'] = 'lockstep'
    """Over ROS, lockstep: the simulation waits for the policy; real: wall-clock time as on a robot, commands at control
    rate. Other load on the computer affects the result."""
    gate: Path | None = None
    """Thresholds; default: config/gate.yaml."""
    deployment: Path | None = None
    """Parameter file of the policy node, which applies in the rollouts; default: config/policy.yaml."""
    video: bool = False
    """Record videos of some episodes of each scenario. Needs EGL, and the extra `video`."""
    ray: str = ''
    """Address of a Ray cluster that runs the rollouts: HOST:PORT, or auto. Needs the extra `ray`. Latencies are still
    measured on this computer, and rollouts over ROS still run on it."""
    core_price: float = 0.05
    """Price of one core for one hour, in any currency: for the cost sheet of the report."""
    seed: int = 0
    """Seed of scenarios and policies."""

    def run(self) -> None:
        """Run the command."""
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
            ray=self.ray,
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
