"""Edit demonstrations after recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape

from vdd_ros.commands.echo import echo, out
from vdd_ros.common.console import table
from vdd_ros.common.output import claim_output

if TYPE_CHECKING:
    from vdd_ros.contract.contract import Contract


def _loaded(contract: str | None) -> Contract | None:
    from vdd_ros.contract.contract import load_contract

    return load_contract(contract) if contract is not None else None


@dataclass(frozen=True)
class _Bag:
    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 as MCAP."""
    contract: str | None = None
    """Contract that divides the bag into demonstrations: a YAML file, or the name of a shipped contract. Default: the
    marks of the recorder."""


@dataclass(frozen=True)
class List(_Bag):
    """List the demonstrations of a bag, with the numbers for the other commands."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.data.bag.bag_edit import demonstrations_of

        found = demonstrations_of(self.bag, _loaded(self.contract))
        first = found.spans[0].start if found.spans else 0
        texts = ('outcome', 'labels', 'dropped')
        rows = table('', '', 'start [s]', 'duration [s]', *texts, texts=texts)
        for number, span in enumerate(found.spans):
            labels = ', '.join(f'{key}={text}' for key, text in span.labels.items() if key not in ('index', 'outcome'))
            times = f'{(span.start - first) / 1e9:.2f}', f'{(span.end - span.start) / 1e9:.2f}'
            outcome = span.labels.get('outcome', '')
            rows.add_row(str(number), *times, *map(escape, (outcome, labels, span.dropped)))
        out.print(rows)


@dataclass(frozen=True)
class _Output(_Bag):
    output: Path = tyro.MISSING
    """The bag to write: a folder that does not exist yet."""

    def _write(self, **changes) -> None:
        from vdd_ros.data.bag.bag_edit import demonstrations_of, edit

        claim_output(self.output)
        contract = _loaded(self.contract)
        edit(self.bag, self.output, contract, **changes)
        count = len(demonstrations_of(self.bag, contract).spans)
        echo(f'wrote {self.output}: {count} demonstrations, all messages unchanged')
        if contract is not None and contract.episodes.by != 'marks':
            echo(f'its demonstrations are marked on {contract.topics.episode}: set `episodes: {{by: marks}}`')


@dataclass(frozen=True)
class Drop(_Output):
    """Remove demonstrations."""

    episodes: tuple[int, ...] = tyro.MISSING
    """Numbers of the demonstrations."""

    def run(self) -> None:
        """Run the command."""
        self._write(drop=self.episodes)


@dataclass(frozen=True)
class Trim(_Output):
    """Remove the beginning and the end of demonstrations."""

    episodes: tuple[int, ...] = tyro.MISSING
    """Numbers of the demonstrations."""
    begin: float = 0.0
    """Duration to remove from the beginning [s]."""
    end: float = 0.0
    """Duration to remove from the end [s]."""

    def run(self) -> None:
        """Run the command."""
        self._write(trim=dict.fromkeys(self.episodes, (self.begin, self.end)))


@dataclass(frozen=True)
class Relabel(_Output):
    """Change outcome or instruction of demonstrations."""

    episodes: tuple[int, ...] = tyro.MISSING
    """Numbers of the demonstrations."""
    outcome: str = ''
    """success, failure, or any other word; default: unchanged."""
    language: str = ''
    """The instruction; default: unchanged."""

    def run(self) -> None:
        """Run the command."""
        labels = {name: text for name in ('outcome', 'language') if (text := getattr(self, name))}
        self._write(labels=dict.fromkeys(self.episodes, labels))


@dataclass(frozen=True)
class Merge:
    """Merge bags that were recorded one after the other."""

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags: rosbag2 as MCAP."""
    output: Path
    """The bag to write: a folder that does not exist yet."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.data.bag.bag_edit import merge

        claim_output(self.output)
        echo(f'wrote {self.output}: {merge(self.bags, self.output)} messages of {len(self.bags)} bags')


@dataclass(frozen=True)
class EditCommand:
    """List, drop, trim, relabel and merge demonstrations after recording.

    Original bags stay unchanged: a new bag is written, with all messages of the original, and with marks that record
    the changes.
    """

    action: (
        Annotated[List, tyro.conf.subcommand('list', prefix_name=False)]
        | Annotated[Drop, tyro.conf.subcommand('drop', prefix_name=False)]
        | Annotated[Trim, tyro.conf.subcommand('trim', prefix_name=False)]
        | Annotated[Relabel, tyro.conf.subcommand('relabel', prefix_name=False)]
        | Annotated[Merge, tyro.conf.subcommand('merge', prefix_name=False)]
    )
    """The subcommand."""

    def run(self) -> None:
        """Run the command."""
        self.action.run()
