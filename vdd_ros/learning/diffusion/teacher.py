"""The teacher: a denoiser with noise levels and sampler, for EDM, DDPM or flow matching."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

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
)
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.vision import SeeingModule, VisionSettings, see


class TeacherSettings(Settings):
    """Architecture and noise of a teacher. Noise levels are standard deviations in normalised action units."""

    trunk: TrunkSettings = TrunkSettings(depth=4)
    """The network."""
    vision: VisionSettings = VisionSettings()
    """The image encoder, for contracts of version 3 with images."""
    process: Literal['edm', 'ddpm', 'flow'] = 'edm'
    """`edm`: continuous time, preconditioned denoiser. `ddpm`: discrete time. `flow`: continuous time, straight paths
    from action to noise (flow matching), trained and sampled uniformly in the time of the path."""
    sigma_data: float = Field(1.0, gt=0)
    """Standard deviation of normalised actions; `edm` only."""
    principal_axes: bool = False
    """Whether an `edm` teacher represents noisy actions along the principal axes of the demonstrated actions, with the
    standard deviation along each axis in place of `sigma_data`. Useful for chunks, whose steps are correlated. Not for
    networks over the steps of a chunk (`unet`, `chunk_transformer`)."""
    sigma_min: float = Field(0.02, gt=0)
    """Minimum noise of `edm`; minimum training noise of `flow`."""
    sigma_max: float = Field(8.0, gt=0)
    """Maximum noise; `edm` and `flow`."""
    training_noise: Literal['loglogistic', 'lognormal', 'loguniform'] = 'loglogistic'
    """Distribution of noise levels in training; `edm` only."""
    noise_location: float = -0.5
    """Median of the logarithm of the training noise; not for `loguniform`."""
    noise_scale: float = Field(0.7, gt=0)
    """Scale of the logarithm of the training noise; not for `loguniform`."""
    schedule: Literal['cosine', 'linear'] = 'cosine'
    """Signal decay over the steps; `ddpm` only."""
    steps: int = Field(16, ge=1)
    """Number of levels of the discrete process; `ddpm` only."""
    prediction: Literal['velocity', 'noise'] = 'velocity'
    """Prediction of a discrete network: the noise, as published, or the velocity `v` (Salimans and Ho 2022), whose
    error does not grow with the noise; `ddpm` only."""
    sampler: Literal['euler', 'heun', 'ancestral'] = 'euler'
    """The sampler; for a discrete teacher `euler` is DDIM and `ancestral` DDPM."""
    calls: int = Field(16, ge=1)
    """Network calls per action; odd for `heun`, at most `steps` for `ddpm`."""
    action_bound: float = Field(6.0, gt=0)
    """Denoised actions are clamped to this many standard deviations while sampling."""

    @model_validator(mode='after')
    def _check_axes(self) -> TeacherSettings:
        if self.principal_axes and (self.process != 'edm' or self.trunk.denoises_chunks):
            raise ValueError(
                'principal_axes suits process: edm and trunk.kind mlp, residual or transformer, found '
                f'{self.process} and {self.trunk.kind}; leave principal_axes out'
            )
        return self


class Teacher(SeeingModule):
    """A diffusion policy ``p(a|s)``: loss, score and samples."""

    settings: TeacherSettings

    def __init__(self, settings: TeacherSettings, shape: PolicyShape) -> None:
        """Create an untrained teacher."""
        super().__init__(settings, shape)
        discrete, straight = settings.process == 'ddpm', settings.process == 'flow'
        # For data of unit variance, the output of an EDM network is minus the velocity.
        self.denoiser = Denoiser(
            settings.trunk,
            self.encoded_shape,
            preconditioning=flow if straight else epsilon if discrete and settings.prediction == 'noise' else edm,
            sigma_data=1.0 if discrete or straight else settings.sigma_data,
            principal_axes=settings.principal_axes,
        )

    def sigmas(self, calls: int | None = None) -> Grid:
        """Return the descending levels, with 0 at the end, for `calls` network calls.

        Raises
        ------
        ConfigurationError
            The sampler does not support this number of calls.

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
                expected=f'at most {settings.steps} calls, one per step',
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
        if settings.process == 'flow':  # uniform in time t, with sigma = t / (1 - t)
            return loglogistic(uniform, settings.sigma_min, settings.sigma_max, location=0.0, scale=1.0)
        if settings.training_noise == 'loguniform':
            return loguniform(uniform, settings.sigma_min, settings.sigma_max)
        draw = loglogistic if settings.training_noise == 'loglogistic' else lognormal
        shape = {'location': settings.noise_location, 'scale': settings.noise_scale}
        return draw(uniform, settings.sigma_min, settings.sigma_max, **shape)

    def see(self, observation: AnyWindows) -> Float[Tensor, 'batch horizon obs']:
        """Encode the images of windows for all later calls; windows that are already encoded are returned unchanged."""
        return see(self.vision, observation)

    def loss(
        self,
        observation: AnyWindows,
        action: Float[Tensor, 'batch action'],
        generator: torch.Generator | Draws,
    ) -> Float[Tensor, '']:
        """Draw noise and evaluate the denoising loss of demonstrated actions."""
        draws = Draws.of(generator)
        sigma = self.training_sigma(draws.stratified(len(action), action.dtype))
        noise = draws.normal(*action.shape, dtype=action.dtype)
        return denoising_loss(self.denoiser, action, self.see(observation), sigma, noise)

    def score(
        self,
        action: Float[Tensor, '*sample batch action'],
        sigma: Float[Tensor, '*#sample'],
        observation: AnyWindows,
    ) -> Float[Tensor, '*sample batch action']:
        """Evaluate the gradient of ``log p_sigma(action|s)`` with respect to the action."""
        return self.denoiser.score(action, sigma, self.see(observation))

    def sample(
        self,
        observation: AnyWindows,
        noise: Float[Tensor, 'draw *sample batch action'],
        calls: int | None = None,
    ) -> Float[Tensor, '*sample batch action']:
        """Sample actions; `noise` is standard normal, its first axis has length `noise_draws(calls)`."""
        sigmas, observation = self.sigmas(calls), self.see(observation)
        start = self.start(noise[0], sigmas[0])
        bound = self.settings.action_bound
        if self.settings.sampler == 'ancestral':
            return samplers.ancestral(self.denoiser, start, sigmas, observation, noise[1:], bound=bound)
        sampler = samplers.heun if self.settings.sampler == 'heun' else samplers.euler
        return sampler(self.denoiser, start, sigmas, observation, bound=bound)

    def start(
        self, noise: Float[Tensor, '*sample batch action'], sigma: Float[Tensor, '']
    ) -> Float[Tensor, '*sample batch action']:
        """Scale standard normal noise to the standard deviation of actions with noise `sigma`."""
        return noise * math.hypot(sigma, self.denoiser.sigma_data)

    def noise_draws(self, calls: int | None = None) -> int:
        """Return the number of standard normal actions that `sample` needs for one action."""
        return len(self.sigmas(calls)) if self.settings.sampler == 'ancestral' else 1
