"""Covariances of experts, with the operations that a Gaussian needs; a third form is in `low_rank.py`."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

Sigma = Float[Tensor, '*batch']
_FARTHEST = 1e30
"""Maximum squared distance in a density; larger distances are clamped to this value. A nearly singular full covariance
gives distances beyond single precision, whose differences would be NaN."""


_TINY = 3
"""Maximum number of rows of a matrix that a GPU factorises column by column."""
_SMALL = 128
"""Maximum number of entries of a matrix whose products a GPU computes elementwise: batched products of matrices this
small take several times as long."""


def columns(matrix: Float[Tensor, '*batch row column'], vector: Float[Tensor, '*samples column']) -> Tensor:
    """Multiply one matrix per batch entry with many vectors, without copies of the matrix."""
    if matrix.is_cuda and matrix.shape[-2] * matrix.shape[-1] <= _SMALL:
        return (matrix * vector[..., None, :]).sum(dim=-1)
    leading = vector.ndim - matrix.ndim + 1
    if leading == 0:
        return (matrix @ vector[..., None])[..., 0]
    stacked = vector.flatten(end_dim=leading - 1).movedim(0, -1)
    return (matrix @ stacked).movedim(-1, 0).unflatten(0, vector.shape[:leading])


def chosen(
    values: Float[Tensor, '*batch expert entry'], expert: Int[Tensor, '*samples']
) -> Float[Tensor, '*samples entry']:
    """Select the values of each sample's expert by a one-hot product, which has a deterministic gradient."""
    return columns(values.mT, one_hot(expert, values.shape[-2]).to(values))


def chosen_matrices(
    values: Float[Tensor, '*batch expert row column'], expert: Int[Tensor, '*samples']
) -> Float[Tensor, '*samples row column']:
    """Select the matrix of each sample's expert."""
    return chosen(values.flatten(start_dim=-2), expert).unflatten(-1, values.shape[-2:])


def factorized(matrix: Float[Tensor, '*batch row row']) -> Float[Tensor, '*batch row row']:
    """Return Cholesky factors, or NaN where the factorisation fails, without waiting for a GPU.

    The factorisation of a positive definite matrix may fail in finite precision. The bound of its rounding errors is
    then added to the diagonal: largest entry times size times precision. Other matrices are not changed.
    """
    if matrix.is_cuda and matrix.shape[-1] <= _TINY:
        return factorized_by_entries(matrix)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not matrix.is_cuda and not failed.any():
        return factor
    size, largest = matrix.shape[-1], matrix.detach().diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    rounding = torch.where(failed == 0, 0.0, size * torch.finfo(matrix.dtype).eps * largest)
    identity = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(matrix + rounding[..., None, None] * identity)
    return torch.where((failed == 0)[..., None, None], factor, torch.nan)


def factorized_by_entries(matrix: Float[Tensor, '*batch row row']) -> Float[Tensor, '*batch row row']:
    """Return `factorized`, column by column: for very small matrices faster than the factorisation of torch on a GPU.

    The bound of the rounding errors is added where the square of a diagonal entry of the factor is not positive.
    """
    size, largest = matrix.shape[-1], matrix.detach().diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    rounding = size * torch.finfo(matrix.dtype).eps * largest
    rows: list[list[Tensor]] = [[] for _ in range(size)]
    for column in range(size):
        for row in range(column, size):
            left = matrix[..., row, column]
            for one, other in zip(rows[row][:column], rows[column]):
                left = left - one * other
            if row == column:
                rows[row].append(torch.where(left > 0, left, left + rounding).sqrt())
            else:
                rows[row].append(left / rows[column][column])
    zero = torch.zeros_like(rounding)
    entries = [entry for row in rows for entry in [*row, *[zero] * (size - len(row))]]
    return torch.stack(entries, dim=-1).unflatten(-1, (size, size))


class Covariance(abc.ABC):
    """Covariances of shape '*batch action action'; ``*samples`` are sample axes, then these batch axes."""

    @property
    @abc.abstractmethod
    def noise_size(self) -> int:
        """Number of standard normal values per sample for `correlate`."""

    @abc.abstractmethod
    def correlate(self, noise: Float[Tensor, '*samples noise']) -> Float[Tensor, '*samples action']:
        """Convert standard normal noise to deviations with this covariance."""

    @abc.abstractmethod
    def solve(self, deviation: Float[Tensor, '*samples action']) -> Float[Tensor, '*samples action']:
        """Multiply with the inverse covariance."""

    @abc.abstractmethod
    def mahalanobis(self, deviation: Float[Tensor, '*samples action']) -> Float[Tensor, '*samples']:
        """Return the squared distance ``deviation . inverse(covariance) . deviation``."""

    @abc.abstractmethod
    def log_determinant(self) -> Float[Tensor, '*batch']:
        """Return the logarithm of the determinant."""

    @abc.abstractmethod
    def variance(self) -> Float[Tensor, '*batch action']:
        """Return the variance of each dimension (the diagonal of the covariance matrix)."""

    @abc.abstractmethod
    def dense(self) -> Float[Tensor, '*batch action action']:
        """Return the covariance matrix."""

    @abc.abstractmethod
    def convolved(self, sigma: Sigma) -> Covariance:
        """Return the covariance plus ``sigma^2 I``; `sigma` broadcasts against '*batch'."""

    @abc.abstractmethod
    def select(self, index: Tensor) -> Covariance:
        """Return the covariances at some indices of the last batch axis, such as experts."""

    @abc.abstractmethod
    def of(self, expert: Int[Tensor, '*samples']) -> Covariance:
        """Return the covariance of each sample's expert, batch shape '*samples'; experts are the last batch axis."""

    @abc.abstractmethod
    def leading(self, size: int) -> Covariance:
        """Return the covariance of the first `size` entries."""

    @abc.abstractmethod
    def detach(self) -> Covariance:
        """Return constants without gradient."""

    def log_density(self, deviation: Float[Tensor, '*samples action']) -> Float[Tensor, '*samples']:
        """Evaluate the logarithm of the zero-mean Gaussian density."""
        constant = deviation.shape[-1] * math.log(2 * math.pi)
        distance = self.mahalanobis(deviation).clamp(max=_FARTHEST)
        return -0.5 * (distance + self.log_determinant() + constant)

    def entropy(self) -> Float[Tensor, '*batch']:
        """Return the differential entropy of the Gaussian [nat]."""
        return 0.5 * (self.log_determinant() + self.variance().shape[-1] * (1 + math.log(2 * math.pi)))


