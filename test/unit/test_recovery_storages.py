"""What is left of any storage comes back: sqlite3, ROS 1, compressed files, chunks with a wrong checksum."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zstandard
from ros_messages import STORE, STORE1, cdr, make
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from benchmarks.recovery import readable
from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_metadata import read_metadata
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.bag.mcap_copy import scan
from vdd_ros.data.bag.recovery import recover

KINDS = {'/numbers': 'std_msgs/msg/Float64MultiArray', '/words': 'std_msgs/msg/String'}
COUNT = 300


def message(number: int) -> tuple[str, object]:
    """Return topic and message of a number: arrays of one to two thousand values, and words."""
    if number % 3:
        return '/words', make(KINDS['/words'], f'word {number} ' * (number % 7))
    layout = make('std_msgs/msg/MultiArrayLayout', [], 0)
    size = 2000 if number % 30 == 0 else 1 + number % 11
    return '/numbers', make(KINDS['/numbers'], layout, np.sin(number + np.arange(float(size))))


def ros2(path: Path, **options: object) -> Path:
    """Write a rosbag2 by rosbags."""
    compression = options.pop('compression', None)
    writer = Writer(path, version=9, **options)
    if compression:
        writer.set_compression(*compression)
    with writer as bag:
        connections = {topic: bag.add_connection(topic, kind, typestore=STORE) for topic, kind in KINDS.items()}
        for number in range(COUNT):
            topic, item = message(number)
            bag.write(connections[topic], 10**9 + number, cdr(item))
    return path


def ros1(path: Path, compression: str) -> Path:
    """Write a bag of ROS 1 by rosbags, in many chunks."""
    writer = Ros1Writer(path)
    if compression != 'none':
        writer.set_compression(getattr(Ros1Writer.CompressionFormat, compression.upper()))
    writer.chunk_threshold = 4000
    with writer as bag:
        connections = {topic: bag.add_connection(topic, kind, typestore=STORE1) for topic, kind in KINDS.items()}
        for number in range(COUNT):
            topic, item = message(number)
            bag.write(connections[topic], 10**9 + number, bytes(STORE.cdr_to_ros1(cdr(item), KINDS[topic])))
    return path


def foreign(path: Path) -> Counter:
    """Count those that rosbags reads."""
    if path.suffix == '.bag':
        with Ros1Reader(path) as bag:
            return Counter((item.topic, stamp, bytes(data)) for item, stamp, data in bag.messages())
    with AnyReader([path], default_typestore=STORE) as reader:
        return Counter((item.topic, stamp, bytes(data)) for item, stamp, data in reader.messages())


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Return a file of which bits are flipped, or a part is wiped, overwritten, or missing."""
    data = bytearray(whole)
    begin = chance.randrange(len(data))
    length = min(chance.choice([1, 40, 700, 5000, 20000]), len(data) - begin)
    kind = chance.choice(['bits', 'wiped', 'noise', 'cut'])
    if kind == 'bits':
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 'wiped':
        data[begin : begin + length] = bytes(length)
    elif kind == 'noise':
        data[begin : begin + length] = chance.randbytes(length)
    else:
        del data[begin:]
    return bytes(data)


def small_pages(path: Path) -> Path:
    """Write a sqlite3 bag anew with pages of 1024 bytes."""
    ros2(path, storage_plugin=StoragePlugin.SQLITE3)
    (file,) = path.glob('*.db3')
    with closing(sqlite3.connect(file)) as base:
        base.execute('PRAGMA page_size = 1024')
        base.execute('VACUUM')
    return path


LAYOUTS = {
    'sqlite3': lambda path: ros2(path, storage_plugin=StoragePlugin.SQLITE3),
    'sqlite3, small pages': small_pages,
    'none': lambda path: ros1(path.with_suffix('.bag'), 'none'),
    'lz4': lambda path: ros1(path.with_suffix('.bag'), 'lz4'),
    'bz2': lambda path: ros1(path.with_suffix('.bag'), 'bz2'),
}


@pytest.fixture(scope='module', params=LAYOUTS)
def whole(request, tmp_path_factory) -> tuple[Path, Counter]:
    """A bag of each storage, and its messages."""
    path = LAYOUTS[request.param](tmp_path_factory.mktemp('bags') / 'whole')
    found = readable(path)
    assert found == foreign(path) and found.total() == COUNT
    return path, found


