"""Inspection of a recording before training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars

if TYPE_CHECKING:
    from vdd_ros.contract.contract import Contract
    from vdd_ros.data.episode import Episode


@dataclass(frozen=True)
class Inspect(ReadsBags):
    """Inspect a recording before training: streams, joints, demonstrations, dropped data.

    Reports rates, gaps, jitter and clocks of every topic. With a contract, it also reports the joint ranges relative to
    their limits, and compares the demonstrations: pauses, duplicates, outliers, coverage. All dropped data are listed
    with the reason. --html writes a report with pictures to one file; with cameras in the contract, it also has images
    of several demonstrations over time. --live compares the images of running cameras with those of the recording.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3, closed or not) or ROS 1. With --live, a store is also possible."""
    contract: str | None = None
    """Contract of the bag: a YAML file, or the name of a shipped contract. Without a contract, only topics are
    reported."""
    html: Path | None = None
    """Path of a report with pictures."""
    films: Path | None = None
    """Folder for a video of each demonstration, with all cameras side by side. Needs the extra `video`."""
    live: bool = False
    """Compare brightness, sharpness and framing of the running cameras with the recording."""
    seconds: float = 5.0
    """With --live: time for which images are collected [s]."""
    check: bool = False
    """Exit with 1 if data are lost or wrong, or, with --live, if a camera differs. For scripts."""

    def run(self) -> int:
        """Run the command."""
        if self.live:
            return self._compare()
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.quality.inspection import inspect
        from vdd_ros.data.quality.pages.text import render

        contract = kinematics = None
        if self.contract is not None:
            from vdd_ros.robot.kinematics import Kinematics

            contract = load_contract(self.contract)
            if contract.robot.model or contract.needs_model:
                kinematics = Kinematics.from_contract(contract)
        with Bars(out) as bars:
            found = inspect(self.bag, contract, kinematics, kinematics, lambda share: bars('inspect', share, 1, {}))
        out.print(render(found))
        if self.html is not None:
            from vdd_ros.data.quality.pages.page import write_page

            write_page(found, self.html)
            echo(f'wrote {self.html}')
        if self.films is not None:
            self._film(self.films)
        return 1 if self.check and found.count('fault') else 0

    def _seen(self) -> tuple[Contract, list[Episode]]:
        """Return the contract with its cameras, and the demonstrations."""
        from vdd_ros.common.errors import ConfigurationError
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.convert import convert
        from vdd_ros.data.decode.conversion_report import ConversionReport
        from vdd_ros.data.store import is_store, load_store
        from vdd_ros.robot.kinematics import Kinematics

        contract = load_contract(self.contract) if self.contract is not None else None
        if contract is None or not contract.images:
            raise ConfigurationError(
                expected='a contract of version 3 with images',
                found='no contract' if contract is None else f'no image in {contract.name}',
                remedy='give --contract, with an `image` in an observation and `schema_version: 3`',
            )
        if is_store(self.bag):
            return contract, list(load_store(self.bag, contract))
        kinematics = Kinematics.from_contract(contract) if contract.needs_model else None
        return contract, list(convert(self.bag, contract, kinematics, ConversionReport()))

    def _film(self, folder: Path) -> None:
        from vdd_ros.common.output import claim_output
        from vdd_ros.data.quality.camera_views import film_frames
        from vdd_ros.sim.film import Film

        contract, episodes = self._seen()
        folder = claim_output(folder)
        for number, episode in enumerate(episodes):
            with Film(folder / f'{number:04d}.mp4', contract.policy_rate) as film:
                for frame in film_frames(episode, contract):
                    film.add(frame)
        echo(f'wrote {len(episodes)} films to {folder}')

    def _compare(self) -> int:
        from vdd_ros.data.quality.camera_views import compare, training_views
        from vdd_ros.nodes.camera_watch import watched_images

        contract, episodes = self._seen()
        views = training_views(episodes, contract)
        echo(f'collecting images for {self.seconds:g} s')
        images = watched_images(contract, self.seconds)
        found = compare(views, images)
        for finding in found:
            remedy = f' Remedy: {finding.remedy}.' if finding.remedy else ''
            echo(f'{finding.level}: {finding.about} ({len(images[finding.about])} images): {finding.text}.{remedy}')
        return 1 if self.check and any(finding.level != 'note' for finding in found) else 0
