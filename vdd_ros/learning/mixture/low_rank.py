"""Low-rank covariances: a few shared directions plus independent dimensions, for long action chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vdd_ros.learning.mixture.covariance import (
    Covariance,
    FullCovariance,
    Sigma,
    chosen,
    chosen_matrices,
    columns,
    factorized,
)


@dataclass(frozen=True)
class LowRankCovariance(Covariance):
    """A few shared directions plus independent dimensions: ``factor factor^T + diag(scale^2)``.

    Every operation costs dimensions times rank^2, which is cheap for long action chunks (Woodbury's identity).
    """

    scale: Float[Tensor, '*batch action']
    """Standard deviations of the independent part."""
    factor: Float[Tensor, '*batch action rank']
    """Directions, each with the length of its standard deviation."""

    @cached_property
    def _whitened_factor(self) -> Tensor:
        return self.factor / self.scale[..., None]

    @cached_property
    def _capacitance(self) -> FullCovariance:
        gram = self._whitened_factor.mT @ self._whitened_factor
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return FullCovariance(factorized(gram + identity))

    @cached_property
    def _explaining(self) -> Float[Tensor, '*batch rank action']:
        """Projection of whitened deviations to the shared directions; its squares are the reduction of the distance."""
        return self._capacitance.whitening @ self._whitened_factor.mT

    @cached_property
    def _precision_of_directions(self) -> Float[Tensor, '*batch action rank']:
        return (self._explaining.mT @ self._capacitance.whitening) / self.scale[..., None]

    @cached_property
    def _fixed(self) -> LowRankCovariance:
        return self.detach()

    @property
    def noise_size(self) -> int:
        """Number of standard normal values: one for each dimension and one for each shared direction."""
        return self.scale.shape[-1] + self.factor.shape[-1]

    def correlate(self, noise: Tensor) -> Tensor:
        """Convert standard normal noise to deviations: the sum of independent and shared deviations."""
        independent, shared = noise.split([self.scale.shape[-1], self.factor.shape[-1]], dim=-1)
        return self.scale * independent + columns(self.factor, shared)

    def log_density(self, deviation: Tensor) -> Tensor:
        """Evaluate the density with an explicit gradient, three times as fast as automatic differentiation."""
        return _LowRankDensity.apply(deviation, self.scale, self.factor, self._fixed)

    def solve(self, deviation: Tensor) -> Tensor:
        """Multiply with the inverse covariance, by Woodbury's identity."""
        whitened = deviation / self.scale
        return (whitened - columns(self._explaining.mT, columns(self._explaining, whitened))) / self.scale

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance: whitened independent part minus the part of shared directions."""
        whitened = deviation / self.scale
        return whitened.square().sum(dim=-1) - columns(self._explaining, whitened).square().sum(dim=-1)

    def log_determinant(self) -> Tensor:
        """Return the logarithm of the determinant, by the matrix determinant lemma."""
        return 2 * self.scale.log().sum(dim=-1) + self._capacitance.log_determinant()

    def variance(self) -> Tensor:
        """Return the variance of each dimension (the diagonal of the covariance matrix)."""
        return self.scale**2 + self.factor.square().sum(dim=-1)

    def dense(self) -> Tensor:
        """Return the covariance matrix."""
        return torch.diag_embed(self.scale**2) + self.factor @ self.factor.mT

    def convolved(self, sigma: Sigma) -> LowRankCovariance:
        """Return the covariance plus ``sigma^2 I``."""
        return LowRankCovariance((self.scale**2 + sigma[..., None] ** 2).sqrt(), self.factor)

    def select(self, index: Tensor) -> LowRankCovariance:
        """Return the covariances of the experts with the given indices."""
        return LowRankCovariance(self.scale.index_select(-2, index), self.factor.index_select(-3, index))

    def of(self, expert: Tensor) -> LowRankCovariance:
        """Return the covariance of each sample's expert."""
        return LowRankCovariance(chosen(self.scale, expert), chosen_matrices(self.factor, expert))

    def leading(self, size: int) -> LowRankCovariance:
        """Return the covariance of the first `size` entries."""
        return LowRankCovariance(self.scale[..., :size], self.factor[..., :size, :])

    def detach(self) -> LowRankCovariance:
        """Return constants without gradient."""
        return LowRankCovariance(self.scale.detach(), self.factor.detach())


class _LowRankDensity(torch.autograd.Function):
    """A log-density with gradient; with respect to the covariance C it is ``(x x^T - inverse(C)) / 2``.

    x is ``inverse(C) deviation``.
    """

    @staticmethod
    def forward(ctx: Any, deviation: Tensor, scale: Tensor, factor: Tensor, fixed: LowRankCovariance) -> Tensor:
        ctx.fixed = fixed
        ctx.save_for_backward(deviation)
        return Covariance.log_density(fixed, deviation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        fixed, (deviation,), weight = ctx.fixed, ctx.saved_tensors, weight[..., None]
        scale, factor = fixed.scale, fixed.factor
        solved = fixed.solve(deviation)
        descent = weight * solved
        total = weight.sum_to_size(*scale.shape[:-1], 1)
        precision = (1 - fixed._explaining.square().sum(dim=-2)) / scale**2
        of_scale = scale * ((descent * solved).sum_to_size(scale.shape) - total * precision)
        along = (descent[..., :, None] * columns(factor.mT, solved)[..., None, :]).sum_to_size(factor.shape)
        return -descent, of_scale, along - total[..., None] * fixed._precision_of_directions, None
