"""Compare demonstrations: pauses, duplicates, outliers, and coverage of the observation space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.data.decode.frames import Rows, real
from vdd_ros.data.episode import Episode

_IDLE = 0.05
"""Share of the typical speed below which the arm rests."""
_COMPARED = 3000
"""Maximum number of observations that are compared."""


@dataclass(frozen=True)
class EpisodeQuality:
    """Quality of one demonstration: durations, rest, jumps, and distances from the other demonstrations."""

    index: int
    start: int
    """First tick [ns]."""
    seconds: float
    ticks: int
    success: bool | None
    labels: Mapping[str, str]
    idle_before: float
    """Duration of rest at the beginning [s]."""
    idle_after: float
    """Duration of rest at the end [s]."""
    idle: float
    """Share of the time in which the arm rests, in [0, 1]."""
    path: float
    """Total path of the actions, in median steps."""
    jump: float
    """Largest change of the command, in median steps."""
    start_distance: float
    """Distance of the first observation from the median first observation, in standard deviations."""
    remoteness: float
    """Median distance of the observations from the nearest observation of other demonstrations, in standard
    deviations."""
    twin: int | None = None
    """Index of an earlier demonstration with identical values."""


@dataclass(frozen=True)
class Coverage:
    """The observations of the demonstrations, projected to their first two principal components."""

    points: np.ndarray
    """Shape (observation, 2), in standard deviations; subsampled."""
    episode: np.ndarray
    """Shape (observation,): index of the demonstration."""
    share: float
    """Share of the variance explained by the two components, in [0, 1]."""
    axes: tuple[str, str]
    """Main contributions to the two axes."""
    dimensions: float
    """Number of directions in which the observations vary: the participation ratio of their variances."""


def measure_episodes(
    episodes: Sequence[Episode], names: Sequence[str], changes: np.ndarray, period: int
) -> tuple[tuple[EpisodeQuality, ...], Coverage | None]:
    """Compare demonstrations by their values; an image is represented by its mean brightness.

    Parameters
    ----------
    episodes
        Episodes of one contract.
    names
        Names of the observation values.
    changes
        Mask of the action values that are changes of a command, shape (action,) bool.
    period
        Policy period [ns].

    """
    if not episodes:
        return (), None
    observed = [_numbers(episode.observation, names) for episode in episodes]
    names = observed[0][1]
    joined = np.concatenate([numbers for numbers, _ in observed])
    middle, deviation = joined.mean(axis=0), joined.std(axis=0)
    varies = deviation > 1e-9 * max(float(deviation.max()), 1e-300)
    scaled = [(numbers - middle)[:, varies] / deviation[varies] for numbers, _ in observed]
    speeds = [_speed(item) for item in scaled]
    usual_speed = float(np.quantile(np.concatenate(speeds), 0.9)) or 1.0
    steps = [np.linalg.norm(_steps(episode.action, changes), axis=1) for episode in episodes]
    moved = np.concatenate(steps) if steps else np.zeros(0)
    usual_step = float(np.sqrt(np.square(moved).mean())) if moved.any() else 1.0
    remoteness, thinned = _remoteness(scaled)
    seconds = period / 1e9
    seen: dict[str, int] = {}
    found = []
    for place, episode in enumerate(episodes):
        rests = speeds[place] < _IDLE * usual_speed
        busy = np.flatnonzero(~rests)
        mark = _mark(episode)
        found.append(
            EpisodeQuality(
                index=episode.index,
                start=int(episode.stamps[0]) if len(episode.stamps) else 0,
                seconds=len(episode) * seconds,
                ticks=len(episode),
                success=episode.success,
                labels=episode.labels,
                idle_before=float(busy[0] if len(busy) else len(rests)) * seconds,
                idle_after=float(len(rests) - 1 - busy[-1] if len(busy) else len(rests)) * seconds,
                idle=float(rests.mean()) if len(rests) else 0.0,
                path=float(steps[place].sum() / usual_step),
                jump=float(steps[place].max(initial=0.0) / usual_step),
                start_distance=float(np.linalg.norm(scaled[place][0]) / np.sqrt(max(varies.sum(), 1))),
                remoteness=remoteness[place],
                twin=seen.get(mark),
            )
        )
        seen.setdefault(mark, episode.index)
    chosen = [name for name, kept in zip(names, varies) if kept]
    return tuple(found), _coverage(thinned, [episode.index for episode in episodes], chosen)


def _numbers(observation: np.ndarray | Rows, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the compared values, shape (tick, number), and their names; images are reduced to their brightness."""
    if isinstance(observation, np.ndarray):
        return observation, [*names]
    parts, chosen, begin = [], [], 0
    for part in observation.parts:
        end = begin + part.shape[1]
        if isinstance(part, np.ndarray):
            parts.append(part)
            chosen += names[begin:end]
        else:
            mean = {id(row): float(real(row).mean()) for row in part.rows}
            parts.append(np.array([[mean[id(row)]] for row in part.rows]))
            chosen.append(f'{names[begin].rpartition(" ")[0] or names[begin]} brightness')
        begin = end
    return np.concatenate(parts, axis=1), chosen


