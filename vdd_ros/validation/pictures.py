"""The pictures of the report: paths, mode frequencies, learning curves, latency."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vdd_ros.policy.labels import Labels
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.latency import Latency
from vdd_ros.validation.rollout import Rollouts

_COLOURS = {'teacher': '#4c72b0', 'student': '#dd8452', 'recorded': '#5f8f6b'}
_FAILED, _MUTED = '#c0392b', '#8c99a6'
_DRAWN = 240


def paths_picture(task: Task, rollouts: Mapping[str, Rollouts], labels: Labels = Labels()) -> Figure:
    """Draw the paths of rollouts over the task, one panel for each entry of ``rollouts``, coloured by acting expert."""
    figure = Figure(figsize=(4.6 * len(rollouts), 6.2), layout='constrained')
    panels = figure.subplots(1, len(rollouts), squeeze=False, sharey=True)[0]
    for axes, (name, item) in zip(panels, rollouts.items()):
        task.draw(axes)
        experts = np.unique(np.concatenate(item.experts))
        many = len(experts) > 1
        colour = {expert: labels.colour(expert) if many else _colour(name) for expert in experts.tolist()}
        for path, steps in zip(item.paths[:_DRAWN], item.experts[:_DRAWN]):
            points = path[:, None, :2]
            segments = np.concatenate([points[:-1], points[1:]], axis=1)
            colours = [colour[int(step)] for step in steps]
            axes.add_collection(LineCollection(segments, colors=colours, linewidths=0.9, alpha=0.45, zorder=2))
        axes.autoscale_view()
        ends = np.array([path[-1, :2] for path, won in zip(item.paths[:_DRAWN], item.success[:_DRAWN]) if not won])
        if len(ends):
            axes.scatter(*ends.T, marker='x', color=_FAILED, s=36, zorder=5, label='failure')
            axes.legend(loc='lower right', frameon=False)
        note = f'\ncoloured by expert ({len(experts)})' if many else '\n'
        axes.set_title(f'{name}: {item.success.mean():.1%} of {len(item)} succeed{note}', fontsize=11)
    return figure


def frequency_picture(rollouts: Mapping[str, Rollouts]) -> Figure:
    """Draw the frequency of each mode among successful rollouts."""
    figure = Figure(figsize=(12.4, 3.4), layout='constrained')
    axes = figure.subplots()
    width = 0.8 / len(rollouts)
    for number, (name, item) in enumerate(reversed(rollouts.items())):
        names = item.mode_names
        taken = item.mode[item.success & (item.mode >= 0)]
        share = np.bincount(taken, minlength=len(names)) / max(len(taken), 1)
        places = np.arange(len(names)) + (number - (len(rollouts) - 1) / 2) * width
        axes.bar(places, share, width, color=_colour(name), label=name)
    axes.axhline(1 / len(names), color=_MUTED, linestyle='--', linewidth=1, label='uniform')
    axes.set_xticks(range(len(names)), names, rotation=60, ha='right', fontsize=8)
    axes.set_ylabel('share of successes')
    axes.legend(frameon=False, ncols=len(rollouts) + 1, loc='lower right', bbox_to_anchor=(1, 1))
    _tidy(axes)
    return figure


def learning_picture(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the learning curves of teacher and student."""
    wanted = [('teacher', 'loss'), ('student', 'log_likelihood'), ('student', 'gating_entropy')]
    curves = [(who, name, histories[who]) for who, name in wanted if name in histories.get(who, {})]
    figure = Figure(figsize=(12.4, 3.2), layout='constrained')
    for axes, (who, name, history) in zip(figure.subplots(1, max(len(curves), 1), squeeze=False)[0], curves):
        axes.plot(history['iteration'], history[name], color=_colour(who), linewidth=1.4)
        axes.set(title=f'{who}: {name.replace("_", " ")}', xlabel='iteration')
        _tidy(axes)
    return figure


def latency_picture(latency: Mapping[str, Latency]) -> Figure:
    """Draw latencies on a logarithmic scale: bars to the median, whiskers to the 99th percentile."""
    figure = Figure(figsize=(12.4, 2.2), layout='constrained')
    axes = figure.subplots()
    for place, (name, item) in enumerate(reversed(latency.items())):
        axes.barh(place, item.p50, color=_colour(name))
        axes.plot([item.p50, item.p99], [place, place], color='#33475b', linewidth=1.4, marker='|')
        axes.text(item.p99 * 1.08, place, f'{item.p50:.0f} us, p99 {item.p99:.0f} us', va='center', fontsize=9)
    axes.set_yticks(range(len(latency)), [name.replace('_', ', ', 1).replace('_', ' ') for name in reversed(latency)])
    longest = max(item.p99 for item in latency.values())
    axes.set(xscale='log', xlabel='one call on one thread [us]', xlim=(5, 4 * longest))
    _tidy(axes)
    return figure


def drawn(figure: Figure, *, vector: bool = True) -> bytes:
    """Return a figure as SVG if ``vector`` is true, otherwise as PNG, which is smaller for thousands of lines."""
    data = io.BytesIO()
    figure.savefig(data, format='svg' if vector else 'png', dpi=110, bbox_inches='tight')
    return data.getvalue()


def embedded(figure: Figure) -> str:
    """Return a figure as the source of an HTML image."""
    return data_url(drawn(figure), 'image/svg+xml')


def data_url(data: bytes, kind: str) -> str:
    """Return data of a MIME type as a data URL."""
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def _colour(name: str) -> str:
    return next((colour for who, colour in _COLOURS.items() if name.startswith(who)), _MUTED)


def _tidy(axes: matplotlib.axes.Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='both', color='#e6eaee', linewidth=0.6)
    axes.set_axisbelow(True)
