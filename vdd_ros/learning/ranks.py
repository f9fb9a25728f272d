"""Processes (ranks) that train one network together, each on its own device: Lightning Fabric, launched by torchrun.

Every rank has the whole network, computes the gradient for its own rows of each batch, and steps with the mean gradient
of all ranks. Decisions that depend on values (experts to move, weights to keep, when to stop) are made by one rank for
all. Only one rank writes files.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from vdd_ros.common.errors import ConfigurationError, TrainingError
from vdd_ros.learning.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_fabric import Fabric

Value = TypeVar('Value')

_PATIENCE = timedelta(hours=6)
"""Maximum time that a rank waits for work that another rank does alone, such as rollouts. torchrun detects ranks that
died immediately."""
_BUCKET = 4 << 20
"""Number of values in a message of gradients. Several messages let the first be sent while the last are computed."""


class LostRankError(TrainingError):
    """Another rank did not respond, because it has failed; the error of that rank names the cause."""


@contextmanager
def _answers() -> Iterator[None]:
    """Report a message that failed as what it is."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, TrainingError):
            raise
        raise LostRankError(
            expected='an answer of every rank',
            found=' '.join(str(error).split())[:200],
            remedy='read the error of the rank that failed first; --resume continues from the last checkpoint',
        ) from error


