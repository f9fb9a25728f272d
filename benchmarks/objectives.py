"""The objectives of distillation that benchmarks compare, as changes of settings."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.learning.learning_settings import LearningSettings

OBJECTIVES: Mapping[str, Mapping[str, float]] = {
    'vdd': {},
    'labels': {'divergence': 0.0, 'coverage': 0.0, 'imitation': 1.0},
    'visited': {'divergence': 0.0, 'coverage': 0.0, 'imitation': 1.0},
    'vdd and labels': {'imitation': 1.0},
}
"""`vdd`: as the settings have it. `labels`: likelihood of what the teacher does at demonstrated and displaced windows.
`visited`: the same, and at windows that policies visit in a simulator. `vdd and labels`: the sum."""


def with_objective(settings: LearningSettings, name: str) -> LearningSettings:
    """Return settings with one of the objectives, all else alike."""
    distillation = settings.distillation.model_copy(update=OBJECTIVES[name])
    return settings.model_copy(update={'distillation': distillation})
