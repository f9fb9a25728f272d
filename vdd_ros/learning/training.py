"""The training loop of teacher and student: checkpoints, bit-identical resume, averages, selection, progress.

A step never waits for the host: finiteness of the loss, clipping, step size, averages and metrics stay on the device.
They are read every `CHECK_EVERY` steps or for a report. On a GPU, a step is captured once as a CUDA graph and then
replayed, so its hundreds of kernels are launched by one call.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError, TrainingError
from vdd_ros.common.settings import Settings
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.ranks import WHOLE, Ranks, Sharing
from vdd_ros.learning.row_windows import NormalizedRowWindows

_logger = logging.getLogger(__name__)

Report = Callable[[int, int, Mapping[str, float]], None]
"""`(iteration, iterations, metrics)`, called by `fit` every `Monitoring.every` iterations and after the last one."""

CHECK_EVERY = 50
"""Maximum number of steps between checks of the losses on the device."""

_ASK_EVERY = 10
"""Number of steps between agreements of several ranks on whether to stop; a single rank checks after every step."""

_EAGER_STEPS = 3
"""Steps before a graph is captured; they create allocations and optimiser state."""


class DescentSettings(Settings):
    """Settings of the Adam optimiser."""

    learning_rate: float = Field(1e-3, gt=0)
    """Maximum step size."""
    warmup: float = Field(0.02, ge=0, lt=1)
    """Share of the iterations over which the step size increases."""
    decay: Literal['constant', 'linear', 'cosine'] = 'cosine'
    """Decrease of the step size to zero afterwards."""
    clip: float = Field(10.0, gt=0)
    """Maximum norm of the gradient."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay (AdamW)."""

    def rate(self, progress: Float[Tensor, '']) -> Float[Tensor, '']:
        """Return the step size at a share of the iterations in [0, 1), on the device of `progress`."""
        left = (1 - progress) / (1 - self.warmup)
        shape = {
            'constant': torch.ones_like,
            'linear': lambda x: x,
            'cosine': lambda x: 0.5 - 0.5 * (math.pi * x).cos(),
        }
        rate = shape[self.decay](left)
        if self.warmup:
            rate = torch.where(progress < self.warmup, progress.clamp(min=1e-3) / self.warmup, rate)
        return self.learning_rate * rate


class Descent:
    """Adam on some parameters, with a step size that depends on progress.

    After the first loss that is not finite, parameters are no longer changed.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        settings: DescentSettings,
        other: Descent | None = None,
        sharing: Sharing = WHOLE,
    ) -> None:
        """Optimise these parameters, all on one device; if an `other` descent has failed, this one stops too.

        Ranks that share batches use the mean of their gradients.
        """
        self.settings = settings
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self._mean = sharing.averaging(self.parameters)
        self._rate = torch.tensor(settings.learning_rate, device=device)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self._rate,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=device.type == 'cuda',
        )
        self.failed = torch.zeros((), dtype=torch.bool, device=device) if other is None else other.failed
        """Whether a loss or a gradient was not finite since the beginning."""
        self._seen = torch.zeros(2, device=device)

    def step(
        self, loss: Float[Tensor, ''] | Iterable[Float[Tensor, '']], progress: Float[Tensor, '']
    ) -> Float[Tensor, '']:
        """Take one step and return the norm of the gradient, without waiting for the device.

        A loss can be an iterable of terms to be summed: each is requested after the gradient of the previous one. If
        loss or gradient are not finite, now or in any earlier step, the parameters are not changed.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self._mean is not None:
            self._mean.begin()
        value = torch.zeros_like(self._rate)
        for part in [loss] if isinstance(loss, Tensor) else loss:
            part.backward()
            value = value + part.detach()
        if self._mean is not None:
            value = self._mean.finish(value)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        self._seen.copy_(torch.where(self.failed, self._seen, torch.stack([value, norm.detach()])))
        self.failed.logical_or_(~self._seen.isfinite().all())
        self._rate.copy_(self.settings.rate(progress))
        # Inputs of the fused kernel for gradient scalers of mixed precision: the divisor of the gradients, and whether
        # to skip this step.
        self.optimizer.grad_scale = (norm / self.settings.clip).clamp(min=1.0)
        self.optimizer.found_inf = self.failed.to(self._seen.dtype)
        self.optimizer.step()
        return norm

    def check(self) -> None:
        """Wait for the device and raise an error after a loss that was not finite.

        Raises
        ------
        TrainingError
            Loss or gradient of a step since the last check were not finite; the parameters are those before that step.

        """
        if self.failed.item():
            loss, norm = self._seen.tolist()
            raise TrainingError(
                expected='a finite loss and gradient',
                found=f'loss {loss:g}, gradient norm {norm:g}',
                remedy='lower the learning rate or check the data for outliers; the last checkpoint is valid',
            )


