"""Kinds of faulty joint states, as produced by drivers and second publishers, for tests and benchmarks.

Each fault maps joint names, true position and message number to the published messages: a list of (names, positions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vdd_ros.control.limits import Limits
from vdd_ros.control.tracker import Tracker

Message = tuple[list[str], np.ndarray]
Fault = Callable[[Sequence[str], np.ndarray, int], list[Message]]


def _changed(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda names, position, number: [(list(names), change(position.copy()))]


def _with(joint: int, value: float) -> Fault:
    def change(position: np.ndarray) -> np.ndarray:
        position[joint] = value
        return position

    return _changed(change)


def _shifted(joint: int, distance: float) -> Fault:
    def change(position: np.ndarray) -> np.ndarray:
        position[joint] += distance
        return position

    return _changed(change)


def _alternating(names: Sequence[str], position: np.ndarray, number: int) -> list[Message]:
    return [(list(names), position if number % 2 else np.zeros_like(position))]


def _second_publisher(names: Sequence[str], position: np.ndarray, number: int) -> list[Message]:
    return [(list(names), position), (list(names), position + 0.4)]


def _duplicated(names: Sequence[str], position: np.ndarray, number: int) -> list[Message]:
    return [([*names, names[0]], np.append(position, 0.0))]


def _missing(names: Sequence[str], position: np.ndarray, number: int) -> list[Message]:
    return [(list(names[:-1]), position[:-1])]


def _swapped(position: np.ndarray) -> np.ndarray:
    position[[1, 3]] = position[[3, 1]]
    return position


FAULTS: dict[str, Fault] = {
    'all zeros': _changed(np.zeros_like),
    'zeros every second message': _alternating,
    'a second publisher': _second_publisher,
    'degrees': _changed(np.degrees),
    'one joint at 1e300': _with(3, 1e300),
    'one joint NaN': _with(3, np.nan),
    'one joint infinite': _with(3, np.inf),
    'a joint twice': _duplicated,
    'a joint missing': _missing,
    'two joints exchanged': _changed(_swapped),
    'an encoder that wraps': _shifted(4, 2 * np.pi),
    'an offset after a restart': _shifted(1, 0.3),
}
"""Twelve kinds, by name."""


def braking_distance(commands: Sequence[np.ndarray], limits: Limits, seconds: float) -> float:
    """Return the maximum joint motion of the quickest stop from the speed of the newest commands [rad].

    Parameters
    ----------
    commands
        The newest commands, shape (joint,) [rad] each; repetitions are ignored.
    limits
        Limits of the stop.
    seconds
        Control period [s].

    """
    tracker = Tracker(limits, seconds)
    path = np.array(commands)
    path = path[np.concatenate([[True], np.any(np.diff(path, axis=0) != 0, axis=1)])]
    tracker.reset(path[0])
    for target in path[1:]:
        tracker.step(target)
    begin = tracker.position
    while tracker.moving:
        tracker.brake()
    return float(np.abs(tracker.position - begin).max())
