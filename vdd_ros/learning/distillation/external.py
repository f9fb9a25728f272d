"""External teachers: any function that evaluates the score of noisy actions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vdd_ros.common.errors import TrainingError
from vdd_ros.contract.contract import Contract
from vdd_ros.learning.distillation.objective import Score
from vdd_ros.policy.normalization import Normalizers

ExternalScore = Callable[
    [
        Float[Tensor, '*sample batch step action'],
        Float[Tensor, 'batch 1 action'],
        Float[Tensor, 'batch horizon observation'],
    ],
    Float[Tensor, '*sample batch step action'],
]
"""`(action, noise, observation) -> d log p(action | observation) / d action`, in the units of the contract.

``p`` is the density of action chunks with added independent Gaussian noise of standard deviation ``noise`` for each
action value. The score can be a closed form, a network of another library, or a remote network. It is called without
gradients; implementations that differentiate use `torch.enable_grad`.
"""


def score_in_normalized_units(
    score: ExternalScore, contract: Contract, normalizers: Normalizers, device: torch.device
) -> Score:
    """Return an external score in the form of the distiller: flattened chunks in normalised units.

    With ``a = scale x + offset``, noise of ``sigma`` on x is noise of ``scale sigma`` on a, and the score of x is
    ``scale`` times that of a.
    """
    scale, offset, window_scale, window_offset = (
        torch.as_tensor(values, dtype=torch.float32, device=device)
        for values in (
            normalizers.action.scale,
            normalizers.action.offset,
            normalizers.observation.scale,
            normalizers.observation.offset,
        )
    )
    shape = contract.prediction_horizon, contract.action_size

    def normalized(action: Tensor, sigma: Tensor, observation: Tensor) -> Tensor:
        chunk = action.unflatten(-1, shape) * scale + offset
        noise = (sigma[..., None, None] * scale).expand(*action.shape[-2:-1], 1, -1)
        found = score(chunk, noise, observation * window_scale + window_offset)
        if not isinstance(found, Tensor) or found.shape != chunk.shape:
            raise TrainingError(
                expected=f'scores of the shape of the actions, {tuple(chunk.shape)}',
                found=f'{tuple(found.shape)}' if isinstance(found, Tensor) else type(found).__name__,
                remedy='return the gradient of the log-density, with the shape of the action',
            )
        return (found * scale).flatten(start_dim=-2)

    return normalized
