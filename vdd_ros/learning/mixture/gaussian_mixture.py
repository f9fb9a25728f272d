"""Gaussian mixtures with an exact density, stable even if the density of every expert underflows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdd_ros.learning.mixture.covariance import Covariance, chosen

Action = Float[Tensor, '*samples action']


@dataclass(frozen=True)
class GaussianMixture:
    """A batch of Gaussian mixtures over flattened action chunks, in normalised units.

    With ``*samples`` in a shape, sample axes may precede the batch axes.
    """

    log_gating: Float[Tensor, '*batch expert']
    """Normalised log-probabilities of the experts."""
    mean: Float[Tensor, '*batch expert action']
    """Means of the experts."""
    covariance: Covariance
    """Covariances of the experts, batch shape '*batch expert'."""

    def log_joint(self, action: Action) -> Float[Tensor, '*samples expert']:
        """Evaluate ``log q(a,z|s)`` of every expert z."""
        return self.log_gating + self.covariance.log_density(action[..., None, :] - self.mean)

    def log_prob(self, action: Action) -> Float[Tensor, '*samples']:
        """Evaluate ``log q(a|s)``."""
        return self.log_joint(action).logsumexp(dim=-1)

    def log_responsibility(self, action: Action) -> Float[Tensor, '*samples expert']:
        """Evaluate ``log q(z|s,a)``, the responsibility of each expert for an action."""
        return self.log_joint(action).log_softmax(dim=-1)

    def score(self, action: Action) -> Float[Tensor, '*samples action']:
        """Evaluate the gradient of ``log q(a|s)`` with respect to the action."""
        deviation = action[..., None, :] - self.mean
        solved = self.covariance.solve(deviation)
        # Terms common to all experts cancel in the softmax.
        joint = self.log_gating - 0.5 * ((deviation * solved).sum(dim=-1) + self.covariance.log_determinant())
        return -(joint.softmax(dim=-1)[..., None] * solved).sum(dim=-2)

    def sample_experts(self, noise: Float[Tensor, '*samples expert noise']) -> Float[Tensor, '*samples expert action']:
        """Sample from every expert, differentiably; `noise` is standard normal, `covariance.noise_size` wide."""
        return self.mean + self.covariance.correlate(noise)

    def sample(
        self, noise: Float[Tensor, '*samples noise'], uniform: Float[Tensor, '*samples']
    ) -> Float[Tensor, '*samples action']:
        """Sample an expert with `uniform` in [0, 1), and an action from it with standard normal `noise`."""
        expert = self.choose(uniform)
        return self.mean_of_expert(expert) + self.covariance.of(expert).correlate(noise)

    def choose(self, uniform: Float[Tensor, '*samples']) -> Int[Tensor, '*samples']:
        """Sample an expert from the gating with `uniform` in [0, 1)."""
        below = self.log_gating.exp().cumsum(dim=-1)[..., :-1]
        return (uniform[..., None] >= below).sum(dim=-1)

    def mean_of_expert(self, expert: Int[Tensor, '*samples']) -> Float[Tensor, '*samples action']:
        """Return the means of the given experts."""
        return chosen(self.mean, expert)

    def mode(self) -> Float[Tensor, '*batch action']:
        """Return the expert mean with the highest mixture density."""
        density = self.log_prob(self.mean.movedim(-2, 0))
        return self.mean_of_expert(density.argmax(dim=0))

    def gating_entropy(self) -> Float[Tensor, '*batch']:
        """Return the entropy of the gating [nat]."""
        return torch.special.entr(self.log_gating.exp()).sum(dim=-1)

    def convolved(self, sigma: Float[Tensor, '*batch']) -> GaussianMixture:
        """Return the exact density of an action with added noise of standard deviation `sigma`."""
        return GaussianMixture(self.log_gating, self.mean, self.covariance.convolved(sigma[..., None]))

    def select(self, experts: Int[Tensor, 'kept']) -> GaussianMixture:
        """Keep some experts and renormalise the gating exactly."""
        gating = self.log_gating.index_select(-1, experts).log_softmax(dim=-1)
        return GaussianMixture(gating, self.mean.index_select(-2, experts), self.covariance.select(experts))

    def leading(self, size: int) -> GaussianMixture:
        """Return the exact marginal density of the first `size` entries of an action."""
        return GaussianMixture(self.log_gating, self.mean[..., :size], self.covariance.leading(size))

    def detach(self) -> GaussianMixture:
        """Return constants without gradient."""
        return GaussianMixture(self.log_gating.detach(), self.mean.detach(), self.covariance.detach())
