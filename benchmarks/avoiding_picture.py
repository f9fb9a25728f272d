"""The figure of `benchmarks.avoiding`: success and entropy of modes, one point for each method and seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = {'vdd': '#dd8452', 'paper': '#c44e52', 'EM': '#55a868', 'consistency': '#8172b3'}
_TEACHER = '#4c72b0'


def draw_picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each contract and teacher, and save it."""
    panels = list(dict.fromkeys((row['contract'], row['teacher']) for row in rows))
    figure = Figure(figsize=(4.6 * len(panels), 4.4), layout='constrained')
    for axes, (contract, teacher) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        named = set()
        for row in rows:
            if (row['contract'], row['teacher']) != (contract, teacher):
                continue
            method = row['method']
            axes.scatter(
                row['success'],
                row['entropy'],
                color=_COLOURS.get(method, _TEACHER),
                marker='o' if method in _COLOURS else f'${method.rpartition(" ")[2]}$',
                s=60,
                label=None if method in named else method,
            )
            named.add(method)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel='success', ylabel='entropy of the modes')
        axes.set_title(f'{contract}, {teacher} teacher')
        axes.grid(color='#e6eaee', linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, loc='lower left')
    figure.savefig(path, dpi=110)
