"""Success detector of the Avoiding task: the gap in each row, and contacts with posts."""

from __future__ import annotations

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.avoiding.layout import FINISH, MODES, ROWS, Row
from vdd_ros.sim.tasks.task import SuccessDetector, Verdict

_BAND = 0.03
ROD = ('held_rod',)
POSTS = tuple(f'post_{row}_{post}' for row, posts in enumerate(ROWS, 1) for post in range(1, len(posts.posts) + 1))


class AvoidingSuccessDetector(SuccessDetector):
    """Follows the measured tool point from row to row, as in the benchmark."""

    def __init__(self, tool: str) -> None:
        """Observe the site of the tool point."""
        self._tool = tool
        self.rows: tuple[Row, ...] = ROWS
        """Positions of the posts."""
        self._gaps: list[int | None] = [None] * len(ROWS)

    def judge(self, simulation: Simulation) -> Verdict:
        """Return the state of the episode, determined from the present scene and the rows passed so far."""
        x, y, _ = simulation.site_position(self._tool)
        self.note(x, y)
        if simulation.touched(ROD, POSTS):
            return 'failure'
        return 'success' if y > FINISH else 'running'

    def note(self, x: float, y: float) -> None:
        """Update the state from the tool point [m]: the gap of a row is decided when the row is first reached."""
        for index, row in enumerate(self.rows):
            last = index == len(self.rows) - 1
            met = y >= row.y if last else abs(y - row.y) <= _BAND
            if met and self._gaps[index] is None:
                self._gaps[index] = row.gap(x)

    @property
    def mode(self) -> int | None:
        """Index of the mode; None until all rows were passed."""
        return None if None in self._gaps else MODES.index(tuple(self._gaps))