class Ranks:
    """The processes that train together; without a `Fabric`, only this process."""

    def __init__(self, fabric: Fabric | None = None) -> None:
        """Use a launched `Fabric` for the communication with the other ranks."""
        self._fabric = fabric
        # What the host decides does not wait for the device.
        self._host = None if fabric is None else distributed.new_group(backend='gloo', timeout=_PATIENCE)
        self.rank = 0 if fabric is None else fabric.global_rank
        """Index of this process, from 0."""
        self.count = 1 if fabric is None else fabric.world_size
        """Number of processes."""

    @property
    def device(self) -> torch.device | None:
        """The device of this process; None if there are no other ranks."""
        return None if self._fabric is None else self._fabric.device

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0

    def first(self, make: Callable[[], Value]) -> Value:
        """Compute a picklable value on the first rank, and return it on all ranks."""
        if self._fabric is None:
            return make()
        value = [make() if self.leads else None]
        with _answers():
            distributed.broadcast_object_list(value, 0, group=self._host)
        return value[0]

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set on any rank."""
        if self._fabric is None:
            return flag
        found = torch.tensor(float(flag))
        with _answers():
            distributed.all_reduce(found, group=self._host)
        return bool(found > 0)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean over ranks of 0-d tensors by name; waits for the device."""
        if self._fabric is None or not values:
            return {name: float(value) for name, value in values.items()}
        found = torch.stack([value.detach().to(self.device, torch.float64) for value in values.values()])
        with _answers():
            distributed.all_reduce(found)
        return dict(zip(values, (found / self.count).tolist()))

    def equalise(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of the first."""
        if self._fabric is None:
            return
        with _answers():
            for value in module.state_dict().values():
                distributed.broadcast(value.view(torch.uint8) if value.dtype == torch.bool else value, 0)

    def wait(self) -> None:
        """Wait until all ranks have called this method."""
        if self._fabric is not None:
            with _answers():
                self._fabric.barrier()


class GradientMean:
    """Averages gradients over ranks, bucket by bucket during the backward pass.

    `DistributedDataParallel` does the same for the `forward` of one module. Here, a step has losses of several networks
    and several calls, and is captured as a CUDA graph including its messages. All ranks round the mean identically, so
    equal weights stay equal.
    """

    def __init__(self, parameters: list[nn.Parameter], ranks: int, parts: int) -> None:
        """Set the parameters, all of one device and type; gradients are sums over `parts` backward passes."""
        self._ranks, self._parts = ranks, parts
        self._buckets = [*_buckets(parameters)]
        self._place = {id(each): at for at, bucket in enumerate(self._buckets) for each in bucket.parameters}
        self._loss = torch.zeros(1, device=parameters[0].device)
        self._active = False
        self._sent = 0
        self._messages: list[Any] = []
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._ready)

    def begin(self) -> None:
        """Start a step, before its backward passes."""
        self._active, self._sent, self._messages = True, 0, []
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters) * self._parts

    def finish(self, loss: Tensor) -> Tensor:
        """Send the remaining buckets, write the mean gradients into the parameters, and return the mean loss."""
        self._active = False
        self._loss.copy_(loss.detach().reshape(1)).div_(self._ranks)
        with _answers():
            while self._sent < len(self._buckets):  # those of parameters that this loss does not depend on
                self._send()
            self._messages.append(distributed.all_reduce(self._loss, async_op=True))
            for message in self._messages:
                message.wait()
        for bucket in self._buckets:
            bucket.spread()
        return self._loss[0]

    def _ready(self, parameter: nn.Parameter) -> None:
        """Send all buckets that are complete, in the same order on every rank."""
        if not self._active:
            return
        self._buckets[self._place[id(parameter)]].missing -= 1
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            self._send()

    def _send(self) -> None:
        with _answers():
            self._messages.append(
                distributed.all_reduce(self._buckets[self._sent].gathered(self._ranks), async_op=True)
            )
        self._sent += 1


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    missing: int = 0
    flat: Tensor | None = None

    def gathered(self, ranks: int) -> Tensor:
        """Return the gradients as one vector, divided by the number of ranks."""
        if self.flat is None:
            first = self.parameters[0]
            self.flat = first.new_zeros(sum(parameter.numel() for parameter in self.parameters))
            self.views = [
                part.view_as(parameter)
                for parameter, part in zip(self.parameters, self.flat.split([each.numel() for each in self.parameters]))
            ]
        held = [(view, each.grad) for view, each in zip(self.views, self.parameters) if each.grad is not None]
        if held:
            torch._foreach_copy_(*([*side] for side in zip(*held)))
        return self.flat.div_(ranks)

    def spread(self) -> None:
        """Write the averaged vector back to the gradients."""
        held = [(each.grad, view) for view, each in zip(self.views, self.parameters) if each.grad is not None]
        if held:
            torch._foreach_copy_(*([*side] for side in zip(*held)))


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[_Bucket]:
    """Yield parameters in buckets, the last first, as their gradients come."""
    held: list[nn.Parameter] = []
    for parameter in reversed([*parameters]):
        held.append(parameter)
        if sum(each.numel() for each in held) >= _BUCKET:
            yield _Bucket(held)
            held = []
    if held:
        yield _Bucket(held)


ALONE = Ranks()
"""One process."""


@dataclass(frozen=True)
class Sharing:
    """Division of a batch: its rows among ranks, and the rows of a rank into parts that are processed in turn."""

    ranks: Ranks = ALONE
    """The processes that train together."""
    parts: int = 1
    """Number of parts whose gradients are summed before a step; n parts need 1/n of the memory for activations."""

    def rows(self, batch: int) -> int:
        """Return the number of rows of a batch in one part.

        Raises
        ------
        ConfigurationError
            The batch cannot be divided evenly.

        """
        shares = self.ranks.count * self.parts
        if batch % shares:
            raise ConfigurationError(
                expected=f'a batch that {self.ranks.count} devices and {self.parts} parts share out evenly',
                found=f'{batch} windows',
                remedy=f'choose a multiple of {shares}, or other numbers of devices or `accumulation`',
            )
        return batch // shares

    def averaging(self, parameters: list[nn.Parameter]) -> GradientMean | None:
        """Return an object that averages the gradients of some parameters over the ranks; None for a single rank."""
        return None if self.ranks.count == 1 else GradientMean(parameters, self.ranks.count, self.parts)

    def draws(self, generator: torch.Generator) -> Draws:
        """Return the random numbers of one step, for the rows of this rank."""
        return Draws(generator, rank=self.ranks.rank, ranks=self.ranks.count, parts=self.parts)


WHOLE = Sharing()
"""One process that processes a whole batch at once."""


def launched() -> bool:
    """Return whether torchrun launched this process."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


@functools.cache
def joined(accelerator: str) -> Ranks:
    """Join the processes launched by torchrun, on GPUs (`cuda`) or CPUs (`cpu`); without torchrun, return `ALONE`.

    Raises
    ------
    ConfigurationError
        Lightning Fabric is missing, or there are fewer GPUs than processes.

    """
    count = int(os.environ.get('WORLD_SIZE', '1')) if launched() else 1
    if count == 1:
        return ALONE
    devices = int(os.environ['LOCAL_WORLD_SIZE'])
    if accelerator == 'cuda' and torch.cuda.device_count() < devices:
        raise ConfigurationError(
            expected=f'{devices} GPUs, one for each process of this computer',
            found=f'{torch.cuda.device_count()}',
            remedy='lower --devices, or set device to cpu',
        )
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise ConfigurationError(
            expected='Lightning Fabric, for training on several devices',
            found='it is not installed',
            remedy="python -m pip install 'vdd_ros[distributed]'",
        ) from error
    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=count // devices, strategy=DDPStrategy(timeout=_PATIENCE)
    )
    with _answers():
        fabric.launch()
    return Ranks(fabric)