def put(whole: Path, path: Path, data: bytes) -> tuple[Path, Path]:
    """Write a bag whose file has other bytes; return it, and the file."""
    if whole.is_file():
        path = path.with_suffix('.bag')
        path.write_bytes(data)
        return path, path
    shutil.copytree(whole, path)
    (file,) = path.glob('*.db3')
    file.write_bytes(data)
    return path, file


def test_a_whole_bag_is_left_alone(whole, tmp_path):
    path, _ = whole
    assert recover(path).path == path and not recover(path).damages
    copy = recover(path, tmp_path / path.name).path
    assert readable(copy) == readable(path) == foreign(copy)


def test_damage_of_any_kind_costs_no_message_that_could_be_read(whole, tmp_path):
    path, _ = whole
    file = path if path.is_file() else next(path.glob('*.db3'))
    before_all = after_all = 0
    for seed in range(60):
        data = damaged(file.read_bytes(), random.Random(seed))
        bag, inner = put(path, tmp_path / f'bag{seed}', data)
        before = readable(bag)
        try:
            found = recover(bag)
        except BagError as error:
            assert not before, f'{seed}: {error}'
            continue
        after = readable(found.path)
        assert inner.read_bytes() == data
        assert not before - after, seed
        if found.path != bag:
            assert found.damages and foreign(found.path) == after
            assert found.messages == after.total()
            again = recover(found.path)
            assert again.path == found.path and not again.damages
        before_all, after_all = before_all + before.total(), after_all + after.total()
    assert after_all > before_all and after_all > 0.5 * 60 * COUNT


def test_a_journal_of_a_killed_recorder_is_merged(tmp_path):
    path = ros2(tmp_path / 'bag', storage_plugin=StoragePlugin.SQLITE3)
    (file,) = path.glob('*.db3')
    base = sqlite3.connect(file)
    base.execute('PRAGMA journal_mode = WAL')
    base.execute('INSERT INTO messages SELECT id + 1000, topic_id, timestamp + 1000, data FROM messages')
    base.commit()
    killed = tmp_path / 'killed'
    shutil.copytree(path, killed)
    base.close()
    assert [*killed.glob('*-wal')]
    found = recover(killed)
    assert found.messages == 2 * COUNT and foreign(found.path).total() == 2 * COUNT
    assert sorted(item.name for item in found.path.iterdir()) == ['bag.db3', 'metadata.yaml']
    assert read_metadata(found.path)['storage_identifier'] == 'sqlite3'
    assert 'not closed' in found.damages[0][1].reason


@pytest.mark.parametrize('compression', ['none', 'lz4', 'bz2'])
def test_a_bag_of_ros_1_that_was_never_closed_is_indexed(tmp_path, compression, capsys):
    path = ros1(tmp_path / 'whole.bag', compression)
    data = bytearray(path.read_bytes())
    place = data.index(b'index_pos=') + 10
    (end,) = struct.unpack_from('<Q', data, place)
    data[place : place + 8] = bytes(8)
    active = tmp_path / 'run.bag.active'
    active.write_bytes(data[: end - 100])
    assert main(['recover', str(active)]) == 0
    target = tmp_path / 'run_recovered.bag'
    assert f'{target}:' in ''.join(capsys.readouterr().out.split())  # wherever the line is broken
    found = readable(target)
    assert found == foreign(target) and not found - readable(path)
    assert found.total() >= COUNT - 30  # those of the last chunk, whose end is missing


def test_messages_of_a_chunk_that_was_being_written_are_kept(tmp_path):
    path = ros1(tmp_path / 'whole.bag', 'none')
    data = bytearray(path.read_bytes())
    begin = [place for place in range(len(data)) if data.startswith(b'\4\0\0\0op=\5', place)][2]
    size = data.index(b'size=', begin) + 5
    data[size : size + 4] = bytes(4)  # as roscpp writes them before it knows how long the chunk will be
    data[size + 4 : size + 8] = bytes(4)
    torn = tmp_path / 'torn.bag'
    torn.write_bytes(data[: size + 3000])
    found = recover(torn)
    assert found.messages > 5 and not readable(found.path) - readable(path)
    assert foreign(found.path) == readable(found.path)


