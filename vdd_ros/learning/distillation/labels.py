"""Labels: samples of the teacher at demonstrated, displaced or visited windows.

With few demonstrations, a student that is fitted to demonstrated actions only would overfit. The teacher provides
actions for any window.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.learning.augmentation import AugmentedWindows
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.evaluation import drawn_by_teacher
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.training import Windows, WindowSource, read_tensors, write_tensors

_BATCH, _SEEN = 4096, 256


class LabelSettings(Settings):
    """Windows labelled by the teacher, in addition to windows visited by policies."""

    per_window: float = Field(4.0, gt=0)
    """Labelled windows per window of the demonstrations, each with one action."""
    displacement: float = Field(0.05, ge=0)
    """Standard deviation of the displacement of half of the labelled windows, for every observed value, in units of its
    standard deviation over the demonstrations. The displacement is equal at all time steps, which preserves motion."""


class Labels:
    """A source of windows with actions of the teacher, all on the device of the teacher."""

    def __init__(self, teacher: Teacher, seed: int, folder: Path | None = None, *, writes: bool = True) -> None:
        """Start empty; `folder` stores added parts for a resumed training.

        If several ranks train together, all compute the same labels, but only one rank `writes`.
        """
        self._teacher, self._seed, self._folder, self._writes = teacher, seed, folder, writes
        self._parts: dict[str, Windows] = {}
        self._all: Windows | None = None

    def __len__(self) -> int:
        """Return the number of labelled windows."""
        return 0 if self._all is None else len(self._all.action)

    def __contains__(self, name: str) -> bool:
        """Return whether a part of this name was added, or is in the folder."""
        return name in self._parts or (self._file(name) is not None and self._file(name).exists())

    def add(self, name: str, observation: Float[Tensor, 'window horizon obs'] | None = None) -> None:
        """Label normalised windows and add them as a part; if the folder has a file of this part, use the file.

        The actions depend only on the seed, the name and the windows.
        """
        file = self._file(name)
        if file is not None and file.exists():
            kept = read_tensors(file)
            part = Windows(*(kept[key].to(self._device) for key in ('observation', 'action')))
        else:
            seed = self._seed + sum(name.encode()) * 1_000_003
            generator = torch.Generator(self._device).manual_seed(seed)
            observation = observation.to(self._device)
            part = Windows(observation, torch.cat([*self._labelled(observation, generator)]))
            if file is not None and self._writes:
                write_tensors(file, {'observation': part.observation, 'action': part.action})
        self._parts[name] = part
        parts = self._parts.values()
        self._all = Windows(torch.cat([each.observation for each in parts]), torch.cat([each.action for each in parts]))

    def draw(self, batch: int, generator: torch.Generator | Draws) -> tuple[Tensor, Tensor]:
        """Draw labelled windows with replacement: observations, and actions of the teacher."""
        return self._all.draw(batch, generator)

    def _labelled(self, observation: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        for part in observation.split(_BATCH):
            yield drawn_by_teacher(self._teacher, part, 1, generator)[0]

    def _file(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f'labels-{name}.safetensors'

    @property
    def _device(self) -> torch.device:
        return next(self._teacher.parameters()).device


class LabelledWindows:
    """A source of demonstrated windows with their images, and actions of the teacher.

    For students with a trainable image encoder, whose features cannot be computed beforehand. The windows are not
    displaced, since no image shows a displaced arm.
    """

    def __init__(self, teacher: Teacher, windows: AugmentedWindows, copies: int, generator: torch.Generator) -> None:
        """Sample ``copies`` actions of the teacher for every window, each with another random crop of the images."""
        self._windows = windows
        device = generator.device
        every = torch.arange(len(windows.action), device=device)
        with torch.no_grad():
            self._action = torch.stack([
                torch.cat([
                    drawn_by_teacher(teacher, teacher.see(windows.at(part, generator)), 1, generator)[0]
                    for part in every.split(_SEEN)
                ])
                for _ in range(copies)
            ])  # fmt: skip

    def __len__(self) -> int:
        """Return the number of sampled actions."""
        return self._action.shape[0] * self._action.shape[1]

    def draw(self, batch: int, generator: torch.Generator | Draws) -> tuple[AnyWindows, Tensor]:
        """Draw windows with replacement, and one of the teacher's actions for each window."""
        draws, (copies, count, _) = Draws.of(generator), self._action.shape
        index, copy = draws.integers(count, batch), draws.integers(copies, batch)
        return self._windows.at(index, draws), self._action[copy, index]


def displaced(
    windows: WindowSource, count: int, displacement: float, generator: torch.Generator
) -> Float[Tensor, 'window horizon obs']:
    """Draw windows, and displace every second one by Gaussian noise that is equal at all of its time steps."""
    observation, _ = windows.draw(count, generator)
    offset = torch.randn(
        count, 1, observation.shape[-1], generator=generator, dtype=observation.dtype, device=observation.device
    )
    offset[::2] = 0
    return observation + displacement * offset
