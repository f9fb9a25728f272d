"""Samplers: from noise down a grid of levels to an action. Noise is an argument, a denoiser any callable.

With ``x / sqrt(alphabar)`` as the state, DDIM is `euler` and DDPM is `ancestral` on the levels of its schedule.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.diffusion.denoiser import Denoise
from vdd_ros.learning.diffusion.noise import Grid

Sample = Float[Tensor, '*sample batch action']


def euler(denoise: Denoise, start: Sample, sigmas: Grid, observation: Tensor, *, bound: float = math.inf) -> Sample:
    """Follow the probability-flow ODE by Euler steps: one network call for each level above 0.

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
    state = start
    for sigma, lower in zip(sigmas[:-1].to(start), sigmas[1:].to(start)):
        clean = denoise(state, sigma, observation).clamp(-bound, bound)
        state = clean + lower / sigma * (state - clean)
    return state


def heun(denoise: Denoise, start: Sample, sigmas: Grid, observation: Tensor, *, bound: float = math.inf) -> Sample:
    """Follow the probability-flow ODE by Heun steps (Karras et al. 2022, alg. 1).

    Two network calls for each level above 0, but one for a step down to 0. Parameters as those of `euler`.
    """
    state = start
    for sigma, lower in zip(sigmas[:-1].to(start), sigmas[1:].to(start)):
        slope = (state - denoise(state, sigma, observation).clamp(-bound, bound)) / sigma
        ahead = state + (lower - sigma) * slope
        if lower > 0:
            corrected = (ahead - denoise(ahead, lower, observation).clamp(-bound, bound)) / lower
            ahead = state + (lower - sigma) * (slope + corrected) / 2
        state = ahead
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
    """Draw each level from the Gaussian bridge between the level above and the denoised action (DDPM's posterior).

    One network call for each level above 0, and one `noise` for each step. Parameters as those of `euler`.
    """
    state = start
    for sigma, lower, unit in zip(sigmas[:-1].to(start), sigmas[1:].to(start), noise):
        clean = denoise(state, sigma, observation).clamp(-bound, bound)
        share = (lower / sigma) ** 2
        state = clean + share * (state - clean) + lower * (1 - share).sqrt() * unit
    return state
