"""Steps of the samplers of diffusion policies, from one noise level to the next lower one.

They use only array operators, so torch (training) and numpy (inference) run the same code. With
``x / sqrt(alphabar)`` as the state, DDIM is `euler` and DDPM is `ancestral` on the levels of its schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Array = TypeVar('Array', bound=Any)
Denoise = Callable[[Array, Any], Array]
"""`(state, sigma) -> clean`: maps a state at a noise level to the denoised action, which it may clamp."""


def euler(denoise: Denoise[Array], state: Array, sigma: Any, lower: Any) -> Array:
    """Follow the probability-flow ODE by one Euler step; one network call."""
    clean = denoise(state, sigma)
    return clean + lower / sigma * (state - clean)


def heun(denoise: Denoise[Array], state: Array, sigma: Any, lower: Any) -> Array:
    """Follow the probability-flow ODE by one Heun step (Karras et al. 2022, alg. 1).

    Two network calls, or one for a step down to 0.
    """
    slope = (state - denoise(state, sigma)) / sigma
    ahead = state + (lower - sigma) * slope
    if not lower > 0:
        return ahead
    corrected = (ahead - denoise(ahead, lower)) / lower
    return state + (lower - sigma) * (slope + corrected) / 2


def ancestral(denoise: Denoise[Array], state: Array, sigma: Any, lower: Any, unit: Array) -> Array:
    """Sample the Gaussian bridge between the state and the denoised action (DDPM's posterior); one network call.

    ``unit`` is standard normal noise of the same shape as the state.
    """
    clean = denoise(state, sigma)
    share = (lower / sigma) ** 2
    return clean + share * (state - clean) + lower * (1 - share) ** 0.5 * unit
