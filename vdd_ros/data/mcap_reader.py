"""MCAP, read from the front: neither index nor footer is needed, and what is damaged is told, not guessed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Union

import numpy as np

from vdd_ros.data.account import Account
from vdd_ros.data.mcap_records import Channel, Damage, Schema, decompressed, read_channel, read_schema, read_string
from vdd_ros.data.serialized import Messages
from vdd_ros.errors import BagError

MAGIC = b'\x89MCAP0\r\n'
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _CHUNK_INDEX = range(1, 9)
_STATISTICS, _DATA_END, _LAST = 0x0B, 0x0F, 0x0F
_WINDOW = 1 << 20
_MAX_CHUNK = 1 << 31
_MESSAGE_HEAD = struct.Struct('<BQHIQQ')
_RECORD = struct.Struct('<BQ')
_MAX_STAMP = 1 << 63


Key = Hashable
KeyOf = Callable[[Channel], Union[Key, None]]
"""By what the messages of a channel are put together; None for those that are not asked for."""
Block = dict[Key, Messages]


class McapFile:
    """One MCAP file."""

    def __init__(self, path: Path, account: Account, name: str = '') -> None:
        """Open a file and read its summary, if it has a sound one.

        Parameters
        ----------
        path
            The file.
        account
            Where to note what is wrong with it.
        name
            What complaints call it; left out, its own name.

        Raises
        ------
        BagError
            It is no MCAP at all.

        """
        self.name = name or path.name
        self.channels: dict[int, Channel] = {}
        self.schemas: dict[int, Schema] = {}
        self.counts: dict[int, int] | None = None
        """Messages by channel, as the file itself tells; None if it does not."""
        self._account = account
        self._file = path.open('rb')
        self._size = path.stat().st_size
        self._window, self._begin = b'', 0
        self._chunks: list[int] = []
        self._data_end = self._size
        if self._bytes(0, 8) != MAGIC:
            self.close()
            raise BagError(
                expected=f'MCAP in {self.name}',
                found='another beginning' if self._size >= 8 else f'{self._size} bytes',
                remedy='give a bag, or copy this one again',
            )
        try:
            self._read_summary()
        except (Damage, struct.error, UnicodeDecodeError, IndexError) as error:
            self._chunks, self.counts, self._data_end = [], None, self._size
            self._note(f'no sound summary at its end ({error}): it was not closed, or was damaged')

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def survey(self) -> None:
        """Find the channels of a file whose summary does not tell them, by reading all of it."""
        account, self._account = self._account, Account()
        for _ in self.blocks(lambda channel: None):
            pass
        self._account = account

    def blocks(self, key_of: KeyOf) -> Iterator[Block]:
        """Yield messages, a chunk at a time, in the order of the file; those of channels without a key are left out."""
        position = 8
        while position < self._data_end:
            try:
                code, length = _RECORD.unpack(self._bytes(position, 9))
                end = position + 9 + length
                if end > self._size:
                    raise Damage(f'the file ends inside of what begins there, {end - self._size} bytes too early')
                if code == _MESSAGE:
                    available = min(self._size - position, max(_WINDOW, 9 + length))
                    block, position = self._walk(self._bytes(position, available), position, f'{self.name}', key_of)
                    yield block
                    continue
                if code == _DATA_END or code == _FOOTER:
                    return
                if code == _CHUNK:
                    records = self._opened(self._bytes(position + 9, length))
                    yield from self._chunk(records, position, key_of)
                elif code in (_SCHEMA, _CHANNEL):
                    self._define(code, self._bytes(position + 9, length))
                elif not 0 < code <= _LAST:
                    self._note('a record of a kind that is not known', f'byte {position}')
                position = end
            except (Damage, struct.error, UnicodeDecodeError) as error:
                position = self._skip(position, str(error))

    def _skip(self, position: int, why: str) -> int:
        """Go on where the next chunk should begin, by the index, and note what lies between."""
        following = next((chunk for chunk in self._chunks if chunk > position), self._data_end)
        self._account.add('part', self.name, f'{why}; {following - position} bytes passed over', 1, f'byte {position}')
        return following

    def _chunk(self, records: bytes, position: int, key_of: KeyOf) -> Iterator[Block]:
        begin, where = 0, f'the chunk at byte {position} of {self.name}'
        while begin < len(records):
            code, length = _RECORD.unpack_from(records, begin) if begin + 9 <= len(records) else (0, 0)
            end = begin + 9 + length
            if code == 0 or end > len(records):
                why = f'the chunk cannot be read on; {len(records) - begin} bytes passed over'
                self._account.add('part', self.name, why, 1, f'byte {begin} of {where}')
                return
            if code == _MESSAGE:
                try:
                    block, begin = self._walk(records, 0, where, key_of, begin)
                except Damage as error:
                    self._account.add('part', self.name, f'{error}; the rest of the chunk passed over', 1, where)
                    return
                yield block
                continue
            if code in (_SCHEMA, _CHANNEL):
                self._define(code, records[begin + 9 : end])
            else:
                self._note('a record in a chunk that does not belong there', f'byte {begin} of {where}')
            begin = end

    def _walk(
        self, buffer: bytes, base: int, where: str, key_of: KeyOf, begin: int = 0
    ) -> tuple[Block, int]:
        """Take message records, one after the other, until there is another; return them and where that is."""
        channels, offsets, sizes, stamps = [], [], [], []
        unpack, end = _MESSAGE_HEAD.unpack_from, len(buffer)
        while begin + 31 <= end:
            code, length, channel, _, stamp, _ = unpack(buffer, begin)
            following = begin + 9 + length
            if code != _MESSAGE or following > end:
                break
            if length < 22 or stamp >= _MAX_STAMP:
                raise Damage(f'a message of {length} bytes, received at {stamp}')
            channels.append(channel)
            offsets.append(begin + 31)
            sizes.append(length - 22)
            stamps.append(stamp)
            begin = following
        if not channels:
            raise Damage('a message that is too short')
        owner = np.array(channels)
        arrays = [np.array(item, dtype=np.int64) for item in (offsets, sizes, stamps)]
        return self._block(np.frombuffer(buffer, dtype=np.uint8), owner, arrays, base, where, key_of), base + begin

    def _block(
        self, data: np.ndarray, owner: np.ndarray, arrays: list[np.ndarray], base: int, where: str, key_of: KeyOf
    ) -> Block:
        groups: dict[Key, list[int]] = {}
        present = np.unique(owner).tolist()
        for channel in present:
            if channel not in self.channels:
                why, count = f'they are of channel {channel}, which is nowhere defined', int((owner == channel).sum())
                self._account.add('message', self.name, why, count)
            elif (key := key_of(self.channels[channel])) is not None:
                groups.setdefault(key, []).append(channel)
        block = {}
        for key, channels in groups.items():
            mine = slice(None) if len(channels) == len(present) else np.isin(owner, channels)
            begins, lengths, stamps = (item[mine] for item in arrays)
            block[key] = Messages(data, begins, lengths, stamps, where, begins + base)
        return block

    def _define(self, code: int, data: bytes) -> None:
        known, item = (self.schemas, read_schema(data)) if code == _SCHEMA else (self.channels, read_channel(data))
        (number,) = struct.unpack_from('<H', data)
        if known.setdefault(number, item) != item:
            self._note(f'{"schema" if code == _SCHEMA else "channel"} {number} is defined twice; the first counts')

    def _opened(self, data: bytes) -> bytes:
        """Return the records of a chunk, decompressed and checked."""
        _, _, size, checksum = struct.unpack_from('<QQQI', data)
        compression, begin = read_string(data, 28)
        (length,) = struct.unpack_from('<Q', data, begin)
        content = data[begin + 8 : begin + 8 + length]
        if size > _MAX_CHUNK or len(content) != length:
            raise Damage(f'a chunk of {size} bytes, compressed {length}, in a record of {len(data)}')
        records = decompressed(content, compression, size)
        if len(records) != size:
            raise Damage(f'a chunk of {len(records)} bytes that says it has {size}')
        if checksum and zlib.crc32(records) != checksum:
            raise Damage('a chunk whose checksum is wrong')
        return records

    def _read_summary(self) -> None:
        if self._size < 45 or self._bytes(self._size - 8, 8) != MAGIC:
            raise Damage('no magic bytes at the end')
        code, length, start, _, checksum = struct.unpack('<BQQQI', self._bytes(self._size - 37, 29))
        if code != _FOOTER or length != 20 or not (start == 0 or 8 < start <= self._size - 37):
            raise Damage('no footer')
        if start == 0:
            self._data_end = self._size - 37
            return
        data = self._bytes(start, self._size - 37 - start)
        if checksum and zlib.crc32(data + self._bytes(self._size - 37, 25)) != checksum:
            raise Damage('its checksum is wrong')
        begin = 0
        while begin + 9 <= len(data):
            code, length = _RECORD.unpack_from(data, begin)
            record = data[begin + 9 : begin + 9 + length]
            if len(record) != length:
                raise Damage('it ends inside of a record')
            if code in (_SCHEMA, _CHANNEL):
                self._define(code, record)
            elif code == _CHUNK_INDEX:
                self._chunks.append(struct.unpack_from('<Q', record, 16)[0])
            elif code == _STATISTICS:
                (size,) = struct.unpack_from('<I', record, 42)
                entries = struct.iter_unpack('<HQ', record[46 : 46 + size])
                self.counts = dict(entries)
            begin += 9 + length
        self._chunks.sort()
        self._data_end = start

    def _bytes(self, position: int, size: int) -> bytes:
        begin = position - self._begin
        if begin < 0 or begin + size > len(self._window):
            self._file.seek(position)
            self._window, self._begin, begin = self._file.read(max(size, _WINDOW)), position, 0
        return self._window[begin : begin + size]

    def _note(self, why: str, place: str = '') -> None:
        self._account.add('note', self.name, why, 1, place)
