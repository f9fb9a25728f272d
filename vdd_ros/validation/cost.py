"""The cost sheet of a report: training cost, operating cost, quality, and limits of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.learning.runs import read_runs, run_path
from vdd_ros.policy.artifact import Artifact
from vdd_ros.validation.latency import Latency
from vdd_ros.validation.scenarios import DEPLOYED, NOMINAL

CORE_PRICE = 0.05
"""Default price of one core for one hour, in any currency: about that of a virtual machine."""
_SIMULATED_ONLY = 'A real arm with friction, cables, contacts and people'


@dataclass(frozen=True)
class Training:
    """The cost of one training: duration and machine."""

    seconds: float
    """Duration including resumed parts [s]."""
    machine: str
    """Description: system, cores, accelerator."""


@dataclass(frozen=True)
class Inference:
    """The cost of running one policy on one core."""

    call: float
    """Processor time of one call [s]."""
    load: float
    """Share of one core; above 1 the policy cannot keep up."""
    price: float
    """Price of one hour of operation."""


@dataclass(frozen=True)
class CostSheet:
    """Costs and limits of a student, as values and sentences."""

    demonstration_hours: float
    """Duration of the training demonstrations [h]."""
    training: Mapping[str, Training | None]
    """Training cost of `student` and `teacher`; None if it was not recorded."""
    calls_per_second: float
    """Rate of policy calls [Hz]."""
    inference: Mapping[str, Inference]
    """Inference cost by policy."""
    core_price: float
    """Price of one core for one hour."""
    lines: Sequence[tuple[str, str]]
    """Pairs of subject and text, in order."""

    def values(self) -> dict[str, Any]:
        """Return the sheet as plain values."""
        return asdict(self)


def cost_sheet(
    report: Mapping[str, Any],
    contract: Contract,
    artifacts: Mapping[str, Artifact],
    latency: Mapping[str, Latency],
    deployment: Deployment,
    *,
    core_price: float = CORE_PRICE,
    shipped: Sequence[str] = (),
) -> CostSheet:
    """Create the cost sheet of a student.

    Parameters
    ----------
    report
        The content of `report.json`.
    contract, deployment
        Define the rate of policy calls.
    artifacts
        `student`, and optionally `teacher`; the cost of their training is read from their run folders.
    latency
        The result of `vdd_ros.validation.latency.compare`.
    core_price
        Price of one core for one hour, in any currency.
    shipped
        Names of all scenarios; scenarios without rollouts are listed as not tested.

    """
    data = artifacts['student'].manifest.data
    steps = min(deployment.replan_steps or contract.action_horizon, contract.prediction_horizon)
    rate = contract.policy_rate / steps
    inference = {}
    for name, measured in latency.items():
        load = rate * measured.processor / 1e6
        inference[name] = Inference(measured.processor / 1e6, load, load * core_price)
    hours = data.windows * contract.period / NANOSECONDS / 3600
    training = {who: _training(artifact) for who, artifact in artifacts.items()}
    lines = [
        ('Demonstrations', f'{data.episodes} demonstrations, {_duration(3600 * hours)} of motion.'),
        ('Training', _training_text(training)),
        ('Inference', _inference_text(inference, rate, core_price)),
        ('Success and modes', _quality(report)),
        ('Tested', _tested(report)),
        ('Not tested', _not_tested(report, shipped)),
        ('Remaining risks', _risks(report, artifacts['student'])),
    ]
    return CostSheet(hours, training, rate, inference, core_price, lines)


def _training(artifact: Artifact) -> Training | None:
    """Return the cost of the training of an artifact from the record beside it; None if there is none."""
    runs = [
        run
        for run in read_runs([run_path(artifact.path)])
        if run.get('contract_hash') == artifact.manifest.contract_hash and 'seconds' in run
    ]
    if not runs:
        return None
    run = runs[-1]
    machine = run['environment']['machine']
    accelerator = run.get('accelerator') or 'no accelerator'
    return Training(run['seconds'], f'{machine["system"]}, {machine["cores"]} cores, {accelerator}')


def _training_text(training: Mapping[str, Training | None]) -> str:
    texts = []
    for who, found in training.items():
        if found is None:
            texts.append(f'The duration for the {who} is unknown: there is no record beside the artifact.')
        else:
            texts.append(f'The {who} took {_duration(found.seconds)} on {found.machine}.')
    if 'teacher' not in training:
        texts.append('The teacher was not given, and its training is not included.')
    return ' '.join(texts)


def _inference_text(inference: Mapping[str, Inference], rate: float, price: float) -> str:
    student = inference['student']
    texts = [
        f'The policy is called {rate:.3g} times per second.',
        (
            f'One call of the student takes {1e6 * student.call:.3g} us of processor time on this machine: '
            f'{student.load:.3%} of one core.'
        ),
        f'At {price:g} per core and hour, one hour of operation costs {student.price:.2g}.',
    ]
    for name, words in (
        ('teacher_same_runtime', 'in the same runtime'),
        ('teacher_eager', 'in eager torch, as in published code'),
    ):
        if name in inference:
            teacher = inference[name]
            late = '; it cannot keep up on one core' if teacher.load > 1 else ''
            texts.append(
                f'The teacher {words} takes {teacher.call / student.call:.3g} times as much: '
                f'{teacher.load:.3%} of one core, {teacher.price:.2g} per hour{late}.'
            )
    texts.append('The control loop, ROS and sensors are additional, and equal for both.')
    return ' '.join(texts)


def _quality(report: Mapping[str, Any]) -> str:
    first = report['scenarios'][0]
    student, teacher = first['student'], first['teacher']
    low, high = student['success_interval']
    text = (
        f'In the {_words(first)} scenario {student["success"]:.1%} of {student["episodes"]} rollouts of '
        f'the student succeed (95 % interval {low:.1%} to {high:.1%}), in {student["modes"]} of '
        f'{len(report["mode_names"])} modes with entropy {student["entropy"]:.2f}.'
    )
    if teacher is None:
        return f'{text} The teacher was not evaluated.'
    return (
        f'{text} The teacher: {teacher["success"]:.1%}, {teacher["modes"]} modes, entropy {teacher["entropy"]:.2f}. '
        f'Difference of the student: {student["success"] - teacher["success"]:+.1%} success, '
        f'{student["entropy"] - teacher["entropy"]:+.2f} entropy.'
    )


def _tested(report: Mapping[str, Any]) -> str:
    tried = [item for item in report['scenarios'] if item['student']]
    count = sum(item['student']['episodes'] for item in tried)
    names = ', '.join(f'{_words(item)} ({item["student"]["episodes"]})' for item in tried)
    over_ros = report['ros']['episodes']
    text = f'{count} simulated rollouts of the student in {len(tried)} scenarios: {names}.'
    return f'{text} {over_ros} more over ROS, with policy and arm in separate processes.' if over_ros else text


def _not_tested(report: Mapping[str, Any], shipped: Sequence[str]) -> str:
    tried = {item['name'] for item in report['scenarios'] if item['student']}
    missing = [f'the scenario {name.replace("_", " ")}' for name in shipped if name not in tried]
    if DEPLOYED not in tried:
        missing.append('the policy as deployed, at control rate under all limits')
    if not report['ros']['episodes']:
        missing.append('operation over ROS')
    if report['failures']:
        missing.append(f'failed parts of the validation ({", ".join(report["failures"])})')
    return f'{"; ".join([_SIMULATED_ONLY, *missing])}.'


def _risks(report: Mapping[str, Any], student: Artifact) -> str:
    tried = [item for item in report['scenarios'] if item['student']]
    first = next((item for item in tried if item['name'] == NOMINAL), tried[0])
    worst = min(tried, key=lambda item: item['student']['success'])
    texts = [
        (
            f'With 95 % confidence up to {_most_failures(first)} of the episodes fail in the {_words(first)} scenario, '
            f'and up to {_most_failures(worst)} in the worst one ({_words(worst)}).'
        )
    ]
    causes: dict[str, int] = {}
    for item in tried:
        for cause, count in item['student']['causes'].items():
            causes[cause] = causes.get(cause, 0) + count
    if causes:
        often = sorted(causes.items(), key=lambda each: -each[1])[:3]
        texts.append(f'Most frequent causes: {", ".join(f"{cause} ({count})" for cause, count in often)}.')
    unseen = [mode for mode, count in zip(report['mode_names'], first['student']['mode_counts']) if not count]
    if unseen:
        texts.append(f'{len(unseen)} of {len(report["mode_names"])} modes never succeeded.')
    if student.manifest.calibration is None:
        texts.append('The student has no calibration data: out-of-distribution monitoring is disabled.')
    if 'gate' in report and not report['gate']['passes']:
        texts.append(f'The gate is not passed: {report["gate"]["text"]}.')
    texts.append('Simulation and reality differ: start the policy in shadow and slow mode.')
    return ' '.join(texts)


def _most_failures(item: Mapping[str, Any]) -> str:
    return f'{1 - item["student"]["success_interval"][0]:.1%}'


def _words(item: Mapping[str, Any]) -> str:
    return item['name'].replace('_', ' ')


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
