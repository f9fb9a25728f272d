"""One-step teachers (DDPM-1, EDM-1): an unchanged teacher, sampled with a single network call."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.diffusion.samplers import euler
from vdd_ros.learning.diffusion.teacher import Teacher


def sample_in_one_step(
    teacher: Teacher,
    observation: Float[Tensor, 'batch horizon obs'],
    noise: Float[Tensor, '*sample batch action'],
) -> Float[Tensor, '*sample batch action']:
    """Sample actions from standard normal `noise`: denoise from the highest noise level with one network call."""
    sigmas = teacher.sigmas(calls=1)
    bound = teacher.settings.action_bound
    return euler(teacher.denoiser, teacher.start(noise, sigmas[0]), sigmas, observation, bound=bound)