def _mark(episode: Episode) -> str:
    """Return a hash of all values, to detect equal demonstrations."""
    mark = hashlib.sha256(episode.action.tobytes())
    parts = [episode.observation] if isinstance(episode.observation, np.ndarray) else episode.observation.parts
    for part in parts:
        for piece in [part] if isinstance(part, np.ndarray) else part.rows:
            mark.update(piece.tobytes())
    return mark.hexdigest()


def _steps(action: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Return the change of the command from tick to tick, shape (tick, action)."""
    return np.where(changes, action, np.diff(action, axis=0, prepend=action[:1]))


def _speed(scaled: np.ndarray) -> np.ndarray:
    """Return the speed of the observation from tick to tick, shape (tick,)."""
    if len(scaled) < 2:
        return np.zeros(len(scaled))
    steps = np.abs(np.diff(scaled, axis=0)).max(axis=1)
    return np.append(steps, steps[-1])


def _remoteness(scaled: Sequence[np.ndarray]) -> tuple[list[float], list[np.ndarray]]:
    """Return the distance of each demonstration from the others, and the compared observations."""
    stride = max(1, sum(map(len, scaled)) // _COMPARED)
    thinned = [item[::stride] for item in scaled]
    if len(scaled) < 2:
        return [0.0] * len(scaled), thinned
    joined = np.concatenate(thinned)
    owner = np.repeat(np.arange(len(thinned)), [len(item) for item in thinned])
    squares = np.square(joined).sum(axis=1)
    found = []
    for place, item in enumerate(thinned):
        others = owner != place
        distances = np.square(item).sum(axis=1)[:, None] + squares[others] - 2 * item @ joined[others].T
        nearest = np.sqrt(np.maximum(distances.min(axis=1), 0) / max(item.shape[1], 1))
        found.append(float(np.median(nearest)))
    return found, thinned


def _coverage(thinned: Sequence[np.ndarray], indices: Sequence[int], names: Sequence[str]) -> Coverage | None:
    joined = np.concatenate(thinned)
    if joined.shape[1] == 0 or len(joined) < 3:
        return None
    centred = joined - joined.mean(axis=0)
    variance, vector = np.linalg.eigh(centred.T @ centred / len(centred))
    variance, vector = np.maximum(variance[::-1], 0), vector[:, ::-1]
    plane = vector[:, :2] if vector.shape[1] > 1 else np.column_stack([vector[:, 0], np.zeros(len(vector))])
    plane = plane * np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    return Coverage(
        points=centred @ plane,
        episode=np.repeat(np.array(indices), [len(item) for item in thinned]),
        share=float(variance[:2].sum() / variance.sum()),
        axes=tuple(_makeup(column, names) for column in plane.T),
        dimensions=float(variance.sum() ** 2 / np.square(variance).sum()),
    )


def _makeup(column: np.ndarray, names: Sequence[str]) -> str:
    """Describe the values with the largest weights in an axis."""
    order = np.abs(column).argsort()[::-1]
    kept = [place for place in order[:3] if abs(column[place]) > 0.5 * abs(column[order[0]])]
    return ', '.join(('−' if column[place] < 0 else '') + names[place] for place in kept)
