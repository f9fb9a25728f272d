"""Orientations, element by element: the same numbers, bit for bit, for one message and for thousands."""

from __future__ import annotations

import numpy as np

TOLERANCE = 0.1
"""How far from 1 the length of a quaternion may be; what is farther is none."""


def normalized(quaternion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring quaternions of shape (n, 4), x y z w, to length 1 and w >= 0; also return which were quaternions at all."""
    with np.errstate(all='ignore'):  # whatever bytes may say; the verdict is the second result
        x, y, z, w = quaternion.T
        length = np.sqrt(x * x + y * y + z * z + w * w)
        good = np.abs(length - 1) <= TOLERANCE
        safe = np.where(good, np.copysign(length, np.where(w == 0, 1.0, w)), 1.0)
        return np.where(good[:, None], quaternion / safe[:, None], 0.0), good


def six_dimensional(quaternion: np.ndarray) -> np.ndarray:
    """Return the first two columns of the rotation matrix, shape (n, 6), of unit quaternions (n, 4), x y z w."""
    x, y, z, w = quaternion.T
    return np.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y + z * w),
            2 * (x * z - y * w),
            2 * (x * y - z * w),
            1 - 2 * (x * x + z * z),
            2 * (y * z + x * w),
        ],
        axis=1,
    )


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Chain poses of shape (n, 7), position and unit quaternion x y z w: that of `inner`'s frame, told in `outer`'s."""
    turned = _rotate(outer[:, 3:], inner[:, :3])
    return np.concatenate([outer[:, :3] + turned, _multiply(outer[:, 3:], inner[:, 3:])], axis=1)


def invert(pose: np.ndarray) -> np.ndarray:
    """Return poses of shape (n, 7) the other way round."""
    conjugate = pose[:, 3:] * np.array([-1.0, -1.0, -1.0, 1.0])
    return np.concatenate([-_rotate(conjugate, pose[:, :3]), conjugate], axis=1)


def _multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    ax, ay, az, aw = first.T
    bx, by, bz, bw = second.T
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=1,
    )


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion.T
    a, b, c = vector.T
    # v + 2 u x (u x v + w v) with u the vector part
    p, q, r = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
    return np.stack([a + 2 * (y * r - z * q), b + 2 * (z * p - x * r), c + 2 * (x * q - y * p)], axis=1)
