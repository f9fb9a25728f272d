"""Where the demonstrations of a recording begin and end, by whatever tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.resample import nanoseconds
from vdd_ros.data.recording import EpisodeMark, Recording, Word

_MAX_TICKS_OF_A_STATE = 1000
"""Ticks for every joint state, on average, over which an episode's bounds must be wrong."""


@dataclass(frozen=True)
class Span:
    """A stretch of a recording that is one demonstration."""

    start: int
    """[ns]"""
    end: int
    """[ns]; what is stamped so, or later, is not part of it."""
    settled: int | None
    """When it was received [ns] that nothing can be said of it any more; None while something still may."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dropped: str = ''
    """Why it is no demonstration to learn from, if it is none."""


def spans_of(recording: Recording, contract: Contract, report: ConversionReport) -> list[Span]:
    """Return the demonstrations of a recording, in their order; those that do not end are noted and left out."""
    rules = contract.episodes
    if rules.by == 'marks':
        spans = spans_by_marks(recording.marks, report)
    elif rules.by in ('topic', 'button'):
        signal = recording.words.get('signal', ())
        spans = (_by_topic if rules.by == 'topic' else _by_button)(signal, contract, report)
    else:
        spans = {'gaps': _by_gaps, 'motion': _by_motion, 'bag': _by_bag}[rules.by](recording, contract)
    following = [span.start for span in spans[1:]]
    return [
        _described(span, recording, contract, following[place] if place < len(following) else None)
        for place, span in enumerate(spans)
    ]


def started(recording: Recording, contract: Contract) -> int | None:
    """Return when the episode began that has not ended by the end of a recording [ns]; None where there is none.

    Of rules by which `spans_of` gives such an episode as well, there is none.
    """
    words = recording.words.get('signal', ())
    if contract.episodes.by == 'marks':
        bounds = [mark for mark in recording.marks if mark.event in ('start', 'end')]
        return bounds[-1].stamp if bounds and bounds[-1].event == 'start' else None
    if contract.episodes.by == 'button':
        presses = _presses(words)
        return presses[-1][0] if len(presses) % 2 else None
    if contract.episodes.by == 'topic' and words and (now := _state(words[-1][2], contract)) is not None:
        same = next(
            (place for place, word in enumerate(reversed(words)) if _state(word[2], contract) != now), len(words)
        )
        return words[len(words) - same][0]
    return None


def ticks_of(recording: Recording, contract: Contract, span: Span) -> tuple[np.ndarray, str]:
    """Return the policy ticks of a demonstration, shape (tick,) [ns]; and, where there are none, why.

    The first is when its first joint state is known.
    """
    stamps = recording.measured.stamps
    first, last = np.searchsorted(stamps, [span.start, span.end])
    begin = int(stamps[first]) + nanoseconds(contract.measured.align.latency) if first < last else span.end
    if begin >= span.end:
        return np.zeros(0, dtype=np.int64), 'no joint state in it'
    if (span.end - begin) // contract.period > _MAX_TICKS_OF_A_STATE * (last - first):
        return np.zeros(0, dtype=np.int64), f'{(span.end - begin) / 1e9:.0f} s with {last - first} joint states'
    return np.arange(begin, span.end, contract.period), ''


def spans_by_marks(marks: tuple[EpisodeMark, ...], report: ConversionReport) -> list[Span]:
    """Return the demonstrations that marks tell apart; those that do not end are noted and left out."""
    spans: list[Span] = []
    by_index: dict[str, int] = {}
    start: EpisodeMark | None = None
    running: dict[str, str] = {}
    discarded: EpisodeMark | None = None  # the mark that discards the running episode

    def close() -> None:
        if start is not None and discarded is not None:  # a discard ends an episode, too
            by_index[start.labels.get('index', '')] = len(spans)
            labels = {**start.labels, **running}
            spans.append(Span(start.stamp, discarded.stamp, None, labels, labels.pop(_DISCARD)))
        else:
            report.add('episode', 'marks', 'it starts, but does not end', start is not None, _at(start))

    for mark in marks:
        index = mark.labels.get('index', '')
        if mark.event == 'start':
            close()
            if spans and spans[-1].settled is None:
                spans[-1] = replace(spans[-1], settled=mark.received)
            start, running, discarded = mark, {}, None
        elif mark.event == 'end':
            if start is None:
                report.add('note', 'marks', 'the end of an episode that did not start', 1, _at(mark))
                continue
            by_index[start.labels.get('index', index)] = len(spans)
            labels = {**start.labels, **mark.labels, **running}
            reason = labels.pop(_DISCARD, '')
            spans.append(Span(start.stamp, mark.stamp, None, labels, reason))
            start = discarded = None
        elif mark.event == 'trim' and index in by_index:
            spans[by_index[index]] = _trimmed(spans[by_index[index]], mark, report)
        elif mark.event in ('label', 'discard'):
            said = {key: value for key, value in mark.labels.items() if key != 'index'}
            if mark.event == 'discard':
                reason = said.get('reason', '')
                whole = reason.startswith('discarded')
                said = {_DISCARD: reason if whole else f'discarded by the operator {reason}'.strip()}
            if start is not None and start.labels.get('index', '') == index:
                running.update(said)
                discarded = mark if mark.event == 'discard' else discarded
            elif index in by_index:
                span = spans[by_index[index]]
                reason = said.pop(_DISCARD, span.dropped)
                spans[by_index[index]] = replace(span, labels={**span.labels, **said}, dropped=reason)
            else:
                report.add('note', 'marks', f'a {mark.event} for an episode that is not there', 1, _at(mark))
        else:
            report.add('note', 'marks', f'a mark that is not known: {mark.event[:40]!r}', 1, _at(mark))
    close()
    return spans


_DISCARD = '\0discard'


def _trimmed(span: Span, mark: EpisodeMark, report: ConversionReport) -> Span:
    """Return a demonstration without some of its beginning and its end, as a mark says."""
    try:
        begin, end = (nanoseconds(float(mark.labels.get(name, '0'))) for name in ('begin', 'end'))
        if min(begin, end) < 0 or span.start + begin >= span.end - end:
            raise ValueError
    except (ValueError, OverflowError):
        report.add('note', 'marks', 'a trim that leaves nothing, or is no time', 1, _at(mark))
        return span
    return replace(span, start=span.start + begin, end=span.end - end)


def _at(mark: EpisodeMark | None) -> str:
    return f'{mark.stamp / NANOSECONDS:.3f} s' if mark is not None else ''


def _by_topic(words: tuple[Word, ...], contract: Contract, report: ConversionReport) -> list[Span]:
    spans: list[Span] = []
    now: str | None = None
    start = 0
    for stamp, received, value in words:
        on = _state(value, contract)
        if on == now:
            continue
        if now is not None:
            spans.append(Span(start, stamp, received, {'signal': now}))
        now, start = on, stamp
    report.add('episode', 'signal', 'it starts, but does not end', now is not None, f'{start / NANOSECONDS:.3f} s')
    return spans


def _state(value: str | float, contract: Contract) -> str | None:
    """Return what a signal says; None where it says that there is no episode."""
    said = _text(value)
    return None if (value == 0 if isinstance(value, float) else said in contract.episodes.idle) else said


def _by_button(words: tuple[Word, ...], contract: Contract, report: ConversionReport) -> list[Span]:
    spans: list[Span] = []
    start: int | None = None
    for stamp, received in _presses(words):
        if start is None:
            start = stamp
        else:
            spans.append(Span(start, stamp, received))
            start = None
    report.add('episode', 'signal', 'it starts, but does not end', start is not None, f'{(start or 0) / 1e9:.3f} s')
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
    """Return a span from each row to another; one is settled when what proves its end was received."""
    spans = []
    for begin, end in zip(begins, ends):
        proof = int(np.searchsorted(stamps, stamps[end - 1] + rest, side='right')) if end <= len(stamps) else end
        settled = int(received[proof]) if proof < len(received) else None
        spans.append(Span(int(stamps[begin]), int(stamps[min(end, len(stamps)) - 1]) + 1, settled))
    return spans


def _described(span: Span, recording: Recording, contract: Contract, following: int | None) -> Span:
    """Add what signals say of a demonstration: outcome, language, and whether it was thrown away."""
    rules, labels, dropped, settled = contract.episodes, dict(span.labels), span.dropped, span.settled
    until = following if following is not None else 1 << 62
    if rules.outcome is not None:
        said = [value for stamp, _, value in recording.words.get('outcome', ()) if span.start <= stamp < until]
        if said:
            labels['outcome'] = 'success' if _text(said[-1]).lower() in rules.success else 'failure'
    if rules.language is not None:
        said = [value for stamp, _, value in recording.words.get('language', ()) if stamp < span.end]
        if said:
            labels['language'] = _text(said[-1])
    if rules.discard is not None:
        presses = [stamp for stamp, _ in _presses(recording.words.get('discard', ()))]
        if any(span.start <= stamp < until for stamp in presses):
            dropped = 'discarded by the operator'
    if (span.end - span.start) < nanoseconds(rules.shortest):
        dropped = dropped or f'it is shorter than {rules.shortest:g} s'
    if (rules.outcome is not None or rules.discard is not None) and following is None:
        settled = None  # until the next one starts, more may be said of it
    return replace(span, labels=labels, dropped=dropped, settled=settled)


def _presses(words: tuple[Word, ...]) -> list[tuple[int, int]]:
    """Return stamp and time of reception of each press of a button."""
    presses, down = [], False
    for stamp, received, value in words:
        now = value not in (0.0, '', 'false', 'False')
        if now and not down:
            presses.append((stamp, received))
        down = now
    return presses


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f'{value:g}'
