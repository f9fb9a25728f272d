"""The Avoiding task in top view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Circle

from vdd_ros.sim.tasks.avoiding.layout import FINISH, ROD_RADIUS, ROWS, START

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POST, _KEEP_OUT, _FINISH, _START = '#33475b', '#dfe5ec', '#2f9e5b', '#c0392b'


def draw_layout(axes: Axes) -> None:
    """Draw posts, finish line and start, and around each post the region excluded for the centre of the rod."""
    for row in ROWS:
        for x in row.posts:
            axes.add_patch(Circle((x, row.y), row.radius + ROD_RADIUS, facecolor=_KEEP_OUT, zorder=0))
            axes.add_patch(Circle((x, row.y), row.radius, facecolor=_POST, zorder=3))
    axes.axhline(FINISH, color=_FINISH, linewidth=2, zorder=1)
    axes.plot(*START, marker='o', markersize=6, color=_START, zorder=4)
    axes.set(xlim=(0.2, 0.8), ylim=(-0.32, 0.42), xlabel='x [m]', ylabel='y [m]', aspect='equal')
