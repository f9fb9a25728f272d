"""The pictures of a quality report: time line, joint positions, comparison of demonstrations."""

from __future__ import annotations

import math

import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vdd_ros.data.quality.inspection import Inspection, Trace

_BLUE, _ORANGE, _GREEN, _RED, _MUTED, _LINE = '#4c72b0', '#dd8452', '#4f9d69', '#c0392b', '#8c99a6', '#e6eaee'
_OUTCOMES = {True: _GREEN, False: _RED, None: _BLUE}
_WIDTH = 12.4
_THUMBNAILS = 60


def timeline_picture(inspection: Inspection) -> Figure:
    """Draw the message density of each stream over time, with gaps in red, and the demonstrations."""
    streams = [stream for stream in inspection.streams if stream.topic in inspection.activity]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.34 * (len(streams) + 1)), layout='constrained')
    axes = figure.subplots()
    begin, end = inspection.span
    seconds = (end - begin) / 1e9
    for span in inspection.spans:
        left, right = (span.start - begin) / 1e9, (span.end - begin) / 1e9
        style = (
            {'facecolor': 'none', 'hatch': '////', 'edgecolor': _MUTED}
            if span.dropped
            else {'facecolor': _OUTCOMES[span.success], 'edgecolor': 'white'}
        )
        axes.barh(0, right - left, left=left, height=0.72, linewidth=0.6, **style)
    for row, stream in enumerate(streams, start=1):
        counts = inspection.activity[stream.topic]
        typical = np.quantile(counts[counts > 0], 0.9) if counts.any() else 1.0
        shade = np.clip(counts / max(typical, 1e-9), 0, 1)[None, :]
        axes.imshow(
            np.where(counts[None, :] > 0, 0.25 + 0.75 * shade, 0.0),
            extent=(0, seconds, row + 0.36, row - 0.36),
            aspect='auto',
            cmap='Blues',
            vmin=0,
            vmax=1.3,
            interpolation='nearest',
        )
        for gap in inspection.shown_gaps[stream.topic][:500]:
            left = (gap.start - begin) / 1e9
            axes.barh(row, max(gap.seconds, seconds / 500), left=left, height=0.72, color=_RED, linewidth=0)
    axes.set(xlim=(0, max(seconds, 1e-6)), ylim=(len(streams) + 0.6, -0.6), xlabel='time [s]')
    axes.set_yticks(range(len(streams) + 1), ['demonstrations', *(stream.topic for stream in streams)], fontsize=9)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)
    return figure


def joints_picture(inspection: Inspection) -> Figure:
    """Draw the position density of each joint between its limits."""
    joints = inspection.joints
    figure = Figure(figsize=(_WIDTH, 0.8 + 0.42 * len(joints)), layout='constrained')
    axes = figure.subplots()
    for row, joint in enumerate(joints):
        low, high = joint.limits or (joint.low, joint.high)
        reach = (high - low) or 1.0
        axes.barh(row, 1.0, left=0.0, height=0.62, color='#f1f4f7', edgecolor='#d5dce3', linewidth=0.8)
        density = inspection.densities[joint.name]
        edges = (np.linspace(joint.low, joint.high, len(density) + 1) - low) / reach
        shade = density / max(density.max(), 1e-12)
        for left, right, value in zip(edges, edges[1:], shade):
            colour = _RED if left < -1e-3 or right > 1 + 1e-3 else _BLUE
            axes.barh(row, right - left, left=left, height=0.62, color=colour, alpha=0.12 + 0.88 * value, linewidth=0)
        axes.text(-0.012, row, f'{low:.2f}', ha='right', va='center', fontsize=8, color=_MUTED)
        axes.text(1.012, row, f'{high:.2f}', ha='left', va='center', fontsize=8, color=_MUTED)
    axes.set_yticks(range(len(joints)), [joint.name for joint in joints], fontsize=9)
    axes.tick_params(axis='y', length=0, pad=34)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(joints) - 0.4, -0.6), xticks=[])
    axes.spines[:].set_visible(False)
    return figure


def episodes_picture(inspection: Inspection) -> Figure:
    """Draw demonstrations side by side: as a path if two values form one, else every value over time."""
    traces = inspection.traces
    chosen = [traces[place] for place in np.linspace(0, len(traces) - 1, min(len(traces), _THUMBNAILS)).astype(int)]
    columns = min(10, max(4, math.ceil(math.sqrt(2 * len(chosen)))))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(_WIDTH, 1.34 * rows + 0.3), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharex=inspection.is_path, sharey=True).flat
    low = np.min([trace.values.min(axis=0) for trace in traces], axis=0)
    high = np.max([trace.values.max(axis=0) for trace in traces], axis=0)
    reach = np.maximum(high - low, 1e-12)
    for axes, trace in zip(panels, chosen):
        if inspection.is_path:
            _draw_path(axes, trace, (low + high) / 2, 0.55 * float(reach.max()))
        else:
            for name, column in zip(inspection.trace_names, ((trace.values - low) / reach).T):
                axes.plot(np.linspace(0, 1, len(column)), column, linewidth=0.7, label=name)
        axes.set_title(f'{trace.index}  {trace.seconds:.1f} s', fontsize=7.5, color=_OUTCOMES[trace.success], pad=2)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(_LINE)
    for axes in figure.axes[len(chosen) :]:
        axes.set_visible(False)
    if not inspection.is_path:
        lines, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc='outside lower center', ncols=8, frameon=False, fontsize=8)
    return figure


