"""Find the fields of serialised messages from their definitions: CDR of ROS 2, and the packed layout of ROS 1.

One message is parsed field by field. All other messages of the same size and with the same inner lengths have their
numbers at the same offsets, so numpy reads them in bulk.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

_MAX_DEPTH = 32
_SIZES = {
    'bool': 'u1',
    'byte': 'u1',
    'char': 'u1',
    'octet': 'u1',
    'int8': 'i1',
    'uint8': 'u1',
    'int16': 'i2',
    'uint16': 'u2',
    'int32': 'i4',
    'uint32': 'u4',
    'int64': 'i8',
    'uint64': 'u8',
    'float32': 'f4',
    'float64': 'f8',
}
_ENCAPSULATIONS = {
    **{bytes([0, number]): 'parameter list CDR' for number in (2, 3)},
    **{bytes([0, number]): f'XCDR2 (0x{number:04x})' for number in range(6, 12)},
}
"""Names of unsupported serialisations by the first bytes of a message."""
_BYTES = {name: np.dtype(code).itemsize for name, code in _SIZES.items()}


@dataclass(frozen=True)
class FieldType:
    """The type of a field: a primitive, `string` or another message, single or repeated."""

    base: str
    count: int | None = None
    """Number of array elements; 0 for a sequence with its own length; None for a single value."""


Definition = tuple[tuple[str, FieldType], ...]
Definitions = Mapping[str, Definition]
"""The fields of each message type in order, by the full name of the type."""


@dataclass(frozen=True)
class Messages:
    """Serialised messages of one topic in one buffer, in file order."""

    buffer: np.ndarray
    """Shape (byte,), uint8."""
    offsets: np.ndarray
    """Shape (message,): offset of each message."""
    sizes: np.ndarray
    """Shape (message,): size of each message [byte]."""
    received: np.ndarray
    """Shape (message,), int64: reception times according to the bag [ns]."""
    where: str = ''
    """The part of a file, for reports."""
    places: np.ndarray | None = None
    """Shape (message,): position of each message in `where`, for reports."""
    unit: str = 'byte'
    """Unit of `places`: `byte`, `row` or `message`."""

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.offsets)

    def data(self, index: int) -> bytes:
        """Return one serialised message."""
        begin = int(self.offsets[index])
        return self.buffer[begin : begin + int(self.sizes[index])].tobytes()

    def place(self, index: int) -> str:
        """Return the location of a message, for reports."""
        return f'{self.unit} {self.places[index]} of {self.where}' if self.places is not None else f'message {index}'

    def after(self, index: int) -> Messages:
        """Return the messages from an index on."""
        places = None if self.places is None else self.places[index:]
        return replace(
            self, offsets=self.offsets[index:], sizes=self.sizes[index:], received=self.received[index:], places=places
        )

    def only(self, mine: np.ndarray) -> Messages:
        """Return the messages selected by a mask of shape (message,)."""
        places = None if self.places is None else self.places[mine]
        return replace(
            self, offsets=self.offsets[mine], sizes=self.sizes[mine], received=self.received[mine], places=places
        )

    @classmethod
    def of(cls, data: Sequence[bytes], received: Sequence[int]) -> Messages:
        """Join single messages."""
        sizes = np.array([len(item) for item in data], dtype=np.int64)
        buffer = np.frombuffer(b''.join(data), dtype=np.uint8)
        return cls(buffer, np.cumsum(sizes) - sizes, sizes, np.array(received, dtype=np.int64))


class Undecodable(ValueError):
    """A message does not match its type."""


@dataclass
class Layout:
    """The offsets of all fields in one serialised message, by field path such as ``header.stamp.sec``."""

    order: str
    """`<` or `>`: byte order of numbers."""
    numbers: dict[str, tuple[int, str, int]] = field(default_factory=dict)
    """Offset [byte], numpy code and count of each number or run of numbers, by path."""
    texts: dict[str, str] = field(default_factory=dict)
    """Contents of strings, by path."""
    counts: dict[str, int] = field(default_factory=dict)
    """Lengths of sequences and arrays, by path."""
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Byte ranges of strings, by path."""
    lengths: list[int] = field(default_factory=list)
    """Offsets of the four-byte length fields."""

    def place(self, path: str) -> tuple[int, str]:
        """Return offset and numpy code of one number: a field, or an element such as ``data[3]``.

        Raises
        ------
        Undecodable
            The message has no such number.

        """
        name, element = path, 0
        if path not in self.numbers and path.endswith(']'):
            name, _, index = path.rpartition('[')
            element = int(index[:-1])
        if name not in self.numbers or (name in self.counts) != (name != path):
            raise Undecodable(
                f'no single number {path}' + f' ({self.counts.get(path)} elements)' * (path in self.counts)
            )
        offset, code, count = self.numbers[name]
        if element >= count:
            raise Undecodable(f'no {path} among its {count} numbers')
        return offset + element * np.dtype(code).itemsize, code


