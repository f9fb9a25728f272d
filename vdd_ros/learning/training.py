"""The one fit loop of teacher and student: checkpoints, resume bit for bit, averages, selection, progress.

A step never waits for the host: whether a loss is finite, clipping, step size, averages and metrics stay on the device,
and are looked at every `CHECK_EVERY` steps or when something is reported. On a GPU a step is captured once as a CUDA
graph and replayed, so that its some hundred kernels are launched by one call.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
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
from vdd_ros.learning.row_windows import NormalizedRowWindows

_logger = logging.getLogger(__name__)

Report = Callable[[int, int, Mapping[str, float]], None]
"""`(iteration, iterations, metrics)`, called now and then by `fit`."""

CHECK_EVERY = 50
"""Steps after which the device is asked at the latest whether all losses were finite."""

_EAGER_STEPS = 3
"""Steps before a graph is captured: allocations and the state of the optimisers are made in these."""


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
    """Adam on some parameters, with a step size that follows progress.

    From the first loss on that is not finite it leaves the parameters as they are.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], settings: DescentSettings, other: Descent | None = None
    ) -> None:
        """Own these parameters, all on one device; where an `other` descent failed, stand still with it."""
        self.settings = settings
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self._rate = torch.tensor(settings.learning_rate, device=device)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self._rate,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=device.type == 'cuda',
        )
        self.failed = torch.zeros((), dtype=torch.bool, device=device) if other is None else other.failed
        """Whether a loss or a gradient was not finite, since the beginning."""
        self._seen = torch.zeros(2, device=device)

    def step(self, loss: Float[Tensor, ''], progress: Float[Tensor, '']) -> Float[Tensor, '']:
        """Descend once and return the norm of the gradient; nothing waits for the device.

        Where loss or gradient are not finite, now or in any step before, the parameters stay as they are.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        self._seen.copy_(torch.where(self.failed, self._seen, torch.stack([loss.detach(), norm.detach()])))
        self.failed.logical_or_(~self._seen.isfinite().all())
        self._rate.copy_(self.settings.rate(progress))
        # What a gradient scaler of mixed precision tells the fused kernel, too: by what to divide the gradients, and
        # whether to leave out this step.
        self.optimizer.grad_scale = (norm / self.settings.clip).clamp(min=1.0)
        self.optimizer.found_inf = self.failed.to(self._seen.dtype)
        self.optimizer.step()
        return norm

    def check(self) -> None:
        """Wait for the device and refuse to go on after a loss that was not finite.

        Raises
        ------
        TrainingError
            Loss or gradient of a step since the last check were not finite; the parameters are those before it.

        """
        if self.failed.item():
            loss, norm = self._seen.tolist()
            raise TrainingError(
                expected='a finite loss and gradient',
                found=f'loss {loss:g}, gradient norm {norm:g}',
                remedy='lower the learning rate or check the data for outliers; the last checkpoint is still good',
            )


class Learner(Protocol):
    """What `fit` trains: it knows its data, its loss and its optimisers."""

    module: nn.Module
    """Everything that is learned."""
    descents: Mapping[str, Descent]
    """Its optimisers by name."""

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Learn once at a share of the iterations in [0, 1), with all randomness from `generator`.

        Return metrics, 0-d tensors. All that depends on values stays on the device: a step may be captured as a graph.
        """
        ...

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Decide what needs the host, after `done` of `iterations` steps; return whether steps compute otherwise."""
        ...

    def resumed(self, done: int, iterations: int) -> None:
        """Take up what a checkpoint does not hold, after `done` of `iterations` steps."""
        ...


class WindowSource(Protocol):
    """Where a learner draws its batches from."""

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `batch` windows: observations (batch, horizon, obs) and actions (batch, action), normalised."""
        ...


@dataclass(frozen=True)
class Windows:
    """Training data in memory, in normalised units: a source of batches."""

    observation: Float[Tensor, 'count horizon obs'] | NormalizedRowWindows
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

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Descend the loss of one batch."""
        loss = self._loss(*self._windows.draw(self._batch, generator), generator)
        norm = self.descents['all'].step(loss, progress)
        return {'loss': loss.detach(), 'gradient': norm}

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Decide nothing."""
        return False

    def resumed(self, done: int, iterations: int) -> None:
        """Hold nothing but what a checkpoint does."""


