"""Who passed where, and whether the rod stayed clear of the posts."""

from __future__ import annotations

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.avoiding.layout import FINISH, ROWS, WAYS
from vdd_ros.sim.tasks.task import SuccessDetector, Verdict

_BAND = 0.03
ROD = ('held_rod',)
POSTS = tuple(f'post_{row}_{post}' for row, posts in enumerate(ROWS, 1) for post in range(1, len(posts.posts) + 1))


class AvoidingSuccessDetector(SuccessDetector):
    """Follows the measured tool point from row to row, as the benchmark does."""

    def __init__(self, tool: str) -> None:
        """Watch the site that is the tool point."""
        self._tool = tool
        self._gaps: list[int | None] = [None] * len(ROWS)

    def judge(self, simulation: Simulation) -> Verdict:
        """Look at the scene."""
        x, y, _ = simulation.site_position(self._tool)
        self.note(x, y)
        if simulation.touched(ROD, POSTS):
            return 'failure'
        return 'success' if y > FINISH else 'running'

    def note(self, x: float, y: float) -> None:
        """Take in where the tool point is [m]: the gap of a row is decided when the row is first met."""
        for index, row in enumerate(ROWS):
            last = index == len(ROWS) - 1
            met = y >= row.y if last else abs(y - row.y) <= _BAND
            if met and self._gaps[index] is None:
                self._gaps[index] = row.gap(x)

    @property
    def way(self) -> int | None:
        """Index of the way, None until all rows were met."""
        return None if None in self._gaps else WAYS.index(tuple(self._gaps))
