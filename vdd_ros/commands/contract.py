"""Draft a contract from a bag, and check a bag against one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

import tyro
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.say import out, say
from vdd_ros.console import Bars

if TYPE_CHECKING:
    from vdd_ros.data.check import Verdict


@dataclass(frozen=True)
class Init:
    """Draft a contract from what is found in a bag.

    The contract says which topics and fields the policy observes, what it commands, and how often; the same file reads
    bags and drives the arm. The draft is a file to begin with: every guess is marked, everything else that was recorded
    is there as a comment. docs/contracts.md explains each key. The next step is `vdd contract check`.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3) or ROS 1."""
    output: Path | None = None
    """Where to write the contract; left out, it is printed."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.artifact import claim_output
        from vdd_ros.data.draft import draft
        from vdd_ros.data.survey import survey

        output = claim_output(self.output) if self.output is not None else None
        with Bars(out) as bars:
            found = survey(self.bag, lambda share: bars('read', round(100 * share), 100, {}))
        text = draft(self.bag, found)
        if output is None:
            out.print(text, end='', markup=False, highlight=False, soft_wrap=True)
            return
        aside = output.with_name(f'.{output.name}.partial')
        aside.write_text(text, encoding='utf-8')
        aside.replace(output)
        say(f'wrote {output}; give the model of the arm, then: vdd contract check {self.bag} {output}')


@dataclass(frozen=True)
class Check:
    """Check a bag against a contract: what fits, what does not, and what would become of it.

    Each stream with its messages, rate, longest pause and delay; then the demonstrations that the bag would give, and
    everything that would be dropped on the way, with the reason. Exits with 1 if something does not fit.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3) or ROS 1."""
    contract: Annotated[str, tyro.conf.Positional]
    """The contract: a YAML file, or the name of one that ships."""

    def run(self) -> int:
        """Do it."""
        from vdd_ros.contract import load_contract
        from vdd_ros.data.check import check

        contract = load_contract(self.contract)
        with Bars(out) as bars:
            verdict = check(self.bag, contract, lambda share: bars('read', round(100 * share), 100, {}))
        out.print(_table(verdict))
        for fit in verdict.fits:
            for remark in fit.remarks:
                say(f'{fit.stream}: {remark}')
        for line in verdict.account.lines():
            say(line)
        if verdict.unused:
            say(f'not used: {", ".join(verdict.unused)}')
        say(f'{verdict.episodes} episodes, {verdict.ticks} ticks at {contract.policy_rate:g} Hz')
        for complaint in verdict.complaints:
            out.print(f'[bold red]does not fit:[/] {escape(complaint)}', highlight=False)
        if not verdict.complaints:
            out.print('[bold green]the bag fits the contract[/]', highlight=False)
        return 1 if verdict.complaints else 0


@dataclass(frozen=True)
class ContractCommand:
    """Draft a contract from a bag, and check a bag against one."""

    action: Union[
        Annotated[Init, tyro.conf.subcommand('init', prefix_name=False)],
        Annotated[Check, tyro.conf.subcommand('check', prefix_name=False)],
    ]
    """What to do."""

    def run(self) -> int | None:
        """Do it."""
        return self.action.run()


def _table(verdict: Verdict) -> Table:
    table = Table()
    for name in ('stream', 'topic', 'type', 'read', 'dropped', 'rate [Hz]', 'pause [s]', 'delay [ms]', 'fits'):
        table.add_column(name, overflow='fold')
    for fit in verdict.fits:
        rate = f'{fit.rate:.4g}' if fit.rate else ''
        late = f'{1e3 * fit.late:.3g}' if fit.late is not None else ''
        fits = '[red]no' if fit.complaints else '[green]yes' if fit.read else ''
        counts = (str(fit.read), str(fit.dropped), rate, f'{fit.longest:.3g}', late)
        table.add_row(escape(fit.stream), escape(fit.topic), fit.type.rpartition('/')[2], *counts, fits)
    return table
