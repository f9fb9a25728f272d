"""The denoiser: estimates the clean action from a noisy one with one network call, and the score from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdd_ros.learning.chunk_networks import build_chunk_network
from vdd_ros.learning.networks import MlpTrunk, NoiseEmbedding, PolicyShape, TrunkSettings, build_trunk, reduced

Scaling = tuple[Tensor, Tensor, Tensor]


def edm(sigma: Tensor, sigma_data: float | Tensor) -> Scaling:
    """Scale so that the network has input and target of unit variance (Karras et al. 2022, table 1)."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt()


def epsilon(sigma: Tensor, sigma_data: float | Tensor) -> Scaling:
    """Make the network predict the noise from a variance-preserving input (DDPM), for data of unit variance."""
    return torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt()


def flow(sigma: Tensor, sigma_data: float | Tensor) -> Scaling:
    """Make the network predict the velocity of a straight path from action to noise (Lipman et al. 2023).

    At time ``t = sigma / (1 + sigma)`` the path is at ``(1 - t) action + t noise``, which is the noisy action times
    ``1 - t``. The error of the network has equal weight at all times.
    """
    time = sigma / (1 + sigma)
    return 1 - time, -time, 1 - time


Preconditioning = Callable[[Tensor, 'float | Tensor'], Scaling]
"""`(sigma, sigma_data) -> (skip, output, input)` scales; `D = skip * noisy + output * network(input * noisy)`."""
_LEAST_SPREAD = 1e-2
"""Minimum standard deviation along a principal axis, in normalised action units; constant values have none."""


