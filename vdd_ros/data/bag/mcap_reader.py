"""Read MCAP from the front: neither index nor footer is needed, and damage is reported with its offset."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.data.bag import mcap_records as records
from vdd_ros.data.bag.bag_definitions import standard_text
from vdd_ros.data.bag.file_scan import DamagedPart, DroppedMessages
from vdd_ros.data.bag.mcap_records import MALFORMED, RECORD, Area, Channel, ChunkHead, Damage, Run, Schema
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.serialized import Messages

_WINDOW = 1 << 20
_SMALL = 1 << 12
_MALFORMED = (Damage, *MALFORMED)
_TOPIC = re.compile(r'/[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')

Key = Hashable
KeyOf = Callable[[Channel], Key | None]
"""The key by which the messages of a channel are grouped; None for channels that are not requested."""
Block = dict[Key, Messages]


@dataclass(frozen=True)
class Part:
    """A sound part of a file: a record of the data section, or consecutive messages outside of chunks."""

    code: int
    offset: int
    """Begin [byte]."""
    end: int
    """End [byte]."""
    runs: tuple[Run, ...] = ()
    """The messages of the part."""
    chunk: ChunkHead | None = None
    records: bytes = b''
    """The records of a chunk."""
    definitions: tuple[tuple[int, bytes], ...] = ()
    """Opcode and body of the valid schemas and channels of a chunk."""
    undefined: frozenset[int] = frozenset()
    """Channels without a definition; `runs` leaves out their messages."""
    sound: bool = True
    """Whether the bytes can be copied unchanged; otherwise the part must be rewritten."""


@dataclass(frozen=True)
class _Indexed:
    """The index entry of a chunk."""

    length: int
    compression: str
    compressed: int
    size: int


class McapFile:
    """Reads channels, messages and sound parts of one MCAP file."""

    def __init__(
        self,
        path: Path,
        report: ConversionReport,
        name: str = '',
        *,
        damaged: bool = False,
        unverified: bool = False,
    ) -> None:
        """Open a file and read its summary, if it is sound.

        Parameters
        ----------
        path
            The file.
        report
            Receives the damage found.
        name
            Name for reports; by default the file name.
        damaged
            Read the file even if its first bytes are not those of MCAP.
        unverified
            Also read the messages of chunks with a wrong checksum, as far as possible. Their bytes may be wrong.

        Raises
        ------
        BagError
            The file is not an MCAP.

        """
        self.name = name or path.name
        self.channels: dict[int, Channel] = {}
        self.schemas: dict[int, Schema] = {}
        self.counts: dict[int, int] | None = None
        """Messages by channel according to the file; None if it does not state them."""
        self.surveyed: Counter[int] = Counter()
        """Messages by channel, counted by `survey`."""
        self.closed = False
        """Whether the file has the end of a closed file."""
        self.damages: list[DamagedPart] = []
        """The damage found in the last pass."""
        self._report = report
        self._unverified = unverified
        self._newest: Part | None = None
        self._file = path.open('rb')
        self._size = os.fstat(self._file.fileno()).st_size
        self._window, self._begin = b'', 0
        self._index: dict[int, _Indexed] = {}
        self._offsets: list[int] = []
        self._surveying = False
        self._stated: dict[int, int] = {}
        self._doubtful: tuple[dict[int, Channel], dict[int, Schema]] = ({}, {})
        self._data_end = self._size
        beginning = self._bytes(0, 8)
        self._begins = beginning == records.MAGIC
        if not self._begins and not damaged:
            self.close()
            raise BagError(
                expected=f'MCAP in {self.name}',
                found=_beginning(beginning),
                remedy='give a bag, or copy this one again; `vdd recover` may repair a damaged MCAP',
            )
        try:
            self._read_summary()
            self._offsets = sorted(self._index)
            self.closed = True
        except _MALFORMED as error:
            self._index, self.counts, self._data_end = {}, None, self._size
            self._note(f'no sound summary at the end ({error}): the file was not closed or is damaged')

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def size(self) -> int:
        """File size [byte]."""
        return self._size

    @property
    def indexed(self) -> Sequence[int]:
        """Offsets of the chunks according to the index [byte], ascending."""
        return self._offsets

    @property
    def is_complete(self) -> bool:
        """Whether the summary has every channel and schema and the message counts."""
        if self.counts is None or len(self.channels) < self._stated.get(records.CHANNEL, 0):
            return False
        schemas = {channel.schema for channel in self.channels.values()} - {0}
        return set(self.counts) <= set(self.channels) and schemas <= set(self.schemas)

    def survey(self) -> None:
        """Find the channels of a file with an incomplete summary by reading all of it."""
        report, self._report, self._surveying = self._report, ConversionReport(), True
        undefined: set[int] = set()
        self.surveyed = Counter()
        for part in self.parts():
            undefined |= part.undefined
            for run in part.runs:
                self.surveyed.update(run.counts)
        self._report, self._surveying = report, False
        for number in sorted(undefined):
            self.channel(number)

    def blocks(self, key_of: KeyOf) -> Iterator[Block]:
        """Yield messages chunk by chunk in file order, without those of channels whose key is None."""
        for part in self.parts():
            where = f'the chunk at byte {part.offset} of {self.name}' if part.chunk is not None else self.name
            for run in part.runs:
                yield self._block(run, where, key_of)

    def parts(self) -> Iterator[Part]:
        """Yield the sound parts of the data section in file order.

        After damage, reading continues at the next chunk of the index, or at several consecutive valid records. The
        skipped bytes are reported with their offset, and listed in `damages`.
        """
        size = min(len(records.MAGIC), self._size)
        self.damages = [] if self._begins else [DamagedPart(0, size, 'the first bytes are not those of MCAP')]
        position = len(records.MAGIC)
        while position < self._data_end:
            try:
                part = self._part(position)
            except _MALFORMED as error:
                position = self._after_damage(position, error)
                continue
            if part is None:
                break
            part = self._defined(part)
            self._newest = part if part.chunk is not None else self._newest
            yield part
            position = part.end

    def content(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a part of the file, block by block."""
        while begin < end:
            piece = os.pread(self._file.fileno(), min(_WINDOW, end - begin), begin)
            if not piece:
                return
            yield piece
            begin += len(piece)

    @property
    def _area(self) -> Area:
        known = self.channels.keys() | self._doubtful[0].keys()
        return Area(self._bytes, self._data_end, known, chunks=self._offsets)

    def _part(self, position: int) -> Part | None:
        """Read the part at a position; None at the end of the data section.

        Raises
        ------
        Damage
            There is no sound part.

        """
        head = self._bytes(position, RECORD.size)
        code, length = RECORD.unpack(head) if len(head) == RECORD.size else (0, 0)
        end = position + RECORD.size + length
        if code == records.CHUNK or (position in self._index and not self._area.plausible(position)):
            return self._chunk(position, length)
        if len(head) < RECORD.size:
            raise Damage('a truncated record')
        if code == records.MESSAGE and end <= self._data_end:
            return self._loose(position, length)
        if code in (records.DATA_END, records.FOOTER) and (self._area.plausible(position) or end == self._size - 8):
            return None
        area = self._area
        if code in (records.SCHEMA, records.CHANNEL):
            end, exact = area.definition_end(code, position, length)
            body = self._bytes(position + RECORD.size, end - position - RECORD.size)
            sound = self._define(code, body, position)
            return Part(code, position, end, definitions=((code, body),) * sound, sound=sound and exact)
        if end > self._data_end:
            raise Damage(f'the file ends within the record, {end - self._data_end} bytes too early')
        if code == 0 or not (area.plausible(position) and (self._is_certain(code) or area.plausible(end, torn=True))):
            raise Damage(f'no valid record (opcode {code})')
        if code > records.DATA_END:
            self._note(f'a record of the unknown kind {code}', f'byte {position}')
        return Part(code, position, end)

    @staticmethod
    def _is_certain(code: int) -> bool:
        """Return whether the inner lengths of a record confirm its own length."""
        return code in (
            *(records.SCHEMA, records.CHANNEL, records.MESSAGE_INDEX, records.ATTACHMENT, records.METADATA),
        )

    def _after_damage(self, position: int, error: Exception) -> int:
        """Report damage, and return where to continue."""
        following = error.following if isinstance(error, _Passed) else self._area.next(position + 1)
        following = self._data_end if following is None else following
        indexed = self._indexed_at(following)
        contained = error.contained if isinstance(error, _Passed) else {}
        dropped = tuple(
            DroppedMessages(self._name_of(number), len(stamps), int(stamps.min()), int(stamps.max()))
            for number, stamps in sorted((indexed or contained).items())
        )
        self._lose(position, following, str(error), dropped=dropped)
        return following

    def _lose(self, begin: int, end: int, why: str, place: str = '', dropped: tuple[DroppedMessages, ...] = ()) -> None:
        part = DamagedPart(begin, end - begin, why, sum(item.count for item in dropped), dropped)
        self.damages.append(part)
        known = f', with {part.contents}' * bool(dropped)
        self._report.add('part', self.name, f'{why}; {end - begin} bytes skipped{known}', 1, place or f'byte {begin}')

    def _indexed_at(self, position: int) -> dict[int, np.ndarray]:
        """Return the stamps of the messages in the index at a position, by channel.

        An index of the newest chunk read is ignored: its messages are not lost.
        """
        found: dict[int, np.ndarray] = {}
        known = (
            {number: count for run in self._newest.runs for number, count in run.counts.items()} if self._newest else {}
        )
        while position + RECORD.size <= self._data_end and self._bytes(position, 1)[0] == records.MESSAGE_INDEX:
            (length,) = struct.unpack('<Q', self._bytes(position + 1, 8))
            if not self._area.plausible(position):
                break
            body = self._bytes(position + RECORD.size, length)
            number, stamps = struct.unpack_from('<H', body)[0], np.frombuffer(body[6:], dtype='<u8')[::2]
            mine = known.get(number) == len(stamps) and len(stamps)
            head = self._newest.chunk if mine else None
            if len(stamps) and not (mine and head.start <= int(stamps.min()) and int(stamps.max()) <= head.end):
                found[number] = stamps
            position += RECORD.size + length
        return found

    def _name_of(self, number: int) -> str:
        channel = self.channels.get(number) or self._doubtful[0].get(number)
        return channel.topic if channel is not None else f'channel {number}'

    def _loose(self, position: int, length: int) -> Part:
        """Read messages outside of chunks."""
        available = min(self._data_end - position, max(_WINDOW, RECORD.size + length))
        run = records.read_run(self._bytes(position, available), 0, position)
        area = self._area
        if not area.plausible(position + run.end, torn=True):
            run = _trusted(run, area)
        if run is None:
            raise Damage('a message of wrong length')
        return Part(records.MESSAGE, position, position + run.end, (run,))

    def _chunk(self, position: int, length: int) -> Part:
        """Read a chunk. A damaged length, opcode or field is replaced by means of the other fields and the index."""
        body, index = position + RECORD.size, self._index.get(position)
        end = body + length
        try:
            if end > self._data_end:
                raise Damage(f'the file ends within the record, {end - self._data_end} bytes too early')
            head = records.read_chunk_head(self._bytes(body, min(length, 64)))
            if head.begin + head.length != length or head.size > records.MAX_CHUNK:
                raise Damage(f'a chunk of {head.size} bytes, compressed {head.length}, in a record of {length}')
            code = self._bytes(position, 1)[0]
            if code != records.CHUNK:
                raise Damage(f'a chunk with the opcode {code}')
            content = self._bytes(body + head.begin, head.length)
            found = records.opened(content, head.compression, head.size, head.checksum)
            return self._opened(position, end, head, found, sound=True)
        except _MALFORMED as error:
            return self._mended(position, length, index, error)

    def _mended(self, position: int, length: int, index: _Indexed | None, error: Exception) -> Part:
        body = position + RECORD.size
        head = self._bytes(body, 64)
        stated = 0
        if len(head) >= 40:
            words = struct.unpack_from('<I', head, 28)[0]
            stated = 40 + words + struct.unpack_from('<Q', head, 32 + words)[0] if words <= 8 else 0
        wanted = [stated, length, index.length - RECORD.size if index else 0]
        most = min(max(one for one in [*wanted, 0] if one <= records.MAX_CHUNK), self._data_end - body)
        whole = self._bytes(body, most) if most > 40 else b''
        known = (index.compression, index.size, index.compressed, index.length - RECORD.size) if index else None
        start, stop, _, checksum = struct.unpack_from('<QQQI', whole) if whole else (0, 0, 0, 0)
        for compression, size, begin, count in records.readings(whole, length, known) if whole else ():
            content = whole[begin : begin + count]
            try:
                found = records.opened(content, compression, size, checksum)
                if not checksum and not self._fills(found):
                    continue
            except Damage:
                continue
            why = 'a damaged field before the intact content of a chunk'
            self._note(why, f'byte {position}')
            self.damages.append(DamagedPart(position, 0, why))
            head = ChunkHead(start, stop, size, checksum, compression, begin, count)
            return self._opened(position, body + begin + count, head, found, sound=False)
        found = self._readable(whole)
        self._remember(found)
        # A length is accepted if two sources agree on it; otherwise valid records must follow at that place.
        ends = (body + one for one in sorted(wanted, key=lambda one: -wanted.count(one)) if one)
        reached = next(
            (
                end
                for end in ends
                if end <= self._data_end and (wanted.count(end - body) > 1 or self._area.next(end) == end)
            ),
            None,
        )
        runs = _runs(found)
        if self._unverified and runs:
            part = self._kept_unverified(position, reached, runs, (start, stop))
            if part is not None:
                return part
        if reached is not None:
            contained: dict[int, np.ndarray] = {}
            for run in runs:
                for number in run.numbers:
                    stamps = run.stamps[run.channels == number]
                    contained[number] = np.append(contained.get(number, stamps[:0]), stamps)
            raise _Passed(str(error), reached, contained) from error
        raise Damage(str(error)) from error

    def _kept_unverified(self, position: int, end: int | None, runs: list[Run], span: tuple[int, int]) -> Part | None:
        """Return the messages of a chunk with a wrong checksum whose stamps are in the range of the chunk header."""
        if end is None:
            following = self._area.next(position + 1)
            end = self._data_end if following is None else following
        kept = tuple(run.only((run.stamps >= span[0]) & (run.stamps <= span[1])) for run in runs)
        kept = tuple(run for run in kept if len(run.channels))
        if not kept:
            return None
        count = sum(len(run.channels) for run in kept)
        why = f'a chunk with a wrong checksum: {count} of its messages are kept unverified'
        self._note(why, f'byte {position}')
        self.damages.append(DamagedPart(position, 0, why, unverified=count))
        head = ChunkHead(*span, 0, 0, 'zstd', 0, 0)
        return Part(records.CHUNK, position, end, kept, head, sound=False)

    def _readable(self, whole: bytes) -> bytes:
        """Return the readable part of the records of a damaged chunk."""
        try:
            head = records.read_chunk_head(whole)
        except _MALFORMED:
            return b''
        return records.beginning(whole[head.begin : head.begin + head.length], head.compression)

    def _fills(self, found: bytes) -> bool:
        """Return whether records fill a buffer and are of the kinds allowed in a chunk."""
        try:
            allowed = (records.SCHEMA, records.CHANNEL, records.MESSAGE)
            return all(code in allowed for code, _, _ in records.records_of(found))
        except Damage:
            return False

    def _remember(self, found: bytes) -> None:
        """Keep the definitions in a damaged chunk, for messages whose channel has no other definition."""
        for code, _, body in _left(found):
            if code != records.MESSAGE:
                self._keep(code, body)

    def _keep(self, code: int, data: bytes) -> None:
        """Keep a definition whose fields are plausible: a valid topic name and a ROS type."""
        channels, schemas = self._doubtful
        (number,) = struct.unpack_from('<H', data)
        if code == records.CHANNEL:
            channel = records.read_channel(data)
            if _TOPIC.fullmatch(channel.topic) and channel.encoding == 'cdr':
                channels.setdefault(number, channel)
            return
        schema = records.read_schema(data)
        text = standard_text(schema.name) if schema.encoding == 'ros2msg' else None
        if text is not None:
            schemas.setdefault(number, Schema(schema.name, schema.encoding, text.encode()))

    def _opened(self, position: int, end: int, head: ChunkHead, found: bytes, *, sound: bool) -> Part:
        """Read the records of a chunk."""
        where = f'the chunk at byte {position} of {self.name}'
        area = Area(lambda begin, size: found[begin : begin + size], len(found), self.channels.keys(), inner=True)
        runs: list[Run] = []
        definitions = []
        begin = 0
        while begin < len(found):
            try:
                code, length = RECORD.unpack_from(found, begin) if begin + 9 <= len(found) else (0, 0)
                following = begin + RECORD.size + length
                if code == records.MESSAGE:
                    run = records.read_run(found, begin)
                    if run.end < len(found) and not area.plausible(run.end):
                        run = _trusted(run, area)
                    if run is None:
                        raise Damage('a message of wrong length')
                    runs.append(run)
                    begin = run.end
                    continue
                if code == 0 or (following > len(found) and code not in (records.SCHEMA, records.CHANNEL)):
                    raise Damage('the rest of the chunk cannot be read')
                if code in (records.SCHEMA, records.CHANNEL):
                    following, exact = area.definition_end(code, begin, length)
                    body, sound = found[begin + RECORD.size : following], sound and exact
                    if self._define(code, body, position):
                        definitions.append((code, body))
                    else:
                        sound = False
                else:
                    self._note('a record of a kind that is not allowed in a chunk', f'byte {begin} of {where}')
                begin = following
            except _MALFORMED as error:
                following = area.next(begin + 1)
                following = len(found) if following is None else following
                self._lose(position, position + following - begin, str(error), f'byte {begin} of {where}')
                begin, sound = following, False
        return Part(records.CHUNK, position, end, tuple(runs), head, found, tuple(definitions), sound=sound)

    def _defined(self, part: Part) -> Part:
        """Remove the messages of undefined channels."""
        unknown: dict[int, int] = {}
        for run in part.runs:
            for number in run.numbers:
                if number not in self.channels and (self._surveying or self.channel(number) is None):
                    unknown[number] = unknown.get(number, 0) + int((run.channels == number).sum())
        if not unknown:
            return part
        for number, count in unknown.items():
            why = f'their channel {number} is not defined'
            self._report.add('message', self.name, why, count)
            self.damages.append(DamagedPart(part.offset, 0, f'messages of the undefined channel {number}', count))
        runs = tuple(run.only(np.isin(run.channels, list(unknown), invert=True)) for run in part.runs)
        return replace(
            part, runs=tuple(run for run in runs if len(run.channels)), undefined=frozenset(unknown), sound=False
        )

    def _block(self, run: Run, where: str, key_of: KeyOf) -> Block:
        groups: dict[Key, list[int]] = {}
        present = run.numbers
        for number in present:
            if (key := key_of(self.channels[number])) is not None:
                groups.setdefault(key, []).append(number)
        block = {}
        data = np.frombuffer(run.buffer, dtype=np.uint8)
        for key, numbers in groups.items():
            mine = slice(None) if len(numbers) == len(present) else np.isin(run.channels, numbers)
            begins, lengths, stamps = (item[mine] for item in (run.offsets, run.sizes, run.stamps))
            block[key] = Messages(data, begins, lengths, stamps, where, begins + run.base)
        return block

    def channel(self, number: int) -> Channel | None:
        """Return a channel. If only a damaged chunk defines it, that definition is used and reported."""
        channels, schemas = self._doubtful
        if number not in self.channels and number in channels:
            channel = channels[number]
            schema = self.schemas.get(channel.schema) or schemas.get(channel.schema)
            if schema is None:
                return None
            self.channels[number], self.schemas[channel.schema] = channel, schema
            self._note(f'channel {number} ({channel.topic}) is only defined in a damaged chunk')
        return self.channels.get(number)

    def _define(self, code: int, data: bytes, position: int = 0) -> bool:
        """Store a definition; return whether it is used. The first definition of a number is."""
        known = self.schemas if code == records.SCHEMA else self.channels
        item = records.read_schema(data) if code == records.SCHEMA else records.read_channel(data)
        (number,) = struct.unpack_from('<H', data)
        if known.setdefault(number, item) == item:
            return True
        why = f'{"schema" if code == records.SCHEMA else "channel"} {number} is defined twice; the first is used'
        self._note(why)
        self.damages.append(DamagedPart(position, 0, why))
        return False

    def _read_summary(self) -> None:
        size = records.FOOTER_SIZE
        if self._size < 8 + size or self._bytes(self._size - 8, 8) != records.MAGIC:
            raise Damage('no magic bytes at the end')
        code, length, start, _, checksum = struct.unpack('<BQQQI', self._bytes(self._size - size, 29))
        if code != records.FOOTER or length != 20 or not (start == 0 or 8 < start <= self._size - size):
            raise Damage('no footer')
        if start == 0:
            self._data_end = self._size - size
            return
        data = self._bytes(start, self._size - size - start)
        if checksum and zlib.crc32(data + self._bytes(self._size - size, 25)) != checksum:
            raise Damage('its checksum is wrong')
        counts: dict[int, int] | None = None
        for code, _, record in records.records_of(data):
            if code in (records.SCHEMA, records.CHANNEL):
                self._define(code, record)
            elif code == records.CHUNK_INDEX:
                offset, length = struct.unpack_from('<QQ', record, 16)
                begin = 36 + struct.unpack_from('<I', record, 32)[0] + 8
                compression, begin = records.read_string(record, begin)
                self._index[offset] = _Indexed(length, compression, *struct.unpack_from('<QQ', record, begin))
            elif code == records.STATISTICS:
                counts = self._statistics(record)
        self.counts = counts
        self._data_end = start

    def _statistics(self, record: bytes) -> dict[int, int]:
        self._stated = {records.CHANNEL: struct.unpack_from('<I', record, 10)[0]}
        (size,) = struct.unpack_from('<I', record, 42)
        return dict(struct.iter_unpack('<HQ', record[46 : 46 + size]))

    def _bytes(self, position: int, size: int) -> bytes:
        begin = position - self._begin
        if begin < 0 or begin + size > len(self._window):
            if size <= _SMALL:
                return os.pread(self._file.fileno(), size, position)
            self._window, self._begin, begin = self._read(position, max(size, _WINDOW)), position, 0
        return self._window[begin : begin + size]

    def _read(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        return self._file.read(size)

    def _note(self, why: str, place: str = '') -> None:
        self._report.add('note', self.name, why, 1, place)


class _Passed(Damage):
    """Damage with a known end."""

    def __init__(self, why: str, following: int, contained: dict[int, np.ndarray]) -> None:
        super().__init__(why)
        self.following = following
        self.contained = contained
        """Stamps of the known messages in it, by channel."""


def _left(found: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield opcode, offset and body of the records at the beginning of a damaged chunk."""
    with contextlib.suppress(*_MALFORMED):
        for code, begin, body in records.records_of(found):
            defines = code in (records.SCHEMA, records.CHANNEL)
            if not (records.definition_length(code, body) == len(body) if defines else code == records.MESSAGE):
                return
            yield code, begin, body


def _runs(found: bytes) -> list[Run]:
    """Return the messages at the beginning of a damaged chunk."""
    runs, until = [], 0
    for code, begin, _ in _left(found):
        if code == records.MESSAGE and begin >= until:
            try:
                runs.append(records.read_run(found, begin))
            except Damage:
                break
            until = runs[-1].end
    return runs


def _trusted(run: Run, area: Area) -> Run | None:
    """Return the messages of a run whose lengths are trustworthy, if no record follows the last of them.

    If valid records continue within the last message, its length is wrong. If they continue after it, the damage is
    after it.
    """
    last = run.base + int(run.offsets[-1]) - 31
    following = area.next(last + 1)
    return run if following is None or following >= run.base + run.end else records.shortened(run)


def _beginning(data: bytes) -> str:
    """Describe the beginning of a file that is not an MCAP."""
    if len(data) < 8:
        return f'{len(data)} bytes'
    if data == b'version ':
        return 'a git-lfs pointer (`git lfs pull` fetches it)'
    return f'another beginning ({data!r})'
