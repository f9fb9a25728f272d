"""Describe the quality of a recording in sentences: what is wrong or unusual, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vdd_ros.data.decode.conversion_report import ConversionReport, DroppedData
from vdd_ros.data.quality.completeness import REMEDY, Lapse, summary
from vdd_ros.data.quality.episode_quality import EpisodeQuality
from vdd_ros.data.quality.quality import GAP, Gap, JointQuality, StreamQuality

Level = Literal['fault', 'warning', 'note']

_OFFSET = 0.05
_DRIFT = 20e-6
_SKEW = 0.02
_AT_EXTREME = 0.05
_STUCK = 0.5
_IDLE = 1.0
_ODD = 5.0
"""Deviations (scaled median absolute deviations) above which a demonstration is an outlier."""
_UNAVOIDABLE = 2
"""Number of ticks at the beginning of an episode that may lack a first message of a stream."""
_LEAST = 8
"""Minimum number of demonstrations for outlier detection."""


@dataclass(frozen=True)
class Finding:
    """One finding about a recording: severity, subject, text and remedy."""

    level: Level
    """`fault`: data are lost or wrong. `warning`: the policy would learn something unwanted. `note`: for review."""
    about: str
    """Stream, joint, episode or file."""
    text: str
    remedy: str = ''


def findings_of(
    streams: Sequence[StreamQuality],
    joints: Sequence[JointQuality],
    episodes: Sequence[EpisodeQuality],
    report: ConversionReport,
    spans: Mapping[int, tuple[int, int]],
    *,
    lapses: Sequence[Lapse] = (),
    period: int | None = None,
) -> tuple[Finding, ...]:
    """Convert measurements to findings, the most important first.

    Parameters
    ----------
    streams, joints, episodes, report
        The measurements, and what was dropped.
    spans
        Begin and end of the demonstrations [ns] by their numbers. Pauses between demonstrations are ignored.
    lapses
        Demonstrations with incomplete or wrong commands.
    period
        Policy period [ns], if there is a contract: larger clock differences make observations wrong.

    """
    most = min(_OFFSET, period / 1e9) if period is not None else _OFFSET
    found = [
        *([Finding('fault', 'episodes', summary(lapses), REMEDY)] if lapses else []),
        *_of_report(report, len(spans)),
        *(item for stream in streams for item in _of_stream(stream, spans)),
        *_of_clocks(streams, most),
        *(item for joint in joints for item in _of_joint(joint)),
        *_of_stuck(joints),
        *_of_episodes(episodes),
    ]
    order = ('fault', 'warning', 'note')
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def within(gap: Gap, spans: Mapping[int, tuple[int, int]]) -> tuple[float, int | None]:
    """Return the longest part of a gap in one demonstration [s], and its number; 0 and None if there is none."""
    end = gap.start + round(gap.seconds * 1e9)
    taken = [((min(end, over) - max(gap.start, begin)) / 1e9, index) for index, (begin, over) in spans.items()]
    longest = max(taken, default=(0.0, None))
    return longest if longest[0] > 0 else (0.0, None)


def gaps_within(stream: StreamQuality, spans: Mapping[int, tuple[int, int]]) -> tuple[Gap, ...]:
    """Return the gaps of a stream within demonstrations, or all gaps if there are no demonstrations.

    The stamps of gaps and demonstrations use the clock of the recorder.
    """
    least = GAP / stream.rate if stream.rate else 0.0
    offset = round((stream.clock_offset or 0.0) * 1e9)
    gaps = (Gap(gap.start + offset, gap.seconds) for gap in stream.gaps)
    return tuple(gap for gap in gaps if not spans or within(gap, spans)[0] > least)


def _of_report(report: ConversionReport, episodes: int) -> Iterator[Finding]:
    """Yield what was dropped, the largest losses first; one reason in several episodes is one finding."""
    shared: dict[tuple[str, str], list[DroppedData]] = {}
    rest = []
    for entry in report.entries:
        if entry.kind in ('tick', 'episode'):
            shared.setdefault((entry.kind, entry.why), []).append(entry)
        else:
            rest.append(entry)
    for entry in sorted(rest, key=lambda entry: (entry.kind != 'part', -entry.count)):
        level: Level = 'note' if entry.kind == 'note' else 'fault'
        yield Finding(level, entry.where, str(entry).partition(': ')[2])
    order = sorted(shared.items(), key=lambda item: (item[0][0] != 'episode', -sum(entry.count for entry in item[1])))
    for (kind, why), entries in order:
        count = sum(entry.count for entry in entries)
        minor = kind == 'tick' and max(entry.count for entry in entries) <= _UNAVOIDABLE and why.endswith(' yet')
        minor |= why.startswith('discarded')  # on purpose
        if len(entries) == 1:
            about, text = entries[0].where, str(entries[0]).partition(': ')[2]
        else:
            about = f'{len(entries)} of {max(episodes, len(entries))} episodes'
            text = f'{count} {kind}s dropped: {why} (first in {entries[0].where}, at {entries[0].place})'
        yield Finding('note' if minor else 'warning', about, text)


def _of_stream(stream: StreamQuality, spans: Mapping[int, tuple[int, int]]) -> Iterator[Finding]:
    if stream.foreign:
        yield Finding(
            'warning',
            stream.topic,
            f'its messages are serialised as {stream.foreign} and cannot be decoded',
            'if the policy needs the topic, record it with rosbag2 as plain CDR, or convert the bag',
        )
    gaps = gaps_within(stream, spans)
    if gaps:
        longest, place = max((within(gap, spans) for gap in gaps), default=(0.0, None))
        if not spans:
            longest = max(gap.seconds for gap in gaps)
        where = f' in episode {place}' if spans else ''
        yield Finding(
            'warning',
            stream.topic,
            f'{len(gaps)} gap{"s" * (len(gaps) > 1)}{" in episodes" if spans else ""}, '
            f'the longest of {longest:.2f} s{where}',
            'check the publisher and the network; `max_age` in the contract excludes such ticks',
        )
    if stream.expected_rate and stream.rate and stream.rate < 0.8 * stream.expected_rate:
        yield Finding(
            'warning', stream.topic, f'{stream.rate:.1f} Hz where the contract expects {stream.expected_rate:g} Hz'
        )
    if stream.jitter and stream.rate and stream.jitter * stream.rate > 0.25:
        text = f'uneven: intervals of {1e3 / stream.rate:.1f} ms vary by {1e3 * stream.jitter:.1f} ms'
        yield Finding('note', stream.topic, text)
    for count, what in ((stream.duplicates, 'repeat the previous stamp'), (stream.unsorted, 'decrease')):
        if count > 0.001 * stream.count and stream.rate is not None:
            yield Finding('note', stream.topic, f'{count} of {stream.count} stamps {what}', 'they are sorted')
    if stream.drift is not None and abs(stream.drift) > _DRIFT:
        yield Finding(
            'warning',
            stream.topic,
            f'its clock drifts by {1e6 * stream.drift:+.0f} us per second relative to the recorder',
            'synchronise the clocks (chrony, PTP)',
        )


def _of_clocks(streams: Sequence[StreamQuality], most: float) -> Iterator[Finding]:
    """Yield the clocks that differ from the recorder by more than ``most`` [s], or from each other."""
    known = [(stream.clock_offset, stream) for stream in streams if stream.clock_offset is not None]
    for offset, stream in known:
        if offset < -1e-3:
            yield Finding(
                'warning',
                stream.topic,
                f'its stamps are up to {-1e3 * offset:.1f} ms ahead of their reception',
                'its clock is ahead of the recorder: synchronise them, or set `stamp: receive`',
            )
        elif offset > most:
            yield Finding(
                'warning',
                stream.topic,
                f'its stamps are at least {1e3 * offset:.0f} ms older than their reception',
                'slow sensor or clock behind the recorder: synchronise, or set `stamp: receive`',
            )
    if len(known) > 1:
        (least, first), (greatest, last) = (pick(known, key=lambda pair: pair[0]) for pick in (min, max))
        skew = greatest - least
        if skew > min(_SKEW, most):
            yield Finding(
                'warning',
                last.topic,
                f'{1e3 * skew:.0f} ms behind {first.topic}: simultaneous events have different stamps',
                'synchronise their clocks; otherwise the policy receives one of them late',
            )


def _of_joint(joint: JointQuality) -> Iterator[Finding]:
    if joint.constant:
        yield Finding('note', joint.name, f'never moves (position {joint.low:.4g} {joint.unit})')
    if joint.limits is not None and (joint.beyond or joint.commanded_beyond):
        kinds = [(joint.beyond, 'measurements'), (joint.commanded_beyond, 'commands')]
        text = ' and '.join(f'{count} {what}' for count, what in kinds if count)
        yield Finding(
            'warning',
            joint.name,
            f'{text} outside its limits {joint.limits[0]:.3f} to {joint.limits[1]:.3f} {joint.unit}',
            'check sign, unit and offset in the contract, and the limits of the model',
        )
    if joint.at_extreme > _AT_EXTREME:
        yield Finding(
            'note',
            joint.name,
            f'stays at exactly its lowest or highest recorded position ({joint.low:.4g}, {joint.high:.4g} '
            f'{joint.unit}) for {joint.at_extreme:.0%} of the time',
            'normal for a joint that rests there; otherwise it is saturated or at a mechanical stop',
        )
    if joint.speed_limit and joint.top_speed > 1.05 * joint.speed_limit:
        yield Finding(
            'warning',
            joint.name,
            f'reaches {joint.top_speed:.2f} {joint.unit}/s, limit {joint.speed_limit:.2f}',
            'jumps in the measurements, or the wrong robot model',
        )


def _of_stuck(joints: Sequence[JointQuality]) -> Iterator[Finding]:
    stuck = [joint for joint in joints if joint.longest_stuck > _STUCK]
    if stuck:
        longest = max(stuck, key=lambda joint: joint.longest_stuck)
        who = f', longest: {longest.name}' if len(stuck) > 1 else ''
        yield Finding(
            'warning',
            ', '.join(joint.name for joint in stuck),
            f'constant for up to {longest.longest_stuck:.1f} s while commanded to move{who}',
            'a brake, a collision, or a publisher that repeats old values',
        )


def _of_episodes(episodes: Sequence[EpisodeQuality]) -> Iterator[Finding]:
    twins = [episode for episode in episodes if episode.twin is not None]
    if twins:
        pairs = ', '.join(f'{episode.index} equals {episode.twin}' for episode in twins[:5])
        yield Finding('warning', 'episodes', f'{len(twins)} duplicates: {pairs}', 'remove the duplicates')
    for name, what in (('idle_before', 'at the start'), ('idle_after', 'at the end')):
        idle = [episode for episode in episodes if getattr(episode, name) > _IDLE]
        if idle:
            worst = max(idle, key=lambda episode: getattr(episode, name))
            yield Finding(
                'warning',
                'episodes',
                f'in {len(idle)} of {len(episodes)} the arm rests {what}, up to {getattr(worst, name):.1f} s '
                f'(episode {worst.index})',
                'the policy would learn the rest: trim the episodes (`by: motion`), or mark later',
            )
    for name, what in (
        ('seconds', 'longer or shorter than most'),
        ('start_distance', 'with an unusual start'),
        ('jump', 'with a jump in the command'),
        ('remoteness', 'far from all others'),
    ):
        odd = [episode.index for episode, is_odd in zip(episodes, _odd(episodes, name)) if is_odd]
        if odd:
            listed = ', '.join(map(str, odd[:8])) + (', ...' if len(odd) > 8 else '')
            numbers = f'episode{"s" * (len(odd) > 1)} {listed}'
            yield Finding('note', 'episodes', f'{what}: {numbers}', 'review them; `vdd replay` plays one')


def _odd(episodes: Sequence[EpisodeQuality], name: str) -> np.ndarray:
    values = np.array([getattr(episode, name) for episode in episodes])
    if len(values) < _LEAST:
        return np.zeros(len(values), dtype=bool)
    away = np.abs(values - np.median(values))
    spread = 1.4826 * np.median(away)
    return away > max(_ODD * spread, 0.1 * float(np.median(np.abs(values))))
