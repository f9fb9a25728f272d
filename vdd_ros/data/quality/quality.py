"""Measure the quality of streams and joints, from arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAP = 3.0
"""Number of periods above which an interval is a gap."""
_LEAST = 8
"""Minimum number of messages for a rate."""
_IRREGULAR = 3.0
"""Ratio of long to short intervals above which a stream is not periodic, but sent on events."""
_BATCH = 8
"""Number of intervals averaged for one period, so that alternating intervals and batches have a rate."""
_USUAL = 0.95
"""Share of the intervals that are never gaps, even if they vary widely."""
_EXTREME_RUN = 5
_DRIFT_PARTS = 20


@dataclass(frozen=True)
class Gap:
    """A pause in a periodic stream."""

    start: int
    """Stamp of the last message before the gap [ns]."""
    seconds: float
    """Duration [s]."""


@dataclass(frozen=True)
class StreamQuality:
    """Quality of one topic, computed from its stamps: rate, jitter, gaps and clock offsets."""

    topic: str
    type: str
    count: int
    """Number of messages."""
    seconds: float
    """Time from the first to the last message [s]."""
    rate: float | None
    """Messages per second, without gaps [Hz]; None if the stream is not periodic."""
    expected_rate: float | None = None
    """Rate expected by the contract [Hz]."""
    jitter: float | None = None
    """Standard deviation of the intervals, without gaps [s]."""
    longest_interval: float = 0.0
    """Longest interval between two messages [s]."""
    gaps: tuple[Gap, ...] = ()
    """Gaps in temporal order."""
    duplicates: int = 0
    """Number of messages with the stamp of the previous one."""
    unsorted: int = 0
    """Number of messages with an older stamp than the previous one."""
    clock_offset: float | None = None
    """Offset of the header clock behind the recorder clock [s]: the minimum delay observed."""
    delay: float | None = None
    """Median transport delay above the minimum [s]."""
    drift: float | None = None
    """Drift of the header clock relative to the recorder clock [s/s]; positive if the header clock loses time."""
    foreign: str = ''
    """Name of the serialisation if this package cannot decode it; otherwise empty."""


def measure_stream(
    topic: str,
    kind: str,
    received: np.ndarray,
    stamps: np.ndarray | None = None,
    *,
    expected_rate: float | None = None,
    sensor: bool = False,
    events: bool = False,
) -> StreamQuality:
    """Measure a stream from its stamps in the order of the bag.

    Parameters
    ----------
    topic, kind
        Name and message type.
    received
        Shape (message,): reception times [ns].
    stamps
        Shape (message,): header stamps [ns]; None if there are none.
    expected_rate
        Rate expected by the contract [Hz].
    sensor
        Whether the stream should be periodic. If false, it counts as periodic only if its intervals are similar.
    events
        Whether the stream reports events. It then never counts as periodic, and has no sensor clock.

    """
    times = received if stamps is None else stamps
    if not len(times):
        return StreamQuality(topic, kind, 0, 0.0, None, expected_rate)
    steps = np.diff(times)
    offset, delay, drift = _clock(received, None if events else stamps)
    common = {
        'topic': topic,
        'type': kind,
        'count': len(times),
        'seconds': float(times.max() - times.min()) / 1e9,
        'expected_rate': expected_rate,
        'duplicates': int((steps == 0).sum()),
        'unsorted': int((steps < 0).sum()),
        'clock_offset': offset,
        'delay': delay,
        'drift': drift,
    }
    ordered = np.unique(times)
    intervals = np.diff(ordered) / 1e9
    if len(intervals) < _LEAST or events:
        return StreamQuality(rate=None, longest_interval=float(intervals.max(initial=0.0)), **common)
    short, long = np.quantile(intervals, [0.1, 0.9])
    if expected_rate is None and not sensor and long > _IRREGULAR * short:
        return StreamQuality(rate=None, longest_interval=float(intervals.max()), **common)
    pauses = intervals > GAP * max(_period(ordered), 1 / expected_rate if expected_rate else 0.0)
    return StreamQuality(
        rate=_rate(ordered, pauses),
        jitter=float(intervals[~pauses].std()) if (~pauses).any() else None,
        longest_interval=float(intervals.max()),
        gaps=tuple(Gap(int(ordered[place]), float(intervals[place])) for place in np.flatnonzero(pauses)),
        **common,
    )


def _period(ordered: np.ndarray) -> float:
    """Return the typical period [s] of ascending stamps [ns], for any pattern of intervals."""
    batch = min(_BATCH, len(ordered) - 1)
    typical = float(np.median(ordered[batch:] - ordered[:-batch])) / batch
    return max(typical, float(np.quantile(np.diff(ordered), _USUAL)) / GAP) / 1e9


def _rate(ordered: np.ndarray, pauses: np.ndarray) -> float:
    """Return the rate of ascending stamps [ns] without pauses [Hz]."""
    intervals = np.diff(ordered)[~pauses] if not pauses.all() else np.diff(ordered)
    return len(intervals) * 1e9 / float(intervals.sum())


def _clock(received: np.ndarray, stamps: np.ndarray | None) -> tuple[float | None, float | None, float | None]:
    """Return offset, delay and drift of a clock relative to the recorder.

    Transport only adds delay. The minimum difference in each part of the recording therefore belongs to the clock.
    """
    if stamps is None or len(stamps) < _LEAST:
        return None, None, None
    late = (received - stamps) / 1e9
    offset = float(late.min())
    elapsed = (received - received[0]) / 1e9
    parts = np.array_split(np.arange(len(late)), min(_DRIFT_PARTS, len(late) // _LEAST))
    least = np.array([part[late[part].argmin()] for part in parts])
    drift = float(np.polyfit(elapsed[least], late[least], 1)[0]) if len(least) > 2 and elapsed[-1] > 10 else None
    return offset, float(np.median(late) - offset), drift


@dataclass(frozen=True)
class JointQuality:
    """Quality of one joint, computed from its values: range, limits, speed, and delay behind the commands."""

    name: str
    low: float
    """Minimum measured position, in `unit`."""
    high: float
    """Maximum measured position, in `unit`."""
    limits: tuple[float, float] | None = None
    """Limits of the model, in `unit`."""
    beyond: int = 0
    """Number of measurements outside the limits by more than rounding."""
    commanded_beyond: int = 0
    """Number of commands outside the limits."""
    at_extreme: float = 0.0
    """Share of the measurements at exactly the minimum or maximum: saturated, or at a mechanical stop."""
    top_speed: float = 0.0
    """99.9th percentile of the speed, in `unit` per second."""
    speed_limit: float | None = None
    """Velocity limit of the model, in `unit` per second."""
    longest_stuck: float = 0.0
    """Longest time at exactly one value while the joint was commanded to move, within one episode [s]."""
    constant: bool = False
    """Whether the joint never moved."""
    error: float | None = None
    """Median distance from the last command, in `unit`."""
    lag: float | None = None
    """Delay from command to position [s]: the shift for which the two curves fit best."""
    unit: str = 'rad'
    """Unit of the position: rad, or m for a prismatic joint."""


def measure_joint(
    name: str,
    stamps: np.ndarray,
    position: np.ndarray,
    command_stamps: np.ndarray,
    command: np.ndarray,
    *,
    part: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    speed_limit: float | None = None,
) -> JointQuality:
    """Measure a joint.

    Parameters
    ----------
    name
        Name of the joint.
    stamps, position
        Shape (message,): ascending stamps [ns], and measured positions, in the unit of the joint.
    command_stamps, command
        Shape (command,): ascending stamps [ns], and commanded positions, in the unit of the joint; empty if unknown.
    part
        Shape (message,): index of the episode, -1 between episodes; None if there are none. Position jumps between
        episodes, such as resets, are not counted as motion.
    limits, speed_limit
        Limits of the model, in the unit of the joint and in this unit per second.

    """
    low, high = float(position.min()), float(position.max())
    constant = high - low < 1e-9
    elapsed = np.diff(stamps) / 1e9
    moves = elapsed > 0
    if part is not None:
        moves &= (part[1:] == part[:-1]) & (part[1:] >= 0)
    speeds = np.abs(np.diff(position))[moves] / elapsed[moves]
    before = np.searchsorted(command_stamps, stamps, side='right') - 1
    known = before >= 0
    wanted = command[before[known]] if known.any() else np.zeros(0)
    room = 1e-3 if limits is None else 1e-3 * (limits[1] - limits[0])

    def outside(values: np.ndarray) -> int:
        return 0 if limits is None else int(((values < limits[0] - room) | (values > limits[1] + room)).sum())

    return JointQuality(
        name,
        low,
        high,
        limits,
        outside(position),
        outside(command),
        0.0 if constant else _at_extreme(position, low, high),
        float(np.quantile(speeds, 0.999)) if len(speeds) else 0.0,
        speed_limit,
        _stuck(stamps, position, command_stamps, command, part, room),
        constant,
        float(np.median(np.abs(position[known] - wanted))) if len(wanted) else None,
        None if constant else _lag(stamps, position, command_stamps, command),
    )


def _runs(same: np.ndarray) -> np.ndarray:
    """Return begin and end of each run of true values, shape (run, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))).reshape(-1, 2)


