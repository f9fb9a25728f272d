"""Look at a recording before learning from it."""

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
    """Look at a recording before learning from it: streams, joints, demonstrations, and all that was dropped.

    Tells rates, gaps, jitter and clocks of every topic; with a contract also where the joints were, against their
    limits, and how the demonstrations compare: pauses, twins, outliers, what of the space they cover. Nothing is
    repaired in silence: what was dropped on the way to windows is listed with the reason. --html writes all of it with
    pictures into one file.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: rosbag2 (MCAP or sqlite3, also one that was not closed) or ROS 1."""
    contract: str | None = None
    """What the bag should hold: a YAML file, or the name of a contract that ships. Without it only topics are shown."""
    html: Path | None = None
    """Write the report with pictures here."""
    check: bool = False
    """Exit with 1 if data are lost or wrong, for use in scripts."""

    def run(self) -> int:
        """Do it."""
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
            found = inspect(
                self.bag, contract, kinematics, kinematics, lambda share: bars('inspect', round(100 * share), 100, {})
            )
        out.print(render(found))
        if self.html is not None:
            from vdd_ros.data.quality.pages.page import write_page

            write_page(found, self.html)
            say(f'wrote {self.html}')
        return 1 if self.check and found.count('fault') else 0
