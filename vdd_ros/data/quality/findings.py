"""What a person should know of a recording, in sentences: what is wrong, what is odd, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vdd_ros.data.decode.conversion_report import ConversionReport, DroppedData
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
"""Deviations (median absolute ones, scaled as for a normal distribution) over which a demonstration is odd."""
_UNAVOIDABLE = 2
"""Ticks at the beginning of an episode that pass until every stream has its first message."""
_LEAST = 8
"""Demonstrations below which none is odd."""


@dataclass(frozen=True)
class Finding:
    """One thing to know."""

    level: Level
    """`fault`: data are lost or wrong. `warning`: a policy would learn something unwanted. `note`: worth a look."""
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
    period: int | None = None,
) -> tuple[Finding, ...]:
    """Put what was measured into sentences, the most important first.

    Parameters
    ----------
    streams, joints, episodes, report
        What was measured, and what was dropped.
    spans
        Begin and end of the demonstrations [ns], by their numbers: a pause between them costs nothing.
    period
        Policy period [ns], where there is a contract: clocks that differ by more make observations wrong.

    """
    most = min(_OFFSET, period / 1e9) if period is not None else _OFFSET
    found = [
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
    """Return of how much of a demonstration a gap takes the most [s], and of which; 0 and None if of none."""
    end = gap.start + round(gap.seconds * 1e9)
    taken = [((min(end, over) - max(gap.start, begin)) / 1e9, index) for index, (begin, over) in spans.items()]
    longest = max(taken, default=(0.0, None))
    return longest if longest[0] > 0 else (0.0, None)


def gaps_within(stream: StreamQuality, spans: Mapping[int, tuple[int, int]]) -> tuple[Gap, ...]:
    """Return the gaps of a stream that fall into a demonstration, or all where there are none.

    Their stamps are those of the recorder's clock, as those of demonstrations are.
    """
    least = GAP / stream.rate if stream.rate else 0.0
    offset = round((stream.clock_offset or 0.0) * 1e9)
    gaps = (Gap(gap.start + offset, gap.seconds) for gap in stream.gaps)
    return tuple(gap for gap in gaps if not spans or within(gap, spans)[0] > least)


def _of_report(report: ConversionReport, episodes: int) -> Iterator[Finding]:
    """Yield what was dropped, what costs most first; what has one reason in several episodes is one finding."""
    shared: dict[tuple[str, str], list[DroppedData]] = {}
    rest = []
    for loss in report.entries:
        if loss.kind in ('tick', 'episode'):
            shared.setdefault((loss.kind, loss.why), []).append(loss)
        else:
            rest.append(loss)
    for loss in sorted(rest, key=lambda loss: (loss.kind != 'part', -loss.count)):
        level: Level = 'note' if loss.kind == 'note' else 'fault'
        yield Finding(level, loss.where, str(loss).partition(': ')[2])
    order = sorted(shared.items(), key=lambda item: (item[0][0] != 'episode', -sum(loss.count for loss in item[1])))
    for (kind, why), entries in order:
        count = sum(loss.count for loss in entries)
        minor = kind == 'tick' and max(loss.count for loss in entries) <= _UNAVOIDABLE and why.endswith(' yet')
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
            'record the topic by rosbag2 as plain CDR, or convert the bag, where a policy needs it',
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
            'look at the publisher and its network; `max_age` in the contract keeps such ticks out',
        )
    if stream.expected_rate and stream.rate and stream.rate < 0.8 * stream.expected_rate:
        yield Finding(
            'warning', stream.topic, f'{stream.rate:.1f} Hz where the contract expects {stream.expected_rate:g} Hz'
        )
    if stream.jitter and stream.rate and stream.jitter * stream.rate > 0.25:
        text = f'uneven: intervals of {1e3 / stream.rate:.1f} ms vary by {1e3 * stream.jitter:.1f} ms'
        yield Finding('note', stream.topic, text)
    for count, what in ((stream.duplicates, 'repeat the stamp before them'), (stream.unsorted, 'go back in time')):
        if count > 0.001 * stream.count and stream.rate is not None:
            yield Finding('note', stream.topic, f'{count} of {stream.count} stamps {what}', 'they are put in order')
    if stream.drift is not None and abs(stream.drift) > _DRIFT:
        yield Finding(
            'warning',
            stream.topic,
            f'its clock drifts by {1e6 * stream.drift:+.0f} us a second against that of the recorder',
            'synchronise the clocks (chrony, PTP)',
        )


def _of_clocks(streams: Sequence[StreamQuality], most: float) -> Iterator[Finding]:
    """Yield the clocks that differ from that of the recorder by more than ``most`` [s], or from each other."""
    known = [stream for stream in streams if stream.clock_offset is not None]
    for stream in known:
        if stream.clock_offset < -1e-3:
            yield Finding(
                'warning',
                stream.topic,
                f'its stamps are up to {-1e3 * stream.clock_offset:.1f} ms ahead of their reception',
                'its clock is ahead of the recorder: synchronise them, or read it by `stamp: receive`',
            )
        elif stream.clock_offset > most:
            yield Finding(
                'warning',
                stream.topic,
                f'its stamps are at least {1e3 * stream.clock_offset:.0f} ms older than their reception',
                'a slow sensor, or a clock that is behind: synchronise, or read it by `stamp: receive`',
            )
    if len(known) > 1:
        first, last = (pick(known, key=lambda stream: stream.clock_offset) for pick in (min, max))
        skew = last.clock_offset - first.clock_offset
        if skew > min(_SKEW, most):
            yield Finding(
                'warning',
                last.topic,
                f'{1e3 * skew:.0f} ms behind {first.topic}: what happens at once has different stamps',
                'synchronise their clocks; until then a policy sees one of them late',
            )


def _of_joint(joint: JointQuality) -> Iterator[Finding]:
    if joint.constant:
        yield Finding('note', joint.name, f'never moves, stays at {joint.low:.4g}')
    if joint.beyond or joint.commanded_beyond:
        kinds = [(joint.beyond, 'measurements'), (joint.commanded_beyond, 'commands')]
        text = ' and '.join(f'{count} {what}' for count, what in kinds if count)
        yield Finding(
            'warning',
            joint.name,
            f'{text} outside of its limits {joint.limits[0]:.3f} to {joint.limits[1]:.3f}',
            'check sign, unit and offset in the contract, and the limits of the model',
        )
    if joint.at_extreme > _AT_EXTREME:
        yield Finding(
            'note', joint.name, f'stands at exactly its least or greatest value for {joint.at_extreme:.0%} of the time'
        )
    if joint.speed_limit and joint.top_speed > 1.05 * joint.speed_limit:
        yield Finding(
            'warning',
            joint.name,
            f'as fast as {joint.top_speed:.2f} rad/s, its limit is {joint.speed_limit:.2f}',
            'jumps in the measurements, or a model of another arm',
        )


def _of_stuck(joints: Sequence[JointQuality]) -> Iterator[Finding]:
    stuck = [joint for joint in joints if joint.longest_stuck > _STUCK]
    if stuck:
        longest = max(stuck, key=lambda joint: joint.longest_stuck)
        who = f', {longest.name} for longest' if len(stuck) > 1 else ''
        yield Finding(
            'warning',
            ', '.join(joint.name for joint in stuck),
            f'at one value for up to {longest.longest_stuck:.1f} s while commanded to move{who}',
            'a brake, a collision, or a publisher that repeats itself',
        )


def _of_episodes(episodes: Sequence[EpisodeQuality]) -> Iterator[Finding]:
    twins = [episode for episode in episodes if episode.twin is not None]
    if twins:
        pairs = ', '.join(f'{episode.index} is {episode.twin} again' for episode in twins[:5])
        yield Finding('warning', 'episodes', f'{len(twins)} recorded twice: {pairs}', 'leave the copies out')
    for name, what in (('idle_before', 'before it starts'), ('idle_after', 'when it is done')):
        idle = [episode for episode in episodes if getattr(episode, name) > _IDLE]
        if idle:
            worst = max(idle, key=lambda episode: getattr(episode, name))
            yield Finding(
                'warning',
                'episodes',
                f'in {len(idle)} of {len(episodes)} the arm rests {what}, up to {getattr(worst, name):.1f} s '
                f'(episode {worst.index})',
                'a policy learns to rest too: cut closer (`by: motion`), or mark later',
            )
    for name, what in (
        ('seconds', 'longer or shorter than most'),
        ('start_distance', 'starting elsewhere than most'),
        ('jump', 'with a jump of the command'),
        ('remoteness', 'away from all others'),
    ):
        odd = [episode.index for episode, is_odd in zip(episodes, _odd(episodes, name)) if is_odd]
        if odd:
            listed = ', '.join(map(str, odd[:8])) + (', ...' if len(odd) > 8 else '')
            yield Finding('note', 'episodes', f'{what}: {listed}', 'look at them; `vdd replay` plays one')


def _odd(episodes: Sequence[EpisodeQuality], name: str) -> np.ndarray:
    values = np.array([getattr(episode, name) for episode in episodes])
    if len(values) < _LEAST:
        return np.zeros(len(values), dtype=bool)
    away = np.abs(values - np.median(values))
    spread = 1.4826 * np.median(away)
    return away > max(_ODD * spread, 0.1 * float(np.median(np.abs(values))))
