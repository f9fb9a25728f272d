"""Where things are in the Placing task; the frame is that of the robot's base [m]. x leads away from the robot."""

from __future__ import annotations

import itertools

import numpy as np

START = (0.50, -0.26, 0.22)
"""Where the tool point starts."""
PAN = (0.50, -0.26)
"""Where the pan lies at first: x, y."""
PAN_REST = 0.018
"""Height of its middle while it lies."""
PAN_SIZE = (0.046, 0.025)
"""Half sizes of its body, x and y: too wide for the gripper, which must take a handle."""
HANDLES = {'right': -0.048, 'left': 0.048}
"""Where the middles of the handles are along y from the pan's, as the robot sees them."""
HANDLE_SIZE = (0.012, 0.023)
"""Half sizes of a handle, x and y."""
GRIP_HEIGHT = 0.022
"""Height of the tool point at which a handle is taken and left."""
POST = (0.50, 0.0)
"""Where the post stands: x, y."""
POST_RADIUS = 0.03
SIDES = {'inside': -1, 'outside': 1}
"""Which way along x leads past the post: inside is between it and the robot."""
TRAYS = {'near': 0.34, 'middle': 0.50, 'far': 0.66}
"""x of the trays' middles."""
TRAY_Y = 0.30
TRAY_SIZE = (0.072, 0.155)
"""Half sizes of the space within a tray, x and y."""
OPEN, CLOSED = 0.040, 0.004
"""Where each finger is commanded to be [m]; the handle that it holds is 24 mm wide."""
WAYS = tuple(itertools.product(HANDLES, SIDES, TRAYS))
"""Handle, side and tray of each of the 12 ways."""
WAY_NAMES = tuple('-'.join(way) for way in WAYS)
"""Such as ``left-outside-far``."""


def tray_at(point: np.ndarray) -> str | None:
    """Return the tray in which a point lies, seen from above; shape (2,) or more: x, y [m]."""
    if abs(point[1] - TRAY_Y) > TRAY_SIZE[1]:
        return None
    return next((name for name, x in TRAYS.items() if abs(point[0] - x) <= TRAY_SIZE[0]), None)
