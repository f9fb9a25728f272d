"""The Placing task in top view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Circle, Rectangle

from vdd_ros.sim.tasks.placing.layout import (
    HANDLE_SIZE,
    HANDLES,
    PAN,
    PAN_SIZE,
    POST,
    POST_RADIUS,
    START,
    TRAY_SIZE,
    TRAY_Y,
    TRAYS,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POST, _KEEP_OUT, _TRAY, _PAN, _START = '#33475b', '#dfe5ec', '#d9efe1', '#c9ced6', '#c0392b'


def draw_layout(axes: Axes) -> None:
    """Draw pan, post, trays and start, and around the post the region excluded for the centre of the pan."""
    axes.add_patch(Circle(POST, POST_RADIUS + PAN_SIZE[0], facecolor=_KEEP_OUT, zorder=0))
    axes.add_patch(Circle(POST, POST_RADIUS, facecolor=_POST, zorder=3))
    for name, x in TRAYS.items():
        _box(axes, (x, TRAY_Y), TRAY_SIZE, _TRAY)
        axes.annotate(name, (x, TRAY_Y + TRAY_SIZE[1] - 0.012), ha='center', va='top', color='#2f9e5b', zorder=1)
    _box(axes, PAN, PAN_SIZE, _PAN)
    for y in HANDLES.values():
        _box(axes, (PAN[0], PAN[1] + y), HANDLE_SIZE, _PAN)
    axes.plot(*START[:2], marker='o', markersize=6, color=_START, zorder=4)
    axes.set(xlim=(0.24, 0.76), ylim=(-0.36, 0.48), xlabel='x [m]', ylabel='y [m]', aspect='equal')


def _box(axes: Axes, middle: tuple[float, float], size: tuple[float, float], colour: str) -> None:
    corner = (middle[0] - size[0], middle[1] - size[1])
    axes.add_patch(Rectangle(corner, 2 * size[0], 2 * size[1], facecolor=colour, zorder=0.5))
