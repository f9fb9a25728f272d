"""Decode serialised messages to numbers in SI units: thousands of a bag at once, or a single live message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.contract.features import Reading
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import joined
from vdd_ros.data.decode.serialized import Definitions, Layout, Messages, Undecodable, walk

Refusals = Sequence[tuple[np.ndarray, str]]
"""Several pairs of a mask of rejected messages, shape (message,) bool, and a reason."""
Refuser = Callable[[int], Callable[[str], None]]
"""Maps the index of a message to a function that rejects it later, with a reason."""

INFINITE = 'a number is not finite'
"""Reason for the rejection of a message with a number that is not finite."""
_MAX_PATTERNS = 64
_MAX_SIZES = 512


@dataclass(frozen=True)
class Decoded:
    """The decoded messages of one topic: the time at which each is valid, its reception time, and its values."""

    stamps: np.ndarray
    """Shape (message,), int64 [ns]: time at which each message is valid."""
    received: np.ndarray
    """Shape (message,), int64 [ns]: reception times."""
    values: np.ndarray
    """Shape (message, width). Image streams: the integers read by `frames.real`, or shape (message, 1) of `Picture`."""


@dataclass
class Pattern:
    """The offsets of the requested numbers in all messages of one size and one set of inner lengths."""

    same: list[tuple[int, int]]
    """Byte ranges that are equal in all such messages: lengths, and strings that determine the offsets."""
    runs: list[tuple[int, str, int]] = field(default_factory=list)
    """The numbers in order: offset, numpy code, count of consecutive numbers."""
    stamp: tuple[int, int] | None = None
    """Offsets of seconds and nanoseconds."""
    layout: Layout | None = None
    inverted: bool = False
    """For transforms: whether the stored direction is the inverse of the requested one."""

    def add(self, offset: int, code: str) -> None:
        """Add a number; consecutive numbers are merged into one run."""
        if self.runs:
            begin, last, count = self.runs[-1]
            if code == last and offset == begin + count * np.dtype(code).itemsize:
                self.runs[-1] = (begin, code, count + 1)
                return
        self.runs.append((offset, code, 1))


@dataclass(frozen=True)
class _Template:
    """The common bytes of messages of one pattern, and how to decode them."""

    columns: np.ndarray
    content: np.ndarray
    verdict: Pattern | str | None
    """A pattern, the reason for rejecting the messages, or None for irrelevant messages."""

    def matches(self, rows: np.ndarray) -> np.ndarray:
        return (rows[:, self.columns] == self.content).all(axis=1)


class Decoder:
    """Decodes the messages of one topic; subclasses define the offsets of the numbers.

    Messages that do not match their type and numbers that are not finite are counted and dropped.
    """

    def __init__(
        self, type_name: str, definitions: Definitions, reading: Reading, *, by_header: bool, ros1: bool = False
    ) -> None:
        """Prepare decoding of a type, given its definition and those of nested types."""
        self._type = type_name
        self._definitions = definitions
        self._ros1 = ros1
        self._by_header = by_header
        factor, offset = np.array(reading.factor), np.array(reading.offset)
        self._affine = None if (factor == 1).all() and not offset.any() else (factor, offset)
        self._known: dict[int, list[_Template]] = {}

    def pattern(self, layout: Layout) -> Pattern | None:
        """Return the offsets of the requested numbers; None if the message has none of them.

        Raises
        ------
        Undecodable
            The message has only some of them, or invalid ones.

        """
        raise NotImplementedError

    def numbers(self, rows: np.ndarray, pattern: Pattern, refuser: Refuser) -> tuple[np.ndarray, Refusals]:
        """Decode messages of one pattern, shape (message, byte); return values and rejected messages with reasons.

        ``refuser`` rejects messages whose damage is found later.
        """
        return self.transformed(gathered(rows, pattern)), ()

    def transformed(self, values: np.ndarray) -> np.ndarray:
        """Convert transmitted numbers to SI units."""
        return values if self._affine is None else values * self._affine[0] + self._affine[1]

    def decode(self, messages: Messages, report: ConversionReport, topic: str) -> Decoded:
        """Decode messages in order, and report those that are dropped."""
        count = len(messages)
        kept = np.zeros(count, dtype=bool)
        stamps = messages.received.copy()
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        sizes, groups = np.unique(messages.sizes, return_inverse=True)
        for group, size in enumerate(sizes.tolist()):
            waiting = np.flatnonzero(groups == group) if len(sizes) > 1 else np.arange(count)
            for index, rows, pattern in self._matched(messages, waiting, size, report, topic):
                refuser = partial(_refuser, messages, index, report, topic)
                values, refusals = self.numbers(rows, pattern, refuser)
                refusals = (*refusals, (self._stamp(rows, pattern, stamps, index), 'its stamp is invalid'))
                if values.dtype.kind == 'f':
                    infinite = ~np.isfinite(values).all(axis=1)
                    refusals = (*refusals[:-1], (infinite, INFINITE), refusals[-1])
                if any(wrong.any() for wrong, _ in refusals):
                    right = _complain(messages, index, refusals, report, topic)
                    index, values = index[right], values[right]
                kept[index] = True
                parts.append((index, values))
        report.took(topic, int(kept.sum()))
        if len(parts) == 1:
            index, values = parts[0]
            return Decoded(stamps[index], messages.received[index], values)
        index = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, dtype=np.int64)
        order = np.argsort(index)
        values = joined([part[1] for part in parts])[order] if parts else np.zeros((0, 0))
        return Decoded(stamps[index[order]], messages.received[index[order]], values)

    def _matched(
        self, messages: Messages, waiting: np.ndarray, size: int, report: ConversionReport, topic: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Pattern]]:
        """Yield index, bytes and pattern of messages of one size with a common pattern."""
        if not 0 < size <= len(messages.buffer):
            report.add('message', topic, 'it is empty', len(waiting), messages.place(int(waiting[0])))
            return
        rows = np.lib.stride_tricks.sliding_window_view(messages.buffer, size)[messages.offsets[waiting]]
        if len(self._known) > _MAX_SIZES:
            self._known.clear()
        known = self._known.setdefault(size, [])
        if len(known) > _MAX_PATTERNS:
            known.clear()
        tried = 0
        while len(waiting):
            if tried == len(known):
                new = self._walked(messages, int(waiting[0]), report, topic)
                if new is None:
                    waiting, rows = waiting[1:], rows[1:]
                    continue
                known.append(new)
            template = known[tried]
            tried += 1
            # If nearly all messages differ, comparing each with all remaining ones would be quadratic.
            alone = tried > 2 * _MAX_PATTERNS
            equal = np.arange(len(rows)) == 0 if alone else template.matches(rows)
            if equal.any():
                fitting, these = (waiting, rows) if equal.all() else (waiting[equal], rows[equal])
                waiting, rows = waiting[~equal], rows[~equal]
                if isinstance(template.verdict, Pattern):
                    yield fitting, these, template.verdict
                elif template.verdict is None:
                    report.add('note', topic, 'messages without the requested fields', len(fitting))
                    report.took(topic, len(fitting))
                else:
                    report.add('message', topic, template.verdict, len(fitting), messages.place(int(fitting[0])))

    def _walked(self, messages: Messages, index: int, report: ConversionReport, topic: str) -> _Template | None:
        data = messages.data(index)
        try:
            layout = walk(data, self._type, self._definitions, self._ros1)
        except Undecodable as error:
            report.add('message', topic, str(error), 1, messages.place(index))
            return None
        same = [] if self._ros1 else [(0, 2)]
        same += [(begin, begin + 4) for begin in layout.lengths]
        try:
            verdict = self.pattern(layout)
            if verdict is not None:
                verdict.layout = layout
                if self._by_header and verdict.stamp is None:
                    verdict.stamp = tuple(layout.place(f'header.stamp.{part}')[0] for part in ('sec', 'nanosec'))
                same += verdict.same
        except Undecodable as error:
            verdict = str(error)
        if not isinstance(verdict, Pattern):
            same += layout.spans.values()
        columns = np.concatenate([np.arange(begin, end) for begin, end in same] or [np.zeros(0, dtype=np.intp)])
        return _Template(columns, np.frombuffer(data, dtype=np.uint8)[columns], verdict)

    def _stamp(self, rows: np.ndarray, pattern: Pattern, stamps: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Fill in the header stamps; return a mask of the invalid ones."""
        if pattern.stamp is None:
            return np.zeros(len(index), dtype=bool)
        seconds, nanoseconds = (
            np.ascontiguousarray(rows[:, offset : offset + 4]).view(pattern.layout.order + code)[:, 0].astype(np.int64)
            for offset, code in zip(pattern.stamp, ('u4' if self._ros1 else 'i4', 'u4'))
        )
        stamps[index] = seconds * NANOSECONDS + nanoseconds
        return (nanoseconds >= NANOSECONDS) | (seconds < 0)


