"""What is usual for a student: its signals over the demonstrations, which a live arm is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vdd_ros.data.windows import Demonstrations, WindowArrays
from vdd_ros.learning.mixture.student import Student
from vdd_ros.policy.artifact import Calibration
from vdd_ros.policy.density import ObservationDensity, fit_density
from vdd_ros.policy.normalization import Normalizers

LEVELS = (0.0, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Shares of the windows whose quantiles are kept."""

_MOST_WINDOWS = 20_000
_MOST_NUMBERS = 1 << 26
"""Numbers in the observations of the windows that are taken."""
_BATCH = 1000
_FEW, _MANY = 10, 0.1
"""Of fewer demonstrations none is odd, nor are more than that share."""
_FAR, _LEAST_SPREAD = 6.0, 0.1


def calibrate(
    student: Student, demonstrations: Demonstrations, normalizers: Normalizers, seed: int
) -> tuple[Calibration, ObservationDensity]:
    """Evaluate the signals of a student on the demonstrations as they are, without displacements.

    Signals are those of `DistilledPolicy`: ``familiarity`` and ``decidedness`` of every window, and the ``likelihood``
    of the step that the demonstrator took after it.

    Parameters
    ----------
    student
        The trained student.
    demonstrations
        What it was trained on, and what was held out.
    normalizers
        Those of the student.
    seed
        Draws which windows are taken of very many, and where the density of windows starts to be fitted.

    """
    generator = np.random.default_rng(seed)
    parts = {'train': demonstrations.train, 'held_out': demonstrations.held_out}
    taken = {name: _some(arrays, generator) for name, arrays in parts.items()}
    normalized = {name: normalizers.observation.normalize(arrays.observation) for name, arrays in taken.items()}
    familiarity = fit_density(normalized['train'], generator)
    near = {name: _familiarity(familiarity, window) for name, window in normalized.items()}
    odd = outliers(near, taken)
    for name, arrays in taken.items():
        if arrays.episode is not None and odd[name]:
            kept = np.flatnonzero(~np.isin(arrays.episode, odd[name]))
            taken[name], normalized[name], near[name] = arrays[kept], normalized[name][kept], near[name][kept]
    values: dict[str, dict[str, np.ndarray]] = {'familiarity': near, 'decidedness': {}, 'likelihood': {}}
    for name, window in normalized.items():
        step = normalizers.action.normalize(taken[name].action[:, 0])
        answers = [_answer(student, *pair) for pair in zip(_batches(window), _batches(step))]
        for signal, parts_of in zip(('decidedness', 'likelihood'), zip(*answers)):
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
            'familiarity': separation(values['familiarity']['held_out'], _familiarity(familiarity, aside)),
            'decidedness': separation(values['decidedness']['held_out'], lost),
        },
    )
    return calibration, familiarity


def outliers(familiarity: Mapping[str, np.ndarray], parts: Mapping[str, WindowArrays]) -> dict[str, list[int]]:
    """Return, by part, the numbers of the demonstrations that are unlike all others.

    Of each demonstration the least familiar window counts. One is unlike the others whose is below their median by more
    than `_FAR` times what half of the lower ones are below it by, scaled to a normal deviation: neither is moved by a
    few odd ones. There are none where there are few demonstrations, or where many would be.

    Parameters
    ----------
    familiarity
        By part, shape (window,).
    parts
        The windows.

    """
    lowest = {
        name: {
            int(number): float(familiarity[name][arrays.episode == number].min())
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
    return none if sum(map(len, odd.values())) > _MANY * len(every) else {**none, **odd}


def separation(home: np.ndarray, away: np.ndarray) -> float:
    """Return the share of pairs in which a signal is higher at home than away; ties count half (Mann-Whitney)."""
    order = np.sort(away)
    below, up_to = (np.searchsorted(order, home, side=side) for side in ('left', 'right'))
    return float((below + up_to).mean() / 2 / len(away))


def _familiarity(density: ObservationDensity, window: np.ndarray) -> np.ndarray:
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
