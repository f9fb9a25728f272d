"""Calibration: the distribution of the OOD signals of a student over the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vdd_ros.data.windows import Demonstrations, WindowArrays
from vdd_ros.learning.image_windows import Seeing
from vdd_ros.learning.mixture.student import Student
from vdd_ros.policy.artifact import Calibration
from vdd_ros.policy.density import ObservationDensity, fit_density
from vdd_ros.policy.normalization import Normalizers

LEVELS = (0.0, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Levels of the stored quantiles."""

_MOST_WINDOWS = 20_000
_MOST_NUMBERS = 1 << 26
"""Maximum number of observation values used."""
_BATCH = 1000
_FEW, _MANY = 10, 0.1
"""Minimum number of demonstrations for outlier detection, and maximum share of outliers."""
_LEAST_FEATURE = 0.03
"""Minimum standard deviation of a feature, for comparison: brightness ranges from -1 to 1."""
_FAR, _LEAST_SPREAD = 6.0, 0.1


def calibrate(
    student: Student,
    demonstrations: Demonstrations,
    normalizers: Normalizers,
    seed: int,
    device: torch.device | None = None,
) -> tuple[Calibration, ObservationDensity]:
    """Evaluate the OOD signals of a student on the demonstrations, without displacements.

    The signals are those of `DistilledPolicy`: ``density`` and ``gating_confidence`` of every window, and the
    ``likelihood`` of the demonstrated step after it.

    Parameters
    ----------
    student
        The trained student.
    demonstrations
        The training and held-out windows.
    normalizers
        The normalizers of the student.
    seed
        Random seed of the selection of windows and of the density fit.
    device
        Device that encodes images; by default the CPU.

    """
    generator = np.random.default_rng(seed)
    parts = {'train': demonstrations.train, 'held_out': demonstrations.held_out}
    taken = {name: _some(arrays, generator) for name, arrays in parts.items()}
    seeing = Seeing(student.vision, normalizers.observation, device or torch.device('cpu'))
    normalized = {name: seeing.all(arrays) for name, arrays in taken.items()}
    density = _fitted(normalized['train'], len(normalizers.observation.scale), generator)
    near = {name: _log_density(density, window) for name, window in normalized.items()}
    odd = outliers(near, taken)
    for name, arrays in taken.items():
        if arrays.episode is not None and odd[name]:
            kept = np.flatnonzero(~np.isin(arrays.episode, odd[name]))
            taken[name], normalized[name], near[name] = arrays[kept], normalized[name][kept], near[name][kept]
    values: dict[str, dict[str, np.ndarray]] = {'density': near, 'gating_confidence': {}, 'likelihood': {}}
    for name, window in normalized.items():
        step = normalizers.action.normalize(taken[name].action[:, 0])
        answers = [_answer(student, *pair) for pair in zip(_batches(window), _batches(step))]
        for signal, parts_of in zip(('gating_confidence', 'likelihood'), zip(*answers)):
            values[signal][name] = torch.cat(parts_of).numpy()
    quantiles = {
        signal: {name: tuple(np.quantile(value, LEVELS).tolist()) for name, value in by_part.items()}
        for signal, by_part in values.items()
    }
    held_out, step = normalized['held_out'], normalizers.action.normalize(taken['held_out'].action[:, 0])
    aside = held_out + generator.normal(size=(len(held_out), 1, held_out.shape[2]))
    lost = torch.cat([_answer(student, *pair)[0] for pair in zip(_batches(aside), _batches(step))]).numpy()
    calibration = Calibration(
        levels=LEVELS,
        quantiles=quantiles,
        windows={name: len(window) for name, window in normalized.items()},
        outliers=tuple(parts[name].names[number] for name, numbers in odd.items() for number in numbers),
        separation={
            'density': separation(values['density']['held_out'], _log_density(density, aside)),
            'gating_confidence': separation(values['gating_confidence']['held_out'], lost),
        },
    )
    return calibration, density


def _fitted(window: np.ndarray, numbers: int, generator: np.random.Generator) -> ObservationDensity:
    """Fit the density to windows whose first so many columns are normalised numbers, and the others features.

    Features have scales of their own. Those that hardly vary count by `_LEAST_FEATURE`.
    """
    if window.shape[2] == numbers:
        return fit_density(window, generator)
    rows = window.reshape(-1, window.shape[2])
    offset, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST_FEATURE)
    offset[:numbers], scale[:numbers] = 0.0, 1.0
    found = fit_density((window - offset) / scale, generator)
    return found.of_unscaled(*(np.tile(values, window.shape[1]) for values in (offset, scale)))


def outliers(log_density: Mapping[str, np.ndarray], parts: Mapping[str, WindowArrays]) -> dict[str, list[int]]:
    """Return the indices of outlier demonstrations, by part.

    Each demonstration is represented by the lowest density of its windows. A demonstration is an outlier if its value
    is more than `_FAR` robust standard deviations, estimated from the lower half, below the median. No outliers are
    returned if there are few demonstrations, or if many of them or all of a part would be outliers.

    Parameters
    ----------
    log_density
        Log-density of the windows by part, shape (window,).
    parts
        The windows.

    """
    lowest = {
        name: {
            int(number): float(log_density[name][arrays.episode == number].min())
            for number in np.unique(arrays.episode)
        }
        for name, arrays in parts.items()
        if arrays.episode is not None
    }
    every = np.array([value for part in lowest.values() for value in part.values()])
    none: dict[str, list[int]] = {name: [] for name in parts}
    if len(every) < _FEW:
        return none
    median = np.median(every)
    spread = max(1.4826 * np.median(median - every[every <= median]), _LEAST_SPREAD)
    odd = {name: [n for n, value in part.items() if value < median - _FAR * spread] for name, part in lowest.items()}
    odd = {name: found if len(found) < len(lowest[name]) else [] for name, found in odd.items()}
    return none if sum(map(len, odd.values())) > _MANY * len(every) else {**none, **odd}


def separation(home: np.ndarray, away: np.ndarray) -> float:
    """Return the probability that a signal is higher in than out of distribution; ties count half (Mann-Whitney)."""
    order = np.sort(away)
    below, up_to = (np.searchsorted(order, home, side=side) for side in ('left', 'right'))
    return float((below + up_to).mean() / 2 / len(away))


def _log_density(density: ObservationDensity, window: np.ndarray) -> np.ndarray:
    return np.concatenate([density.log_density(part) for part in _batches(window)])


@torch.no_grad()
def _answer(student: Student, window: np.ndarray, step: np.ndarray) -> tuple[Tensor, Tensor]:
    reference = student.mean_head.weight
    mixture = student(torch.as_tensor(window).to(reference)).leading(step.shape[1])
    return -mixture.gating_entropy().cpu(), mixture.log_prob(torch.as_tensor(step).to(reference)).cpu()


def _some(arrays: WindowArrays, generator: np.random.Generator) -> WindowArrays:
    most = min(_MOST_WINDOWS, max(1, _MOST_NUMBERS // int(np.prod(arrays.observation.shape[1:]))))
    if len(arrays.action) <= most:
        return arrays
    kept = np.sort(generator.choice(len(arrays.action), most, replace=False))
    return arrays[kept]


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]
