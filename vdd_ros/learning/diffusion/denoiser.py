"""The denoiser: one network call from a noisy action to the clean one, and from there to the score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdd_ros.learning.chunk_networks import build_chunk_network
from vdd_ros.learning.networks import MlpTrunk, NoiseEmbedding, PolicyShape, TrunkSettings, build_trunk, reduced

Scaling = tuple[Tensor, Tensor, Tensor]


def edm(sigma: Tensor, sigma_data: float) -> Scaling:
    """Scale so that the network has input and target of unit variance (Karras et al. 2022, table 1)."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt()


def epsilon(sigma: Tensor, sigma_data: float) -> Scaling:
    """Let the network predict the noise from a variance-preserving input (DDPM), for data of unit variance."""
    return torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt()


def flow(sigma: Tensor, sigma_data: float) -> Scaling:
    """Let the network predict the velocity of a straight path from action to noise (Lipman et al. 2023).

    At time ``t = sigma / (1 + sigma)`` the path is at ``(1 - t) action + t noise``, which is the noisy action times
    ``1 - t``; the network's error counts alike at all times.
    """
    time = sigma / (1 + sigma)
    return 1 - time, -time, 1 - time


Preconditioning = Callable[[Tensor, float], Scaling]
"""`(sigma, sigma_data) -> (skip, output, input)` scales; `D = skip * noisy + output * network(input * noisy)`."""


class Denoiser(nn.Module):
    """``D(noisy; sigma, s)``, the expected clean action, of any teacher: EDM, DDPM or flow matching.

    All see the action with noise of standard deviation sigma added, unscaled. A DDPM network is called at
    ``noisy / sqrt(1 + sigma^2) = noisy * sqrt(alphabar)``, the variance-preserving variable of its step, and one of
    flow matching at the point of its path.
    """

    def __init__(
        self,
        trunk: TrunkSettings,
        shape: PolicyShape,
        *,
        preconditioning: Preconditioning = edm,
        sigma_data: float = 1.0,
    ) -> None:
        """Build the network for actions of standard deviation `sigma_data`."""
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
        self.mixed = False
        """Whether the network computes in bfloat16; what it is scaled with stays in float32 (`networks.reduced`)."""
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
        """Compute what depends on the window alone, once for all calls of a plan."""
        with reduced(observation, self.mixed):
            return (self.network if self._of_chunks else self.trunk).encode(observation)

    def answer(
        self,
        context: Float[Tensor, 'batch *context'],
        noisy: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
    ) -> Float[Tensor, '*sample batch action']:
        """Estimate the clean action as `forward` does, for windows that were encoded."""
        if self._of_chunks:
            action = noisy.shape[-1]
            return self._denoised(
                noisy, sigma, lambda query: self.network.answer(context, query[..., :action], query[..., action:])
            )
        return self._denoised(noisy, sigma, lambda query: self.head(self.trunk.answer(context, query)))

    def _denoised(self, noisy: Tensor, sigma: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        sigma = sigma.expand(noisy.shape[:-1])
        skip, output, scale = (part[..., None] for part in self._preconditioning(sigma, self.sigma_data))
        query = torch.cat([scale * noisy, self.embedding(sigma)], dim=-1)
        with reduced(noisy, self.mixed):
            answer = network(query)
        return skip * noisy + output * answer.to(noisy.dtype)

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
        """Return a trunk and a head of the window alone that give ``D(0; sigma, s)``.

        Where the noise drowns all actions, that is ``E[a|s]``. None if the network is no MLP.
        """
        if self._of_chunks or not isinstance(self.trunk, MlpTrunk):
            return None
        level = torch.tensor(sigma, dtype=self.head.weight.dtype, device=self.head.weight.device)
        query = torch.cat([level.new_zeros(self.head.out_features), self.embedding(level)])
        head = nn.Linear(self.head.in_features, self.head.out_features).to(self.head.weight)
        output = self._preconditioning(level, self.sigma_data)[1]
        head.weight.copy_(output * self.head.weight)
        head.bias.copy_(output * self.head.bias)
        return self.trunk.answering(query), head

    def loss_weight(self, sigma: Float[Tensor, '*sample']) -> Float[Tensor, '*sample']:
        """Weigh squared errors so that the network's own error counts alike at every noise level."""
        return self._preconditioning(sigma, self.sigma_data)[1] ** -2


Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(noisy, sigma, observation) -> clean`: a `Denoiser`, or a closed form in its place."""


def score_of(denoise: Denoise, action: Tensor, sigma: Tensor, observation: Tensor) -> Tensor:
    """Turn a denoiser into a score by Tweedie's formula, ``(D(a; sigma, s) - a) / sigma^2``."""
    return (denoise(action, sigma, observation) - action) / sigma[..., None] ** 2