@dataclass(frozen=True)
class DiagonalCovariance(Covariance):
    """Diagonal covariances, represented by the standard deviations of the independent dimensions."""

    scale: Float[Tensor, '*batch action']
    """Standard deviations."""

    @property
    def noise_size(self) -> int:
        """The number of dimensions."""
        return self.scale.shape[-1]

    def correlate(self, noise: Tensor) -> Tensor:
        """Convert standard normal noise to deviations: scale each dimension."""
        return self.scale * noise

    def solve(self, deviation: Tensor) -> Tensor:
        """Multiply with the inverse covariance: divide by the variances."""
        return deviation / self.scale**2

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance: the sum of the squares of the whitened deviations."""
        return (deviation / self.scale).square().sum(dim=-1)

    def log_determinant(self) -> Tensor:
        """Return the logarithm of the determinant: the sum of the logarithms of the variances."""
        return 2 * self.scale.log().sum(dim=-1)

    def variance(self) -> Tensor:
        """Return the variance of each dimension (the diagonal of the covariance matrix)."""
        return self.scale**2

    def dense(self) -> Tensor:
        """Return the covariance matrix."""
        return torch.diag_embed(self.variance())

    def convolved(self, sigma: Sigma) -> DiagonalCovariance:
        """Return the covariance plus ``sigma^2 I``."""
        return DiagonalCovariance((self.scale**2 + sigma[..., None] ** 2).sqrt())

    def select(self, index: Tensor) -> DiagonalCovariance:
        """Return the covariances of the experts with the given indices."""
        return DiagonalCovariance(self.scale.index_select(-2, index))

    def of(self, expert: Tensor) -> DiagonalCovariance:
        """Return the covariance of each sample's expert."""
        return DiagonalCovariance(chosen(self.scale, expert))

    def leading(self, size: int) -> DiagonalCovariance:
        """Return the covariance of the first `size` entries."""
        return DiagonalCovariance(self.scale[..., :size])

    def detach(self) -> DiagonalCovariance:
        """Return a copy without gradient."""
        return DiagonalCovariance(self.scale.detach())


@dataclass(frozen=True)
class FullCovariance(Covariance):
    """Any covariance, represented by its Cholesky factor."""

    cholesky: Float[Tensor, '*batch action action']
    """Lower triangular with a positive diagonal."""

    @cached_property
    def whitening(self) -> Float[Tensor, '*batch action action']:
        """The inverse of the Cholesky factor."""
        identity = torch.eye(self.cholesky.shape[-1], dtype=self.cholesky.dtype, device=self.cholesky.device)
        return torch.linalg.solve_triangular(self.cholesky, identity.expand_as(self.cholesky), upper=False)

    @property
    def noise_size(self) -> int:
        """The number of dimensions."""
        return self.cholesky.shape[-1]

    def correlate(self, noise: Tensor) -> Tensor:
        """Convert standard normal noise to deviations: multiply with the Cholesky factor."""
        return columns(self.cholesky, noise)

    def solve(self, deviation: Tensor) -> Tensor:
        """Multiply with the inverse covariance: whiten twice."""
        return columns(self.whitening.mT, columns(self.whitening, deviation))

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance: the sum of the squares of the whitened deviations."""
        return columns(self.whitening, deviation).square().sum(dim=-1)

    def log_determinant(self) -> Tensor:
        """Return the logarithm of the determinant: twice the sum of the logarithms of the diagonal of the factor."""
        return 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)

    def variance(self) -> Tensor:
        """Return the variance of each dimension (the diagonal of the covariance matrix)."""
        return self.cholesky.square().sum(dim=-1)

    def dense(self) -> Tensor:
        """Return the covariance matrix."""
        return self.cholesky @ self.cholesky.mT

    def convolved(self, sigma: Sigma) -> FullCovariance:
        """Return the covariance plus ``sigma^2 I``."""
        size = self.cholesky.shape[-1]
        widening = sigma[..., None, None] ** 2 * torch.eye(size, dtype=sigma.dtype, device=sigma.device)
        return FullCovariance(factorized(self.dense() + widening))

    def select(self, index: Tensor) -> FullCovariance:
        """Return the covariances of the experts with the given indices."""
        return FullCovariance(self.cholesky.index_select(-3, index))

    def of(self, expert: Tensor) -> FullCovariance:
        """Return the covariance of each sample's expert."""
        return FullCovariance(chosen_matrices(self.cholesky, expert))

    def leading(self, size: int) -> FullCovariance:
        """Return the covariance of the first `size` entries."""
        return FullCovariance(self.cholesky[..., :size, :size])

    def detach(self) -> FullCovariance:
        """Return a copy without gradient."""
        return FullCovariance(self.cholesky.detach())