class Ema:
    """An exponential moving average of a module's parameters; young averages forget faster."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the present parameters."""
        self.decay = decay
        self._live = list(module.parameters())
        self.average = [parameter.detach().clone() for parameter in self._live]
        self.updates = torch.zeros((), device=self._live[0].device)
        """How often it was updated, on the device."""

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the present parameters."""
        self.updates += 1
        share = 1 - ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        if share.device.type == 'cpu':  # a number costs no waiting here, and saves two passes over all parameters
            torch._foreach_lerp_(self.average, self._live, share.item())
            return
        difference = torch._foreach_sub(self._live, self.average)
        torch._foreach_mul_(difference, share)
        torch._foreach_add_(self.average, difference)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into the parameters of a module of the same build."""
        for parameter, average in zip(module.parameters(), self.average):
            parameter.copy_(average)


class Watcher(Protocol):
    """What `fit` shows the state of a training to, now and then; `selection.Selection` is one."""

    exhausted: bool
    """Whether there is nothing to be gained by going on."""

    def watch(self, module: nn.Module, ema: Ema | None, done: int, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Look at the weights after `done` steps, and return the metrics to report."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a checkpoint must keep: tensors by name, and plain values."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        ...


@dataclass
class _Steps:
    """Takes one step after the other, on a GPU by a captured graph."""

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
        # Learned from by the graph, too: a number of the host would be a constant there.
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
        """Compute otherwise from now on: the graph is captured again."""
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
            with torch.cuda.graph(graph):
                self._metrics = self._once()
        except RuntimeError as error:  # what a kernel of this GPU cannot do in a graph is done without one
            _logger.warning('training without a CUDA graph: %s', ' '.join(str(error).split())[:200])
            self._captures = False
            return
        self._graph = graph


def fit(
    learner: Learner,
    *,
    iterations: int,
    generator: torch.Generator,
    ema: Ema | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    watcher: Watcher | None = None,
    report: Report | None = None,
    report_every: int = 50,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Train until done, cancelled or exhausted, and return the iterations that were done in all.

    Parameters
    ----------
    learner
        What is trained.
    iterations
        How many steps the whole training has.
    generator
        All randomness comes from it; its device is that of the learner.
    ema
        Averaged weights to keep beside the module's own.
    checkpoint
        File to save to every `checkpoint_every` iterations, when cancelled and at the end.
    checkpoint_every
        Iterations between two saves.
    resume
        Go on from `checkpoint`, bit for bit as if training had not stopped.
    watcher
        Shown the weights before every report; may end the training early.
    report, report_every
        Called with (iteration, iterations, metrics) every so many iterations and after the last one.
    cancelled
        Asked after every iteration.

    Raises
    ------
    TrainingError
        A loss was not finite. The module and the checkpoint keep the last good weights.
    ConfigurationError
        `resume` was asked for, and the checkpoint is absent or of another build.

    """
    state = (learner, generator, ema, watcher)
    done = load_checkpoint(checkpoint, *state) if resume and checkpoint is not None else 0
    if done:
        learner.resumed(done, iterations)
    saved, steps = done, _Steps(learner, ema, generator, iterations, done)
    exhausted = watcher is not None and watcher.exhausted
    while done < iterations and not exhausted:
        metrics = steps()
        done += 1
        if learner.review(done, iterations, generator):
            steps.forget()
        due = done % report_every == 0 or done == iterations
        stop = done == iterations or cancelled()
        save = checkpoint is not None and (stop or done - saved >= checkpoint_every)
        if due or save or stop or done % CHECK_EVERY == 0:
            for descent in learner.descents.values():
                descent.check()
        if due and (watcher is not None or report is not None):
            figures: Mapping[str, float] = {name: float(value) for name, value in metrics.items()}
            if watcher is not None:
                figures = watcher.watch(learner.module, ema, done, figures)
                exhausted = watcher.exhausted
            if report is not None:
                report(done, iterations, figures)
        if save or (exhausted and checkpoint is not None):
            save_checkpoint(checkpoint, *state, done)
            saved = done
        if stop:
            break
    return done


def save_checkpoint(
    path: Path,
    learner: Learner,
    generator: torch.Generator,
    ema: Ema | None,
    watcher: Watcher | None,
    done: int,
) -> None:
    """Write everything that `fit` needs to go on into one safetensors file, aside first and then renamed."""
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
    """Write tensors by name, and some text, into a safetensors file: aside first, and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.name}.part')
    save_file({name: value.contiguous() for name, value in tensors.items()}, aside, dict(facts or {}))
    aside.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, in the memory of the processor."""
    with safe_open(path, framework='pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_checkpoint(
    path: Path, learner: Learner, generator: torch.Generator, ema: Ema | None, watcher: Watcher | None
) -> int:
    """Restore what `save_checkpoint` wrote and return the iterations done.

    Raises
    ------
    ConfigurationError
        The file is absent, unreadable, or of a learner of another build.

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
                group['lr'] = rate  # the very tensor that every step writes to
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
            remedy='start afresh, or give the settings it was trained with',
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
