"""What is usual for a student: its signals over the demonstrations, which a live arm is compared with."""

from __future__ import annotations

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
    values: dict[str, dict[str, np.ndarray]] = {'familiarity': {}, 'decidedness': {}, 'likelihood': {}}
    for name, window in normalized.items():
        step = normalizers.action.normalize(taken[name].action[:, 0])
        values['familiarity'][name] = np.concatenate([familiarity.log_density(part) for part in _batches(window)])
        answers = [_answer(student, *pair) for pair in zip(_batches(window), _batches(step))]
        for signal, parts_of in zip(('decidedness', 'likelihood'), zip(*answers)):
            values[signal][name] = torch.cat(parts_of).numpy()
    quantiles = {
        signal: {name: tuple(np.quantile(value, LEVELS).tolist()) for name, value in by_part.items()}
        for signal, by_part in values.items()
    }
    windows = {name: len(window) for name, window in normalized.items()}
    return Calibration(levels=LEVELS, quantiles=quantiles, windows=windows), familiarity


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
