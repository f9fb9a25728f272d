"""Students with untrained networks of the shipped size: the cost of a policy without the time to train it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vdd_ros.contract.contract import Contract
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning.calibration import calibrate
from vdd_ros.learning.export import export_student
from vdd_ros.learning.jobs import shape_of
from vdd_ros.learning.learning_settings import load_settings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.policy.artifact import Calibration, DataRecord, Manifest, normalizer_entries, save_artifact
from vdd_ros.policy.density import ObservationDensity, fit_density
from vdd_ros.policy.normalization import Normalizer, Normalizers

_FITTED = 20_000
"""Random windows under the density of a student without demonstrations."""


def seeing_settings(encoder: str) -> StudentSettings:
    """Return the shipped settings of students that see, with an encoder by name."""
    settings = load_settings('learning_images')
    vision = settings.teacher.vision.model_copy(update={'encoder': encoder})
    return settings.student.model_copy(update={'vision': vision})


def save_random_student(
    path: Path,
    contract: Contract,
    settings: StudentSettings,
    *,
    demonstrations: Demonstrations | None = None,
    action_scale: float = 1.0,
    gain: float = 1.0,
    change: Callable[[bytes], bytes] = lambda network: network,
) -> None:
    """Save a student with random weights.

    Parameters
    ----------
    path, contract, settings
        The folder of the artifact, its contract, and the settings of its network.
    demonstrations
        Windows for the OOD density and its thresholds. By default nothing is out of distribution.
    action_scale
        Size of an action of one normalised unit, in the units of the contract.
    gain
        Factor on the dependence of the means on the observation, which is weak before training.
    change
        Changes the exported network, an ONNX model.

    """
    shape = shape_of(contract)
    student = Student(settings, shape, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        student.mean_head.weight.mul_(gain)
    normalizers = Normalizers(
        Normalizer(np.zeros(contract.observation_size), np.ones(contract.observation_size)),
        Normalizer(np.zeros(contract.action_size), np.full(contract.action_size, action_scale)),
    )
    if demonstrations is None:
        features = 0 if student.vision is None else student.vision.size
        calibration, density = _everything(shape.observation_horizon, contract.observation_size + features)
    else:
        calibration, density = calibrate(student, demonstrations, normalizers, seed=0)
    manifest = Manifest(
        kind='student',
        contract=contract,
        contract_hash=contract.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        **normalizer_entries(normalizers),
        network=student.settings.model_dump(mode='json'),
        training={},
        metrics={},
        calibration=calibration,
    )
    network = change(export_student(student, normalizers))
    save_artifact(path, manifest, {'nothing': np.zeros(1, dtype=np.float32)}, network, density.arrays)


def _everything(horizon: int, size: int) -> tuple[Calibration, ObservationDensity]:
    """Return a density of the cost of a fitted one, and thresholds that no window is below."""
    generator = np.random.default_rng(0)
    lowest = {name: {'train': (-1e9, 0.0)} for name in ('density', 'gating_confidence', 'likelihood')}
    calibration = Calibration(levels=(0.0, 1.0), quantiles=lowest, windows={'train': 1})
    return calibration, fit_density(generator.normal(size=(_FITTED, horizon, size)), generator)
