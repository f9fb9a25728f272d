"""Damage MCAP files, and count readable messages before and after `vdd recover`: `python -m benchmarks.recovery`.

Files of 20 layouts contain known messages. Each file is damaged randomly by seed: flipped bits; parts that are zeroed,
removed, duplicated or overwritten; a missing end. The bag is read, recovered, and read again, by this package and by
the reader of the `mcap` library.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rich.progress import track
from rosbags.typesys import Stores, get_typestore

from benchmarks.harness import Bar, finish
from vdd_ros.common.errors import BagError
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.recovery import recover

_STORE = get_typestore(Stores.ROS2_HUMBLE)
_KINDS = {'/numbers': 'std_msgs/msg/Float64MultiArray', '/words': 'std_msgs/msg/String'}
_COUNT = 240
_PLAIN = {'chunk_size': 2000, 'compression': CompressionType.NONE}
_BARE = {'repeat_channels': False, 'repeat_schemas': False, 'use_statistics': False, 'use_summary_offsets': False}

LAYOUTS: dict[str, dict[str, Any]] = {
    'plain': _PLAIN,
    'zstd': {**_PLAIN, 'compression': CompressionType.ZSTD},
    'lz4': {**_PLAIN, 'compression': CompressionType.LZ4},
    'no checksums': {**_PLAIN, 'enable_crcs': False},
    'zstd, no checksums': {**_PLAIN, 'compression': CompressionType.ZSTD, 'enable_crcs': False},
    'lz4, no checksums': {**_PLAIN, 'compression': CompressionType.LZ4, 'enable_crcs': False},
    'unchunked': {'use_chunking': False},
    'unchunked, bare summary': {'use_chunking': False, **_BARE, 'index_types': IndexType.NONE},
    'unchunked, no checksums': {'use_chunking': False, 'enable_crcs': False},
    'bare summary': {**_PLAIN, **_BARE},
    'no index': {**_PLAIN, 'index_types': IndexType.NONE},
    'chunk index alone': {**_PLAIN, 'index_types': IndexType.CHUNK},
    'message index alone': {**_PLAIN, 'index_types': IndexType.MESSAGE},
    'no channels in summary': {**_PLAIN, 'repeat_channels': False, 'repeat_schemas': False},
    'no statistics': {**_PLAIN, 'use_statistics': False},
    'one chunk': {**_PLAIN, 'chunk_size': 1 << 20},
    'many chunks': {**_PLAIN, 'chunk_size': 200},
    'zstd, not closed': {**_PLAIN, 'compression': CompressionType.ZSTD, 'close': False},
    'plain, not closed': {**_PLAIN, 'close': False},
    'mixed, with attachments': {**_PLAIN, 'mixed': True},
}


@dataclass(frozen=True)
class Outcome:
    """The result for one damaged file."""

    layout: str
    damage: str
    before: int
    """Number of readable messages."""
    after: int
    """Number of readable messages in the recovered bag."""
    lost: int
    """Number of messages that were readable before but not after."""
    altered: bool
    """Whether the damaged file was changed."""
    foreign: int
    """Number of messages of the recovered bag that the `mcap` reader does not find or reads differently."""
    seconds: float


def layout(name: str) -> bytes:
    """Return a file with a layout."""
    options = dict(LAYOUTS[name])
    close, mixed = options.pop('close', True), options.pop('mixed', False)
    file = io.BytesIO()
    writer = McapWriter(file, **options)
    writer.start('ros2', 'benchmark')
    channels = {}
    for topic, kind in _KINDS.items():
        text = _STORE.generate_msgdef(kind, ros_version=2)[0].encode()
        channels[topic] = writer.register_channel(topic, 'cdr', writer.register_schema(kind, 'ros2msg', text))
    if mixed:
        channels['/web'] = writer.register_channel('/web', 'json', 0)
        writer.add_attachment(1, 1, 'calibration.yaml', 'application/yaml', b'offset: 1\n' * 50)
        writer.add_metadata('operator', {'name': 'Ada'})
    for number in range(_COUNT):
        topic = list(channels)[number % len(channels)]
        writer.add_message(channels[topic], 10**9 + number * 10**6, _message(topic, number), 10**9 + number, number)
        if mixed and number == _COUNT // 2:
            writer.add_attachment(2, 2, 'picture', 'image/x', bytes(range(256)) * 4)
    if close:
        writer.finish()
        return file.getvalue()
    return file.getvalue()[:-7]


def _message(topic: str, number: int) -> bytes:
    if topic == '/web':
        return b'{"number": %d}' % number
    kind = _KINDS[topic]
    if topic == '/words':
        return bytes(_STORE.serialize_cdr(_STORE.types[kind](f'word {number} ' * (1 + number % 7)), kind))
    empty = _STORE.types['std_msgs/msg/MultiArrayLayout']([], 0)
    values = _STORE.types[kind](empty, np.sin(number + np.arange(7.0)))
    return bytes(_STORE.serialize_cdr(values, kind))


def damaged(whole: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the name of the damage, and the damaged file."""
    data = bytearray(whole)
    kind = chance.choice(['bit', 'bit', 'bits', 'wiped', 'noise', 'cut', 'cut out', 'twice', 'inserted'])
    begin = chance.randrange(len(data))
    length = min(chance.choice([1, 8, 50, 600, 5000]), len(data) - begin)
    if kind in ('bit', 'bits'):
        for _ in range(1 if kind == 'bit' else chance.randrange(2, 30)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 'wiped':
        data[begin : begin + length] = bytes(length)
    elif kind == 'noise':
        data[begin : begin + length] = chance.randbytes(length)
    elif kind == 'cut':
        del data[begin:]
    elif kind == 'cut out':
        del data[begin : begin + length]
    elif kind == 'twice':
        data[begin:begin] = data[begin : begin + length]
    else:
        data[begin:begin] = chance.randbytes(length)
    return kind, bytes(data)


def readable(path: Path) -> Counter:
    """Count the messages of a bag, by topic, stamp and bytes, as read by this package."""
    found: Counter = Counter()
    try:
        with Bag(path) as bag:
            for block in bag.blocks(bag.topics):
                for topic, messages in block.items():
                    for index in range(len(messages)):
                        found[topic, int(messages.received[index]), messages.data(index)] += 1
    except BagError:
        return Counter()
    return found


def _foreign(path: Path) -> Counter:
    """Count the messages as read by the `mcap` library, using the index."""
    with path.open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        return Counter((channel.topic, item.log_time, item.data) for _, channel, item in reader.iter_messages())


def outcomes(seeds: range) -> Iterator[Outcome]:
    """Damage a file for every seed, recover it, and compare."""
    wholes = {name: layout(name) for name in LAYOUTS}
    for seed in seeds:
        name = list(LAYOUTS)[seed % len(LAYOUTS)]
        kind, data = damaged(wholes[name], random.Random(seed))
        with tempfile.TemporaryDirectory(prefix='vdd_ros_recovery_') as folder:
            yield _outcome(Path(folder) / 'bag', name, kind, data)


def _outcome(path: Path, name: str, kind: str, data: bytes) -> Outcome:
    path.mkdir()
    file = path / 'bag_0.mcap'
    file.write_bytes(data)
    digest = hashlib.sha256(data).digest()
    before = readable(path)
    began = time.perf_counter()
    after: Counter = Counter()
    foreign = 0
    try:
        found = recover(path)
        seconds = time.perf_counter() - began
        after = readable(found.path)
        try:
            foreign = (after - _foreign(found.path / 'bag_0.mcap')).total() if found.path != path else 0
        except (McapError, ValueError, KeyError, EOFError):
            foreign = after.total()
    except BagError:
        seconds = time.perf_counter() - began
    altered = hashlib.sha256(file.read_bytes()).digest() != digest
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    lost = (before - after).total()
    return Outcome(name, kind, before.total(), after.total(), lost, altered, foreign, seconds)


def measure(count: int) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Damage and recover files; return a row for each layout, and the bars."""
    found = list(track(outcomes(range(count)), total=count, description='recover'))
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for item in found:
        groups[item.layout].append(item)
    rows = [
        {
            'layout': name,
            'damages': len(items),
            'readable': sum(item.before for item in items),
            'recovered': sum(item.after for item in items),
            'of': _COUNT * len(items),
            'nothing left': sum(not item.after for item in items),
            'slowest_s': max(item.seconds for item in items),
        }
        for name, items in groups.items()
    ]
    return rows, [
        Bar(f'of {count} damages: messages that recovery lost', sum(item.lost for item in found), 0, True),
        Bar('originals changed by a byte', sum(item.altered for item in found), 0, True),
        Bar('messages that the reader of mcap does not find', sum(item.foreign for item in found), 0, True),
        Bar('slowest recovery [s]', max(item.seconds for item in found), 5.0, True),
    ]


def main(quick: bool = False, check: bool = False) -> int:
    """Measure the recovery.

    Parameters
    ----------
    quick
        Three damages of each layout instead of a hundred.
    check
        Exit with 1 if a bar does not hold.

    """
    rows, bars = measure((3 if quick else 100) * len(LAYOUTS))
    return finish('recovery', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
