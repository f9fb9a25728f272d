"""Noise levels: the grids of samplers, and the distributions for training."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Grid = Float[Tensor, 'level']


@functools.lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, 'value']:
    """Return values as a tensor on a device, cached after the first call since a captured graph cannot copy them."""
    return torch.tensor(values, dtype=dtype, device=device)


def karras_grid(count: int, low: float, high: float, *, rho: float = 7.0) -> Grid:
    """Return `count` levels from `high` down to `low`, then 0 (Karras et al. 2022, eq. 5)."""
    share = torch.linspace(0, 1, count, dtype=torch.float64)
    levels = (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([levels, levels.new_zeros(1)])


def flow_grid(count: int, high: float) -> Grid:
    """Return `count` levels from `high` down, then 0, equidistant in the time ``t = sigma / (1 + sigma)`` of a path."""
    time = torch.linspace(high / (1 + high), 0, count + 1, dtype=torch.float64)
    return time / (1 - time)


def loguniform(uniform: Float[Tensor, '*batch'], low: float, high: float) -> Float[Tensor, '*batch']:
    """Map uniform numbers to levels that are uniform in the logarithm."""
    return low * (high / low) ** uniform


def loglogistic(
    uniform: Float[Tensor, '*batch'], low: float, high: float, *, location: float, scale: float
) -> Float[Tensor, '*batch']:
    """Map uniform numbers to a log-logistic distribution, truncated to [low, high], by its inverse CDF (BESO)."""
    least, most = (1 / (1 + math.exp(-(math.log(bound) - location) / scale)) for bound in (low, high))
    share = least + (most - least) * uniform
    return (location + scale * share.logit(eps=1e-7)).exp().clamp(low, high)


def lognormal(
    uniform: Float[Tensor, '*batch'], low: float, high: float, *, location: float, scale: float
) -> Float[Tensor, '*batch']:
    """Map uniform numbers to a log-normal distribution, truncated to [low, high], by its inverse CDF (EDM)."""
    least, most = (0.5 * (1 + math.erf((math.log(bound) - location) / scale / math.sqrt(2))) for bound in (low, high))
    share = (least + (most - least) * uniform).clamp(1e-7, 1 - 1e-7)
    return (location + scale * math.sqrt(2) * torch.erfinv(2 * share - 1)).exp().clamp(low, high)


def alphabar(schedule: Literal['cosine', 'linear'], count: int) -> Float[Tensor, 'level']:
    """Return the remaining share of signal variance after each of `count` DDPM steps, in order of increasing noise.

    `cosine` is the schedule of Nichol and Dhariwal (2021, eq. 17) with beta limited to 0.999. `linear` is the schedule
    of Ho et al. (2020), with betas scaled from 1000 steps to `count`.
    """
    if schedule == 'cosine':
        angle = (torch.arange(count + 1, dtype=torch.float64) / count + 0.008) / 1.008 * math.pi / 2
        signal = angle.cos() ** 2
        beta = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    else:
        beta = (torch.linspace(1e-4, 0.02, count, dtype=torch.float64) * 1000 / count).clamp(max=0.999)
    return (1 - beta).cumprod(dim=0)


def sigma_of_alphabar(signal: Float[Tensor, '*level']) -> Float[Tensor, '*level']:
    """Convert to the noise level of the unscaled action: `x / sqrt(alphabar) = action + sigma * noise`."""
    return ((1 - signal) / signal).sqrt()


def ddpm_grid(schedule: Literal['cosine', 'linear'], count: int, calls: int) -> Grid:
    """Return `calls` of the `count` DDPM levels, evenly spaced from the highest down, then 0."""
    levels = sigma_of_alphabar(alphabar(schedule, count))
    chosen = torch.linspace(count - 1, 0, calls, dtype=torch.float64).round().long()
    return torch.cat([levels[chosen], levels.new_zeros(1)])
