"""Selection of weights: the latest weights whose held-out likelihood is close to the best."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from vdd_ros.common.settings import Settings
from vdd_ros.learning.training import Ema

Evaluate = Callable[[Any], Mapping[str, float]]
"""Returns the metrics of a module; called for the averaged weights whenever they are evaluated."""


class SelectionSettings(Settings):
    """Selection of the weights of a student by the likelihood of held-out demonstrations."""

    tolerance: float = Field(0.25, ge=0)
    """The latest weights within this distance of the best held-out log-likelihood [nat] are used: among weights of
    equal likelihood, later ones are closer to the teacher."""
    patience: float = Field(0.3, gt=0, le=1)
    """Training ends if no new weights were selected during this share of all updates; 1 disables early stopping."""


class Selection:
    """A `training.Watcher` that evaluates averaged weights, stores the selected ones, and records the curves.

    Without a criterion the latest weights are selected.
    """

    def __init__(
        self,
        module: nn.Module,
        evaluate: Evaluate,
        iterations: int,
        *,
        criterion: str | None = None,
        settings: SelectionSettings = SelectionSettings(),
    ) -> None:
        """Observe the training of a module.

        Parameters
        ----------
        module
            The trained module.
        evaluate
            Called at every `watch` with a copy of the module that has the averaged weights; returns their metrics.
        iterations
            Number of iterations of the complete training.
        criterion
            The metric by which weights are selected; higher values are better. None: the latest weights are selected.
        settings
            Tolerance and patience of the selection.

        """
        self._shadow = copy.deepcopy(module)
        self._evaluate, self._criterion, self._settings = evaluate, criterion, settings
        self._iterations = iterations
        self._kept: dict[str, Tensor] = {}
        self.kept_at = 0
        """Iteration of the selected weights."""
        self.best = -math.inf
        """Highest value of the criterion."""
        self.best_at = 0
        """Iteration of the highest value."""
        self.curves: dict[str, list[float]] = {}
        """All reported metrics; `iteration` has the positions."""
        self.exhausted = False
        """Whether training should end, because no new weights were selected for too long."""

    def watch(self, module: nn.Module, ema: Ema | None, done: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Evaluate the averaged weights of a module, and store them if they are selected."""
        self._shadow.load_state_dict(module.state_dict())
        if ema is not None:
            ema.copy_to(self._shadow)
        figures = {**metrics, **self._evaluate(self._shadow)}
        value = -math.inf if self._criterion is None else figures[self._criterion]
        if value > self.best:
            self.best, self.best_at = value, done
        if self._criterion is None or value >= self.best - self._settings.tolerance:
            self._kept = {name: part.clone() for name, part in self._shadow.state_dict().items()}
            self.kept_at = done
        self.exhausted = done - self.kept_at > self._settings.patience * self._iterations
        for name, figure in {'iteration': float(done), **figures}.items():
            self.curves.setdefault(name, []).append(figure)
        return figures

    def at_kept(self, name: str) -> float:
        """Return the value of a curve at the iteration of the selected weights."""
        return self.curves[name][self.curves['iteration'].index(self.kept_at)]

    def take(self, module: nn.Module) -> None:
        """Copy the selected weights into a module of the same architecture."""
        module.load_state_dict(self._kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state for a checkpoint."""
        names = ('kept_at', 'best', 'best_at', 'curves', 'exhausted')
        return dict(self._kept), {name: getattr(self, name) for name in names}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore the result of `state`; errors as for `load_state_dict`."""
        shadow = self._shadow.state_dict()
        self._kept = {name: value.to(shadow[name].device) for name, value in tensors.items()}
        for name, value in values.items():
            setattr(self, name, value)
