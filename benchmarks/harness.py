"""Common parts of all benchmarks: a table on the console, a file, and bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vdd_ros.common.environment import environment
from vdd_ros.learning.runs import RUN, run_path

FOLDER = Path('runs/benchmarks')
_console = Console(width=None if sys.stdout.isatty() else 160)
"""Width of tables in a log, where there is no terminal."""
_WIDEST = 60
"""Maximum width of a table cell; the file has the complete text."""


@dataclass(frozen=True)
class Bar:
    """A measured value and its required value."""

    name: str
    value: float
    bar: float
    at_most: bool = False
    """Whether the bar is a maximum."""

    @property
    def holds(self) -> bool:
        """Whether the bar holds; NaN never does."""
        return bool(self.value <= self.bar if self.at_most else self.value >= self.bar)


def seconds_of_run(artifact: Path) -> float:
    """Return how long an artifact was learned, with labelling and simulation [s]."""
    return float(json.loads((run_path(artifact) / RUN).read_text(encoding='utf-8'))['seconds'])


def write(name: str, rows: Sequence[dict[str, Any]], bars: Sequence[Bar]) -> Path:
    """Write `runs/benchmarks/NAME.json` atomically, and return its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f'{name}.json'
    aside = target.with_suffix('.partial')
    aside.write_text(
        json.dumps(
            {
                **environment(),
                'rows': list(rows),
                'bars': [{**asdict(bar), 'holds': bar.holds} for bar in bars],
            },
            indent=1,
        ),
        encoding='utf-8',
    )
    aside.replace(target)
    return target


def kept_rows(name: str) -> list[dict[str, Any]]:
    """Return the stored rows of a benchmark; empty if it was not run."""
    file = FOLDER / f'{name}.json'
    return json.loads(file.read_text(encoding='utf-8'))['rows'] if file.exists() else []


def finish(name: str, rows: Sequence[dict[str, Any]], bars: Sequence[Bar], *, check: bool, by: str = '') -> int:
    """Print the rows and bars of a benchmark, write `runs/benchmarks/NAME.json`, and return the exit code.

    The code is 1 if ``check`` is true and a bar does not hold. Rows of different kinds, by the value of the key ``by``,
    are printed in separate tables.
    """
    for kind in dict.fromkeys(row.get(by) for row in rows):
        mine = [row for row in rows if row.get(by) == kind]
        columns = list(dict.fromkeys(key for row in mine for key in row if key != by))
        table = Table(*columns, title=name if kind is None else f'{name}, {kind}')
        for row in mine:
            table.add_row(*(_text(row.get(column)) for column in columns))
        _console.print(table)
    verdicts = Table('bar', 'value', 'required', 'holds', title='bars')
    for bar in bars:
        required = f'{"<=" if bar.at_most else ">="} {bar.bar:g}'
        verdicts.add_row(escape(bar.name), _text(bar.value), required, '[green]yes' if bar.holds else '[red]no')
    _console.print(verdicts)
    target = write(name, rows, bars)
    _console.print(f'wrote {target}', highlight=False)
    return 1 if check and not all(bar.holds for bar in bars) else 0


def _text(value: object) -> str:
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.4g}'
    text = str(value)
    return text if len(text) <= _WIDEST else f'{text[: _WIDEST - 1]}…'
