"""Validation: rollouts of policies in all scenarios, in process and over ROS, latency, and verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vdd_ros.common.errors import BagError, ConfigurationError, InterfaceError
from vdd_ros.common.output import claim_output
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.deployment import Deployment, load_deployment
from vdd_ros.data.demonstrations import converted
from vdd_ros.policy.artifact import Artifact, load_artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import Task, resolve_task
from vdd_ros.validation.cost import CORE_PRICE
from vdd_ros.validation.films import film_all
from vdd_ros.validation.latency import Latency, compare, plan_durations
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.policies import Recorded
from vdd_ros.validation.report import Findings, write_report
from vdd_ros.validation.report_file import REPORT
from vdd_ros.validation.rollout import rollout_all
from vdd_ros.validation.scenarios import DEPLOYED, NOMINAL, OVER_ROS, SLOW, load_scenarios, over_ros
from vdd_ros.validation.thresholds import Gate, load_gate
from vdd_ros.validation.trial import Rollouts, Timing, Trial

STUDENT, TEACHER, RECORDED = 'student', 'teacher', 'recorded'
_PROCESSES = os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """The configuration of a validation: task, scenarios, and number of episodes of each kind."""

    task: str = ''
    """Task, see `load_task`; default: the task of the contract."""
    scenarios: tuple[str, ...] = ()
    """Names of scenarios; by default all."""
    scenario_file: Path | None = None
    """YAML file that replaces the shipped scenarios and those of the task."""
    episodes: int = 480
    """Episodes of each policy in the nominal scenario."""
    disturbance_episodes: int = 120
    """Episodes of each policy in every other scenario."""
    deployed_episodes: int = 240
    """Episodes of the student as deployed: control rate, all limits, asynchronous planning; 0 for none. Slow mode uses
    a quarter of this number."""
    latency_scale: float = 1.0
    """Planning time on the robot's computer, relative to that on this computer."""
    ros_episodes: int = 20
    """Episodes of the student over ROS, in each of `ros_scenarios`; 0 for none."""
    ros_scenarios: tuple[str, ...] = (NOMINAL,)
    """Scenarios for rollouts over ROS."""
    ros_time: Literal['lockstep', 'real'] = 'lockstep'
    """Over ROS: `lockstep`, the simulation waits for the policy, or `real`, wall-clock time as on a robot."""
    seed: int = 0
    """Random seed."""
    gate: Path | None = None
    """Thresholds; by default the shipped ones."""
    deployment: Path | None = None
    """Parameters of the policy node, which define the limits in rollouts; by default the shipped ones."""
    films: bool = False
    """Whether videos are recorded."""
    ray: str = ''
    """Address of a Ray cluster that runs the rollouts instead of the cores of this computer."""
    core_price: float = CORE_PRICE
    """Price of one core for one hour, in any currency, for the cost sheet."""


