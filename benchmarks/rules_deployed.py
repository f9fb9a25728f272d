"""Rules on the student of `make demo` as it is deployed: `python -m benchmarks.rules_deployed --student STUDENT`.

    forbid      a zone on the left of the first post, which experts must not lead the tool into, against no rules
    pin         for each of the 24 modes, zones beside a corridor through its gaps

Commands leave at 250 Hz under all limits, with asynchronous planning and measured planning durations, in simulated
time: a minute for each part on two cores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
import yaml
from rich.console import Console
from rich.progress import Progress

from benchmarks.constant_student import save_student
from benchmarks.harness import Bar, finish, kept_rows
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.sim.tasks import load_task
from vdd_ros.sim.tasks.avoiding.layout import MODE_NAMES, MODES, ROWS, START, Row
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rules_check import roll_out_deployed
from vdd_ros.validation.trial import Rollouts

Part = Literal['forbid', 'pin']
PARTS: tuple[Part, ...] = ('forbid', 'pin')
RATE = 250.0
"""Control rate [Hz]."""
_CHUNKS = {'prediction_horizon': 12, 'action_horizon': 4}
FORBID = {
    'zones': {'left_side': {'x': [None, 0.515], 'y': [None, -0.02]}},
    'rules': [{'name': 'not left of the first post', 'avoid': ['left_side']}],
}
"""The zone reaches from the start to behind the first row: past its begin, the experts still have a choice."""
_STEP = 0.02
"""Length of the zones along a corridor [m]."""
_DECIDED, _HALF_WIDTH = 0.01, 0.055
"""Half the width of a corridor at the start, where the first plan decides, and at the rows [m]."""
_BEHIND, _AHEAD = 0.03, 0.08
"""How far the zones of a row reach behind it, and how far before the row in front of it they begin to apply [m]."""


def middle(row: Row, gap: int) -> float:
    """Return the middle of a gap [m]; outer gaps are as wide as the others."""
    wide = 2 * _HALF_WIDTH + 2 * row.radius
    left = row.posts[gap - 1] if gap > 0 else row.posts[0] - wide
    right = row.posts[gap] if gap < len(row.posts) else row.posts[-1] + wide
    return (left + right) / 2


def pinned(mode: int) -> dict[str, Any]:
    """Return the content of a file of rules that leaves one mode.

    The tool keeps to a corridor of straight lines through the gaps of the mode. For each row there is a rule with the
    zones on both sides, where there is another gap; it applies from a little before the row in front of it.
    """
    zones: dict[str, Any] = {}
    rules = []
    (x, y), half = START, _DECIDED
    for number, (row, gap) in enumerate(zip(ROWS, MODES[mode], strict=True), 1):
        inside: list[str] = []
        aim = middle(row, gap)
        for part, low in enumerate(np.arange(y, row.y + _BEHIND, _STEP).tolist()):
            share = min(1.0, (low + _STEP / 2 - y) / (row.y - y))
            centre, width = x + share * (aim - x), half + share * (_HALF_WIDTH - half)
            for side, is_open, bounds in (
                ('left', gap > 0, [None, centre - width]),
                ('right', gap < len(row.posts), [centre + width, None]),
            ):
                if is_open:
                    inside.append(f'row{number}_{side}_{part}')
                    zones[inside[-1]] = {'x': bounds, 'y': [low, low + _STEP]}
        begin = '' if number == 1 else f'tool.y > {y - _AHEAD:.3f} and '
        when = f'{begin}tool.y < {row.y + _BEHIND - _AHEAD:.3f}'
        rules.append({'name': f'row {number} {row.gap_names[gap]}', 'when': when, 'avoid': inside})
        x, y, half = aim, row.y, _HALF_WIDTH
    return {'zones': zones, 'rules': rules}


def roll_out(
    student: Path, rules: Mapping[str, Mapping[str, Any]], episodes: int, progress: Callable[[int, int], None]
) -> dict[str, Rollouts]:
    """Roll out a student as deployed under several files of rules, by name; empty: without rules."""
    with tempfile.TemporaryDirectory() as folder:
        deployments = {}
        for number, (name, content) in enumerate(rules.items()):
            file = Path(folder) / f'{number}.yaml'
            file.write_text(yaml.safe_dump(dict(content)), encoding='utf-8')
            deployments[name] = Deployment(control_rate=RATE, rules=str(file) if content else '')
        artifact = load_artifact(student, kind='student')
        return roll_out_deployed(artifact, load_task('avoiding'), deployments, episodes, progress)


def row_of(part: Part, name: str, done: Rollouts, mode: int | None = None) -> dict[str, Any]:
    """Return the metrics of some rollouts; ``mode`` is the mode that the rules leave."""
    summary = summarise(done)
    left = sum(count for other, count in zip(MODES, summary.mode_counts, strict=True) if other[0] == 0)
    return {
        'part': part,
        'rules': name,
        'episodes': len(done),
        'success': float(summary.success),
        'successes': sum(summary.mode_counts),
        'modes': summary.modes,
        **({'on the left': left} if mode is None else {'in the mode': summary.mode_counts[mode]}),
        'causes': '; '.join(sorted({cause for cause in done.causes if cause})),
    }


def bars_of(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Return the bars of the parts that were run."""
    bars: list[Bar] = []
    forbid = {row['rules']: row for row in rows if row['part'] == 'forbid'}
    if forbid:
        free, kept = forbid['none'], forbid['not on the left']
        lost = free['success'] - kept['success']
        bars += [
            Bar('forbidden: successes left of the first post', kept['on the left'], 0, at_most=True),
            Bar('forbidden: success lost', lost, 0.03, at_most=True),
        ]
    pin = [row for row in rows if row['part'] == 'pin']
    if pin:
        successes, taken = (sum(row[key] for row in pin) for key in ('successes', 'in the mode'))
        bars.append(Bar('pinned: share of the successes that take the mode', taken / max(successes, 1), 0.95))
        lowest = min(row['in the mode'] / max(row['successes'], 1) for row in pin)
        bars.append(Bar('pinned: the same of the mode where it is lowest', lowest, 0.95))
    return bars