def _complain(
    messages: Messages, index: np.ndarray, refusals: Refusals, report: ConversionReport, topic: str
) -> np.ndarray:
    """Report each rejected message once, with its first reason; return a mask of the valid ones."""
    right = np.ones(len(index), dtype=bool)
    for wrong, why in refusals:
        new = index[wrong & right]
        if len(new):
            report.add('message', topic, why, len(new), messages.place(int(new[0])))
        right &= ~wrong
    return right


def _refuser(
    messages: Messages, index: np.ndarray, report: ConversionReport, topic: str, row: int
) -> Callable[[str], None]:
    """Return a function that reports a message as unusable after decoding, without keeping the messages."""
    place = messages.place(int(index[row]))

    def refuse(why: str) -> None:
        report.took(topic, -1)
        report.add('message', topic, why, 1, place)

    return refuse


def gathered(rows: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Return the numbers of a pattern, shape (message, number), as float64."""
    parts = []
    for offset, code, count in pattern.runs:
        width = np.dtype(code).itemsize * count
        parts.append(np.ascontiguousarray(rows[:, offset : offset + width]).view(code).astype(np.float64))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class ScalarDecoder(Decoder):
    """Decodes numbers at fixed paths."""

    def __init__(
        self,
        type_name: str,
        definitions: Definitions,
        reading: Reading,
        *,
        by_header: bool,
        ros1: bool = False,
        paths: Sequence[str],
        whole: str | None = None,
    ) -> None:
        """Request numbers by path. If `whole` names a sequence, its length must be the number of paths."""
        super().__init__(type_name, definitions, reading, by_header=by_header, ros1=ros1)
        self._paths = tuple(paths)
        self._whole = whole

    def pattern(self, layout: Layout) -> Pattern:
        """Return the offsets of the numbers."""
        if self._whole is not None and layout.counts.get(self._whole) != len(self._paths):
            found = layout.counts.get(self._whole, 'none')
            raise Undecodable(f'{found} values where the contract has {len(self._paths)} values')
        pattern = Pattern([])
        for path in self._paths:
            pattern.add(*layout.place(path))
        return pattern


class JointDecoder(Decoder):
    """Decodes joints by name from joint states, or from the last point of joint trajectories."""

    def __init__(
        self,
        type_name: str,
        definitions: Definitions,
        reading: Reading,
        *,
        by_header: bool,
        ros1: bool = False,
        joints: Sequence[str],
        fields: Sequence[str] = ('position',),
    ) -> None:
        """Request the fields of some joints in this order. Messages may have more joints in any order."""
        super().__init__(type_name, definitions, reading, by_header=by_header, ros1=ros1)
        self._joints = tuple(joints)
        self._fields = tuple(fields)

    def pattern(self, layout: Layout) -> Pattern | None:
        """Return the offsets of the joint values; None if the message has none of the joints."""
        trajectory = 'joint_names' in layout.counts
        names = 'joint_names' if trajectory else 'name'
        found = {layout.texts[f'{names}[{place}]']: place for place in reversed(range(layout.counts.get(names, 0)))}
        if not set(self._joints) & set(found):
            return None
        if missing := [joint for joint in self._joints if joint not in found]:
            raise Undecodable(f'no joint {missing[0]!r} among {", ".join(found)}')
        pattern = Pattern([layout.spans[f'{names}[{place}]'] for place in range(layout.counts[names])])
        for name in self._fields:
            path = f'points[{layout.counts["points"] - 1}].{name}s' if trajectory else name
            if layout.counts.get(path) != layout.counts[names]:
                raise Undecodable(f'{layout.counts.get(path, "no")} {name} for {layout.counts[names]} joint names')
            for joint in self._joints:
                pattern.add(*layout.place(f'{path}[{found[joint]}]'))
        return pattern
