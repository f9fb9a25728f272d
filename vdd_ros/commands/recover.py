"""Recovery of damaged bags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Recover:
    """Recover all valid data of a bag that was not closed, or is damaged.

    The original is never changed: the recovered bag is written to the same folder, as NAME_recovered. Damaged records
    are left out, and reading continues at the next valid record. Messages, attachments, metadata and unknown encodings
    are copied byte for byte. Unreadable parts are reported with their location. A killed recorder leaves its bag in a
    hidden folder (.NAME.partial), which becomes NAME and contains the bytes that were cut off. The recorder also
    recovers such bags when it starts. Files that another process is writing are not changed.

    Supported are rosbag2 (MCAP and sqlite3) and ROS 1 bags, including compressed files.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: its folder, the path at which the folder was to appear, or an MCAP file."""
    output: Path | None = None
    """Path of the recovered bag; default: NAME_recovered."""
    unverified: bool = False
    """Also keep the messages of MCAP chunks with a wrong checksum; some of their bytes differ from the recording."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.data.bag.recovery import recover

        with Bars(out) as bars:
            found = recover(
                self.bag,
                self.output,
                lambda share: bars('recover', share, 1, {}),
                unverified=self.unverified,
            )
        for name, damage in found.damages:
            size = f'{damage.size} bytes from byte {damage.offset} on' if damage.size else f'at byte {damage.offset}'
            echo(f'{name}: {size}: {damage.reason}' + f'; lost {damage.contents}' * bool(damage.dropped))
        echo(str(found))
