"""Rolls students out as they are deployed, in simulated time: `python -m benchmarks.deployed STUDENT`.

Commands leave at control rate under all limits, plans are made beside them with measured latency, joint states come at
their own rate and late. Beside each row stands the same student in lockstep.

    rates           the student of `make demo`, 100 to 1000 Hz, in full and in slow mode
    limits          the same under the limits of the FR3: those of its data sheet, and those that ship
    placing         a student of Placing, 500 Hz, under the limits of the UR5e that ship
    joint           students of the joint contract of Avoiding, 250 Hz; one for each seed
    chunks          further students of the chunk contract of Avoiding, 250 Hz; one for each seed

Limits are checked on the commands, as the arm receives them. The jerk of the tool point is the root mean square over a
motion, the median over the episodes, beside that of demonstrations recorded at control rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import Progress, TaskID

from benchmarks.harness import Bar, finish
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.limits import Limits
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD, Teleoperation
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.latency import compare
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Timing, Trial, rollout_all

RATES = (100, 250, 500, 1000)


class Case:
    """A student, its task, and how fast it plans."""

    def __init__(self, student: Path) -> None:
        """Load the student and measure its latency."""
        artifact = load_artifact(student, kind='student')
        self.contract: Contract = artifact.manifest.contract
        self.task: Task = load_task(self.contract.name.partition('_')[0])
        self.kinematics = Kinematics.from_contract(self.contract)
        self._load = partial(DistilledPolicy.load, student)
        latency = compare(None, artifact, lambda done, total: None)['student']
        self._latency = (latency.p50 * 1e-6,) * 98 + (latency.p99 * 1e-6,) * 2

    def rows(
        self, runs: Sequence[tuple[float, Deployment]], episodes: int, progress: Callable[[str, int, int], None]
    ) -> list[dict[str, Any]]:
        """Roll out in lockstep, and as deployed at rates [Hz] under deployments; return a row for each."""
        trials = {'lockstep': Trial(self._load, episodes)}
        for rate, deployment in runs:
            timing = Timing(round(NANOSECONDS / rate), self._latency, keeps_commands=True)
            name = f'{rate:g} Hz, {deployment.joint_limits or "model"}, {deployment.operating_mode}'
            trials[name] = Trial(self._load, episodes, timing=timing, deployment=deployment)
        rollouts = rollout_all(self.task, self.contract, trials, 0, os.cpu_count() or 1, progress)
        rows = [self._row('lockstep', rollouts['lockstep'])]
        for (rate, deployment), name in zip(runs, list(trials)[1:]):
            limits = deployment.limits_of(self.contract, self.kinematics, lockstep=False)
            done = rollouts[name]
            more = {
                'limit used': max(used(each, limits, 1 / rate) for each in done.commands),
                'tool jerk': float(np.median([self.jerk(each, 1 / rate) for each in done.commands])),
                'stopped': sum('out of distribution' in cause for cause in done.causes),
                'x real time': sum(len(each) for each in done.commands) / rate / done.seconds,
            }
            rows.append({**self._row(name, done), **more})
        return rows

    def jerk(self, commands: np.ndarray, seconds: float) -> float:
        """Return the root mean square jerk of the tool point along commands, shape (time, joint) [rad], in [m/s^3].

        Every motion is looked at at even times of `CONTROL_PERIOD`: what is faster, no tool point follows.
        """
        step = max(1, round(CONTROL_PERIOD / NANOSECONDS / seconds))
        tool = self.kinematics.tool_position(commands[::step])
        third = np.diff(tool, 3, axis=0) / (step * seconds) ** 3
        return float(np.sqrt((third**2).sum(axis=1).mean()))

    def demonstrated(self, episodes: int) -> float:
        """Return the median of the jerk of demonstrations recorded at control rate."""
        simulation = self.task.simulation(self.contract.robot.joints)
        script = self.task.new_demonstrator(np.random.default_rng(0))
        hand = Teleoperation(self.kinematics, self.task, script)
        jerks = []
        for episode in range(episodes):
            self.task.reset(simulation, episode)
            hand.begin(simulation.position)
            commands = []
            while not hand.finished:
                commands.append(hand.command())
            jerks.append(self.jerk(np.array(commands), CONTROL_PERIOD / NANOSECONDS))
        return float(np.median(jerks))

    def _row(self, what: str, rollouts: Any) -> dict[str, Any]:
        summary = summarise(rollouts, 0)
        return {
            'what': what,
            'success': float(summary.success),
            'entropy': float(summary.entropy),
            'causes': ', '.join(sorted({cause for cause in rollouts.causes if cause})),
            'episodes': len(rollouts),
        }


def used(commands: np.ndarray, limits: Limits, seconds: float) -> float:
    """Return the greatest share of a limit that commands, shape (time, joint) [rad], use; 1 is all of it."""
    shares = []
    for order, limit in enumerate((limits.velocity, limits.acceleration, limits.jerk), 1):
        differences = np.abs(np.diff(commands, order, axis=0)) / seconds**order
        shares.append(float((differences / limit).max()) if len(differences) else 0.0)
    return max(shares)


def main(
    student: Path = Path('runs/demo/student'),
    placing: Path | None = None,
    joint: tuple[Path, ...] = (),
    chunks: tuple[Path, ...] = (),
    episodes: int = 480,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Measure, print, write, and with ``check`` return 1 where a bar does not hold.

    Parameters
    ----------
    student
        That of `make demo`.
    placing
        A student of the contract placing_cartesian.
    joint, chunks
        Students of avoiding_joint and of avoiding_cartesian, one for each seed.
    episodes
        Of each row; half of them for Placing, joints and chunks.
    quick
        A small version that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.

    """
    rates, shown = RATES, 24
    if quick:
        rates, episodes, shown = (250,), 2, 1
    half = max(1, episodes // 2)
    everywhere = [(rate, Deployment(operating_mode=mode)) for rate in rates for mode in ('full', 'slow')]
    everywhere += [(250, Deployment(joint_limits=limits)) for limits in ('fr3_data_sheet', 'fr3')]
    placed = [(500, Deployment(joint_limits='ur5e'))]
    cases = [('demo', student, everywhere, episodes)]
    cases += [('placing', path, placed, half) for path in (placing,) if path is not None]
    cases += [('joint', path, [(250, Deployment())], half) for path in joint]
    cases += [('chunks', path, [(250, Deployment())], half) for path in chunks]
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    with Progress(transient=True) as progress:
        for who, path, runs, count in cases:
            bar = progress.add_task(f'{who} {path}', total=count * (len(runs) + 1))
            done: dict[str, int] = {}

            def tell(name: str, ended: int, total: int, bar: TaskID = bar, done: dict[str, int] = done) -> None:
                done[name] = ended
                progress.update(bar, completed=sum(done.values()))

            case = Case(path)
            jerk = case.demonstrated(shown)
            still, *found = case.rows(runs, count, tell)
            rows.append({'who': who, 'what': 'demonstrations', 'tool jerk': jerk, 'episodes': shown})
            rows.append({'who': who, **still})
            rows += [{'who': who, **row} for row in found]
            bars += asked(who, still, found, jerk)
    return finish('deployed', rows, bars, check=check)


def asked(who: str, still: dict[str, Any], found: Sequence[dict[str, Any]], jerk: float) -> list[Bar]:
    """Return the bars of a student's rows, beside lockstep and the jerk of demonstrations [m/s^3]."""
    bars = []
    for row in found:
        name = f'{who}, {row["what"]}'
        within_model = 'model' in row['what']
        success, entropy = {
            'demo': (0.95, 0.85 if within_model else 0.80),
            'placing': (0.90, None),
        }.get(who, (0.93, 0.85))
        bars.append(Bar(f'{name}: success', row['success'], success))
        if entropy is not None:
            bars.append(Bar(f'{name}: entropy', row['entropy'], entropy))
        if who == 'demo' and within_model:
            bars.append(Bar(f'{name}: success under lockstep', still['success'] - row['success'], 0.02, at_most=True))
        bars.append(Bar(f'{name}: stopped as out of distribution', row['stopped'], 0, at_most=True))
        bars.append(Bar(f'{name}: greatest share of a limit', row['limit used'], 1 + 1e-6, at_most=True))
        bars.append(Bar(f'{name}: tool jerk beside demonstrations', row['tool jerk'] / jerk, 1.0, at_most=True))
        if (who, row['what']) == ('demo', '250 Hz, model, full'):
            bars.append(Bar('validation as deployed at 250 Hz, x real time on a core', row['x real time'], 30))
    return bars


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