class Learner(Protocol):
    """The model trained by `fit`, with its data, losses and optimisers.

    `fit` calls `step` and then `review` in every iteration, and `resumed` before the first iteration of a resumed
    training.
    """

    module: nn.Module
    """All trained parameters."""
    descents: Mapping[str, Descent]
    """Optimisers by name."""
    sharing: Sharing
    """Division of batches among the processes that train together."""

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Take one step at a share of the iterations in [0, 1), with all randomness from `generator`.

        Return metrics, 0-d tensors, over the rows of this rank. Nothing may depend on values on the host: a step
        may be captured as a graph.
        """
        ...

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Make decisions on the host, after `done` of `iterations` steps; return whether later steps change."""
        ...

    def resumed(self, done: int, iterations: int) -> None:
        """Restore state that is not in the checkpoint, after `done` of `iterations` steps."""
        ...


class WindowSource(Protocol):
    """Interface of sources of training batches, such as `Windows`."""

    def draw(self, batch: int, generator: torch.Generator | Draws) -> tuple[AnyWindows, Tensor]:
        """Draw `batch` windows: observations (batch, horizon, obs) and actions (batch, action), normalised.

        With `Draws`, these are the rows of one part of a larger batch; other rows need not be loaded.
        """
        ...


@dataclass(frozen=True)
class Windows:
    """Training data in memory, in normalised units: a source of batches."""

    observation: Float[Tensor, 'count horizon obs'] | NormalizedRowWindows
    action: Float[Tensor, 'count action']

    def draw(self, batch: int, generator: torch.Generator | Draws) -> tuple[Tensor, Tensor]:
        """Draw `batch` windows with replacement: observations and actions."""
        index = Draws.of(generator).integers(len(self.action), batch)
        return self.observation[index], self.action[index]


class SingleLoss:
    """A learner with one loss and one optimiser, for teachers and baselines."""

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[Any, Tensor, Draws], Tensor],
        windows: WindowSource,
        *,
        batch: int,
        descent: DescentSettings,
        sharing: Sharing = WHOLE,
    ) -> None:
        """Train `module` on `loss(observation, action, draws)`, a mean over the rows of a batch."""
        self.module = module
        self.sharing = sharing
        self.descents = {'all': Descent(module.parameters(), descent, sharing=sharing)}
        self._loss = loss
        self._windows = windows
        self._rows = sharing.rows(batch)

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Take one step on the loss of one batch."""
        draws, found = self.sharing.draws(generator), []

        def losses() -> Iterator[Tensor]:
            for _ in draws.parts():
                loss = self._loss(*self._windows.draw(self._rows, draws), draws) / self.sharing.parts
                found.append(loss.detach())
                yield loss

        norm = self.descents['all'].step(losses(), progress)
        return {'loss': sum(found), 'gradient': norm}

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Return False: steps never change."""
        return False

    def resumed(self, done: int, iterations: int) -> None:
        """Do nothing: the checkpoint has the complete state."""


class Ema:
    """An exponential moving average of the parameters of a module, with faster decay at the beginning."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the present parameters."""
        self.decay = decay
        self._live = list(module.parameters())
        self.average = [parameter.detach().clone() for parameter in self._live]
        self.updates = torch.zeros((), device=self._live[0].device)
        """Number of updates, on the device."""

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the present parameters."""
        self.updates += 1
        share = 1 - ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        if share.device.type == 'cpu':  # a host number avoids two passes over all parameters
            torch._foreach_lerp_(self.average, self._live, share.item())
            return
        difference = torch._foreach_sub(self._live, self.average)
        torch._foreach_mul_(difference, share)
        torch._foreach_add_(self.average, difference)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Copy the average into the parameters of a module of the same architecture."""
        for parameter, average in zip(module.parameters(), self.average):
            parameter.copy_(average)


