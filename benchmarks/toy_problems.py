"""Densities in closed form that serve as exact teachers, and exact errors of students."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.distillation.objective import Score
from vdd_ros.learning.mixture.covariance import DiagonalCovariance
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.training import Windows

Density = Callable[[Tensor], GaussianMixture]
"""`p(action|observation)`: windows of shape (batch, 1, 1) to a batch of mixtures over actions of two dimensions."""

_SHOWN_GATING = 0.01


@dataclass(frozen=True)
class Toy:
    """A conditional density, with the criterion for finding a mode."""

    density: Density
    near: float
    """Maximum distance of an expert mean with a gating above 1 % from a mode that counts as found."""
    seeds: int
    """Seeds of the complete benchmark."""
    compared: int
    """Number of them that are also used for the other methods."""
    conditional: bool = False
    """Whether the density depends on the observation."""
    unit: tuple[float, float] = (1.0, 1.0)
    """Size of one unit of the actions, in the units of `near`."""

    def normalised(self) -> Toy:
        """Return the toy with actions in units of their standard deviation, as used by students."""
        unit = self.demonstrations(50_000, torch.Generator().manual_seed(0)).action.std(dim=0)

        def density(observation: Tensor) -> GaussianMixture:
            mixture = self.density(observation)
            scale = mixture.covariance.variance().sqrt()
            return GaussianMixture(mixture.log_gating, mixture.mean / unit, DiagonalCovariance(scale / unit))

        return replace(self, density=density, unit=tuple(unit.tolist()))

    def demonstrations(self, count: int, generator: torch.Generator) -> Windows:
        """Draw actions at observations that are uniform in [-1, 1], or zero for unconditional densities."""
        uniform = 2 * torch.rand(count, 1, 1, generator=generator) - 1
        observation = uniform if self.conditional else torch.zeros_like(uniform)
        return Windows(observation, draw(self.density(observation), (), generator))

    def score(self) -> Score:
        """Return the exact score of the density with added noise."""
        return lambda action, sigma, observation: self.density(observation).convolved(sigma).score(action)


def ring(std: float, weights: tuple[float, ...]) -> Density:
    """Return Gaussians on a ring of radius 2, independent of the observation."""
    angle = torch.arange(len(weights)) * 2 * math.pi / len(weights)
    mean = 2 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    log_gating = torch.tensor(weights).log()

    def density(observation: Tensor) -> GaussianMixture:
        count = len(observation)
        scale = torch.full((count, len(weights), 2), std)
        return GaussianMixture(log_gating.expand(count, -1), mean.expand(count, -1, -1), DiagonalCovariance(scale))

    return density


def junction(observation: Tensor) -> GaussianMixture:
    """Return seven modes: one moves around the origin, two split, two merge while one fades, two cross.

    With s the observation in [-1, 1]: the first moves half around the origin; the second and third split at s = 0; the
    fourth and fifth merge at s = 1/2, while the weight of the fifth falls from .2 to .05; the last two cross. All
    narrow from .13 to .07 as s grows.
    """
    s = observation[:, 0, 0]
    places = [
        (0.9 * (math.pi * s / 2).sin(), 0.9 * (math.pi * s / 2).cos()),
        (2.0, 1.2 * s.clamp(min=0)),
        (2.0, -1.2 * s.clamp(min=0)),
        (-2.0, -0.5 + 1.2 * (0.5 - s).clamp(min=0)),
        (-2.0, -0.5 - 1.2 * (0.5 - s).clamp(min=0)),
        (1.5 * s, -2.0),
        (-1.5 * s, 2.0),
    ]
    mean = torch.stack([torch.stack([s * 0 + x, s * 0 + y], dim=-1) for x, y in places], dim=1)
    fading = 0.125 - 0.075 * s
    weights = torch.stack([s * 0 + weight for weight in (0.25, 0.2, 0.1, 0.3 - fading, fading, 0.1, 0.05)], dim=-1)
    scale = (0.1 - 0.03 * s)[:, None, None].expand(-1, len(places), 2)
    return GaussianMixture(weights.log(), mean, DiagonalCovariance(scale))


TOYS = {
    'ring': Toy(ring(0.5, (0.125,) * 8), near=0.5, seeds=20, compared=5),
    'hard ring': Toy(ring(0.1, (0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05)), near=0.3, seeds=20, compared=20),
    'junction': Toy(junction, near=0.3, seeds=10, compared=10, conditional=True),
}
"""The toy of the published code; a harder one; one whose modes move, split and merge with the observation."""


def draw(mixture: GaussianMixture, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, '*shape 2']:
    """Draw actions from every mixture of a batch; `shape` are sample axes in front of it."""
    shape = (*shape, *mixture.log_gating.shape[:-1])
    noise = torch.randn(*shape, mixture.covariance.noise_size, generator=generator)
    return mixture.sample(noise, torch.rand(shape, generator=generator))


@torch.no_grad()
def measure(toy: Toy, student: Density, generator: torch.Generator, samples: int) -> dict[str, float | int]:
    """Return the divergences [nat] from `samples` exact samples in each direction, the modes found, and weight errors.

    A conditional toy is averaged over observations from -1 to 1, without the error of its weights, which are not
    defined for merged modes.
    """
    observation = torch.linspace(-1, 1, 401)[:, None, None] if toy.conditional else torch.zeros(1, 1, 1)
    truth, found = toy.density(observation), student(observation)
    shape = (max(1, samples // len(observation)),)
    ours, theirs = draw(found, shape, generator), draw(truth, shape, generator)
    unit = torch.tensor(toy.unit)
    distance = torch.cdist(truth.mean * unit, found.mean * unit)
    seen = (distance < toy.near) & (found.log_gating.exp() > _SHOWN_GATING)[:, None]
    figures = {
        'forward_kl': float((truth.log_prob(theirs) - found.log_prob(theirs)).double().mean()),
        'reverse_kl': float((found.log_prob(ours) - truth.log_prob(ours)).double().mean()),
        'modes': float(seen.any(dim=-1).sum(dim=-1).double().mean()),
    }
    if not toy.conditional:
        shares = torch.zeros_like(truth.log_gating)
        shares.scatter_add_(1, distance.argmin(dim=1), found.log_gating.exp())
        figures['weight_error'] = float((shares - truth.log_gating.exp()).abs().max())
    return figures
