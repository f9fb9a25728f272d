"""Samplers: from noise through a grid of levels to an action. Noise is an argument; any callable can be the denoiser.

The steps are those of `vdd_ros.policy.samplers`.
"""

from __future__ import annotations

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.diffusion.denoiser import Denoise
from vdd_ros.learning.diffusion.noise import Grid
from vdd_ros.policy import samplers as steps

Sample = Float[Tensor, '*sample batch action']


def euler(denoise: Denoise, start: Sample, sigmas: Grid, observation: Tensor, *, bound: float = math.inf) -> Sample:
    """Solve the probability-flow ODE with Euler steps: one network call for each level above 0.

    Parameters
    ----------
    denoise
        The denoiser.
    start
        A sample of ``p_sigma`` at the highest level.
    sigmas
        Descending levels; the last may be 0.
    observation
        Shape (batch, horizon, obs).
    bound
        Denoised actions are clamped to [-bound, bound].

    """
    state, clean = start, _bounded(denoise, observation, bound)
    for sigma, lower in pairwise(sigmas.to(start)):
        state = steps.euler(clean, state, sigma, lower)
    return state


def heun(denoise: Denoise, start: Sample, sigmas: Grid, observation: Tensor, *, bound: float = math.inf) -> Sample:
    """Solve the probability-flow ODE with Heun steps; parameters as for `euler`.

    Two network calls for each level above 0, but one for a step down to 0.
    """
    state, clean = start, _bounded(denoise, observation, bound)
    for sigma, lower in pairwise(sigmas.to(start)):
        state = steps.heun(clean, state, sigma, lower)
    return state


def ancestral(
    denoise: Denoise,
    start: Sample,
    sigmas: Grid,
    observation: Tensor,
    noise: Float[Tensor, 'step *sample batch action'],
    *,
    bound: float = math.inf,
) -> Sample:
    """Sample each level from the bridge between the level above and the denoised action; parameters as for `euler`.

    One network call and one `noise` for each level above 0.
    """
    state, clean = start, _bounded(denoise, observation, bound)
    for (sigma, lower), unit in zip(pairwise(sigmas.to(start)), noise):
        state = steps.ancestral(clean, state, sigma, lower, unit)
    return state


def _bounded(denoise: Denoise, observation: Tensor, bound: float) -> steps.Denoise[Tensor]:
    return lambda state, sigma: denoise(state, sigma, observation).clamp(-bound, bound)
