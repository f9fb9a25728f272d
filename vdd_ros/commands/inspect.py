"""Inspection of a recording before training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.say import out, say
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Inspect(ReadsBags):
    """Inspect a recording before training: streams, joints, demonstrations, dropped data.

    Reports rates, gaps, jitter and clocks of every topic. With a contract, also the joint ranges relative to their
    limits, and a comparison of the demonstrations: pauses, copies, outliers, coverage. All dropped data are listed with
    the reason. --html writes a report with figures into one file.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3, also one that was not closed) or ROS 1."""
    contract: str | None = None
    """Contract of the bag: a YAML file, or the name of one that ships. Default: topics only."""
    html: Path | None = None
    """Path of a report with figures."""
    check: bool = False
    """Exit with 1 if data are lost or wrong, for scripts."""

    def run(self) -> int:
        """Run the command."""
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.data.quality.inspection import inspect
        from vdd_ros.data.quality.pages.text import render

        contract = kinematics = None
        if self.contract is not None:
            from vdd_ros.robot.kinematics import Kinematics

            contract = load_contract(self.contract)
            kinematics = Kinematics.from_contract(contract)
        with Bars(out) as bars:
            found = inspect(
                self.bag, contract, kinematics, kinematics, lambda share: bars('inspect', round(100 * share), 100, {})
            )
        out.print(render(found))
        if self.html is not None:
            from vdd_ros.data.quality.pages.page import write_page

            write_page(found, self.html)
            say(f'wrote {self.html}')
        return 1 if self.check and found.count('fault') else 0