def serialization(data: bytes) -> str:
    """Return the serialisation of a message that is not plain CDR of ROS 2; empty if it is or cannot be recognised."""
    return _ENCAPSULATIONS.get(bytes(data[:2]), '') if len(data) >= 4 else ''


def walk(data: bytes, type_name: str, definitions: Definitions, ros1: bool = False) -> Layout:
    """Find the fields of a message.

    Parameters
    ----------
    data
        The serialised message.
    type_name, definitions
        Type of the message, and the definitions of this type and all nested types.
    ros1
        Whether the message has the ROS 1 serialisation: packed, without encapsulation.

    Raises
    ------
    Undecodable
        The bytes do not match the type: too few, too many, or a length that points beyond the end.

    """
    if ros1:
        walker = _Walker(data, definitions, '<', 0, packed=True)
    else:
        if len(data) < 4 or data[0] != 0 or data[1] not in (0, 1):
            other = serialization(data)
            raise Undecodable(f'serialised as {other}, not as plain CDR' if other else 'no CDR encapsulation header')
        walker = _Walker(data, definitions, '<' if data[1] else '>', 4, packed=False)
    walker.message(type_name, '', 0)
    left = len(data) - walker.position
    if left > (0 if ros1 else 7):
        raise Undecodable(f'{left} bytes more than {type_name} has')
    return walker.layout


class _Walker:
    def __init__(self, data: bytes, definitions: Definitions, order: str, origin: int, *, packed: bool) -> None:
        self.layout = Layout(order)
        self.position = origin
        self._origin = origin
        self._data = data
        self._definitions = definitions
        self._packed = packed
        self._uint32 = struct.Struct(f'{order}I')

    def message(self, type_name: str, path: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise Undecodable(f'{type_name} within itself')
        fields = self._definitions.get(type_name)
        if fields is None and type_name.rpartition('/')[2] == 'wstring':
            raise Undecodable(f'{path} is a wstring, whose serialisation depends on the middleware')
        if fields is None:
            raise Undecodable(f'no definition of {type_name}; give the folder of its package with --definitions')
        if not fields and not self._packed:
            self._skip(1)  # an empty message is serialised as one byte
        for name, kind in fields:
            self._field(f'{path}.{name}' if path else name, kind, depth)

    def _field(self, path: str, kind: FieldType, depth: int) -> None:
        if kind.count is None:
            count, plural = 1, False
        else:
            count, plural = kind.count or self._length(path), True
            self.layout.counts[path] = count
        if kind.base in _BYTES:
            self._numbers(path, kind.base, count)
            return
        if count > len(self._data) - self.position:
            raise Undecodable(f'{count} elements of {path} in {len(self._data) - self.position} bytes')
        for element in range(count):
            name = f'{path}[{element}]' if plural else path
            if kind.base == 'string':
                self._text(name)
            else:
                self.message(kind.base, name, depth + 1)

    def _numbers(self, path: str, base: str, count: int) -> None:
        size = _BYTES[base]
        if count:
            self._align(size)
        self.layout.numbers[path] = (self.position, self.layout.order + _SIZES[base], count)
        self._skip(size * count)

    def _text(self, path: str) -> None:
        length = self._length(path)
        begin = self.position
        self._skip(length)
        end = begin + length - (0 if self._packed or not length else 1)
        self.layout.spans[path] = (begin, end)
        try:
            self.layout.texts[path] = bytes(self._data[begin:end]).decode()
        except UnicodeDecodeError as error:
            raise Undecodable(f'{path} is not valid text') from error

    def _length(self, path: str) -> int:
        self._align(4)
        begin = self.position
        self._skip(4)
        self.layout.lengths.append(begin)
        (length,) = self._uint32.unpack_from(self._data, begin)
        if length > len(self._data) - self.position:
            raise Undecodable(f'{path} of length {length} in the remaining {len(self._data) - self.position} bytes')
        return length

    def _align(self, size: int) -> None:
        if not self._packed:
            self.position += -(self.position - self._origin) % size

    def _skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self._data):
            raise Undecodable(f'it ends {self.position - len(self._data)} bytes too early')
