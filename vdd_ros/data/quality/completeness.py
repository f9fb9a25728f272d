"""Find demonstrations whose commands are incomplete or have wrong stamps, as a recorder that lags leaves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.recording import Recording
from vdd_ros.data.spans import Span

REMEDY = 'discard these demonstrations, or record them again with less load on the machine'

_MANY = 10
"""Least number of commands with one stamp that are reported."""
_USUAL = 5
"""Multiple of the usual number of commands with one stamp above which a number is reported."""
_TAIL = 0.5
"""Least time without a command at the end of a demonstration that is reported [s]."""
_INTERVALS = 20
"""The same, in median intervals between commands."""
_MOTION = 0.05
"""Share of the motion of a joint that must follow the last command by more than `_TAIL`."""


@dataclass(frozen=True)
class Lapse:
    """One demonstration with incomplete or wrongly stamped commands."""

    episode: int
    """Number of the demonstration in the recording."""
    text: str
    """What is wrong, with numbers."""


def lapses_of(recording: Recording, contract: Contract, spans: Sequence[Span]) -> tuple[Lapse, ...]:
    """Return the demonstrations whose commands are incomplete or have wrong stamps.

    A demonstration is reported if it has fewer commands than its end mark counts, if many commands have one stamp, or
    if the arm moves on for long after the last command. Excluded demonstrations are not examined.
    """
    stamps = recording.commanded.stamps
    if contract.commanded.source != 'topic' or len(stamps) < 2:
        return ()
    usual = _USUAL * float(np.median(np.unique(stamps, return_counts=True)[1]))
    least = max(_TAIL, _INTERVALS * float(np.median(np.diff(stamps))) / NANOSECONDS)
    found = []
    for index, span in enumerate(spans):
        if not span.dropped:
            first, last = np.searchsorted(stamps, [span.start, span.end])
            part = stamps[first:last]
            texts = [*_missing(part, contract, span), *_crowded(part, usual), *_early(part, recording, span, least)]
            found += [Lapse(index, text) for text in texts[:1]]
    return tuple(found)


def summary(lapses: Sequence[Lapse]) -> str:
    """Return the lapses in one sentence: the numbers of all demonstrations, and what is wrong with the first ones."""
    numbers = ', '.join(str(lapse.episode) for lapse in lapses)
    details = '; '.join(f'episode {lapse.episode}: {lapse.text}' for lapse in lapses[:3])
    return f'incomplete or wrong commands in episode{"s" * (len(lapses) > 1)} {numbers} ({details})'


def _missing(part: np.ndarray, contract: Contract, span: Span) -> Iterator[str]:
    expected = span.counts.get(f'/{contract.topics.commands.lstrip("/")}', 0)
    if len(part) < expected:
        yield f'{len(part)} of {expected} commands'


def _crowded(part: np.ndarray, usual: float) -> Iterator[str]:
    values, counts = np.unique(part, return_counts=True)
    if len(counts) and (most := int(counts.max())) >= max(_MANY, usual):
        yield f'{most} commands with the stamp {values[counts.argmax()] / NANOSECONDS:.3f} s'


def _early(part: np.ndarray, recording: Recording, span: Span, least: float) -> Iterator[str]:
    tail = (span.end - int(part[-1])) / NANOSECONDS if len(part) else 0.0
    if tail <= least:
        return
    stamps = recording.measured.stamps
    rows = recording.measured.values[slice(*np.searchsorted(stamps, [span.start, span.end]))]
    after = recording.measured.values[slice(*np.searchsorted(stamps, [part[-1] + round(_TAIL * 1e9), span.end]))]
    if len(after) and (np.ptp(after, axis=0) > _MOTION * np.ptp(rows, axis=0)).any():
        yield f'its last command is {tail:.2f} s before its end, and the arm moves on'
