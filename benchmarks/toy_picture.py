"""The figure of the toys: densities of teacher and students side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.toy_problems import TOYS, Density

_REACH, _PIXELS = 3.2, 160
_SHOWN_AT = (-0.8, 0.0, 0.8)


@dataclass(frozen=True)
class Panel:
    """One density at one observation."""

    row: str
    """The toy, and the observation if it is conditional."""
    column: str
    """The method."""
    density: np.ndarray
    """Shape (pixel, pixel), y before x."""
    mean: np.ndarray
    """Shape (expert, 2)."""
    gating: np.ndarray
    """Shape (expert,)."""


@torch.no_grad()
def panels(name: str, column: str, density: Density, unit: tuple[float, float] = (1.0, 1.0)) -> list[Panel]:
    """Evaluate a density with actions in a `unit` over the plane, for conditional ones at three observations."""
    line = torch.linspace(-_REACH, _REACH, _PIXELS)
    plane = torch.stack(torch.meshgrid(line, line, indexing='xy'), dim=-1)[:, :, None]
    scale = torch.tensor(unit)
    found = []
    for place in _SHOWN_AT if TOYS[name].conditional else (0.0,):
        mixture = density(torch.full((1, 1, 1), place))
        row = f'{name}, s = {place:g}' if TOYS[name].conditional else name
        values = (mixture.log_prob(plane / scale).exp()[..., 0] / scale.prod()).numpy()
        found.append(Panel(row, column, values, (mixture.mean[0] * scale).numpy(), mixture.log_gating[0].exp().numpy()))
    return found


def draw_picture(students: Sequence[Panel], path: Path) -> None:
    """Write a figure of the panels of the students, preceded by those of the teacher."""
    columns = ['teacher', *dict.fromkeys(panel.column for panel in students)]
    everything = [*(panel for name, toy in TOYS.items() for panel in panels(name, 'teacher', toy.density)), *students]
    rows = list(dict.fromkeys(panel.row for panel in everything))
    figure = Figure(figsize=(2.6 * len(columns), 2.7 * len(rows)), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    brightest = {panel.row: panel.density.max() for panel in everything if panel.column == 'teacher'}
    for panel in everything:
        axes = grid[rows.index(panel.row)][columns.index(panel.column)]
        # The square root makes rare modes visible.
        shown = np.sqrt(panel.density / brightest[panel.row])
        axes.imshow(shown, origin='lower', extent=(-_REACH, _REACH) * 2, cmap='magma', vmin=0, vmax=1)
        if panel.column != 'teacher':
            size = 4 + 120 * panel.gating
            axes.scatter(*panel.mean.T, s=size, facecolors='none', edgecolors='#7fd1ff', linewidths=0.8)
            axes.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH))
        axes.set(xticks=[], yticks=[])
    for axes, column in zip(grid[0], columns):
        axes.set_title(column)
    for axes, row in zip(grid[:, 0], rows):
        axes.set_ylabel(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
