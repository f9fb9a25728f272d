"""The losses of Variational Diffusion Distillation. Noise is an argument, and the teacher is given by its score.

Only the gradients are meaningful. The value of an expert loss is not the divergence, since a score does not determine
the value of the density.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(action, sigma, observation) -> gradient of log p_sigma(action|s)`: shapes '*sample batch action', 'batch',
'batch horizon obs' -> '*sample batch action'. A trained denoiser, a closed form, or a remote network."""

ExpertNoise = Float[Tensor, 'sample batch expert noise']


def paper_expert_loss(
    mixture: GaussianMixture,
    score: Score,
    observation: Float[Tensor, 'batch horizon obs'],
    sigma: Float[Tensor, 'batch'],
    noise: ExpertNoise,
) -> Float[Tensor, '']:
    """Return the expert part of the upper bound in the paper, with fixed responsibilities of the current student.

    ``sum_z q(z|s) ( E_{q(a|s,z)}[ -log p_sigma(a|s) - log q~(z|s,a) ] - H(q(.|s,z)) )``. This loss compares the student
    with the teacher convolved with N(0, sigma^2), so its optimum is wider than the data by sigma.
    """
    action = mixture.sample_experts(noise).movedim(-2, 0)
    fixed = mixture.detach()
    with torch.no_grad():
        # d log q~(z|s,a) / da = d log q(a|s,z) / da - d log q(a|s) / da, since the gating does not depend on a.
        deviation = action.movedim(0, -2) - fixed.mean
        of_expert = -fixed.covariance.solve(deviation).movedim(-2, 0)
        ascent = score(action, sigma, observation) + of_expert - fixed.score(action)
    weight = fixed.log_gating.exp()
    surrogate = -(ascent * action).sum(dim=-1).mean(dim=1)
    return (weight * (surrogate.movedim(0, -1) - mixture.covariance.entropy())).sum(dim=-1).mean()


def convolved_expert_loss(
    mixture: GaussianMixture,
    score: Score,
    observation: Float[Tensor, 'batch horizon obs'],
    sigma: Float[Tensor, 'batch'],
    noise: ExpertNoise,
    perturbation: Float[Tensor, 'sample batch expert action'],
    weight: Float[Tensor, 'batch'] | float = 1.0,
) -> Float[Tensor, '']:
    """Return the expert part of ``KL(q_sigma(.|s) || p_sigma(.|s))``, both convolved with N(0, sigma^2).

    A convolved Gaussian mixture is a Gaussian mixture, so the loss is unbiased at any noise level. The pathwise
    gradient ``E[(d log q_sigma / da - d log p_sigma / da) da]`` omits the score function of q, whose mean is zero
    (Roeder et al. 2017). Its variance vanishes where q equals p. The gradient includes that of the entropy.

    Parameters
    ----------
    mixture, score, observation, sigma, noise
        See `paper_expert_loss`.
    perturbation
        Standard normal; multiplied by sigma it is the convolution noise.
    weight
        Weight of each batch entry's divergence.

    """
    clean = mixture.sample_experts(noise).movedim(-2, 0)
    descent = _path_descent(mixture, score, observation, sigma, clean, perturbation.movedim(-2, 0))
    share = mixture.log_gating.detach().exp().movedim(-1, 0) * weight
    return (share * (descent * clean).sum(dim=-1).mean(dim=1)).sum(dim=0).mean()


def drawn_expert_loss(
    mixture: GaussianMixture,
    score: Score,
    observation: Float[Tensor, 'batch horizon obs'],
    sigma: Float[Tensor, 'batch'],
    noise: Float[Tensor, 'sample batch noise'],
    uniform: Float[Tensor, 'sample batch'],
    perturbation: Float[Tensor, 'sample batch action'],
    weight: Float[Tensor, 'batch'] | float = 1.0,
) -> Float[Tensor, '']:
    """Estimate `convolved_expert_loss` with experts sampled from the gating instead of a weighted sum over all.

    The mean gradient is equal, and the teacher is not evaluated for experts without weight in a window. `uniform` in
    [0, 1) selects the experts. If `uniform` is stratified over the samples of a window, experts are selected in
    proportion to their probabilities.
    """
    clean = mixture.sample(noise, uniform)
    descent = _path_descent(mixture, score, observation, sigma, clean, perturbation)
    return ((descent * clean).sum(dim=-1) * weight).mean()


@torch.no_grad()
def _path_descent(
    mixture: GaussianMixture,
    score: Score,
    observation: Tensor,
    sigma: Tensor,
    clean: Float[Tensor, '*sample batch action'],
    perturbation: Float[Tensor, '*sample batch action'],
) -> Float[Tensor, '*sample batch action']:
    action = clean + sigma[:, None] * perturbation
    return mixture.convolved(sigma).score(action) - score(action, sigma, observation)


def gating_loss(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> Float[Tensor, '']:
    """Return the cross-entropy between the fixed responsibilities of demonstrated actions and the gating."""
    return gating_loss_of_joint(mixture, mixture.log_joint(action))


def gating_loss_of_joint(mixture: GaussianMixture, joint: Float[Tensor, 'batch expert']) -> Float[Tensor, '']:
    """Return `gating_loss`, given the joint densities of demonstrated actions and experts (`log_joint`)."""
    responsibility = joint.detach().log_softmax(dim=-1).exp()
    return -(responsibility * mixture.log_gating).sum(dim=-1).mean()


def coverage_loss(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> Float[Tensor, '']:
    """Return the negative log-likelihood of demonstrated actions, which is high for actions that no expert covers."""
    return -mixture.log_prob(action).mean()