class Denoiser(nn.Module):
    """``D(noisy; sigma, s)``, the expected clean action, of any teacher: EDM, DDPM or flow matching.

    The input is the unscaled action with added noise of standard deviation sigma. A DDPM network is called at
    ``noisy / sqrt(1 + sigma^2) = noisy * sqrt(alphabar)``, the variance-preserving variable of its step, and a flow
    matching network at the point of its path.
    """

    def __init__(
        self,
        trunk: TrunkSettings,
        shape: PolicyShape,
        *,
        preconditioning: Preconditioning = edm,
        sigma_data: float = 1.0,
        principal_axes: bool = False,
    ) -> None:
        """Create the network for actions of standard deviation `sigma_data`, or along the axes of `fit_axes`."""
        super().__init__()
        self.embedding = NoiseEmbedding()
        if trunk.denoises_chunks:
            self.network = build_chunk_network(trunk, shape)
        else:
            self.trunk = build_trunk(trunk, shape, shape.action_size + NoiseEmbedding.size)
            self.head = nn.Linear(trunk.width, shape.action_size)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.sigma_data = sigma_data
        self.principal_axes = principal_axes
        if principal_axes:
            size = shape.action_size
            self.register_buffer('center', torch.zeros(size))
            self.register_buffer('axes', torch.eye(size))
            self.register_buffer('spread', torch.full((size,), sigma_data))
        self.mixed = False
        """Whether the network computes in bfloat16; its scaling stays in float32 (`networks.reduced`)."""
        self._of_chunks = trunk.denoises_chunks
        self._preconditioning = preconditioning

    def forward(
        self,
        noisy: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
        observation: Float[Tensor, 'batch horizon obs'],
    ) -> Float[Tensor, '*sample batch action']:
        """Estimate the clean action; `sigma` is a scalar or broadcasts against '*sample batch'."""
        if self._of_chunks:
            return self.answer(self.encode(observation), noisy, sigma)
        return self._denoised(noisy, sigma, lambda query: self.head(self.trunk(observation, query)))

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch *context']:
        """Compute the part that depends on the window only, once for all calls of a plan."""
        with reduced(observation, self.mixed):
            return (self.network if self._of_chunks else self.trunk).encode(observation)

    def answer(
        self,
        context: Float[Tensor, 'batch *context'],
        noisy: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
    ) -> Float[Tensor, '*sample batch action']:
        """Estimate the clean action as `forward` does, given encoded windows."""
        if self._of_chunks:
            action = noisy.shape[-1]
            return self._denoised(
                noisy, sigma, lambda query: self.network.answer(context, query[..., :action], query[..., action:])
            )
        return self._denoised(noisy, sigma, lambda query: self.head(self.trunk.answer(context, query)))

    def _denoised(self, noisy: Tensor, sigma: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        sigma = sigma.expand(noisy.shape[:-1])
        along = (noisy - self.center) @ self.axes if self.principal_axes else noisy
        skip, output, scale = self._scaling(sigma[..., None])
        query = torch.cat([scale * along, self.embedding(sigma)], dim=-1)
        with reduced(noisy, self.mixed):
            answer = network(query)
        clean = skip * along + output * answer.to(noisy.dtype)
        return clean @ self.axes.mT + self.center if self.principal_axes else clean

    def _scaling(self, sigma: Tensor) -> Scaling:
        return self._preconditioning(sigma, self.spread if self.principal_axes else self.sigma_data)

    @torch.no_grad()
    def fit_axes(self, action: Float[Tensor, 'window action']) -> None:
        """Set the principal axes of demonstrated actions, in normalised units, and the spread along each.

        The scales of the network become those of EDM for a normal distribution with the covariance of the actions: if
        the network returned zero, ``D`` would be the posterior mean under that distribution. The steps of a chunk are
        correlated, so most directions have a small spread. With one common spread, the network itself would have to
        remove the noise in these directions. Does nothing without `principal_axes`.
        """
        if not self.principal_axes:
            return
        center = action.mean(dim=0)
        covariance = (action - center).mT @ (action - center) / max(1, len(action) - 1)
        variance, axes = torch.linalg.eigh(covariance.double())
        self.center.copy_(center)
        self.axes.copy_(axes)
        self.spread.copy_(variance.clamp(min=_LEAST_SPREAD**2).sqrt())

    def score(
        self,
        action: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
        observation: Float[Tensor, 'batch horizon obs'],
    ) -> Float[Tensor, '*sample batch action']:
        """Evaluate the gradient of ``log p_sigma(action|s)``, p convolved with N(0, sigma^2), in the action."""
        return score_of(self, action, sigma, observation)

    @torch.no_grad()
    def conditional_mean(self, sigma: float) -> tuple[MlpTrunk, nn.Linear] | None:
        """Return a trunk and a head without query that compute ``D(0; sigma, s)``.

        For large noise this is ``E[a|s]``. None if the network is not an MLP.
        """
        if self._of_chunks or not isinstance(self.trunk, MlpTrunk):
            return None
        level = torch.tensor(sigma, dtype=self.head.weight.dtype, device=self.head.weight.device)
        along = level.new_zeros(self.head.out_features)
        if self.principal_axes:
            along = -self.center @ self.axes
        skip, output, scale = self._scaling(level)
        query = torch.cat([scale * along, self.embedding(level)])
        head = nn.Linear(self.head.in_features, self.head.out_features).to(self.head.weight)
        weight = (output * self.head.weight.mT).mT
        bias = output * self.head.bias + skip * along
        head.weight.copy_(self.axes @ weight if self.principal_axes else weight)
        head.bias.copy_(self.axes @ bias + self.center if self.principal_axes else bias)
        return self.trunk.answering(query), head

    def loss_weight(self, sigma: Float[Tensor, '*sample']) -> Float[Tensor, '*sample']:
        """Return weights for squared errors of ``D`` that weight the network's error equally at every noise level."""
        return self._preconditioning(sigma, self.sigma_data)[1] ** -2


Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(noisy, sigma, observation) -> clean`: a `Denoiser` or a closed form."""


def score_of(denoise: Denoise, action: Tensor, sigma: Tensor, observation: Tensor) -> Tensor:
    """Return the score of a denoiser by Tweedie's formula, ``(D(a; sigma, s) - a) / sigma^2``."""
    return (denoise(action, sigma, observation) - action) / sigma[..., None] ** 2
