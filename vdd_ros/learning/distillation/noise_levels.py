"""Noise levels of the samples of a distillation step."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.learning.diffusion.noise import constant


class NoiseLevels(Settings):
    """A distribution of noise levels over an interval, in normalised action units."""

    kind: Literal['fixed', 'uniform', 'log_uniform', 'narrowing', 'annealed', 'levels'] = 'narrowing'
    """`fixed`: always `low`. `uniform`, `log_uniform`: drawn from [low, high]. `narrowing`: as `log_uniform`, with an
    upper end that decreases from `high` to `end`: distant modes attract at first, and shapes matter in the end.
    `annealed`: from `high` to `low`, uniformly in the logarithm. `levels`: drawn from `levels`, for a teacher with
    discrete levels (DDPM)."""
    low: float = Field(0.05, gt=0)
    """Minimum noise."""
    high: float = Field(1.0, gt=0)
    """Maximum noise."""
    end: float = Field(0.2, gt=0)
    """Maximum noise at the end, for `kind: narrowing`."""
    levels: tuple[float, ...] = ()
    """The noise levels for `kind: levels`."""

    @model_validator(mode='after')
    def _is_an_interval(self) -> NoiseLevels:
        if self.low > self.high:
            raise ValueError(f'low {self.low} exceeds high {self.high}')
        if self.kind == 'narrowing' and not self.low <= self.end <= self.high:
            raise ValueError(f'end {self.end} lies outside of [{self.low}, {self.high}]')
        if (self.kind == 'levels') != bool(self.levels) or any(level <= 0 for level in self.levels):
            raise ValueError('expected positive `levels` if and only if `kind` is `levels`')
        return self

    def sigma(self, uniform: Float[Tensor, 'batch'], progress: Float[Tensor, '']) -> Float[Tensor, 'batch']:
        """Map uniform numbers in [0, 1) to noise levels, at a share of the iterations in [0, 1]."""
        ratio = self.high / self.low
        if self.kind == 'levels':
            index = (uniform * len(self.levels)).long().clamp(max=len(self.levels) - 1)
            return constant(self.levels, uniform.dtype, uniform.device)[index]
        if self.kind == 'fixed':
            return uniform.new_full(uniform.shape, self.low)
        if self.kind == 'annealed':
            return (self.high * ratio**-progress).to(uniform).expand(uniform.shape)
        if self.kind == 'uniform':
            return self.low + (self.high - self.low) * uniform
        if self.kind == 'narrowing':
            ratio = (ratio * (self.end / self.high) ** progress).to(uniform)
        return self.low * ratio**uniform
