"""Closed forms that the learning core is measured against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vdd_ros.learning.mixture.covariance import DiagonalCovariance, FullCovariance
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.mixture.low_rank import LowRankCovariance


def sigma_points(size: int) -> Tensor:
    """Return noise, shape (2 size, size), whose average integrates quadratics and cubics under N(0, I) exactly."""
    corners = math.sqrt(size) * torch.eye(size, dtype=torch.float64)
    return torch.cat([corners, -corners])


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def random_covariance(form: str, *shape: int, generator: torch.Generator, rank: int = 2):
    """Draw well-conditioned covariances; `shape` ends in experts and dimensions."""
    options = {'generator': generator, 'dtype': torch.float64}
    scale = 0.3 + torch.rand(*shape, **options)
    if form == 'diagonal':
        return DiagonalCovariance(scale)
    if form == 'low_rank':
        return LowRankCovariance(scale, 0.7 * torch.randn(*shape, rank, **options))
    return FullCovariance(torch.randn(*shape, shape[-1], **options).tril(-1) * 0.5 + torch.diag_embed(scale))


def random_mixture(form: str = 'full', batch: int = 3, experts: int = 4, size: int = 3, seed: int = 0):
    """Draw a batch of mixtures."""
    generator = seeded(seed)
    options = {'generator': generator, 'dtype': torch.float64}
    gating = torch.randn(batch, experts, **options).log_softmax(dim=-1)
    mean = torch.randn(batch, experts, size, **options)
    return GaussianMixture(gating, mean, random_covariance(form, batch, experts, size, generator=generator))


def repeated(mixture: GaussianMixture, count: int) -> GaussianMixture:
    """Repeat a mixture of batch size 1."""
    covariance = type(mixture.covariance)(
        *(
            getattr(mixture.covariance, name).expand(count, *getattr(mixture.covariance, name).shape[1:])
            for name in mixture.covariance.__dataclass_fields__
        )
    )
    return GaussianMixture(
        mixture.log_gating.expand(count, -1), mixture.mean.expand(count, *mixture.mean.shape[1:]), covariance
    )


def ring(std: float, weights: list[float], dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Return Gaussians on a ring of radius 2, batch size 1."""
    angle = torch.arange(len(weights), dtype=dtype) * 2 * math.pi / len(weights)
    mean = 2 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    scale = torch.full((1, len(weights), 2), std, dtype=dtype)
    return GaussianMixture(torch.tensor(weights, dtype=dtype).log()[None], mean[None], DiagonalCovariance(scale))


def score_of(mixture: GaussianMixture):
    """Return a teacher's score whose clean density is a mixture of batch size 1, whatever the observation."""
    return lambda action, sigma, observation: repeated(mixture, len(sigma)).convolved(sigma).score(action)
