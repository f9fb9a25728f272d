"""Consistency distillation: one network call from any noise level to the end of the teacher's ODE."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vdd_ros.common.settings import Settings
from vdd_ros.learning.diffusion.denoiser import Denoise, Denoiser, Preconditioning, Scaling
from vdd_ros.learning.diffusion.noise import karras_grid
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.networks import PolicyShape, TrunkSettings


class ConsistencySettings(Settings):
    """Architecture of a consistency model. Noise levels are standard deviations in normalised action units."""

    trunk: TrunkSettings = TrunkSettings(depth=4)
    """The network."""
    sigma_data: float = Field(1.0, gt=0)
    """Standard deviation of normalised actions."""
    sigma_min: float = Field(0.02, gt=0)
    """Noise level at which the model is the identity."""
    sigma_max: float = Field(8.0, gt=0)
    """Initial noise level of samples."""
    levels: int = Field(18, ge=2)
    """Number of levels of the grid whose neighbours are compared."""


def anchored(sigma_min: float) -> Preconditioning:
    """Scale so that the model is the identity at `sigma_min` (Song et al. 2023, appendix C)."""

    def scaling(sigma: Tensor, sigma_data: float) -> Scaling:
        above = sigma - sigma_min
        total = sigma**2 + sigma_data**2
        return sigma_data**2 / (above**2 + sigma_data**2), sigma_data * above * total.rsqrt(), total.rsqrt()

    return scaling


class ConsistencyModel(nn.Module):
    """``f(noisy; sigma, s)``, the end of the ODE trajectory through a noisy action."""

    def __init__(self, settings: ConsistencySettings, shape: PolicyShape) -> None:
        """Create an untrained model."""
        super().__init__()
        self.settings = settings
        scaling = anchored(settings.sigma_min)
        self.network = Denoiser(settings.trunk, shape, preconditioning=scaling, sigma_data=settings.sigma_data)

    def loss(
        self,
        denoise: Denoise,
        observation: Float[Tensor, 'batch horizon obs'],
        action: Float[Tensor, 'batch action'],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, '']:
        """Return the distance between neighbours on the ODE of the teacher (Song et al. 2023, alg. 2, by Heun steps).

        The target is the present network, held fixed, and the distance is pseudo-Huber (Song and Dhariwal 2024).
        """
        settings, draws = self.settings, Draws.of(generator)
        uniform = draws.stratified(len(action), action.dtype)
        noise = draws.normal(*action.shape, dtype=action.dtype)
        grid = karras_grid(settings.levels, settings.sigma_min, settings.sigma_max)[:-1].to(action)
        index = (uniform * (settings.levels - 1)).long().clamp(max=settings.levels - 2)
        sigma, lower = grid[index], grid[index + 1]
        noisy = action + sigma[:, None] * noise
        with torch.no_grad():
            slope = (noisy - denoise(noisy, sigma, observation)) / sigma[:, None]
            ahead = noisy + (lower - sigma)[:, None] * slope
            corrected = (ahead - denoise(ahead, lower, observation)) / lower[:, None]
            target = self.network(noisy + (lower - sigma)[:, None] * (slope + corrected) / 2, lower, observation)
        softness = 0.00054 * action.shape[-1] ** 0.5
        distance = (self.network(noisy, sigma, observation) - target).square().sum(dim=-1)
        return ((distance + softness**2).sqrt() - softness).mean()

    def sample(
        self,
        observation: Float[Tensor, 'batch horizon obs'],
        noise: Float[Tensor, '*sample batch action'],
    ) -> Float[Tensor, '*sample batch action']:
        """Sample actions from standard normal `noise` by one network call."""
        sigma = noise.new_tensor(self.settings.sigma_max)
        start = noise * torch.hypot(sigma, noise.new_tensor(self.settings.sigma_data))
        return self.network(start, sigma, observation)
