"""Compare two validations, before a new student is deployed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import echo, out

if TYPE_CHECKING:
    from vdd_ros.validation.comparison import Change


@dataclass(frozen=True)
class Compare:
    """Compare two validations: success in each scenario, and the share of each mode in the successes.

    `lower` and `higher` mark changes whose 95 % intervals do not overlap.
    """

    before: Annotated[Path, tyro.conf.Positional]
    """Report of the student in use: its folder or report.json."""
    after: Annotated[Path, tyro.conf.Positional]
    """Report of the new student."""
    scenario: str = 'nominal'
    """Scenario whose modes are listed."""
    check: bool = False
    """Exit with 1 if the success in a scenario is lower, or a scenario is missing."""

    def run(self) -> int:
        """Run the command."""
        from vdd_ros.validation.comparison import compare_reports
        from vdd_ros.validation.report_file import read_report

        found = compare_reports(read_report(self.before), read_report(self.after))
        out.print(_table('scenario', found.scenarios))
        if modes := found.modes.get(self.scenario):
            out.print(_table(f'mode in {self.scenario}', modes))
        for name in found.missing:
            echo(f'{name}: not in the second report')
        worse = [change for change in found.scenarios if change.verdict == 'lower']
        return int(self.check and bool(worse or found.missing))


def _table(title: str, changes: Iterable[Change]) -> Table:
    table = Table(title, 'before', 'after', '', box=SIMPLE)
    for change in changes:
        table.add_row(escape(change.name), f'{change.before:.1%}', f'{change.after:.1%}', change.verdict)
    return table
