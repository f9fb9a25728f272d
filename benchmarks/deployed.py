"""Roll out students as deployed: `python -m benchmarks.deployed --student STUDENT`.

Commands are sent at control rate under all limits, with asynchronous planning. Parts can be run separately (`--only`).
Rows are stored as they are measured, and those of other parts are kept.

    process     in simulated time with measured planning durations, each row compared with the same student in lockstep:
    the student of `make demo` at 100 to 1000 Hz in full and slow mode, and under the limits of the FR3 (data sheet, and
    shipped); Placing at 500 Hz under the shipped limits of the UR5e; students of the joint and chunk contracts of
    Avoiding at 250 Hz, one for each seed
    dds         the student of `make demo` over DDS in real time, at 250 and 1000 Hz under both limits of the FR3. Other
                load on the computer affects these rows; each contains the load during its measurement
    controllers the student of Placing under the shipped limits of the UR5e, with one controller for all joints, and
                with a separate controller of the gripper: in process at 500 Hz, over DDS in real time at 250 Hz
    faults      twelve kinds of faulty joint states at 250 Hz over DDS

Limits are checked on the commands received by the arm. The jerk of the tool point is the root mean square over a
motion, the median over the episodes, compared with demonstrations recorded at control rate.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from benchmarks import deployed_faults
from benchmarks.command_measures import limits_used, received, tool_jerk
from benchmarks.constant_student import save_student
from benchmarks.harness import Bar, finish, kept_rows, write
from benchmarks.measurement_faults import FAULTS
from vdd_ros.common.errors import VddError
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import load_artifact, save_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD, Teleoperation
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.latency import plan_durations
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.rollout import Timing, Trial, rollout_all
from vdd_ros.validation.trial import Rollouts

Part = Literal['process', 'dds', 'controllers', 'faults']
PARTS: tuple[Part, ...] = ('process', 'dds', 'controllers', 'faults')
RATES, DDS_RATES = (100, 250, 500, 1000), (250, 1000)
FR3_LIMITS = ('fr3_data_sheet', 'fr3')
TWO_CONTROLLERS = 'placing_two_controllers'
_LIMIT_KINDS = ('position', 'velocity', 'acceleration', 'jerk')
_SEEDS = 3
_BUSY = 0.7
"""Load of the computer above which rows in real time are not reliable."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """The deployment of a student in one row."""

    rate: float
    """Control rate [Hz]."""
    limits: str = ''
    """Limits of the arm, by name of a robot; empty: those of the model."""
    mode: Literal['full', 'slow'] = 'full'
    """Operating mode."""
    grippers: tuple[str, ...] = ()
    """Joints that close on objects."""

    @property
    def deployment(self) -> Deployment:
        """The parameters of the policy node."""
        return Deployment(
            control_rate=float(self.rate),
            joint_limits=self.limits,
            operating_mode=self.mode,
            grippers=self.grippers,
        )

    @property
    def name(self) -> str:
        """Description of the row."""
        return f'{self.rate:g} Hz, {self.limits or "model"}, {self.mode}'


@dataclass(frozen=True)
class Job:
    """One measurement."""

    part: Part
    name: str
    measure: Callable[[Callable[[int, int], None]], Iterator[Row]]
    """Yields rows; its argument is called with (done, total)."""


class Case:
    """A student and its task."""

    def __init__(self, who: str, student: Path, shown: int) -> None:
        """Load a student of a kind; ``shown`` is the number of demonstrations for comparison."""
        artifact = load_artifact(student, kind='student')
        self.who, self.student = who, student
        self.hash = artifact.hash[:12]
        self.contract: Contract = artifact.manifest.contract
        self.task: Task = load_task(self.contract.name.partition('_')[0])
        self.kinematics = Kinematics.from_contract(self.contract)
        self.artifact, self.shown = artifact, shown
        self._load = partial(DistilledPolicy.load, student)

    def lockstep(self, episodes: int, progress: Callable[[int, int], None]) -> Row:
        """Roll out in lockstep."""
        return self._row('lockstep', self._rollouts(Trial(self._load, episodes), progress))

    def in_process(self, run: Run, episodes: int, progress: Callable[[int, int], None]) -> Row:
        """Roll out as deployed in simulated time."""
        timing = Timing(round(NANOSECONDS / run.rate), self._durations, keeps_commands=True)
        trial = Trial(self._load, episodes, timing=timing, deployment=run.deployment)
        done = self._rollouts(trial, progress)
        speed = sum(len(each) for each in done.commands) / run.rate / done.seconds
        return {**self._row(run.name, done), **self._motion(run, done.commands), 'x real time': speed}

    def over_dds(self, run: Run, episodes: int, logs: Path, progress: Callable[[int, int], None]) -> Row:
        """Roll out over DDS in real time."""
        load = os.getloadavg()[0]
        period = round(NANOSECONDS / run.rate)
        done = rollout_over_ros(
            self.student,
            task=self.task.name,
            episodes=episodes,
            deployment=run.deployment,
            real_time=True,
            logs=logs,
            progress=lambda step, ended, total, values: progress(int(ended), int(total)),
        )
        found = [received(sent, position, period) for sent, position in zip(done.sent, done.commands)]
        late = 1e3 * np.concatenate([[0.0], *(each.lateness for each in found)])
        return {
            **self._row(run.name, done),
            **self._motion(run, [segment for each in found for segment in each.segments]),
            'lateness p50 [ms]': float(np.percentile(late, 50)),
            'lateness p99 [ms]': float(np.percentile(late, 99)),
            'gaps': sum(each.gaps for each in found),
            'stalls': sum(len(each.segments) - 1 for each in found if each.segments),
            'commands': sum(len(segment) for each in found for segment in each.segments),
            'load': load,
        }

    @cached_property
    def demonstrated(self) -> float:
        """The median jerk of demonstrations recorded at control rate [m/s^3]."""
        simulation = self.task.simulation(self.contract.joints)
        script = self.task.new_demonstrator(np.random.default_rng(0))
        hand = Teleoperation(self.kinematics, self.task, script, self.contract.joints)
        jerks = []
        for episode in range(self.shown):
            self.task.reset(simulation, episode)
            hand.begin(simulation.position)
            commands = []
            while not hand.finished:
                commands.append(hand.command())
            jerks.append(self._tool_jerk(np.array(commands), CONTROL_PERIOD / NANOSECONDS))
        return float(np.median(jerks))

    @cached_property
    def _durations(self) -> tuple[float, ...]:
        position = self.task.simulation(self.contract.joints).position
        return plan_durations(self.artifact, Deployment(), position)

    def _rollouts(self, trial: Trial, progress: Callable[[int, int], None]) -> Rollouts:
        return rollout_all(
            self.task,
            self.contract,
            {'': trial},
            0,
            os.cpu_count() or 1,
            lambda name, done, total: progress(done, total),
        )['']

    def _row(self, what: str, done: Rollouts) -> Row:
        summary = summarise(done)
        return {
            'who': self.who,
            'student': self.hash,
            'what': what,
            'episodes': len(done),
            'success': float(summary.success),
            'entropy': float(summary.entropy),
            'stopped': sum('out of distribution' in cause for cause in done.causes),
            'causes': '; '.join(sorted({cause for cause in done.causes if cause})),
        }

    def _tool_jerk(self, commands: np.ndarray, period: float) -> float:
        # Joints of further controllers follow those of the robot, and do not move the tool point.
        return tool_jerk(self.kinematics, commands[:, : len(self.kinematics.joints)], period)

    def _motion(self, run: Run, commands: Sequence[np.ndarray]) -> Row:
        limits = run.deployment.limits_of(self.contract, self.kinematics, lockstep=False)
        used = [limits_used(each, limits, 1 / run.rate) for each in commands]
        shares = {f'{kind} used': max(each[kind] for each in used) for kind in _LIMIT_KINDS}
        jerk = float(np.nanmedian([self._tool_jerk(each, 1 / run.rate) for each in commands]))
        return {**shares, 'tool jerk': jerk, 'tool jerk shown': self.demonstrated}


def main(
    student: Path = Path('runs/demo/student'),
    placing: Path | None = None,
    joint: tuple[Path, ...] = (),
    chunks: tuple[Path, ...] = (),
    episodes: int = 480,
    dds_episodes: int = 60,
    only: tuple[Part, ...] = (),
    quick: bool = False,
    check: bool = False,
) -> int:
    """Measure, print and store; with ``check`` return 1 if a bar does not hold.

    Parameters
    ----------
    student
        The student of `make demo`.
    placing
        A student of the contract placing_cartesian.
    joint, chunks
        Students of avoiding_joint and of chunked avoiding_cartesian, one for each seed.
    episodes
        Episodes of each row in process; half of them for Placing, joints and chunks.
    dds_episodes
        Episodes of each row over DDS.
    only
        The parts to run; by default all.
    quick
        A small version with a trivial student, which only tests the program.
    check
        Exit with 1 if a bar does not hold.

    """
    parts = tuple(part for part in PARTS if part in (only or PARTS))
    console = Console()
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True, console=console) as progress:
        logs = Path(folder)
        if quick:
            change = {'prediction_horizon': 12, 'action_horizon': 4}
            student, episodes, dds_episodes = save_student(logs / 'student', [[0.0, 0.01]], change=change), 2, 1
            placing = save_student(logs / 'placing', [[0.0, 0.02, -0.012, 0.0]], 'placing_cartesian', change=change)
        demo = student if {'process', 'dds'} & set(parts) else None
        needs = {'process', 'dds', 'controllers'} & set(parts)
        cases = _cases(demo, placing, joint, chunks, 1 if quick else 24) if needs else []
        jobs = list(_plan(parts, cases, episodes, dds_episodes, logs, quick))
        rows = [row for row in kept_rows('deployed') if row['part'] not in parts and is_of(row, cases)]
        overall = progress.add_task('deployed', total=len(jobs))
        for job in jobs:
            progress.update(overall, description=job.part)
            if job.part == 'dds' and (load := os.getloadavg()[0]) > _BUSY and not quick:
                console.print(f'this computer is busy (load {load:.1f}): the next row is not reliable')
            bar = progress.add_task(job.name, total=None)
            try:
                for row in job.measure(lambda done, total, bar=bar: progress.update(bar, completed=done, total=total)):
                    rows.append({'part': job.part, **row})
                    write('deployed', rows, bars_of(rows, complete=not quick))
            except (VddError, OSError, RuntimeError) as error:
                # A failed measurement does not affect the others; its bar does not hold.
                rows.append({'part': job.part, 'what': job.name, 'error': str(error)})
                write('deployed', rows, bars_of(rows, complete=not quick))
            progress.remove_task(bar)
            progress.advance(overall)
    return finish('deployed', rows, bars_of(rows, complete=not quick), check=check, by='part')


def _plan(
    parts: Sequence[Part], cases: Sequence[Case], episodes: int, dds_episodes: int, logs: Path, quick: bool
) -> Iterator[Job]:
    """Yield all jobs in order."""
    half = max(1, episodes // 2)
    for case in cases if 'process' in parts else ():
        if quick and case.who != 'demo':
            continue
        count = episodes if case.who == 'demo' else half
        yield Job('process', f'{case.who} {case.hash}, lockstep', partial(_one, case.lockstep, count))
        for run in _runs(case.who, quick):
            yield Job('process', f'{case.who} {case.hash}, {run.name}', partial(_one, case.in_process, run, count))
    for case in cases if 'dds' in parts else ():
        for rate in DDS_RATES[:1] if quick else DDS_RATES:
            for limits in FR3_LIMITS[1:] if quick else FR3_LIMITS:
                run = Run(rate, limits)
                measure = partial(_one, case.over_dds, run, dds_episodes, logs / f'dds_{rate}_{limits}')
                if case.who == 'demo':
                    yield Job('dds', f'{case.who} {case.hash}, {run.name}', measure)
    for case in cases if 'controllers' in parts else ():
        if case.who == 'placing':
            measure = partial(_with_two_controllers, case, half, dds_episodes, logs)
            yield Job('controllers', f'{case.who} {case.hash}', measure)
    if 'faults' in parts:
        names = tuple(FAULTS)[:2] if quick else tuple(FAULTS)
        yield Job('faults', 'faulty measurements', lambda tell: deployed_faults.rows(logs / 'faults', names))


def _one(measure: Callable[..., Row], *arguments: Any) -> Iterator[Row]:
    """Yield the measured row; the last argument is the progress callback."""
    yield measure(*arguments)


def _with_two_controllers(
    case: Case, episodes: int, dds_episodes: int, logs: Path, progress: Callable[[int, int], None]
) -> Iterator[Row]:
    """Yield rows with one and with two controllers, whose contracts have the same observations and actions."""
    manifest = case.artifact.manifest
    contract = load_contract(TWO_CONTROLLERS)
    bound = manifest.model_copy(update={'contract': contract, 'contract_hash': contract.hash})
    path = logs / 'two_controllers'
    save_artifact(path, bound, case.artifact.weights, case.artifact.network, case.artifact.density)
    for count, each in (('one', case), ('two', Case(case.who, path, case.shown))):
        for over, rate in (('in process', 500), ('over DDS', 250)):
            run = Run(rate, 'ur5e', grippers=case.task.gripper)
            if over == 'in process':
                row = each.in_process(run, episodes, progress)
            else:
                row = each.over_dds(run, dds_episodes, logs / f'{count}_controllers', progress)
            what = f'{count} controller{"s" * (count == "two")}, {over}, {run.name}'
            yield {**row, 'student': case.hash, 'what': what}


def _runs(who: str, quick: bool) -> list[Run]:
    """Return the deployments of a kind of student in process."""
    if quick:
        return [Run(250)]
    if who == 'placing':
        return [Run(500, 'ur5e')]
    if who != 'demo':
        return [Run(250)]
    modes: tuple[Literal['full', 'slow'], ...] = ('full', 'slow')
    return [Run(rate, mode=mode) for rate in RATES for mode in modes] + [Run(250, limits) for limits in FR3_LIMITS]


def _cases(
    student: Path | None, placing: Path | None, joint: Sequence[Path], chunks: Sequence[Path], shown: int
) -> list[Case]:
    named = [(who, path) for who, path in (('demo', student), ('placing', placing)) if path is not None]
    named += [('joint', path) for path in joint] + [('chunks', path) for path in chunks]
    return [Case(who, path, shown) for who, path in named]


def is_of(row: Row, cases: Sequence[Case]) -> bool:
    """Return whether a stored row belongs to one of these students, or to none."""
    return not cases or row.get('student') in {None, *(case.hash for case in cases)}


_EXPECTED = {
    'process': {'demo': 10, 'placing': 1, 'joint': _SEEDS, 'chunks': _SEEDS},
    'dds': {'demo': 4},
    'controllers': {'placing': 4},
}
"""Number of rows as deployed in each part, by kind of student."""


def bars_of(rows: Sequence[Row], *, complete: bool) -> list[Bar]:
    """Return the bars of rows; with ``complete``, also that no row is missing in the parts that were run."""
    bars: list[Bar] = []
    lockstep = {row['student']: row for row in rows if row['what'] == 'lockstep'}
    for row in rows:
        name = f'{row["part"]}, {row.get("who", "")} {row.get("student", "")}, {row["what"]}'
        if 'error' in row:
            bars.append(Bar(f'{row["part"]}, {row["what"]}: measured', 0, 1))
        elif row['part'] == 'faults':
            what = f'fault, {row["what"]}'
            bars.append(Bar(f'{what}: beyond the braking distance [mrad]', row['beyond it [mrad]'], 5, at_most=True))
            bars.append(Bar(f'{what}: reason on /diagnostics', float(bool(row['reason'])), 1))
        elif row['what'] != 'lockstep':
            bars += _of_deployed(name, row, lockstep.get(row['student']))
    controlled = {row['what']: row['success'] for row in rows if row['part'] == 'controllers' and 'error' not in row}
    for what, success in controlled.items():
        if (alone := what.replace('two controllers', 'one controller')) != what and alone in controlled:
            name = f'controllers, {what}: success under that of one controller'
            bars.append(Bar(name, controlled[alone] - success, 0.02, at_most=True))
    for part in {row['part'] for row in rows} if complete else ():
        for who, count in _EXPECTED.get(part, {}).items():
            mine = [row for row in rows if row['part'] == part and row.get('who') == who and row['what'] != 'lockstep']
            bars.append(Bar(f'{part}, {who}: rows', len(mine), count))
    return bars


def _of_deployed(name: str, row: Row, lockstep: Row | None) -> list[Bar]:
    """Return the bars of a student as deployed."""
    within_model = ' model,' in row['what']
    success, entropy = {
        'demo': (0.95, 0.85 if within_model else 0.80),
        'placing': (0.90, None),
    }.get(row['who'], (0.93, 0.85))
    bars = [Bar(f'{name}: success', row['success'], success)]
    if entropy is not None:
        bars.append(Bar(f'{name}: entropy', row['entropy'], entropy))
    if row['who'] == 'demo' and row['part'] == 'process' and within_model:
        under = float('nan') if lockstep is None else lockstep['success'] - row['success']
        bars.append(Bar(f'{name}: success under lockstep', under, 0.02, at_most=True))
    bars.append(Bar(f'{name}: stopped as out of distribution', row['stopped'], 0, at_most=True))
    for kind in _LIMIT_KINDS:
        bars.append(Bar(f'{name}: {kind}, share of its limit', row[f'{kind} used'], 1 + 1e-6, at_most=True))
    jerk = row['tool jerk'] / row['tool jerk shown']
    bars.append(Bar(f'{name}: tool jerk beside demonstrations', jerk, 1.0, at_most=True))
    if (row['part'], row['who'], row['what']) == ('process', 'demo', '250 Hz, model, full'):
        bars.append(Bar('validation as deployed at 250 Hz, x real time on a core', row['x real time'], 30))
    return bars


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
