"""The one fit loop of teacher and student: checkpoints, resume bit for bit, averaged weights, progress."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError, TrainingError
from vdd_ros.common.settings import Settings

Report = Callable[[int, int, Mapping[str, float]], None]
"""`(iteration, iterations, metrics)`, called now and then by `fit`."""


class DescentSettings(Settings):
    """How Adam descends."""

    learning_rate: float = Field(1e-3, gt=0)
    """Step size at its highest."""
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the iterations over which the step size rises."""
    decay: Literal['constant', 'linear', 'cosine'] = 'cosine'
    """How it falls to zero afterwards."""
    clip: float = Field(10.0, gt=0)
    """Largest norm of the gradient."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (AdamW)."""

    def rate(self, progress: float) -> float:
        """Return the step size at a share of the iterations in [0, 1)."""
        if progress < self.warmup:
            return self.learning_rate * max(progress, 1e-3) / self.warmup
        left = (1 - progress) / (1 - self.warmup)
        shape = {'constant': 1.0, 'linear': left, 'cosine': 0.5 - 0.5 * math.cos(math.pi * left)}
        return self.learning_rate * shape[self.decay]


class Descent:
    """Adam on some parameters; its step size follows progress, and it refuses losses that are not finite."""

    def __init__(self, parameters: Iterable[nn.Parameter], settings: DescentSettings) -> None:
        """Own these parameters."""
        self.settings = settings
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, loss: Float[Tensor, ''], progress: float) -> Float[Tensor, '']:
        """Descend once and return the norm of the gradient.

        Raises
        ------
        TrainingError
            Loss or gradient are not finite; the parameters are left as they were.

        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise TrainingError(
                expected='a finite loss and gradient',
                found=f'loss {loss.item():g}, gradient norm {norm.item():g}',
                remedy='lower the learning rate or check the data for outliers; the last checkpoint is still good',
            )
        for group in self.optimizer.param_groups:
            group['lr'] = self.settings.rate(progress)
        self.optimizer.step()
        return norm


class Learner(Protocol):
    """What `fit` trains: it knows its data, its loss and its optimisers."""

    module: nn.Module
    """Everything that is learned."""
    descents: Mapping[str, Descent]
    """Its optimisers by name."""

    def step(self, iteration: int, iterations: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Learn once when `iteration` of `iterations` are done, with all randomness from `generator`.

        Return metrics, 0-d tensors.
        """
        ...


class WindowSource(Protocol):
    """Where a learner draws its batches from."""

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `batch` windows: observations (batch, horizon, obs) and actions (batch, action), normalised."""
        ...


@dataclass(frozen=True)
class Windows:
    """Training data in memory, in normalised units: a source of batches."""

    observation: Float[Tensor, 'count horizon obs']
    action: Float[Tensor, 'count action']

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `batch` windows with replacement: observations and actions."""
        index = torch.randint(len(self.action), (batch,), generator=generator, device=generator.device)
        return self.observation[index], self.action[index]