def _at_extreme(position: np.ndarray, low: float, high: float) -> float:
    lengths = np.concatenate([np.diff(_runs(position == value), axis=1)[:, 0] for value in (low, high)])
    return float(lengths[lengths >= _EXTREME_RUN].sum() / len(position))


def _stuck(
    stamps: np.ndarray,
    position: np.ndarray,
    command_stamps: np.ndarray,
    command: np.ndarray,
    part: np.ndarray | None,
    room: float,
) -> float:
    """Return the longest time at one value during which the command moved by more than 5 times ``room`` [s].

    A time is within one episode, and commands of earlier episodes are not used: between episodes an arm is reset.
    """
    still, begun = np.diff(position) == 0, None
    if part is not None:
        same = part[1:] == part[:-1]
        still &= same & (part[1:] >= 0)
        first_of_part = np.where(np.concatenate([[True], ~same]), np.arange(len(part)), 0)
        begun = stamps[np.maximum.accumulate(first_of_part)]
    longest = 0.0
    for begin, end in _runs(still):
        first = max(int(np.searchsorted(command_stamps, stamps[begin], side='right')) - 1, 0)
        if begun is not None:
            first = max(first, int(np.searchsorted(command_stamps, begun[begin])))
        wanted = command[first : int(np.searchsorted(command_stamps, stamps[end], side='right'))]
        if len(wanted) and np.ptp(wanted) > 5 * room:
            longest = max(longest, float(stamps[end] - stamps[begin]) / 1e9)
    return longest


def _lag(stamps: np.ndarray, position: np.ndarray, command_stamps: np.ndarray, command: np.ndarray) -> float | None:
    """Return the shift of the command that fits the position best [s], up to half a second."""
    if len(command) < _LEAST or np.ptp(command) < 1e-6:
        return None
    shifts = np.arange(0.0, 0.501, 0.005)
    inside = (stamps > command_stamps[0] + 5e8) & (stamps < command_stamps[-1])
    chosen = np.flatnonzero(inside)[:: max(1, inside.sum() // 4000)]
    if len(chosen) < _LEAST:
        return None
    times = stamps[chosen]
    misfit = [
        np.square(position[chosen] - np.interp(times - shift * 1e9, command_stamps, command)).mean() for shift in shifts
    ]
    return float(shifts[int(np.argmin(misfit))])
