"""LeRobot datasets: export and import of demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars
from vdd_ros.common.output import claim_output

if TYPE_CHECKING:
    from vdd_ros.data.decode.conversion_report import ConversionReport
    from vdd_ros.data.demonstrations import Converted
    from vdd_ros.data.episode import Episode


@dataclass(frozen=True)
class Export(ReadsBags):
    """Export the demonstrations of bags as a LeRobot dataset (version 3).

    The dataset contains the observations and actions of the contract at its rate: observation.state,
    observation.images.NAME, action. Instructions become tasks.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags."""
    output: Path
    """The dataset to write: a folder that does not exist yet."""
    contract: str = 'avoiding_cartesian'
    """Contract, which defines observations and actions: a YAML file, or the name of a shipped contract."""
    failures: bool = False
    """Also export failed demonstrations."""
    video: Literal['h264', 'av1', 'lossless'] | None = None
    """Codec for images as videos, which are smaller; h264 and av1 are lossy. Default: PNG images."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.decode.conversion_report import ConversionReport
        from vdd_ros.data.demonstrations import converted
        from vdd_ros.data.lerobot.lerobot import export_episodes
        from vdd_ros.robot.kinematics import Kinematics

        contract = load_contract(self.contract)
        with Bars(out) as bars:
            found = converted(self.bags, contract, partial(Kinematics.from_contract, contract), bars)
            report = ConversionReport()
            count = export_episodes(self._kept(found, report), contract, self.output, video=self.video)
        for line in report.lines():
            echo(f'dropped: {line}')
        echo(f'wrote {count} episodes to {self.output}')

    def _kept(self, bags: Iterable[Converted], report: ConversionReport) -> Iterator[Episode]:
        """Yield the episodes to write, and record the others and all dropped data."""
        for bag in bags:
            report.merge(bag.report)
            for episode in bag.episodes:
                if self.failures or episode.success is not False:
                    yield episode
                else:
                    report.add('episode', bag.bag, 'failed (--failures includes it)', 1, f'episode {episode.index}')


@dataclass(frozen=True)
class Import:
    """Import a LeRobot dataset (version 3) as a bag, with a contract.

    Train on the bag as on any other: vdd train-teacher OUTPUT --contract OUTPUT.yaml --output teacher. Without --model,
    a placeholder robot is used: a policy can be trained, but cannot command an arm.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """The dataset: the folder with meta, data and videos."""
    output: Path
    """The bag to write: a folder that does not exist yet."""
    model: Path | None = None
    """MJCF or URDF of the robot, with the joint names of the actions."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.data.lerobot.lerobot_dataset import Dataset
        from vdd_ros.data.lerobot.lerobot_import import import_dataset

        claim_output(self.output)
        total = Dataset(self.dataset).count
        with Bars(out) as bars:
            found = import_dataset(
                self.dataset, self.output, model=self.model, progress=lambda done: bars('import', done, total, {})
            )
        for entry in found.report.entries:
            echo(f'note: {entry}' if entry.kind == 'note' else f'dropped: {entry}')
        echo(f'wrote {found.episodes} episodes, {found.frames} frames to {found.bag}')
        echo(f'the contract {found.contract} is a draft: review it')


@dataclass(frozen=True)
class DatasetCommand:
    """Export and import LeRobot datasets. Needs the extra `datasets`."""

    action: (
        Annotated[Export, tyro.conf.subcommand('export', prefix_name=False)]
        | Annotated[Import, tyro.conf.subcommand('import', prefix_name=False)]
    )
    """The subcommand."""

    def run(self) -> None:
        """Run the command."""
        self.action.run()