def main(
    student: Path = Path('runs/demo/student'),
    episodes: int = 480,
    only: tuple[Part, ...] = (),
    modes: tuple[int, ...] = (),
    quick: bool = False,
    check: bool = False,
) -> int:
    """Roll out a student of Avoiding under rules.

    Parameters
    ----------
    student
        The student of `make demo`.
    episodes
        Rollouts with and without the forbidden zone; for the pinned modes together.
    only
        The parts to run; by default all.
    modes
        Numbers of the modes to pin; by default all.
    quick
        A small version with a trivial student, which only tests the program.
    check
        Exit with 1 if a bar does not hold.

    """
    parts = tuple(part for part in PARTS if part in (only or PARTS))
    rows = [row for row in kept_rows('rules_deployed') if row['part'] not in parts]
    chosen = modes or tuple(range(len(MODES)))
    each = max(1, episodes // len(chosen))
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True, console=Console()) as progress:
        if quick:
            student = save_student(Path(folder) / 'student', [[0.0, 0.01]], change=_CHUNKS)
            episodes, each, chosen = 2, 1, chosen[:2]
        bar = progress.add_task('rolling out', total=None)

        def tell(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        if 'forbid' in parts:
            found = roll_out(student, {'none': {}, 'not on the left': FORBID}, episodes, tell)
            rows += [row_of('forbid', name, done) for name, done in found.items()]
        if 'pin' in parts:
            found = roll_out(student, {MODE_NAMES[mode]: pinned(mode) for mode in chosen}, each, tell)
            rows += [row_of('pin', name, done, mode) for mode, (name, done) in zip(chosen, found.items(), strict=True)]
    return finish('rules_deployed', rows, bars_of(rows), check=check, by='part')


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
