"""Orientations, element by element: bit-identical results for one message and for thousands."""

from __future__ import annotations

import numpy as np

TOLERANCE = 0.1
"""Maximum deviation of a quaternion's norm from 1; quaternions with a larger deviation are invalid."""


def normalized(quaternion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalise quaternions of shape (n, 4), x y z w, to w >= 0; also return a mask of the valid ones."""
    with np.errstate(all='ignore'):  # arbitrary bytes; the second result reports validity
        x, y, z, w = quaternion.T
        length = np.sqrt(x * x + y * y + z * z + w * w)
        good = np.abs(length - 1) <= TOLERANCE
        safe = np.where(good, np.copysign(length, np.where(w == 0, 1.0, w)), 1.0)
        return np.where(good[:, None], quaternion / safe[:, None], 0.0), good


def six_dimensional(quaternion: np.ndarray) -> np.ndarray:
    """Return the first two columns of rotation matrices, column 1 before column 2, shape (n, 6).

    ``quaternion`` contains unit quaternions x y z w, shape (n, 4).
    """
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


def from_six_dimensional(columns: np.ndarray) -> np.ndarray:
    """Return the unit quaternion, shape (4,), x y z w with w >= 0, of the nearest rotation to two matrix columns.

    ``columns`` has shape (6,). The first column is normalised, the second made orthogonal to it (Gram-Schmidt, Zhou et
    al., CVPR 2019). The result is not finite if the columns are zero or parallel.
    """
    first, second = np.asarray(columns, dtype=np.float64).reshape(2, 3)
    with np.errstate(all='ignore'):
        x = first / np.linalg.norm(first)
        across = second - (x @ second) * x
        length = np.linalg.norm(across)
        if not length > 1e-6 * np.linalg.norm(second):
            return np.full(4, np.nan)
        y = across / length
    z = np.cross(x, y)
    # Shepperd 1978: uses the largest of the four components and never divides by a small number.
    squares = np.array([x[0] - y[1] - z[2], y[1] - x[0] - z[2], z[2] - x[0] - y[1], x[0] + y[1] + z[2]])
    largest = int(np.argmax(squares))
    rows = {
        0: [1 + squares[0], x[1] + y[0], x[2] + z[0], y[2] - z[1]],
        1: [x[1] + y[0], 1 + squares[1], y[2] + z[1], z[0] - x[2]],
        2: [x[2] + z[0], y[2] + z[1], 1 + squares[2], x[1] - y[0]],
        3: [y[2] - z[1], z[0] - x[2], x[1] - y[0], 1 + squares[3]],
    }
    quaternion = np.array(rows[largest])
    return quaternion / np.copysign(np.linalg.norm(quaternion), quaternion[3] or 1.0)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Chain poses of shape (n, 7), position and unit quaternion x y z w: `inner` expressed in the parent of `outer`."""
    turned = _rotate(outer[:, 3:], inner[:, :3])
    return np.concatenate([outer[:, :3] + turned, _multiply(outer[:, 3:], inner[:, 3:])], axis=1)


def invert(pose: np.ndarray) -> np.ndarray:
    """Invert poses of shape (n, 7)."""
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