def test_a_compressed_file_is_recovered_as_a_plain_one(tmp_path, capsys):
    compression = (CompressionMode.FILE, CompressionFormat.ZSTD)
    path = ros2(tmp_path / 'bag', storage_plugin=StoragePlugin.MCAP, compression=compression)
    (file,) = path.glob('*.mcap.zstd')
    assert recover(path).path == path and not recover(path).damages
    before = readable(path)
    plain = zstandard.ZstdDecompressor().decompress(file.read_bytes(), max_output_size=1 << 26)
    torn = bytearray(plain[: len(plain) // 2])
    data = zstandard.ZstdCompressor().compress(bytes(torn))
    file.write_bytes(data)
    found = recover(path)
    assert file.read_bytes() == data
    assert sorted(item.name for item in found.path.iterdir()) == ['bag.mcap', 'metadata.yaml']
    information = read_metadata(found.path)
    assert not information['compression_mode'] and information['relative_file_paths'] == ['bag.mcap']
    after = readable(found.path)
    assert after and not after - before and foreign(found.path) == after
    file.write_bytes(zstandard.ZstdCompressor().compress(plain)[:-2000])
    found = recover(path)
    assert 'bytes can be decompressed' in found.damages[0][1].reason
    assert not readable(path) - readable(found.path) and readable(found.path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ['bag', 'bag_recovered', 'bag_recovered_2']


def chunked(path: Path) -> Path:
    """Write an MCAP bag in four chunks."""
    with BagWriter(path, {'/numbers': 'std_msgs/msg/Float64', '/words': KINDS['/words']}) as writer:
        for number in range(200):
            item = make(KINDS['/words'], f'{number}') if number % 2 else make('std_msgs/msg/Float64', float(number))
            writer.write('/words' if number % 2 else '/numbers', 10**9 + 10**7 * number, cdr(item))
            if number % 50 == 49:
                writer.flush()
    return path


def test_a_chunk_with_a_wrong_checksum_is_dropped_and_counted_by_message_or_kept_on_demand(tmp_path, capsys):
    path = chunked(tmp_path / 'bag')
    (file,) = path.glob('*.mcap')
    data = bytearray(file.read_bytes())
    begin, _ = scan(file).chunks[1]
    data[begin + 9 + 24] ^= 1  # of the checksum: the content is whole, but nobody can know
    file.write_bytes(data)
    found = recover(path)
    (damage,) = (item for _, item in found.damages)
    assert [str(item) for item in damage.dropped] == [
        '25 of /numbers from 1.500 to 1.980 s',
        '25 of /words from 1.510 to 1.990 s',
    ]
    assert found.messages == 150
    assert main(['recover', str(path), '--output', str(tmp_path / 'all'), '--unverified']) == 0
    assert 'nothing is lost; 50 messages are kept unverified' in ' '.join(capsys.readouterr().out.split())
    every = readable(tmp_path / 'all')
    assert every.total() == 200 and foreign(tmp_path / 'all') == every
    assert every == readable(chunked(tmp_path / 'sound'))
    with Bag(path) as bag:
        assert sum(len(item) for block in bag.blocks(bag.topics) for item in block.values()) == 150
    assert any('with messages: 25 of /numbers from 1.500 to 1.980 s' in str(item) for item in bag.report.entries)


def test_of_a_chunk_that_cannot_be_opened_to_its_end_the_beginning_can_be_kept(tmp_path):
    path = chunked(tmp_path / 'bag')
    (file,) = path.glob('*.mcap')
    data = bytearray(file.read_bytes())
    _, end = scan(file).chunks[1]
    data[end - 40 : end] = bytes(40)
    file.write_bytes(data)
    found = recover(path, tmp_path / 'kept', unverified=True)
    assert 150 <= found.messages < 200
    assert recover(path, tmp_path / 'sound').messages == 150
    assert file.read_bytes() == data


@pytest.mark.parametrize('name', ['notes.txt', 'video.mp4', 'bag.mcap.gz'])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(100))
    with pytest.raises(BagError, match=r'(?s)\.mcap, \.db3, \.bag.*another file type'):
        recover(path)
    with pytest.raises(BagError, match=r'(?s)\.mcap, \.db3, \.bag.*another file type'):
        Bag(path)
