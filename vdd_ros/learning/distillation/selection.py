"""Model selection without a simulator: what an exact likelihood tells of a student on demonstrations it never saw."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture

_SHARES = (0.5, 0.9)


@torch.no_grad()
def judge(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> dict[str, float]:
    """Judge mixtures by the held-out actions that they should have foretold.

    Returns
    -------
    dict
        ``held_out_log_likelihood`` for each window, in normalised units [nat]; ``gating_entropy`` [nat]; ``experts``;
        ``usage_N``, the mean gating of each expert, and the least of them, ``least_used_expert``;
        ``calibration_50`` and ``calibration_90``, see `calibration`.

    """
    usage = mixture.log_gating.exp().mean(dim=0).tolist()
    return {
        'held_out_log_likelihood': float(mixture.log_prob(action).mean()),
        'gating_entropy': float(mixture.gating_entropy().mean()),
        'experts': float(len(usage)),
        'least_used_expert': min(usage),
        **{f'calibration_{round(100 * share)}': calibration(mixture, action, share) for share in _SHARES},
        **{f'usage_{expert}': share for expert, share in enumerate(usage)},
    }


def calibration(mixture: GaussianMixture, action: Float[Tensor, 'batch action'], share: float) -> float:
    """Return which share of the actions lies in the ellipsoids that should hold `share` of them.

    Actions are counted for every expert by its responsibility. Then the expected value is `share` itself, however
    much the experts overlap, since ``E_a sum_z q(z|s,a) [a in E_z] = sum_z q(z|s) q(E_z|s,z)``; counting each action
    for its most responsible expert alone would favour near ones. Less means covariances that are too narrow.
    """
    distance = mixture.covariance.mahalanobis(action[..., None, :] - mixture.mean)
    # The distribution function of chi-square with as many degrees of freedom as dimensions.
    within = torch.special.gammainc(distance.new_tensor(action.shape[-1] / 2), distance / 2) <= share
    return float((mixture.log_responsibility(action).exp() * within).sum(dim=-1).mean())
