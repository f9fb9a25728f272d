"""From trained networks to ONNX: normalisation included, so that one call maps measured units to experts."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import torch
from torch import Tensor, nn

from vdd_ros.diffusion.denoiser import Denoiser
from vdd_ros.mixture.student import Student
from vdd_ros.normalization import Normalizer, Normalizers


def export_student(student: Student, normalizers: Normalizers) -> bytes:
    """Return a model ``observation -> log_gating, mean, covariance`` in the units of the contract.

    Shapes: (batch, observation_horizon, observation) to (batch, expert), (batch, expert, prediction_horizon, action)
    and (batch, expert, chunk, chunk). Retired experts are left out.
    """
    return _export(
        _StudentInUnits(student.compact(), normalizers),
        (_window(student),),
        names=('observation',),
        outputs=('log_gating', 'mean', 'covariance'),
        batched=('observation',),
    )


def export_denoiser(denoiser: Denoiser, normalizers: Normalizers, window: Tensor, action_size: int) -> bytes:
    """Return a model ``noisy, sigma, observation -> clean``.

    Actions, shape (batch, chunk), are in normalised units, in which noise levels are meant; observations, shape
    (batch, observation_horizon, observation), are in the units of the contract. ``window`` shows their shape.
    """
    return _export(
        _DenoiserInUnits(denoiser, normalizers),
        (torch.zeros(len(window), action_size), torch.tensor(1.0), window),
        names=('noisy', 'sigma', 'observation'),
        outputs=('clean',),
        batched=('noisy', 'observation'),
    )


class _Affine(nn.Module):
    """A normaliser as a part of a network: the network's first or last step."""

    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        self.register_buffer('offset', torch.as_tensor(normalizer.offset, dtype=torch.float32))
        self.register_buffer('scale', torch.as_tensor(normalizer.scale, dtype=torch.float32))

    def normalize(self, values: Tensor) -> Tensor:
        return (values - self.offset) / self.scale

    def denormalize(self, values: Tensor) -> Tensor:
        return values * self.scale + self.offset


class _StudentInUnits(nn.Module):
    def __init__(self, student: Student, normalizers: Normalizers) -> None:
        super().__init__()
        self.student = student
        self.observation = _Affine(normalizers.observation)
        self.action = _Affine(normalizers.action)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixture = self.student.every_expert(self.observation.normalize(observation))
        mean = self.action.denormalize(mixture.mean.unflatten(-1, (-1, len(self.action.scale))))
        scale = self.action.scale.repeat(mean.shape[-2])
        return mixture.log_gating, mean, mixture.covariance.dense() * scale[:, None] * scale


class _DenoiserInUnits(nn.Module):
    def __init__(self, denoiser: Denoiser, normalizers: Normalizers) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.observation = _Affine(normalizers.observation)

    def forward(self, noisy: Tensor, sigma: Tensor, observation: Tensor) -> Tensor:
        return self.denoiser(noisy, sigma, self.observation.normalize(observation))


def _window(student: Student) -> Tensor:
    # Two of a batch: the exporter takes a size of one for a constant.
    return torch.zeros(2, student.shape.observation_horizon, student.shape.observation_size)


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    batched: tuple[str, ...],
) -> bytes:
    batch = torch.export.Dim('batch')
    exporter = logging.getLogger('torch.onnx')
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        # The exporter tells its progress on stdout, and warns of what it lacks for networks that are not these.
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: batch} if name in batched else None for name in names),
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    return program.model_proto.SerializeToString()