class SingleLoss:
    """A learner with one loss and one optimiser: teachers and baselines."""

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[Tensor, Tensor, torch.Generator], Tensor],
        windows: WindowSource,
        *,
        batch: int,
        descent: DescentSettings,
    ) -> None:
        """Train `module` on `loss(observation, action, generator)`."""
        self.module = module
        self.descents = {'all': Descent(module.parameters(), descent)}
        self._loss = loss
        self._windows = windows
        self._batch = batch

    def step(self, iteration: int, iterations: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Descend the loss of one batch."""
        loss = self._loss(*self._windows.draw(self._batch, generator), generator)
        norm = self.descents['all'].step(loss, iteration / iterations)
        return {'loss': loss.detach(), 'gradient': norm}


class Ema:
    """An exponential moving average of a module's parameters; young averages forget faster."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the present parameters."""
        self.decay = decay
        self.updates = 0
        self._live = list(module.parameters())
        self.average = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, live in zip(self.average, self._live):
            average.lerp_(live, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into the parameters of a module of the same build."""
        for parameter, average in zip(module.parameters(), self.average):
            parameter.copy_(average)


def fit(
    learner: Learner,
    *,
    iterations: int,
    generator: torch.Generator,
    ema: Ema | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    report: Report | None = None,
    report_every: int = 50,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Train until done or cancelled and return the iterations that were done in all.

    Parameters
    ----------
    learner
        What is trained.
    iterations
        How many steps the whole training has.
    generator
        All randomness comes from it.
    ema
        Averaged weights to keep beside the module's own.
    checkpoint
        File to save to every `checkpoint_every` iterations, when cancelled and at the end.
    checkpoint_every
        Iterations between two saves.
    resume
        Go on from `checkpoint`, bit for bit as if training had not stopped.
    report, report_every
        Called with (iteration, iterations, metrics) every so many iterations and after the last one.
    cancelled
        Asked after every iteration.

    Raises
    ------
    TrainingError
        A loss was not finite. The checkpoint keeps the last good weights.
    ConfigurationError
        `resume` was asked for, and the checkpoint is absent or of another build.

    """
    done = load_checkpoint(checkpoint, learner, generator, ema) if resume and checkpoint is not None else 0
    saved = done
    while done < iterations:
        metrics = learner.step(done, iterations, generator)
        if ema is not None:
            ema.update()
        done += 1
        if report is not None and (done % report_every == 0 or done == iterations):
            report(done, iterations, {name: float(value) for name, value in metrics.items()})
        stop = done == iterations or cancelled()
        if checkpoint is not None and (stop or done - saved >= checkpoint_every):
            save_checkpoint(checkpoint, learner, generator, ema, done)
            saved = done
        if stop:
            break
    return done


def save_checkpoint(path: Path, learner: Learner, generator: torch.Generator, ema: Ema | None, done: int) -> None:
    """Write everything that `fit` needs to go on into one safetensors file, aside first and then renamed."""
    tensors = {f'module.{name}': value for name, value in learner.module.state_dict().items()}
    for name, descent in learner.descents.items():
        for index, state in descent.optimizer.state_dict()['state'].items():
            tensors |= {f'descent.{name}.{index}.{key}': value for key, value in state.items()}
    if ema is not None:
        tensors |= {f'ema.{index}': value for index, value in enumerate(ema.average)}
    tensors['generator'] = generator.get_state()
    state = {'done': done, 'ema_updates': 0 if ema is None else ema.updates}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.name}.part')
    save_file({name: value.contiguous() for name, value in tensors.items()}, aside, {'state': json.dumps(state)})
    aside.replace(path)


def load_checkpoint(path: Path, learner: Learner, generator: torch.Generator, ema: Ema | None) -> int:
    """Restore what `save_checkpoint` wrote and return the iterations done.

    Raises
    ------
    ConfigurationError
        The file is absent, unreadable, or of a learner of another build.

    """
    try:
        with safe_open(path, framework='pt') as file:
            state = json.loads(file.metadata()['state'])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - of safetensors, no dict
        module = {name[7:]: value for name, value in tensors.items() if name.startswith('module.')}
        learner.module.load_state_dict(module)
        for name, descent in learner.descents.items():
            restored = descent.optimizer.state_dict()
            restored['state'] = _optimizer_state(tensors, f'descent.{name}.')
            descent.optimizer.load_state_dict(restored)
        if ema is not None:
            ema.updates = state['ema_updates']
            with torch.no_grad():
                for index, average in enumerate(ema.average):
                    average.copy_(tensors[f'ema.{index}'])
        generator.set_state(tensors['generator'])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            expected=f'a checkpoint of this training at {path}',
            found=' '.join(str(error).split())[:200],
            remedy='start afresh, or give the settings it was trained with',
        ) from error
    return int(state['done'])


def _optimizer_state(tensors: Mapping[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name[len(prefix) :].split('.')
            state.setdefault(int(index), {})[key] = value
    return state
