"""Any function from windows to action chunks as a policy of the control loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.contract.contract import Contract


@dataclass(frozen=True)
class OneExpert:
    """The output of a `FunctionPolicy`: an action chunk as the mean of the only expert of a mixture."""

    log_gating: np.ndarray
    """Zero, the log-probability of the only expert; shape (1, 1)."""
    mean: np.ndarray
    """The action chunk, shape (1, 1, prediction_horizon, action)."""

    @classmethod
    def of(cls, action: np.ndarray) -> OneExpert:
        """Wrap a chunk of shape (prediction_horizon, action)."""
        return cls(np.zeros((1, 1)), action[None, None])


class FunctionPolicy:
    """A user-defined policy for `ControlLoop`: one expert, without noise, likelihood or OOD signals."""

    expert_count = None
    calibration = None

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], contract: Contract) -> None:
        """Wrap a function.

        Parameters
        ----------
        function
            Maps a window of shape (observation_horizon, observation), oldest time step first, to a chunk of shape
            (prediction_horizon, action), both in the units of the contract. A chunk of one step may be (action,).
        contract
            Defines the shapes.

        """
        self._function = function
        self._shape = contract.prediction_horizon, contract.action_size
        self._name = contract.name

    def experts(self, observation: np.ndarray) -> OneExpert:
        """Call the function on a window of shape (1, observation_horizon, observation).

        Raises
        ------
        ContractError
            The shape of the chunk differs from that of the contract.

        """
        found = np.asarray(self._function(observation[0]), dtype=np.float64)
        chunk = found[None] if found.ndim == 1 and self._shape[0] == 1 else found
        if chunk.shape != self._shape:
            raise ContractError(
                expected=f'an action chunk of shape {self._shape}, as in the contract {self._name}',
                found=f'shape {found.shape}',
                remedy='return as many steps as prediction_horizon, each as wide as the action',
            )
        return OneExpert.of(chunk)

    def deviation(self, experts: OneExpert, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Return zeros, shape (prediction_horizon, action): the action has no noise."""
        return np.zeros(self._shape)

    def coherence(self, experts: OneExpert, actions: np.ndarray) -> np.ndarray:
        """Return a constant, shape (1,): with one expert, coherence does not affect the choice."""
        return np.zeros(1)

    def signals(
        self, observation: np.ndarray, experts: OneExpert, at_full_speed: np.ndarray | None = None
    ) -> dict[str, float]:
        """Return an empty mapping: OOD signals are not available."""
        return {}

    def likelihood(self, experts: OneExpert, done: np.ndarray) -> float:
        """Return NaN: a function has no density."""
        return float('nan')
