"""A teacher that plays on the device where it was trained."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.pusht_task.rollout import Act
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.distillation.rounds import DrawOfTeacher, TorchPolicy
from vdd_ros.learning.image_windows import Seeing
from vdd_ros.policy.artifact import load_artifact


def teacher_on(device: torch.device, path: Path) -> Act:
    """Return what a teacher does, with its networks and its encoder on a device."""
    artifact = load_artifact(path, kind='teacher')
    contract, normalizers = artifact.manifest.contract, artifact.manifest.normalizers
    teacher = learning.restored_teacher(artifact).to(device)
    see = Seeing(teacher.vision, normalizers.observation, device)
    policy = TorchPolicy(DrawOfTeacher(teacher), contract, normalizers, device, see)
    return lambda windows, generator: policy.plan(windows, generator).action
