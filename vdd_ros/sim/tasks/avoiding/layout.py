"""The layout of the Avoiding task in top view, in the frame of the robot base [m]."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

START = (0.525, -0.28)
"""Start position of the tool point."""
HEIGHT = 0.12
"""Height of the tool point."""
FINISH = 0.35
"""The task is complete when the y of the tool point exceeds this value."""
ROD_RADIUS = 0.01


@dataclass(frozen=True)
class Row:
    """A row of posts, and the gaps between them."""

    y: float
    """Position of the row."""
    posts: tuple[float, ...]
    """x of each post centre, ascending."""
    radius: float
    """Radius of the posts."""
    gap_names: tuple[str, ...]
    """Names of the gaps, seen in the direction of motion (y); there is one gap more than posts."""

    def gap(self, x: float) -> int:
        """Return the index of the gap at x."""
        return sum(x >= post for post in self.posts)

    def free(self, gap: int, margin: float, outer_width: float) -> tuple[float, float]:
        """Return the interval of x in which the centre of the rod can pass a gap with a margin to the posts."""
        distance = self.radius + ROD_RADIUS + margin
        left = self.posts[gap - 1] + distance if gap > 0 else self.posts[0] - distance - outer_width
        right = self.posts[gap] - distance if gap < len(self.posts) else self.posts[-1] + distance + outer_width
        return left, right


ROWS = (
    Row(-0.10, (0.500,), 0.030, ('left', 'right')),
    Row(0.08, (0.425, 0.575), 0.025, ('left', 'middle', 'right')),
    Row(0.26, (0.350, 0.500, 0.650), 0.025, ('leftmost', 'left', 'right', 'rightmost')),
)
MODES = tuple(itertools.product(*(range(len(row.gap_names)) for row in ROWS)))
"""The gap in each row, for each of the 24 modes."""
MODE_NAMES = tuple('-'.join(row.gap_names[gap] for row, gap in zip(ROWS, mode)) for mode in MODES)
"""Names of the modes, such as ``left-middle-rightmost``."""