class Watcher(Protocol):
    """Evaluates and selects weights during a training, and can end it early; see `selection.Selection`.

    `fit` calls `watch` every `Monitoring.every` iterations and after the last one. It reads `exhausted` after each of
    these calls, and ends the training if it is true. `state` is called when a checkpoint is saved, and `restore` when a
    training is resumed.
    """

    exhausted: bool
    """Whether training should end."""

    def watch(self, module: nn.Module, ema: Ema | None, done: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Evaluate the weights after `done` iterations, store what is needed, and return the metrics to report."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state for a checkpoint: tensors by name, and plain values."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""
        ...


@dataclass
class _Steps:
    """Takes training steps, on a GPU with a captured graph."""

    learner: Learner
    ema: Ema | None
    generator: torch.Generator
    iterations: int
    done: int
    _graph: Any = None
    _metrics: Mapping[str, Tensor] = field(default_factory=dict)
    _eager: int = 0

    def __post_init__(self) -> None:
        device = self.generator.device
        # A device tensor, because a host number would be a constant in the graph.
        self._place = torch.tensor(self.done, dtype=torch.float64, device=device)
        self._captures = device.type == 'cuda'
        self._stream = torch.cuda.Stream(device) if self._captures else None

    def __call__(self) -> Mapping[str, Tensor]:
        """Take one step and return its metrics, on the device."""
        if not self._captures:
            return self._once()
        if self._graph is None:
            if self._eager < _EAGER_STEPS:
                self._eager += 1
                self._stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._stream):
                    metrics = self._once()
                torch.cuda.current_stream().wait_stream(self._stream)
                return metrics
            self._capture()
            if not self._captures:
                return self._once()
        self._graph.replay()
        return self._metrics

    def forget(self) -> None:
        """Capture the graph again, because steps compute differently."""
        self._graph, self._eager = None, 0

    def _once(self) -> Mapping[str, Tensor]:
        metrics = self.learner.step(self._place / self.iterations, self.generator)
        if self.ema is not None:
            self.ema.update()
        self._place += 1
        return metrics

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            # Threads of the messages between ranks may ask the device while this one captures.
            with torch.cuda.graph(graph, capture_error_mode='thread_local'):
                self._metrics = self._once()
        except RuntimeError as error:  # a kernel of this GPU does not support graphs
            _logger.warning('training without a CUDA graph: %s', ' '.join(str(error).split())[:200])
            self._captures = False
            return
        self._graph = graph


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of a training, from which an interrupted training continues."""

    path: Path
    """Saved to every `every` iterations, when cancelled and at the end."""
    every: int = 1000
    """Iterations between two saves."""
    resume: bool = False
    """Continue from the file, bit-identical to a training without interruption."""


@dataclass(frozen=True)
class Monitoring:
    """Reports on a training every `every` iterations, and after the last one."""

    report: Report | None = None
    """Called with (iteration, iterations, metrics) every `every` iterations and after the last one."""
    watcher: Watcher | None = None
    """Evaluates the weights before every report, and may end the training early."""
    every: int = 50

    @property
    def exhausted(self) -> bool:
        """Whether the watcher ends the training."""
        return self.watcher is not None and self.watcher.exhausted

    def observe(
        self, learner: Learner, ema: Ema | None, done: int, iterations: int, metrics: Mapping[str, Tensor]
    ) -> None:
        """Evaluate the weights after ``done`` iterations, and report; the metrics are averaged over the ranks."""
        if self.watcher is None and self.report is None:
            return
        figures: Mapping[str, float] = learner.sharing.ranks.mean(metrics)
        if self.watcher is not None:
            figures = self.watcher.watch(learner.module, ema, done, figures)
        if self.report is not None:
            self.report(done, iterations, figures)


def fit(
    learner: Learner,
    *,
    iterations: int,
    generator: torch.Generator,
    ema: Ema | None = None,
    checkpoint: Checkpoint | None = None,
    monitoring: Monitoring = Monitoring(),
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Train until done, cancelled or exhausted; return the total number of iterations.

    Parameters
    ----------
    learner
        The model to train.
    iterations
        Number of steps of the complete training.
    generator
        Source of all random numbers, on the device of the learner.
    ema
        Average of the module's weights, which is updated in every step.
    checkpoint
        File for the state, and whether the training continues from that file.
    monitoring
        Reports, and the selection of weights.
    cancelled
        Called after every iteration; returns whether to stop. With several ranks, ``cancelled`` is called after every
        tenth iteration, and a single result of True stops all ranks.

    All ranks of a learner receive the weights of the first rank, and only the first rank saves checkpoints. A
    checkpoint does not depend on the number of ranks.

    Raises
    ------
    TrainingError
        A loss was not finite. The module and the checkpoint have the last valid weights.
    ConfigurationError
        The training is to be resumed, and the checkpoint is missing or has another architecture.

    """
    ranks = learner.sharing.ranks
    state = (learner, generator, ema, monitoring.watcher)
    done = load_checkpoint(checkpoint.path, *state) if checkpoint is not None and checkpoint.resume else 0
    if done:
        learner.resumed(done, iterations)
    ranks.equalise(learner.module)
    saved, steps = done, _Steps(learner, ema, generator, iterations, done)
    exhausted = monitoring.exhausted
    while done < iterations and not exhausted:
        metrics = steps()
        done += 1
        if learner.review(done, iterations, generator):
            steps.forget()
        due = done % monitoring.every == 0 or done == iterations
        stop = done == iterations or _agreed_to_stop(ranks, cancelled, done)
        save = checkpoint is not None and (stop or done - saved >= checkpoint.every)
        if due or save or stop or done % CHECK_EVERY == 0:
            for descent in learner.descents.values():
                descent.check()
        if due:
            monitoring.observe(learner, ema, done, iterations, metrics)
            exhausted = monitoring.exhausted
        if checkpoint is not None and (save or exhausted):
            if ranks.leads:
                save_checkpoint(checkpoint.path, *state, done)
            saved = done
        if stop:
            break
    return done


