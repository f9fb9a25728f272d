"""How good a recording is, stream by stream and joint by joint: measures on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAP = 3.0
"""Periods over which an interval is a gap."""
_LEAST = 8
"""Messages below which nothing is said of a rhythm."""
_IRREGULAR = 3.0
"""Ratio of long to short intervals over which a stream has no rhythm: it speaks when there is something to say."""
_BATCH = 8
"""Intervals whose mean stands for one period: alternating intervals and messages that arrive in batches have a rate."""
_USUAL = 0.95
"""Share of the intervals that are no gaps, however uneven they are."""
_EXTREME_RUN = 5
_DRIFT_PARTS = 20


@dataclass(frozen=True)
class Gap:
    """A pause in a stream that has a rhythm."""

    start: int
    """Stamp of the last message before it [ns]."""
    seconds: float
    """How long it is [s]."""


@dataclass(frozen=True)
class StreamQuality:
    """What the stamps of one topic tell."""

    topic: str
    type: str
    count: int
    """Messages."""
    seconds: float
    """From the first to the last [s]."""
    rate: float | None
    """Messages per second, gaps apart [Hz]; None where the stream has no rhythm."""
    expected_rate: float | None = None
    """What the contract expects [Hz]."""
    jitter: float | None = None
    """Standard deviation of the intervals, gaps apart [s]."""
    longest_interval: float = 0.0
    """[s]"""
    gaps: tuple[Gap, ...] = ()
    """In their order."""
    duplicates: int = 0
    """Messages with the stamp of the one before them."""
    unsorted: int = 0
    """Messages with a stamp before that of the one before them."""
    clock_offset: float | None = None
    """By how much the clock of its headers is behind that of the recorder [s]: the least delay that was seen."""
    delay: float | None = None
    """Median time from header to reception, over the least [s]: what the way to the recorder costs beyond its best."""
    drift: float | None = None
    """How fast the clock of its headers loses time against that of the recorder [s/s]."""
    foreign: str = ''
    """What its messages are serialised as, where this package does not read it; else empty."""


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
    """Measure a stream by its stamps in the order of the bag.

    Parameters
    ----------
    topic, kind
        Name and message type.
    received
        Shape (message,), when the recorder got each [ns].
    stamps
        Shape (message,), what the headers say [ns]; None where they have none.
    expected_rate
        What the contract expects [Hz].
    sensor
        Whether it should have a rhythm; else it has one only if its intervals are much alike.
    events
        Whether it speaks of what happens: it has no rhythm, however alike its intervals are, and no clock of a sensor.

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
    """Return the usual period [s] of ascending stamps [ns], whatever the pattern of their intervals."""
    batch = min(_BATCH, len(ordered) - 1)
    usual = float(np.median(ordered[batch:] - ordered[:-batch])) / batch
    return max(usual, float(np.quantile(np.diff(ordered), _USUAL)) / GAP) / 1e9


def _rate(ordered: np.ndarray, pauses: np.ndarray) -> float:
    """Return the intervals per second of ascending stamps [ns], pauses apart [Hz]."""
    intervals = np.diff(ordered)[~pauses] if not pauses.all() else np.diff(ordered)
    return len(intervals) * 1e9 / float(intervals.sum())


def _clock(received: np.ndarray, stamps: np.ndarray | None) -> tuple[float | None, float | None, float | None]:
    """Return offset, delay and drift of a clock against that of the recorder.

    What the way takes only ever adds; so the least of the differences, in each part of the recording, is the clock's.
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
    """What the values of one joint tell."""

    name: str
    low: float
    """Least measured position [rad]."""
    high: float
    """Greatest measured position [rad]."""
    limits: tuple[float, float] | None = None
    """Of the model [rad]."""
    beyond: int = 0
    """Measurements outside of the limits, by more than what rounding explains."""
    commanded_beyond: int = 0
    """Commands outside of the limits."""
    at_extreme: float = 0.0
    """Share of the measurements at exactly the least or the greatest value: saturated, or at a mechanical stop."""
    top_speed: float = 0.0
    """99.9 % of the time it is slower [rad/s]."""
    speed_limit: float | None = None
    """Of the model [rad/s]."""
    longest_stuck: float = 0.0
    """How long it stayed at exactly one value while it was commanded to move [s]."""
    constant: bool = False
    """Whether it never moved."""
    error: float | None = None
    """Median distance from the newest command [rad]."""
    lag: float | None = None
    """How long after a command it is reached [s]: the shift at which the two curves fit best."""


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
        Of the joint.
    stamps, position
        Shape (message,): ascending [ns], and what was measured [rad].
    command_stamps, command
        Shape (command,): ascending [ns], and where it was commanded to be [rad]; empty where nothing is known of that.
    part
        Shape (message,): of which episode each is, -1 between them; None where there are none. Between episodes an arm
        may be set back, which is no motion.
    limits, speed_limit
        Of the model [rad], [rad/s].

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
        _stuck(stamps[known], position[known], wanted, room),
        constant,
        float(np.median(np.abs(position[known] - wanted))) if len(wanted) else None,
        None if constant else _lag(stamps, position, command_stamps, command),
    )


def _runs(same: np.ndarray) -> np.ndarray:
    """Return begin and end of each stretch of true values, shape (run, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))).reshape(-1, 2)


def _at_extreme(position: np.ndarray, low: float, high: float) -> float:
    lengths = np.concatenate([np.diff(_runs(position == value), axis=1)[:, 0] for value in (low, high)])
    return float(lengths[lengths >= _EXTREME_RUN].sum() / len(position))


def _stuck(stamps: np.ndarray, position: np.ndarray, wanted: np.ndarray, room: float) -> float:
    """Return the longest time at one value during which the command moved by more than `room` [s]."""
    longest = 0.0
    for begin, end in _runs(np.diff(position) == 0):
        if np.ptp(wanted[begin : end + 1]) > 5 * room:
            longest = max(longest, float(stamps[end] - stamps[begin]) / 1e9)
    return longest


def _lag(stamps: np.ndarray, position: np.ndarray, command_stamps: np.ndarray, command: np.ndarray) -> float | None:
    """Return the shift of the command that fits the position best [s], among those up to half a second."""
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
