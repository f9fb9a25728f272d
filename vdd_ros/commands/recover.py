"""Write a whole bag of what is sound in a damaged one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.say import out, say
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Recover:
    """Write a whole bag of all that is sound in a bag that was not closed, or is damaged.

    The bag that is read is never changed: the whole one is written beside it, as NAME_recovered. Damaged records are
    left out, and reading goes on at the next sound one. Messages, attachments, metadata and encodings that are unknown
    keep their bytes. What cannot be read is reported, with its place. A recorder that is killed leaves its bag in a
    hidden folder (.NAME.partial); it becomes NAME, and bytes that were cut off are kept in it. The recorder does the
    same when it starts. A file that another process still writes is refused.

    MCAP and sqlite3 of rosbag2 and bags of ROS 1 are recovered, also where files are compressed.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: its folder, where the folder should have been, or an MCAP file."""
    output: Path | None = None
    """Where to write, in place of NAME_recovered."""
    unverified: bool = False
    """Keep the messages of MCAP chunks whose checksum is wrong, too: some of their bytes are not what was recorded."""

    def run(self) -> None:
        """Do it."""
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
