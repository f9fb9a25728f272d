"""A validation: policies in every scenario, in process and over ROS, how fast they answer, and the verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.cost import CORE_PRICE
from vdd_ros.validation.films import film_all
from vdd_ros.validation.gate import load_gate
from vdd_ros.validation.latency import compare, plan_durations
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.policies import Recorded
from vdd_ros.validation.report import Findings, write_report
from vdd_ros.validation.report_file import REPORT
from vdd_ros.validation.rollout import rollout_all
from vdd_ros.validation.scenarios import DEPLOYED, NOMINAL, SLOW, load_scenarios, over_ros
from vdd_ros.validation.trial import Rollouts, Timing, Trial

STUDENT, TEACHER, RECORDED = 'student', 'teacher', 'recorded'
_PROCESSES = os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What a validation is to do."""

    task: str = ''
    """What to roll out in; by default the one whose contract it is, else Avoiding."""
    scenarios: tuple[str, ...] = ()
    """By name; by default all."""
    scenario_file: Path | None = None
    """YAML in place of the scenarios that ship."""
    episodes: int = 480
    """Episodes of each policy in the nominal scenario."""
    disturbance_episodes: int = 120
    """Episodes of each policy in every other one."""
    deployed_episodes: int = 240
    """Episodes of the student as it is deployed: control rate, all limits, asynchronous planning; 0 for none. In slow
    mode a quarter of them."""
    latency_scale: float = 1.0
    """By how much the robot's computer plans slower than this one."""
    ros_episodes: int = 20
    """Episodes of the student over ROS, in each of `ros_scenarios`; 0 for none."""
    ros_scenarios: tuple[str, ...] = (NOMINAL,)
    """Which scenarios are tried over ROS too."""
    ros_time: Literal['lockstep', 'real'] = 'lockstep'
    """Whether the simulation waits for the policy there, or everything goes by the wall clock as on a robot."""
    seed: int = 0
    """Draws what is left to chance."""
    gate: Path | None = None
    """Thresholds; by default those that ship."""
    deployment: Path | None = None
    """Parameters of the policy node, whose limits rollouts are under; by default those that ship."""
    films: bool = False
    """Whether films are made."""
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
    """Roll policies out in every scenario, measure their latency, judge, and write the report.

    Parameters
    ----------
    output
        Folder for the report.
    plan
        What to do.
    student, teacher, bags
        Artifacts, and recordings whose actions are done again; at least one of the three.
    contract
        That of the recordings, where there is no artifact that has one.
    progress
        Told how far each part is.
    seconds
        How long earlier steps took, for the report [s].

    Returns
    -------
    What `report.json` holds.

    Raises
    ------
    OutputError
        The folder holds a report already.
    ArtifactError
        An artifact is absent, damaged, of the wrong kind, or the two are not of one contract.
    ConfigurationError
        There is nothing to validate, or no scenario or task of a name.
    InterfaceError
        A node failed in the rollouts over ROS; the report of everything else is written before.

    """
    began = time.perf_counter()
    output = Path(output)
    pupil = None if student is None else load_artifact(student, kind='student')
    bound = None if pupil is None else pupil.manifest.contract
    master = None if teacher is None else load_artifact(teacher, kind='teacher', contract=bound)
    if pupil is None and master is None and not bags:
        raise ConfigurationError(
            expected='something to validate', found='neither student nor teacher nor bag', remedy='name one of them'
        )
    agreed = _contract(pupil, master, contract)
    task = load_task(plan.task or _task_of(agreed))
    scenarios, gate = load_scenarios(task, plan.scenarios, plan.scenario_file), load_gate(plan.gate)
    deployment = load_deployment(plan.deployment)
    strange = [name for name in plan.ros_scenarios if name not in scenarios]
    if strange and plan.ros_episodes:
        raise ConfigurationError(
            expected=f'over ROS some of {", ".join(scenarios)}', found=strange[0], remedy='validate in that one too'
        )
    claim_output(output / REPORT)
    trials = _trials(plan, scenarios, master, pupil, _recorded(bags, agreed, progress))
    start = task.simulation(agreed.joints).position
    told = partial(_told, progress, 'latency')
    latency = compare(master, pupil, told, deployment=deployment, start=start) if pupil or master else {}
    timings: dict[str, Timing] = {}
    if pupil is not None and plan.deployed_episodes:
        deployed = _deployed(plan, pupil, start, agreed, deployment)
        trials |= {_key(STUDENT, name): trial for name, trial in deployed.items()}
        scenarios = {**scenarios, **{name: trial.disturbances for name, trial in deployed.items()}}
        timings = {name: trial.timing for name, trial in deployed.items() if trial.timing is not None}
    rollouts = rollout_all(task, agreed, trials, plan.seed, _PROCESSES, _Tally(trials, progress), deployment)
    ros: dict[str, Rollouts] = {}
    broken: InterfaceError | None = None
    if pupil is not None and plan.ros_episodes:
        try:
            for name in plan.ros_scenarios:
                ros[name] = _over_ros(pupil, task, plan, name, scenarios[name], deployment, output, progress)
        except InterfaceError as error:  # what was rolled out before is reported all the same
            broken = error
    spent = dict(seconds or {})
    spent['validate'] = time.perf_counter() - began
    spent['total'] = sum(value for value in spent.values() if value is not None)
    ordered = {
        name: {who: rollouts[key] for who in (STUDENT, TEACHER, RECORDED) if (key := _key(who, name)) in rollouts}
        for name in scenarios
    }
    films = film_all(task, ordered, output / 'films', partial(_told, progress, 'films')) if plan.films else {}
    if plan.ros_time == 'real':
        scenarios |= {over_ros(name): scenarios[name] for name in ros}
        ordered |= {over_ros(name): {STUDENT: found} for name, found in ros.items()}
    findings = Findings(
        task,
        agreed,
        pupil,
        master,
        scenarios,
        ordered,
        ros if plan.ros_time == 'lockstep' else {},
        latency,
        spent,
        gate,
        deployment,
        films,
        timings,
        core_price=plan.core_price,
        known_scenarios=tuple(load_scenarios(task)),
        failures={} if broken is None else {'ros': str(broken)},
    )
    progress('report', 0, 1, {})
    values = write_report(findings, output)
    progress('report', 1, 1, {})
    if broken is not None:
        raise broken
    return values


