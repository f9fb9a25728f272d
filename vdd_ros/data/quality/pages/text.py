"""Show a quality report in the terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vdd_ros.common.console import table
from vdd_ros.data.quality.inspection import Inspection

_STYLE = {'fault': 'bold red', 'warning': 'yellow', 'note': 'cyan'}


def render(inspection: Inspection) -> Group:
    """Return the report as a console renderable."""
    parts = [_headline(inspection), _streams(inspection)]
    if inspection.joints:
        parts.append(_joints(inspection))
    if inspection.episodes:
        parts.append(_episodes(inspection))
    return Group(*parts, _findings(inspection))


def _headline(inspection: Inspection) -> Text:
    text = Text(f'{inspection.path}', style='bold')
    text.append(f'  {inspection.seconds:.1f} s, {inspection.size / 1e6:.1f} MB', style='not bold')
    if inspection.contract is not None:
        found = inspection.tally
        text.append(f', demonstrations: {found}; {found.training} for training', style='not bold')
        text.append(f' (contract {inspection.contract.name})', style='not bold')
    return text


def _streams(inspection: Inspection) -> Table:
    columns = ('topic', 'messages', 'rate [Hz]', 'jitter [ms]', 'gaps', 'longest [s]', 'clock [ms]')
    found = table('streams', *columns)
    for stream in inspection.streams:
        rate = '' if stream.rate is None else f'{stream.rate:.1f}'
        if stream.expected_rate:
            rate += f' of {stream.expected_rate:g}'
        found.add_row(
            escape(stream.topic),
            f'{stream.count}',
            rate,
            '' if stream.jitter is None else f'{1e3 * stream.jitter:.2f}',
            f'[yellow]{gaps}' if (gaps := inspection.gaps[stream.topic]) else '',
            f'{stream.longest_interval:.3f}',
            '' if stream.clock_offset is None else f'{1e3 * stream.clock_offset:+.1f}',
        )
    return found


def _joints(inspection: Inspection) -> Table:
    columns = ('joint', 'unit', 'min', 'max', 'limits', 'speed', 'error', 'lag [ms]', 'beyond')
    found = table('joints (speeds per second)', *columns)
    for joint in inspection.joints:
        found.add_row(
            escape(joint.name),
            joint.unit,
            f'{joint.low:.3f}',
            f'{joint.high:.3f}',
            '' if joint.limits is None else f'{joint.limits[0]:.2f}..{joint.limits[1]:.2f}',
            f'{joint.top_speed:.2f}' + ('' if joint.speed_limit is None else f' of {joint.speed_limit:.2f}'),
            '' if joint.error is None else f'{joint.error:.4f}',
            '' if joint.lag is None else f'{1e3 * joint.lag:.0f}',
            f'[yellow]{joint.beyond + joint.commanded_beyond}' if joint.beyond + joint.commanded_beyond else '',
        )
    return found


def _episodes(inspection: Inspection) -> Table:
    episodes = inspection.episodes
    found = table(f'{len(episodes)} demonstrations', '', 'min', 'median', 'max')
    for name, label in (
        ('seconds', 'duration [s]'),
        ('idle_before', 'rest at start [s]'),
        ('idle_after', 'rest at end [s]'),
        ('path', 'path [median steps]'),
        ('start_distance', 'start distance [std]'),
        ('remoteness', 'distance to others [std]'),
    ):
        values = np.array([getattr(episode, name) for episode in episodes])
        found.add_row(escape(label), *(f'{value:.2f}' for value in (values.min(), np.median(values), values.max())))
    return found


def _findings(inspection: Inspection) -> Group:
    if not inspection.findings:
        return Group(Text('no findings', style='green'))
    lines = []
    for finding in inspection.findings:
        line = Text(f'{finding.level:>8}  ', style=_STYLE[finding.level])
        line.append(f'{finding.about}: {finding.text}', style='not bold default')
        line.append(f'  → {finding.remedy}' if finding.remedy else '', style='not bold dim default')
        lines.append(line)
    return Group(*lines)
