"""The weighted denoising loss of all teachers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.diffusion.denoiser import Denoiser


def denoising_loss(
    denoiser: Denoiser,
    action: Float[Tensor, 'batch action'],
    observation: Float[Tensor, 'batch horizon obs'],
    sigma: Float[Tensor, 'batch'],
    noise: Float[Tensor, 'batch action'],
) -> Float[Tensor, '']:
    """Return the weighted squared error of the denoised action (Karras et al. 2022, eq. 8).

    With the `epsilon` preconditioning it is the squared error of the predicted noise (Ho et al. 2020, eq. 14).
    """
    denoised = denoiser(action + sigma[:, None] * noise, sigma, observation)
    return (denoiser.loss_weight(sigma)[:, None] * (denoised - action) ** 2).mean()
