"""The layout of the Placing task, in the frame of the robot base [m]. x points away from the robot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

START = (0.50, -0.26, 0.22)
"""Start position of the tool point."""
PAN = (0.50, -0.26)
"""Start position of the pan: x, y."""
PAN_REST = 0.018
"""Height of the centre of the pan at rest."""
PAN_SIZE = (0.046, 0.025)
"""Half sizes of the body of the pan, x and y. The body is too wide for the gripper, which must grasp a handle."""
HANDLES = {'right': -0.048, 'left': 0.048}
"""y offsets of the handle centres from the pan, named from the view of the robot."""
HANDLE_SIZE = (0.012, 0.023)
"""Half sizes of a handle, x and y."""
GRIP_HEIGHT = 0.022
"""Height of the tool point for grasping and releasing a handle."""
POST = (0.50, 0.0)
"""Position of the post: x, y."""
POST_RADIUS = 0.03
SIDES = {'inside': -1, 'outside': 1}
"""Direction along x in which the post is passed: inside is between post and robot."""
TRAYS = {'near': 0.34, 'middle': 0.50, 'far': 0.66}
"""x of the tray centres."""
TRAY_Y = 0.30
TRAY_SIZE = (0.072, 0.155)
"""Half sizes of the inside of a tray, x and y."""
OPEN, CLOSED = 0.040, 0.004
"""Command of each finger [m]; a handle is 24 mm wide."""
MODES = tuple(itertools.product(HANDLES, SIDES, TRAYS))
"""Handle, side and tray of each of the 12 modes."""
MODE_NAMES = tuple('-'.join(mode) for mode in MODES)
"""Names of the modes, such as ``left-outside-far``."""


PLACES: Mapping[str, tuple[float, float]] = {name: (x, TRAY_Y) for name, x in TRAYS.items()}
"""Centres of the trays: x, y."""


def tray_at(point: np.ndarray, places: Mapping[str, tuple[float, float]] = PLACES) -> str | None:
    """Return the tray that contains a point in top view; shape (2,) or more: x, y [m]; ``places`` are the centres."""
    for name, (x, y) in places.items():
        if abs(point[0] - x) <= TRAY_SIZE[0] and abs(point[1] - y) <= TRAY_SIZE[1]:
            return name
    return None
