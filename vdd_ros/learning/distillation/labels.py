"""The teacher as a labeller: its own samples at windows that were demonstrated, displaced, or visited by a policy.

A student that fits demonstrated actions at demonstrated windows has only these to learn from, and remembers them where
they are few. The teacher answers at any window, as often as it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.evaluation import drawn_by_teacher
from vdd_ros.learning.training import Windows, WindowSource, read_tensors, write_tensors

_BATCH = 4096


class LabelSettings(Settings):
    """Which windows the teacher labels, beside those that policies visit."""

    per_window: float = Field(4.0, gt=0)
    """Labelled windows for each window of the demonstrations; the teacher answers each once."""
    displacement: float = Field(0.05, ge=0)
    """Standard deviation by which half of them are displaced, in every observed number, in units of its standard
    deviation over the demonstrations: equally at all stamps, so that motions stay as they are."""


class Labels:
    """A source of windows with actions of the teacher, all on its device."""

    def __init__(self, teacher: Teacher, seed: int, folder: Path | None = None) -> None:
        """Begin without any; `folder` keeps those that are added, so that a resumed training need not ask again."""
        self._teacher, self._seed, self._folder = teacher, seed, folder
        self._parts: dict[str, Windows] = {}
        self._all: Windows | None = None

    def __len__(self) -> int:
        """Count the labelled windows."""
        return 0 if self._all is None else len(self._all.action)

    def __contains__(self, name: str) -> bool:
        """Tell whether a part was added, or lies in the folder."""
        return name in self._parts or (self._file(name) is not None and self._file(name).exists())

    def add(self, name: str, observation: Float[Tensor, 'window horizon obs'] | None = None) -> None:
        """Label windows, normalised, and add them; take those of the folder if it has them.

        The actions depend on the seed, the name and the windows alone.
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
            if file is not None:
                write_tensors(file, {'observation': part.observation, 'action': part.action})
        self._parts[name] = part
        parts = self._parts.values()
        self._all = Windows(torch.cat([each.observation for each in parts]), torch.cat([each.action for each in parts]))

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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


def displaced(
    windows: WindowSource, count: int, displacement: float, generator: torch.Generator
) -> Float[Tensor, 'window horizon obs']:
    """Draw windows, and displace every other one by Gaussian noise that is the same at all of its stamps."""
    observation, _ = windows.draw(count, generator)
    offset = torch.randn(
        count, 1, observation.shape[-1], generator=generator, dtype=observation.dtype, device=observation.device
    )
    offset[::2] = 0
    return observation + displacement * offset
