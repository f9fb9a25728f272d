"""The teacher: a denoiser with its noise levels and its sampler, by EDM, DDPM or flow matching."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.learning.diffusion import samplers
from vdd_ros.learning.diffusion.denoiser import Denoiser, edm, epsilon, flow
from vdd_ros.learning.diffusion.loss import denoising_loss
from vdd_ros.learning.diffusion.noise import (
    Grid,
    constant,
    ddpm_grid,
    flow_grid,
    karras_grid,
    loglogistic,
    lognormal,
    loguniform,
    stratified,
)
from vdd_ros.learning.networks import PolicyShape, TrunkSettings


class TeacherSettings(Settings):
    """What a teacher is made of. Noise levels are standard deviations in normalised action units."""

    trunk: TrunkSettings = TrunkSettings(depth=4)
    """Its network."""
    process: Literal['edm', 'ddpm', 'flow'] = 'edm'
    """`edm`: continuous time, preconditioned denoiser. `ddpm`: discrete time. `flow`: continuous time, straight paths
    from action to noise (flow matching), learned and walked evenly in the time of the path."""
    sigma_data: float = Field(1.0, gt=0)
    """Standard deviation of normalised actions; `edm` only."""
    sigma_min: float = Field(0.02, gt=0)
    """Least noise of `edm`; the least that `flow` learns."""
    sigma_max: float = Field(8.0, gt=0)
    """Most noise; `edm` and `flow`."""
    training_noise: Literal['loglogistic', 'lognormal', 'loguniform'] = 'loglogistic'
    """What training draws noise levels from; `edm` only."""
    noise_location: float = -0.5
    """Median of the logarithm of the noise in training; not for `loguniform`."""
    noise_scale: float = Field(0.7, gt=0)
    """Scale of the logarithm of the noise in training; not for `loguniform`."""
    schedule: Literal['cosine', 'linear'] = 'cosine'
    """How signal decays with the steps; `ddpm` only."""
    steps: int = Field(16, ge=1)
    """Levels of the discrete process; `ddpm` only."""
    prediction: Literal['velocity', 'noise'] = 'velocity'
    """What the network of a discrete teacher tells of a noisy action: the noise, as published, or the velocity `v`
    (Salimans and Ho 2022), whose error does not grow with the noise; `ddpm` only."""
    sampler: Literal['euler', 'heun', 'ancestral'] = 'euler'
    """How actions are drawn; `euler` is DDIM and `ancestral` DDPM for a discrete teacher."""
    calls: int = Field(16, ge=1)
    """Network calls for one action; odd for `heun`, at most `steps` for `ddpm`."""
    action_bound: float = Field(6.0, gt=0)
    """Denoised actions are clamped to this many standard deviations while sampling."""


class Teacher(nn.Module):
    """A diffusion policy ``p(a|s)``: its loss, its score and its samples."""

    def __init__(self, settings: TeacherSettings, shape: PolicyShape) -> None:
        """Build an untrained teacher."""
        super().__init__()
        self.settings = settings
        self.shape = shape
        discrete, straight = settings.process == 'ddpm', settings.process == 'flow'
        # For data of unit variance, minus the velocity is what an EDM network is to give.
        self.denoiser = Denoiser(
            settings.trunk,
            shape,
            preconditioning=flow if straight else epsilon if discrete and settings.prediction == 'noise' else edm,
            sigma_data=1.0 if discrete or straight else settings.sigma_data,
        )

    def sigmas(self, calls: int | None = None) -> Grid:
        """Return the descending levels, with 0 at the end, that take `calls` network calls.

        Raises
        ------
        ConfigurationError
            The sampler cannot do with that many calls.

        """
        settings = self.settings
        calls = settings.calls if calls is None else calls
        if settings.sampler == 'heun' and calls % 2 == 0:
            raise ConfigurationError(
                expected='an odd number of calls for heun', found=f'{calls}', remedy=f'set calls to {calls - 1}'
            )
        levels = (calls + 1) // 2 if settings.sampler == 'heun' else calls
        if settings.process == 'edm':
            return karras_grid(levels, settings.sigma_min, settings.sigma_max)
        if settings.process == 'flow':
            return flow_grid(levels, settings.sigma_max)
        if levels > settings.steps:
            raise ConfigurationError(
                expected=f'at most one call for each of {settings.steps} steps',
                found=f'{calls} calls',
                remedy='lower calls, or train with more steps',
            )
        return ddpm_grid(settings.schedule, settings.steps, levels)

    def training_sigma(self, uniform: Float[Tensor, 'batch']) -> Float[Tensor, 'batch']:
        """Map uniform numbers to the noise levels of training."""
        settings = self.settings
        if settings.process == 'ddpm':
            grid = tuple(ddpm_grid(settings.schedule, settings.steps, settings.steps)[:-1].tolist())
            return constant(grid, uniform.dtype, uniform.device)[
                (uniform * settings.steps).long().clamp(max=settings.steps - 1)
            ]
        if settings.process == 'flow':  # evenly in time, of which sigma is t / (1 - t)
            return loglogistic(uniform, settings.sigma_min, settings.sigma_max, location=0.0, scale=1.0)
        if settings.training_noise == 'loguniform':
            return loguniform(uniform, settings.sigma_min, settings.sigma_max)
        draw = loglogistic if settings.training_noise == 'loglogistic' else lognormal
        shape = {'location': settings.noise_location, 'scale': settings.noise_scale}
        return draw(uniform, settings.sigma_min, settings.sigma_max, **shape)

    def loss(
        self,
        observation: Float[Tensor, 'batch horizon obs'],
        action: Float[Tensor, 'batch action'],
        generator: torch.Generator,
    ) -> Float[Tensor, '']:
        """Draw noise and evaluate the denoising loss of demonstrated actions."""
        sigma = self.training_sigma(stratified(len(action), generator, dtype=action.dtype))
        noise = torch.randn(action.shape, generator=generator, dtype=action.dtype, device=generator.device)
        return denoising_loss(self.denoiser, action, observation, sigma, noise)

    def score(
        self,
        action: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
        observation: Float[Tensor, 'batch horizon obs'],
    ) -> Float[Tensor, '*sample batch action']:
        """Evaluate the gradient of ``log p_sigma(action|s)`` in the action."""
        return self.denoiser.score(action, sigma, observation)

    def sample(
        self,
        observation: Float[Tensor, 'batch horizon obs'],
        noise: Float[Tensor, 'draw *sample batch action'],
        calls: int | None = None,
    ) -> Float[Tensor, '*sample batch action']:
        """Draw actions; `noise` is standard normal, its first axis `noise_draws(calls)` long."""
        sigmas = self.sigmas(calls)
        start = self.start(noise[0], sigmas[0])
        bound = self.settings.action_bound
        if self.settings.sampler == 'ancestral':
            return samplers.ancestral(self.denoiser, start, sigmas, observation, noise[1:], bound=bound)
        sampler = samplers.heun if self.settings.sampler == 'heun' else samplers.euler
        return sampler(self.denoiser, start, sigmas, observation, bound=bound)

    def start(
        self, noise: Float[Tensor, '*sample batch action'], sigma: Float[Tensor, '']
    ) -> Float[Tensor, '*sample batch action']:
        """Scale standard normal noise to the spread that actions with noise `sigma` have."""
        return noise * math.hypot(sigma, self.denoiser.sigma_data)

    def noise_draws(self, calls: int | None = None) -> int:
        """Return how many standard normal actions `sample` takes for one action."""
        return len(self.sigmas(calls)) if self.settings.sampler == 'ancestral' else 1
