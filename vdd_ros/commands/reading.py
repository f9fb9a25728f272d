"""Common options of commands that read bags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReadsBags:
    """Common option of the commands that read bags: folders with message definitions."""

    definitions: tuple[Path, ...] = ()
    """Folders with packages of message definitions, for types that neither the bag nor ROS defines."""

    def prepare(self) -> None:
        """Add the folders to the search path; `BagError` if one contains no definition."""
        if self.definitions:
            from vdd_ros.data.bag.bag_definitions import search_in

            search_in(self.definitions)
