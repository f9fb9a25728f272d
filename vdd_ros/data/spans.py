"""Find where the demonstrations of a recording begin and end, by the rule of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.resample import nanoseconds
from vdd_ros.data.recording import EpisodeMark, Recording, SignalValue

_MAX_TICKS_OF_A_STATE = 1000
"""Mean number of ticks per joint state above which the bounds of an episode are assumed to be wrong."""


@dataclass(frozen=True)
class Span:
    """A part of a recording that contains one demonstration."""

    start: int
    """Start [ns]."""
    end: int
    """End [ns]; messages with this stamp or later are not part of the demonstration."""
    settled: int | None
    """Reception time [ns] after which no message can change the span; None if later messages still can."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dropped: str = ''
    """Reason why the demonstration is excluded; empty if it is used."""
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Number of messages by topic, such as ``/joint_states``, according to the end mark; empty if it has none."""


def spans_of(recording: Recording, contract: Contract, report: ConversionReport) -> list[Span]:
    """Return the demonstrations of a recording in order. Demonstrations without an end are reported and left out."""
    rules = contract.episodes
    if rules.by == 'marks':
        spans = spans_by_marks(recording.marks, report)
    elif rules.by in ('topic', 'button'):
        signal = recording.signals.get('signal', ())
        spans = (_by_topic if rules.by == 'topic' else _by_button)(signal, contract, report)
    else:
        spans = {'gaps': _by_gaps, 'motion': _by_motion, 'bag': _by_bag}[rules.by](recording, contract)
    following = [span.start for span in spans[1:]]
    return [
        _described(span, recording, contract, following[place] if place < len(following) else None)
        for place, span in enumerate(spans)
    ]


def started(recording: Recording, contract: Contract) -> int | None:
    """Return the start [ns] of an episode without an end in the recording, else None.

    Also None for the rules by which `spans_of` returns such an episode.
    """
    values = recording.signals.get('signal', ())
    if contract.episodes.by == 'marks':
        bounds = [mark for mark in recording.marks if mark.event in ('start', 'end')]
        return bounds[-1].stamp if bounds and bounds[-1].event == 'start' else None
    if contract.episodes.by == 'button':
        presses = _presses(values)
        return presses[-1][0] if len(presses) % 2 else None
    if contract.episodes.by == 'topic' and values and (now := _state(values[-1][2], contract)) is not None:
        same = next(
            (place for place, item in enumerate(reversed(values)) if _state(item[2], contract) != now), len(values)
        )
        return values[len(values) - same][0]
    return None


def ticks_of(recording: Recording, contract: Contract, span: Span) -> tuple[np.ndarray, str]:
    """Return the policy ticks of a demonstration, shape (tick,) [ns]; if there are none, also the reason.

    The first tick is the time of the first joint state.
    """
    stamps = recording.measured.stamps
    first, last = np.searchsorted(stamps, [span.start, span.end])
    begin = int(stamps[first]) + nanoseconds(contract.measured.align.latency) if first < last else span.end
    if begin >= span.end:
        return np.zeros(0, dtype=np.int64), 'no joint state'
    if (span.end - begin) // contract.period > _MAX_TICKS_OF_A_STATE * (last - first):
        return np.zeros(0, dtype=np.int64), f'{(span.end - begin) / 1e9:.0f} s with {last - first} joint states'
    return np.arange(begin, span.end, contract.period), ''


def spans_by_marks(marks: tuple[EpisodeMark, ...], report: ConversionReport) -> list[Span]:
    """Return the demonstrations between marks. Demonstrations without an end are reported and left out."""
    reader = _MarkReader(report)
    for mark in marks:
        reader.take(mark)
    reader.close()
    return reader.spans


class _MarkReader:
    """Collects demonstrations, and what later marks change of them, mark by mark."""

    def __init__(self, report: ConversionReport) -> None:
        self.spans: list[Span] = []
        self._report = report
        self._by_index: dict[str, int] = {}
        self._start: EpisodeMark | None = None
        self._running: dict[str, str] = {}
        """Labels of the running episode."""
        self._discarded: EpisodeMark | None = None
        """The mark that discards the running episode."""

    def take(self, mark: EpisodeMark) -> None:
        index = mark.labels.get('index', '')
        if mark.event == 'start':
            self.close()
            if self.spans and self.spans[-1].settled is None:
                self.spans[-1] = replace(self.spans[-1], settled=mark.received)
            self._start, self._running, self._discarded = mark, {}, None
        elif mark.event == 'end':
            self._end(mark, index)
        elif mark.event == 'trim' and index in self._by_index:
            place = self._by_index[index]
            self.spans[place] = _trimmed(self.spans[place], mark, self._report)
        elif mark.event in ('label', 'discard'):
            self._label(mark, index)
        else:
            self._report.add('note', 'marks', f'an unknown mark: {mark.event[:40]!r}', 1, _at(mark))

    def close(self) -> None:
        """End an episode that has no end mark."""
        if self._start is not None and self._discarded is not None:  # a discard also ends an episode
            self._by_index[self._start.labels.get('index', '')] = len(self.spans)
            labels = {**self._start.labels, **self._running}
            self.spans.append(Span(self._start.stamp, self._discarded.stamp, None, labels, labels.pop(_DISCARD)))
        else:
            unfinished = self._start is not None
            self._report.add('episode', 'marks', 'a start without an end', unfinished, _at(self._start))

    def _end(self, mark: EpisodeMark, index: str) -> None:
        if self._start is None:
            self._report.add('note', 'marks', 'an end without a start', 1, _at(mark))
            return
        self._by_index[self._start.labels.get('index', index)] = len(self.spans)
        counts = {key: int(value) for key, value in mark.labels.items() if key[:1] == '/' and value.isdecimal()}
        labels = {**self._start.labels, **mark.labels, **self._running}
        reason = labels.pop(_DISCARD, '')
        labels = {key: value for key, value in labels.items() if key not in counts}
        self.spans.append(Span(self._start.stamp, mark.stamp, None, labels, reason, counts))
        self._start = self._discarded = None

    def _label(self, mark: EpisodeMark, index: str) -> None:
        """Add labels to the running episode or to a finished one, or discard it."""
        labels = {key: value for key, value in mark.labels.items() if key != 'index'}
        if mark.event == 'discard':
            reason = labels.get('reason', '')
            whole = reason.startswith('discarded')
            labels = {_DISCARD: reason if whole else f'discarded by the operator {reason}'.strip()}
        if self._start is not None and self._start.labels.get('index', '') == index:
            self._running.update(labels)
            self._discarded = mark if mark.event == 'discard' else self._discarded
        elif index in self._by_index:
            place = self._by_index[index]
            span = self.spans[place]
            reason = labels.pop(_DISCARD, span.dropped)
            self.spans[place] = replace(span, labels={**span.labels, **labels}, dropped=reason)
        else:
            self._report.add('note', 'marks', f'a {mark.event} for an unknown episode', 1, _at(mark))


_DISCARD = '\0discard'


def _trimmed(span: Span, mark: EpisodeMark, report: ConversionReport) -> Span:
    """Return a demonstration with beginning and end cut as given by a mark."""
    try:
        begin, end = (nanoseconds(float(mark.labels.get(name, '0'))) for name in ('begin', 'end'))
        if min(begin, end) < 0 or span.start + begin >= span.end - end:
            raise ValueError
    except (ValueError, OverflowError):
        report.add('note', 'marks', 'a trim that is invalid or leaves nothing', 1, _at(mark))
        return span
    return replace(span, start=span.start + begin, end=span.end - end, counts={})


def _at(mark: EpisodeMark | None) -> str:
    return f'{mark.stamp / NANOSECONDS:.3f} s' if mark is not None else ''


def _by_topic(values: tuple[SignalValue, ...], contract: Contract, report: ConversionReport) -> list[Span]:
    spans: list[Span] = []
    now: str | None = None
    start = 0
    for stamp, received, value in values:
        on = _state(value, contract)
        if on == now:
            continue
        if now is not None:
            spans.append(Span(start, stamp, received, {'signal': now}))
        now, start = on, stamp
    report.add('episode', 'signal', 'a start without an end', now is not None, f'{start / NANOSECONDS:.3f} s')
    return spans


def _state(value: str | float, contract: Contract) -> str | None:
    """Return the state given by a signal; None if it means that no episode runs."""
    state = _text(value)
    idle = not value if isinstance(value, float) else state in contract.episodes.idle
    return None if idle else state


def _by_button(values: tuple[SignalValue, ...], contract: Contract, report: ConversionReport) -> list[Span]:
    spans: list[Span] = []
    start: int | None = None
    for stamp, received in _presses(values):
        if start is None:
            start = stamp
        else:
            spans.append(Span(start, stamp, received))
            start = None
    report.add('episode', 'signal', 'a start without an end', start is not None, f'{(start or 0) / 1e9:.3f} s')
    return spans


def _by_gaps(recording: Recording, contract: Contract) -> list[Span]:
    stamps, received = recording.measured.stamps, recording.measured.received
    breaks = np.flatnonzero(np.diff(stamps) > nanoseconds(contract.episodes.gap)) + 1
    return _stretches(stamps, received, [0, *breaks.tolist()], [*breaks.tolist(), len(stamps)])


def _by_motion(recording: Recording, contract: Contract) -> list[Span]:
    stamps, values = recording.measured.stamps, recording.measured.values
    if len(stamps) < 2:
        return []
    seconds = np.maximum(np.diff(stamps), 1) / NANOSECONDS
    moving = np.flatnonzero((np.abs(np.diff(values, axis=0)) / seconds[:, None]).max(axis=1) > contract.episodes.speed)
    if not len(moving):
        return []
    rests = np.flatnonzero(np.diff(stamps[moving]) > nanoseconds(contract.episodes.rest))
    begins = [int(moving[0]), *moving[rests + 1].tolist()]
    ends = [int(place) + 2 for place in (*moving[rests], moving[-1])]
    return _stretches(stamps, recording.measured.received, begins, ends, nanoseconds(contract.episodes.rest))


def _by_bag(recording: Recording, contract: Contract) -> list[Span]:
    stamps = recording.measured.stamps
    return [Span(int(stamps[0]), int(stamps[-1]) + 1, None)] if len(stamps) else []


def _stretches(
    stamps: np.ndarray, received: np.ndarray, begins: list[int], ends: list[int], rest: int = 0
) -> list[Span]:
    """Return the spans from begin to end rows. A span is settled once the message that proves its end was received."""
    spans = []
    for begin, end in zip(begins, ends):
        proof = int(np.searchsorted(stamps, stamps[end - 1] + rest, side='right')) if end <= len(stamps) else end
        settled = int(received[proof]) if proof < len(received) else None
        spans.append(Span(int(stamps[begin]), int(stamps[min(end, len(stamps)) - 1]) + 1, settled))
    return spans


def _described(span: Span, recording: Recording, contract: Contract, following: int | None) -> Span:
    """Add the recorded signals of a demonstration: outcome, language, discard."""
    rules, labels, dropped, settled = contract.episodes, dict(span.labels), span.dropped, span.settled
    until = following if following is not None else 1 << 62
    if rules.outcome is not None:
        values = [value for stamp, _, value in recording.signals.get('outcome', ()) if span.start <= stamp < until]
        if values:
            labels['outcome'] = 'success' if _text(values[-1]).lower() in rules.success else 'failure'
    if rules.language is not None:
        values = [value for stamp, _, value in recording.signals.get('language', ()) if stamp < span.end]
        if values:
            labels['language'] = _text(values[-1])
    if rules.discard is not None:
        presses = [stamp for stamp, _ in _presses(recording.signals.get('discard', ()))]
        if any(span.start <= stamp < until for stamp in presses):
            dropped = 'discarded by the operator'
    if (span.end - span.start) < nanoseconds(rules.shortest):
        dropped = dropped or f'shorter than {rules.shortest:g} s'
    if (rules.outcome is not None or rules.discard is not None) and following is None:
        settled = None  # signals up to the next start may still change it
    return replace(span, labels=labels, dropped=dropped, settled=settled)


def _presses(values: tuple[SignalValue, ...]) -> list[tuple[int, int]]:
    """Return stamp and reception time of each press of a button."""
    presses, down = [], False
    for stamp, received, value in values:
        now = value not in (0.0, '', 'false', 'False')
        if now and not down:
            presses.append((stamp, received))
        down = now
    return presses


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f'{value:g}'