def _draw_path(axes: Axes, trace: Trace, middle: np.ndarray, reach: float) -> None:
    axes.plot(*trace.values.T, color=_OUTCOMES[trace.success], linewidth=0.9)
    axes.plot(*trace.values[0], marker='o', color='#33475b', markersize=2.6)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set_aspect('equal', adjustable='box')


def lengths_picture(inspection: Inspection) -> Figure:
    """Draw the duration of each demonstration, with the rest at its start, within it and at its end."""
    episodes = inspection.episodes
    figure = Figure(figsize=(_WIDTH, 2.7), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(episodes))
    before = np.array([episode.idle_before for episode in episodes])
    after = np.array([episode.idle_after for episode in episodes])
    length = np.array([episode.seconds for episode in episodes])
    colours = [_OUTCOMES[episode.success] for episode in episodes]
    axes.bar(places, length, color=colours, width=0.86)
    axes.bar(places, before, color='#22303c', alpha=0.45, width=0.86, label='rest at the start')
    axes.bar(places, np.minimum(after, length), bottom=np.maximum(length - after, 0), color='#22303c', alpha=0.25,
             width=0.86, label='rest at the end')  # fmt: skip
    axes.axhline(float(np.median(length)), color=_MUTED, linestyle='--', linewidth=1, label='median')
    axes.set(ylabel='duration [s]', xlabel='demonstration', xlim=(-0.6, len(episodes) - 0.4))
    axes.legend(frameon=False, fontsize=8.5, ncols=3, loc='upper right')
    axes.margins(y=0.18)
    _tidy(axes)
    return figure


def coverage_picture(inspection: Inspection) -> Figure:
    """Draw the observations on the plane of their first two principal components."""
    coverage = inspection.coverage
    figure = Figure(figsize=(_WIDTH, 4.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    points = coverage.points
    first = np.flatnonzero(np.diff(coverage.episode, prepend=coverage.episode[0] - 1) != 0)
    last = np.append(first[1:], len(points)) - 1
    left.scatter(*points.T, s=3, c=coverage.episode, cmap='viridis', alpha=0.45, linewidths=0, rasterized=True)
    left.scatter(*points[first].T, s=16, color=_GREEN, edgecolors='white', linewidths=0.5, label='starts', zorder=3)
    left.scatter(*points[last].T, s=16, color=_RED, edgecolors='white', linewidths=0.5, label='ends', zorder=3)
    left.legend(frameon=False, fontsize=9)
    left.set_title('observations, coloured by demonstration', fontsize=10)
    counts, *edges = np.histogram2d(*points.T, bins=44)
    often = np.ma.masked_equal(counts.T, 0)
    right.pcolormesh(*edges, often, cmap='Blues', norm=PowerNorm(0.4), rasterized=True)
    right.set_title('density', fontsize=10)
    for axes in (left, right):
        axes.set(xlabel=coverage.axes[0], ylabel=coverage.axes[1])
        _tidy(axes)
    return figure


def rhythm_picture(inspection: Inspection) -> Figure | None:
    """Draw the interval histogram of each stream; None if no stream is periodic."""
    streams = [stream for stream in inspection.streams if stream.rate and stream.topic in inspection.intervals][:8]
    if not streams:
        return None
    columns = min(4, len(streams))
    rows = math.ceil(len(streams) / columns)
    figure = Figure(figsize=(_WIDTH, 1.9 * rows), layout='constrained')
    for axes, stream in zip(figure.subplots(rows, columns, squeeze=False).flat, streams):
        counts, edges = inspection.intervals[stream.topic]
        axes.stairs(counts, 1e3 * edges, fill=True, color=_BLUE)
        axes.axvline(1e3 / stream.rate, color=_ORANGE, linewidth=1.2)
        axes.set_title(f'{stream.topic}, {stream.rate:.4g} Hz', fontsize=9)
        axes.set(yscale='log', xlabel='interval [ms]')
        _tidy(axes)
    for axes in figure.axes[len(streams) :]:
        axes.set_visible(False)
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='both', color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
