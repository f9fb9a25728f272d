"""Makes torn MCAP files whole, in place."""

from __future__ import annotations

import os
import struct
import zlib

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import DataEnd, Footer, MessageIndex, Statistics

from vdd_ros.data.mcap_file import MAGIC, McapScan

_FOOTER_START = struct.Struct('<BQQQ')


def finish(found: McapScan) -> None:
    """Make a torn file whole, in place: cut what is torn off its end, and write the index that leads to the rest.

    Interrupted, it can be done again.

    Raises
    ------
    OSError
        The file cannot be written.

    """
    builder = RecordBuilder()
    end = found.end
    if found.chunks and found.last_index:
        chunk = found.chunks[-1]
        if set(chunk.message_index_offsets) != set(found.last_index):
            end = chunk.chunk_start_offset + chunk.chunk_length
            chunk.message_index_offsets = {}
            for channel, places in found.last_index.items():
                chunk.message_index_offsets[channel] = end + builder.count
                MessageIndex(channel, places).write(builder)
            chunk.message_index_length = builder.count
    DataEnd(0).write(builder)
    start = end + builder.count
    data = builder.end()
    for record in (*found.schemas.values(), *found.channels.values(), _statistics(found), *found.chunks):
        record.write(builder)
    summary = builder.end()
    checksum = zlib.crc32(_FOOTER_START.pack(Opcode.FOOTER, 20, start, 0), zlib.crc32(summary))
    Footer(start, 0, checksum).write(builder)
    with found.path.open('r+b') as file:
        file.truncate(end)
        file.seek(end)
        file.write(data + summary + builder.end() + MAGIC)
        file.flush()
        os.fsync(file.fileno())


def _statistics(found: McapScan) -> Statistics:
    first, last = found.span or (0, 0)
    return Statistics(
        attachment_count=0,
        channel_count=len(found.channels),
        channel_message_counts=dict(found.counts),
        chunk_count=len(found.chunks),
        message_count=found.count,
        message_end_time=last,
        message_start_time=first,
        metadata_count=0,
        schema_count=len(found.schemas),
    )
