"""Where things are in the Avoiding task, seen from above; the frame is that of the robot's base [m]."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

START = (0.525, -0.28)
"""Where the tool point starts."""
HEIGHT = 0.12
"""Height at which the tool point is held."""
FINISH = 0.35
"""The task is done when the tool point's y exceeds this."""
ROD_RADIUS = 0.01


@dataclass(frozen=True)
class Row:
    """Posts side by side, and the gaps between them in which the rod can pass."""

    y: float
    """Where the row stands."""
    posts: tuple[float, ...]
    """x of each post's centre, ascending."""
    radius: float
    """Radius of the posts."""
    gap_names: tuple[str, ...]
    """The gaps, seen by one who goes in y: one more than there are posts."""

    def gap(self, x: float) -> int:
        """Return the index of the gap that lies at x."""
        return sum(x >= post for post in self.posts)

    def free(self, gap: int, margin: float, outer_width: float) -> tuple[float, float]:
        """Return the interval of x in which the centre of the rod passes a gap with a margin to the posts."""
        distance = self.radius + ROD_RADIUS + margin
        left = self.posts[gap - 1] + distance if gap > 0 else self.posts[0] - distance - outer_width
        right = self.posts[gap] - distance if gap < len(self.posts) else self.posts[-1] + distance + outer_width
        return left, right


ROWS = (
    Row(-0.10, (0.500,), 0.030, ('left', 'right')),
    Row(0.08, (0.425, 0.575), 0.025, ('left', 'middle', 'right')),
    Row(0.26, (0.350, 0.500, 0.650), 0.025, ('leftmost', 'left', 'right', 'rightmost')),
)
WAYS = tuple(itertools.product(*(range(len(row.gap_names)) for row in ROWS)))
"""The gaps that each of the 24 ways takes, row by row."""
WAY_NAMES = tuple('-'.join(row.gap_names[gap] for row, gap in zip(ROWS, way)) for way in WAYS)
"""Such as ``left-middle-rightmost``."""