def _contract(pupil: Artifact | None, master: Artifact | None, named: str | Path | None) -> Contract:
    for artifact in (pupil, master):
        if artifact is not None:
            return artifact.manifest.contract
    if named is None:
        raise ConfigurationError(
            expected='the contract of the recordings', found='none', remedy='name it: --contract avoiding_cartesian'
        )
    return load_contract(named)


def _task_of(contract: Contract) -> str:
    """Return the task that a contract ships for, by its name: avoiding for avoiding_joint."""
    return contract.name.partition('_')[0]


def _trials(
    plan: Plan,
    scenarios: Mapping[str, Disturbances],
    master: Artifact | None,
    pupil: Artifact | None,
    recorded: Recorded | None,
) -> dict[str, Trial]:
    policies = {
        TEACHER: None if master is None else partial(TeacherPolicy.load, master.path),
        STUDENT: None if pupil is None else partial(DistilledPolicy.load, pupil.path),
        RECORDED: recorded,
    }
    trials = {}
    for who, policy in policies.items():
        for name, disturbances in scenarios.items():
            if policy is not None:
                wanted = plan.episodes if name == NOMINAL else plan.disturbance_episodes
                episodes = min(wanted, len(policy.action)) if isinstance(policy, Recorded) else wanted
                trials[_key(who, name)] = Trial(policy, episodes, disturbances)
    return trials


def _deployed(
    plan: Plan, pupil: Artifact, start: np.ndarray, contract: Contract, deployment: Deployment
) -> dict[str, Trial]:
    """Return the trials of a student as it is deployed, in full and in slow mode; planning takes what it takes here."""
    planning = plan_durations(pupil, deployment, start)
    timing = Timing(deployment.control_period(contract, simulated=False), planning, plan.latency_scale)
    load = partial(DistilledPolicy.load, pupil.path)
    modes = {DEPLOYED: ('full', plan.deployed_episodes), SLOW: ('slow', max(1, plan.deployed_episodes // 4))}
    return {
        name: Trial(load, episodes, timing=timing, deployment=deployment.model_copy(update={'operating_mode': stage}))
        for name, (stage, episodes) in modes.items()
    }


class _Tally:
    """Tells the progress of trials policy by policy, over all scenarios."""

    def __init__(self, trials: Mapping[str, Trial], progress: Progress) -> None:
        self._done = dict.fromkeys(trials, 0)
        self._total = {name: trial.episodes for name, trial in trials.items()}
        self._progress = progress

    def __call__(self, name: str, done: int, total: int) -> None:
        self._done[name] = done
        who = _who(name)
        mine = [each for each in self._total if _who(each) == who]
        told = sum(self._done[each] for each in mine)
        self._progress(f'{who} rollouts', told, sum(self._total[each] for each in mine), {})


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
            expected='episodes in the bags', found='none', remedy='see why: vdd inspect BAG, vdd contract check BAG'
        )
    return Recorded(tuple(each.observation[0] for each in episodes), tuple(each.action for each in episodes))


def _over_ros(
    pupil: Artifact,
    task: Task,
    plan: Plan,
    scenario: str,
    disturbances: Disturbances,
    deployment: Deployment,
    output: Path,
    progress: Progress,
) -> Rollouts:
    return rollout_over_ros(
        pupil.path,
        task=task.name,
        episodes=plan.ros_episodes,
        seed=plan.seed,
        disturbances=disturbances,
        deployment=deployment,
        real_time=plan.ros_time == 'real',
        logs=output / 'logs' / scenario,
        progress=progress,
    )


def _told(progress: Progress, step: str, done: int, total: int) -> None:
    progress(step, done, total, {})
