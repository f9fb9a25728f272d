"""Draft a contract from a bag, and check a bag against a contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars, table

if TYPE_CHECKING:
    from vdd_ros.data.quality.check import Verdict


@dataclass(frozen=True)
class Init(ReadsBags):
    """Draft a contract from a bag.

    A contract defines the observation, the action and the policy rate by topics and fields. Training and deployment use
    the same file. The draft marks every estimated value, and lists the other topics as comments. docs/contracts.md
    explains the keys. The next step is `vdd contract check`.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3) or ROS 1."""
    output: Path | None = None
    """Path of the contract; by default the contract is printed."""
    model: Path | None = None
    """MJCF or URDF of the arm. It identifies the joints of the arm in the bag, and their units by the joint limits."""
    tool: str = ''
    """Link or site of the tool."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.common.output import claim_output
        from vdd_ros.data.quality.draft import Model, draft
        from vdd_ros.data.quality.survey import survey

        output = claim_output(self.output) if self.output is not None else None
        model = None
        if self.model is not None:
            from vdd_ros.robot.kinematics import joint_ranges

            model = Model(str(self.model), self.tool, joint_ranges(self.model))
        with Bars(out) as bars:
            found = survey(self.bag, progress=lambda share: bars('read', share, 1, {}), values=True)
        text = draft(found, model)
        if output is None:
            out.print(text, end='', markup=False, highlight=False, soft_wrap=True)
            return
        aside = output.with_name(f'.{output.name}.partial')
        aside.write_text(text, encoding='utf-8')
        aside.replace(output)
        given = '' if model is not None and self.tool else ' add the model of the arm and its tool,'
        echo(f'wrote {output};{given} then: vdd contract check {self.bag} {output}')


@dataclass(frozen=True)
class Check(ReadsBags):
    """Check whether a policy can be trained on a bag with a contract.

    Loads the robot model and reads the bag as training does. Shows each stream with messages, rate, longest pause and
    delay, the demonstrations, and all dropped data with the reason. Exits with 1 if training would fail: a stream or
    the model is missing, clocks do not match, too few ticks are usable, or actions are constant.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3) or ROS 1."""
    contract: Annotated[str, tyro.conf.Positional]
    """The contract: a YAML file, or the name of a shipped contract."""

    def run(self) -> int:
        """Run the command."""
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.quality.check import check
        from vdd_ros.robot.kinematics import Kinematics

        contract = load_contract(self.contract)
        with Bars(out) as bars:
            verdict = check(
                self.bag,
                contract,
                lambda: Kinematics.from_contract(contract),
                lambda share: bars('read', share, 1, {}),
            )
        out.print(_table(verdict))
        for fit in verdict.fits:
            for remark in fit.remarks:
                echo(f'{fit.stream}: {remark}')
        for line in verdict.report.lines():
            echo(line)
        if verdict.unused:
            echo(f'not used: {", ".join(verdict.unused)}')
        for remark in verdict.remarks:
            echo(remark)
        found = verdict.tally
        echo(f'demonstrations: {found}; {found.training} for training')
        echo(f'{found.ticks} ticks at {contract.policy_rate:g} Hz in {found.parts} parts without a gap')
        for complaint in verdict.complaints:
            out.print(f'[bold red]does not fit:[/] {escape(complaint)}', highlight=False)
        if not verdict.complaints:
            out.print('[bold green]the bag fits the contract: a policy can be trained on it[/]', highlight=False)
        return 1 if verdict.complaints else 0


@dataclass(frozen=True)
class ContractCommand:
    """Draft a contract from a bag, and check a bag against a contract."""

    action: (
        Annotated[Init, tyro.conf.subcommand('init', prefix_name=False)]
        | Annotated[Check, tyro.conf.subcommand('check', prefix_name=False)]
    )
    """The subcommand."""

    def run(self) -> int | None:
        """Run the command."""
        return self.action.run()


def _table(verdict: Verdict) -> Table:
    found = table(
        'streams',
        'stream',
        'topic and type',
        'read',
        'dropped',
        'rate [Hz]',
        'pause [s]',
        'delay [ms]',
        'fits',
        texts=('topic and type',),
    )
    for fit in verdict.fits:
        rate = f'{fit.rate:.4g}' if fit.rate else ''
        late = f'{1e3 * fit.late:.3g}' if fit.late is not None else ''
        fits = '[red]no' if fit.complaints else '[green]yes' if fit.read else ''
        counts = (str(fit.read), str(fit.dropped), rate, f'{fit.longest:.3g}', late)
        where = f'{escape(fit.topic)}\n[dim]{fit.type.rpartition("/")[2]}[/]'
        found.add_row(escape(fit.stream), where, *counts, fits)
    return found
