"""Make a bag whole that was not closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdd_ros.commands.say import out, say
from vdd_ros.console import Bars


@dataclass(frozen=True)
class Recover:
    """Make a bag whole whose recorder was killed, or copy what is sound of a damaged one.

    A recorder that is killed, or a machine that loses its power, leaves a bag without index and metadata, in a hidden
    folder beside its place (.NAME.partial). All that had reached the disk, which is all but the last second, is found
    again. The recorder does the same with such bags in its folder when it starts. Bags (MCAP) that `ros2 bag record`
    left behind are mended as well. What is lost is told, byte by byte.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag: its folder, where the folder should have been, or an MCAP file."""
    output: Path | None = None
    """Write a copy of all that is sound, instead of mending in place; needed where a bag is damaged in its middle."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.data.recovery import recover

        with Bars(out) as bars:
            found = recover(self.bag, self.output, lambda share: bars('recover', round(100 * share), 100, {}))
        for name, damage in found.damages:
            say(f'{name}: {damage.size} bytes from byte {damage.offset} on: {damage.reason}')
        say(str(found))