def _agreed_to_stop(ranks: Ranks, cancelled: Callable[[], bool], done: int) -> bool:
    if ranks.count == 1:
        return cancelled()
    return done % _ASK_EVERY == 0 and ranks.any(cancelled())


def save_checkpoint(
    path: Path,
    learner: Learner,
    generator: torch.Generator,
    ema: Ema | None,
    watcher: Watcher | None,
    done: int,
) -> None:
    """Write the complete state of `fit` atomically into one safetensors file."""
    tensors = {f'module.{name}': value for name, value in learner.module.state_dict().items()}
    for name, descent in learner.descents.items():
        for index, state in descent.optimizer.state_dict()['state'].items():
            tensors |= {f'descent.{name}.{index}.{key}': value for key, value in state.items()}
    if ema is not None:
        tensors |= {f'ema.{index}': value for index, value in enumerate(ema.average)}
    tensors['generator'] = generator.get_state()
    watched, values = ({}, {}) if watcher is None else watcher.state()
    tensors |= {f'watched.{name}': value for name, value in watched.items()}
    state = {'done': done, 'ema_updates': 0 if ema is None else int(ema.updates), 'watched': values}
    write_tensors(path, tensors, {'state': json.dumps(state)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, and some text, atomically into a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.name}.part')
    save_file({name: value.contiguous() for name, value in tensors.items()}, aside, dict(facts or {}))
    aside.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name into CPU memory."""
    with safe_open(path, framework='pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_checkpoint(
    path: Path, learner: Learner, generator: torch.Generator, ema: Ema | None, watcher: Watcher | None
) -> int:
    """Restore the state written by `save_checkpoint` and return the number of iterations.

    Raises
    ------
    ConfigurationError
        The file is missing, unreadable, or belongs to another architecture.

    """
    try:
        with safe_open(path, framework='pt') as file:
            state = json.loads(file.metadata()['state'])
        tensors = read_tensors(path)
        learner.module.load_state_dict(_under(tensors, 'module.'))
        for name, descent in learner.descents.items():
            restored = descent.optimizer.state_dict()
            restored['state'] = _optimizer_state(tensors, f'descent.{name}.')
            rates = [group['lr'] for group in descent.optimizer.param_groups]
            descent.optimizer.load_state_dict(restored)
            for group, rate in zip(descent.optimizer.param_groups, rates):
                group['lr'] = rate  # the tensor that every step writes to
            descent.failed.zero_()
        if ema is not None:
            ema.updates.fill_(state['ema_updates'])
            with torch.no_grad():
                for index, average in enumerate(ema.average):
                    average.copy_(tensors[f'ema.{index}'])
        if watcher is not None:
            watcher.restore(_under(tensors, 'watched.'), state['watched'])
        generator.set_state(tensors['generator'])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            expected=f'a checkpoint of this training at {path}',
            found=' '.join(str(error).split())[:200],
            remedy='start again, or use the settings of this training',
        ) from error
    return int(state['done'])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer_state(tensors: Mapping[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, prefix).items():
        index, key = name.split('.')
        state.setdefault(int(index), {})[key] = value
    return state
