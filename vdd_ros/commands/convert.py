"""`vdd convert`: convert bags to a store of demonstrations, which training maps into memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Convert(ReadsBags):
    """Convert bags once, into a store of the observations and actions of a contract (zarr arrays).

    Give the store to vdd train-teacher and vdd distill in place of the bags. Images are mapped into memory, so a store
    may be larger than the memory. After an interruption, the same command continues. Further bags can be added to an
    existing store. Several bags are converted in parallel.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags."""
    output: Path
    """The store: a folder that does not exist yet, or a store of the same contract."""
    contract: str = 'avoiding_cartesian'
    """Contract, which defines observations and actions: a YAML file, or the name of a shipped contract."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.bag.bag import fingerprint
        from vdd_ros.data.decode.conversion_report import ConversionReport
        from vdd_ros.data.demonstrations import converted
        from vdd_ros.data.store import StoreWriter
        from vdd_ros.robot.kinematics import Kinematics

        contract, report = load_contract(self.contract), ConversionReport()
        prints = {bag: fingerprint(bag) for bag in self.bags}
        writer = StoreWriter(self.output, contract)
        try:
            held = set(writer.bags.values())
            bags = [bag for bag in self.bags if prints[bag] not in held]
            if known := len(self.bags) - len(bags):
                echo(f'{known} bags are in the store already')
            with Bars(out) as bars:
                kinematics = partial(Kinematics.from_contract, contract)
                for bag, found in zip(bags, converted(bags, contract, kinematics, bars)):
                    writer.add(f'{found.bag} {prints[bag][:12]}', prints[bag], found.episodes)
                    report.merge(found.report)
            for line in report.lines():
                echo(f'left out: {line}')
            echo(f'{self.output} has {writer.written.episodes} episodes, {writer.written.steps} steps')
        finally:
            writer.close()
