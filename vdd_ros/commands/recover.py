"""Recovery of damaged bags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.say import out, say
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Recover:
    """Recover all valid data of a bag that was not closed, or is damaged.

    The original is never changed: the recovered bag is written beside it, as NAME_recovered. Damaged records are left
    out, and reading continues at the next valid one. Messages, attachments, metadata and unknown encodings are copied
    byte for byte. Unreadable parts are reported with their place. A killed recorder leaves its bag in a hidden folder
    (.NAME.partial), which becomes NAME; bytes that were cut off are kept in it. The recorder does the same when it
    starts. A file that another process still writes is refused.

    MCAP and sqlite3 of rosbag2 and bags of ROS 1 are recovered, also with compressed files.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: its folder, the place of the folder, or an MCAP file."""
    output: Path | None = None
    """Path of the recovered bag; default: NAME_recovered."""
    unverified: bool = False
    """Keep the messages of MCAP chunks with a wrong checksum, too: some of their bytes differ from the recording."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.data.bag.recovery import recover

        with Bars(out) as bars:
            found = recover(
                self.bag,
                self.output,
                lambda share: bars('recover', round(100 * share), 100, {}),
                unverified=self.unverified,
            )
        for name, damage in found.damages:
            size = f'{damage.size} bytes from byte {damage.offset} on' if damage.size else f'at byte {damage.offset}'
            say(f'{name}: {size}: {damage.reason}' + f'; lost {damage.contents}' * bool(damage.dropped))
        say(str(found))
