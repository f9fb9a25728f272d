"""Which weights of a training are kept: the latest that foretell held-out demonstrations as well as the best did."""

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
"""Figures of a module."""


class SelectionSettings(Settings):
    """Which weights of a student are kept, judged by the likelihood of held-out demonstrations."""

    tolerance: float = Field(0.25, ge=0)
    """The latest weights are kept whose held-out log-likelihood is so near to the best [nat]: of equally likely ones,
    the longer learned have closed in on the teacher further."""
    patience: float = Field(0.3, gt=0, le=1)
    """Learning ends when so large a share of the updates has passed without weights to keep; 1 never ends early."""


class Selection:
    """A `training.Watcher` that evaluates averaged weights, keeps the ones to be taken, and records the curves.

    Without a criterion the latest weights are always the ones to be taken.
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
        """Watch the training of `module` over `iterations`; the higher the figure `criterion`, the better."""
        self._shadow = copy.deepcopy(module)
        self._evaluate, self._criterion, self._settings = evaluate, criterion, settings
        self._iterations = iterations
        self._kept: dict[str, Tensor] = {}
        self.kept_at = 0
        """The iteration whose weights are kept."""
        self.best = -math.inf
        """The highest value of the criterion so far."""
        self.best_at = 0
        """Where that was."""
        self.curves: dict[str, list[float]] = {}
        """All that was reported; `iteration` holds the places."""
        self.exhausted = False
        """Whether nothing was kept for so long that learning should end."""

    def watch(self, module: nn.Module, ema: Ema | None, done: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Evaluate the averaged weights of a module, and keep them if they are to be taken."""
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
        """Return what a curve was where the kept weights were."""
        return self.curves[name][self.curves['iteration'].index(self.kept_at)]

    def take(self, module: nn.Module) -> None:
        """Write the kept weights into a module of the same build."""
        module.load_state_dict(self._kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a checkpoint must keep."""
        names = ('kept_at', 'best', 'best_at', 'curves', 'exhausted')
        return dict(self._kept), {name: getattr(self, name) for name in names}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Take up what `state` returned; errors as those of `load_state_dict`."""
        shadow = self._shadow.state_dict()
        self._kept = {name: value.to(shadow[name].device) for name, value in tensors.items()}
        for name, value in values.items():
            setattr(self, name, value)