def validate(
    output: str | Path,
    plan: Plan,
    *,
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    bags: Sequence[str | Path] = (),
    contract: str | Path | None = None,
    progress: Progress,
    seconds: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Roll policies out in all scenarios, measure latencies, compute the verdict, and write the report.

    Parameters
    ----------
    output
        Folder for the report.
    plan
        The configuration.
    student, teacher, bags
        Artifacts, and recordings for open-loop replay; at least one of the three.
    contract
        Contract of the recordings, required without an artifact.
    progress
        Called while each part of the validation runs, with its name and its progress.
    seconds
        Duration of earlier steps, for the report [s].

    Returns
    -------
    The content of `report.json`.

    Raises
    ------
    OutputError
        The folder already has a report.
    ArtifactError
        An artifact is missing, damaged, of the wrong kind, or the contracts differ.
    ConfigurationError
        There is nothing to validate, or a scenario or task does not exist.
    InterfaceError
        A node failed in the rollouts over ROS; the report of the other parts is written.

    """
    began = time.perf_counter()
    output = Path(output)
    campaign = _Campaign.load(plan, student, teacher, contract, recordings=bool(bags))
    claim_output(output / REPORT)
    recorded = _recorded(bags, campaign.contract, progress)
    findings, failure = campaign.run(recorded, output / 'logs', progress)
    spent = {**(seconds or {}), 'validate': time.perf_counter() - began}
    spent['total'] = sum(value for value in spent.values() if value is not None)
    films: Mapping[str, Path] = {}
    if plan.films:
        in_process = {name: each for name, each in findings.rollouts.items() if not name.startswith(OVER_ROS)}
        films = film_all(campaign.task, in_process, output / 'films', partial(_report_step, progress, 'films'))
    progress('report', 0, 1, {})
    values = write_report(replace(findings, seconds=spent, films=films), output)
    progress('report', 1, 1, {})
    if failure is not None:
        raise failure
    return values


@dataclass(frozen=True)
class _Campaign:
    """The policies to validate, their contract and task, and the conditions of their rollouts."""

    plan: Plan
    student: Artifact | None
    teacher: Artifact | None
    contract: Contract
    task: Task
    scenarios: Mapping[str, Disturbances]
    gate: Gate
    deployment: Deployment

    @classmethod
    def load(
        cls,
        plan: Plan,
        student: str | Path | None,
        teacher: str | Path | None,
        contract: str | Path | None,
        *,
        recordings: bool,
    ) -> _Campaign:
        """Load artifacts and files, and check that they fit together; errors as for `validate`."""
        pupil = None if student is None else load_artifact(student, kind='student')
        bound = None if pupil is None else pupil.manifest.contract
        master = None if teacher is None else load_artifact(teacher, kind='teacher', contract=bound)
        if pupil is None and master is None and not recordings:
            raise ConfigurationError(
                expected='something to validate', found='neither student nor teacher nor bag', remedy='give one of them'
            )
        agreed = _contract(pupil, master, contract)
        task = resolve_task(plan.task, agreed)
        scenarios = load_scenarios(task, plan.scenarios, plan.scenario_file)
        gate, deployment = load_gate(plan.gate), load_deployment(plan.deployment)
        unknown = [name for name in plan.ros_scenarios if name not in scenarios]
        if unknown and plan.ros_episodes:
            raise ConfigurationError(
                expected=f'scenarios over ROS among {", ".join(scenarios)}',
                found=unknown[0],
                remedy='add it to the scenarios',
            )
        return cls(plan, pupil, master, agreed, task, scenarios, gate, deployment)

    def run(self, recorded: Recorded | None, logs: Path, progress: Progress) -> tuple[Findings, InterfaceError | None]:
        """Measure latencies and roll out; return the results, and the error that ended rollouts over ROS, if any."""
        plan, task, trials = self.plan, self.task, self.trials(recorded)
        start = task.simulation(self.contract.joints).position
        latency = self.latency(partial(_report_step, progress, 'latency'), start)
        deployed = self.deployed(start)
        trials |= {_key(STUDENT, name): trial for name, trial in deployed.items()}
        tally = _Tally(trials, progress)
        done = rollout_all(task, self.contract, trials, plan.seed, _PROCESSES, tally, self.deployment, plan.ray)
        ros, failure = self.over_ros(logs, progress)
        scenarios = {**self.scenarios, **{name: trial.disturbances for name, trial in deployed.items()}}
        rollouts = {
            name: {who: done[key] for who in (STUDENT, TEACHER, RECORDED) if (key := _key(who, name)) in done}
            for name in scenarios
        }
        if plan.ros_time == 'real':
            scenarios |= {over_ros(name): scenarios[name] for name in ros}
            rollouts |= {over_ros(name): {STUDENT: found} for name, found in ros.items()}
        findings = Findings(
            task=task,
            contract=self.contract,
            student=self.student,
            teacher=self.teacher,
            scenarios=scenarios,
            rollouts=rollouts,
            over_ros=ros if plan.ros_time == 'lockstep' else {},
            latency=latency,
            gate=self.gate,
            deployment=self.deployment,
            timings={name: trial.timing for name, trial in deployed.items() if trial.timing is not None},
            core_price=plan.core_price,
            known_scenarios=tuple(load_scenarios(task)),
            failures={} if failure is None else {'ros': str(failure)},
        )
        return findings, failure

    def trials(self, recorded: Recorded | None) -> dict[str, Trial]:
        """Return the trials in lockstep of all policies in all scenarios, by `_key`."""
        policies = {
            TEACHER: None if self.teacher is None else partial(TeacherPolicy.load, self.teacher.path.absolute()),
            STUDENT: None if self.student is None else partial(DistilledPolicy.load, self.student.path.absolute()),
            RECORDED: recorded,
        }
        trials = {}
        for who, policy in policies.items():
            for name, disturbances in self.scenarios.items():
                if policy is not None:
                    wanted = self.plan.episodes if name == NOMINAL else self.plan.disturbance_episodes
                    episodes = min(wanted, len(policy.action)) if isinstance(policy, Recorded) else wanted
                    trials[_key(who, name)] = Trial(policy, episodes, disturbances)
        return trials

    def latency(self, report: Callable[[int, int], None], start: np.ndarray) -> Mapping[str, Latency]:
        """Measure the latencies of the policies, from ``start``, shape (joint,) [rad]; empty without policies."""
        if self.student is None and self.teacher is None:
            return {}
        return compare(self.teacher, self.student, report, deployment=self.deployment, start=start)

    def deployed(self, start: np.ndarray) -> dict[str, Trial]:
        """Return the trials of the student as deployed, in full and in slow mode, with planning times measured here."""
        plan, deployment = self.plan, self.deployment
        if self.student is None or not plan.deployed_episodes:
            return {}
        planning = plan_durations(self.student, deployment, start)
        timing = Timing(deployment.control_period(self.contract, simulated=False), planning, plan.latency_scale)
        load = partial(DistilledPolicy.load, self.student.path.absolute())
        modes = {DEPLOYED: ('full', plan.deployed_episodes), SLOW: ('slow', max(1, plan.deployed_episodes // 4))}
        return {
            name: Trial(
                load, episodes, timing=timing, deployment=deployment.model_copy(update={'operating_mode': mode})
            )
            for name, (mode, episodes) in modes.items()
        }

    def over_ros(self, logs: Path, progress: Progress) -> tuple[dict[str, Rollouts], InterfaceError | None]:
        """Roll out the student over ROS; return the results by scenario, and the error that ended them, if any."""
        plan, found = self.plan, dict[str, Rollouts]()
        if self.student is None or not plan.ros_episodes:
            return found, None
        try:
            for name in plan.ros_scenarios:
                found[name] = rollout_over_ros(
                    self.student.path,
                    task=self.task.reference,
                    episodes=plan.ros_episodes,
                    seed=plan.seed,
                    disturbances=self.scenarios[name],
                    deployment=self.deployment,
                    real_time=plan.ros_time == 'real',
                    logs=logs / name,
                    progress=progress,
                )
        except InterfaceError as error:  # results obtained so far are reported
            return found, error
        return found, None


def _contract(pupil: Artifact | None, master: Artifact | None, named: str | Path | None) -> Contract:
    for artifact in (pupil, master):
        if artifact is not None:
            return artifact.manifest.contract
    if named is None:
        raise ConfigurationError(
            expected='the contract of the recordings', found='none', remedy='give it: --contract avoiding_cartesian'
        )
    return load_contract(named)


class _Tally:
    """Reports the progress of trials by policy, over all scenarios."""

    def __init__(self, trials: Mapping[str, Trial], progress: Progress) -> None:
        self._done = dict.fromkeys(trials, 0)
        self._total = {name: trial.episodes for name, trial in trials.items()}
        self._progress = progress

    def __call__(self, name: str, done: int, total: int) -> None:
        self._done[name] = done
        who = _who(name)
        mine = [each for each in self._total if _who(each) == who]
        finished = sum(self._done[each] for each in mine)
        self._progress(f'{who} rollouts', finished, sum(self._total[each] for each in mine), {})


def _key(who: str, scenario: str) -> str:
    return f'{who}, {scenario}'


def _who(key: str) -> str:
    return key.partition(', ')[0]


def _recorded(bags: Sequence[str | Path], contract: Contract, progress: Progress) -> Recorded | None:
    if not bags:
        return None
    make = partial(Kinematics.from_contract, contract)
    episodes = [episode for found in converted(bags, contract, make, progress) for episode in found.episodes]
    progress('read', len(bags), len(bags), {'episodes': len(episodes)})
    if not episodes:
        raise BagError(
            expected='episodes in the bags', found='none', remedy='check: vdd inspect BAG, vdd contract check BAG'
        )
    return Recorded(tuple(each.observation[0] for each in episodes), tuple(each.action for each in episodes))


def _report_step(progress: Progress, step: str, done: int, total: int) -> None:
    progress(step, done, total, {})
