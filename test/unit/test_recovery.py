"""Bags that were not closed: what was flushed comes back, and what is lost is told."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vdd_ros.cli import main
from vdd_ros.data.bag_metadata import partial_path
from vdd_ros.data.bag_writer import BagWriter
from vdd_ros.data.mcap_file import scan
from vdd_ros.data.recovery import recover, settle, settle_all
from vdd_ros.errors import BagError, OutputError

STORE = get_typestore(Stores.ROS2_HUMBLE)
TOPICS = {'/numbers': 'std_msgs/msg/Float64', '/words': 'std_msgs/msg/String'}
CHUNK = 50

# Writes a bag as the recorder does, flushing every so many messages, says how many are flushed, and never closes it.
WRITER = """
import sys
from vdd_ros.data.bag_writer import BagWriter
writer = BagWriter(sys.argv[1], {'/numbers': 'std_msgs/msg/Float64'})
writer.open()
number = 0
while True:
    writer.write('/numbers', number, bytes.fromhex('00010000') + number.to_bytes(8, 'little'))
    number += 1
    if number % 100 == 0:
        writer.flush()
        sys.stdout.write(f'{number}\\n')
        sys.stdout.flush()
"""


def _write(path: Path, count: int = 4 * CHUNK) -> Path:
    """Write a bag in chunks of known size, a number and a word in turn."""
    Float64, String = STORE.types['std_msgs/msg/Float64'], STORE.types['std_msgs/msg/String']
    with BagWriter(path, TOPICS) as writer:
        for number in range(count):
            topic, message = ('/words', String(f'{number}')) if number % 2 else ('/numbers', Float64(float(number)))
            writer.write(topic, number, bytes(STORE.serialize_cdr(message, TOPICS[topic])))
            if (number + 1) % CHUNK == 0:
                writer.flush()
    return path


def _stamps(path: Path) -> list[int]:
    """Read all with a reader that is not the package's own, through the index."""
    with AnyReader([path]) as reader:
        return [stamp for _, stamp, _ in reader.messages()]


def _file(path: Path) -> Path:
    return next(path.glob('*.mcap'))


def test_a_file_cut_anywhere_keeps_every_chunk_before_the_cut(tmp_path):
    whole = _file(_write(tmp_path / 'whole')).read_bytes()
    ends = [
        chunk.chunk_start_offset + chunk.chunk_length for chunk in scan(_file(tmp_path / 'whole')).chunks
    ]
    # Around every record's end, and in between: a chunk counts as soon as its last byte is there.
    cuts = sorted({ends[0], len(whole), *range(ends[0], len(whole), 97), *(end + step for end in ends for step in (0, 1))})
    for cut in cuts:
        path = tmp_path / f'cut{cut}'
        path.mkdir()
        (path / 'cut_0.mcap').write_bytes(whole[:cut])
        found = recover(path)
        kept = CHUNK * sum(end <= cut for end in ends)
        assert found.messages == kept
        assert _stamps(path) == list(range(kept))
        with _file(path).open('rb') as file:
            assert make_reader(file, validate_crcs=True).get_summary().statistics.message_count == kept
        assert sum(damage.size for _, damage in found.damages) < len(whole)


def test_mending_twice_changes_nothing_more(tmp_path):
    path = _write(tmp_path / 'bag')
    whole = _file(path).read_bytes()
    (path / 'metadata.yaml').unlink()
    _file(path).write_bytes(whole[:-400])
    first = recover(path)
    mended = {item.name: item.read_bytes() for item in path.iterdir()}
    second = recover(path)
    assert first.messages == second.messages == 4 * CHUNK
    assert first.lost_bytes > 0 and not second.damages
    assert {item.name: item.read_bytes() for item in path.iterdir()} == mended


def test_a_damaged_chunk_is_told_of_with_its_messages_and_left_out_of_a_copy(tmp_path):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    data = bytearray(file.read_bytes())
    second = scan(file).chunks[1]
    data[second.chunk_start_offset + second.chunk_length - 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(BagError, match=f'only lacks its end; found .* at byte {second.chunk_start_offset} of bag_0.mcap'):
        recover(path)
    assert file.read_bytes() == data
    found = recover(path, tmp_path / 'copy')
    assert found.lost_messages == CHUNK
    assert _stamps(tmp_path / 'copy') == [*range(CHUNK), *range(2 * CHUNK, 4 * CHUNK)]
    assert f'{CHUNK} messages could not be read' in str(found)


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'nonsense' * 100])
def test_what_holds_no_message_is_refused(tmp_path, content):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'bag_0.mcap').write_bytes(content)
    with pytest.raises(BagError, match='messages in'):
        recover(tmp_path / 'bag')


def test_no_bag_at_the_path_is_refused(tmp_path):
    with pytest.raises(BagError, match='found nothing there'):
        recover(tmp_path / 'none')


def test_a_killed_writer_leaves_all_that_it_flushed_and_a_living_one_is_left_alone(tmp_path):
    path = tmp_path / 'bag'
    command = [sys.executable, '-c', WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        said = [process.stdout.readline()]
        while int(said[-1]) < 1000:
            said.append(process.stdout.readline())
        with pytest.raises(BagError, match='being recorded; stop the recorder'):
            settle(path)
        assert settle_all(tmp_path, path) == []
        process.kill()
        said += [line for line in process.stdout if line.endswith('\n')]
        flushed = int(said[-1])
    found = settle(path)
    assert found.path == path and found.messages >= flushed
    assert _stamps(path) == list(range(found.messages))
    assert [item.name for item in tmp_path.iterdir()] == ['bag']
    assert settle(path) is None


def test_a_new_recorder_finishes_what_killed_ones_left_and_keeps_its_own_place_free(tmp_path):
    for name in ('mine', 'other'):
        path = _write(tmp_path / name)
        (path / 'metadata.yaml').unlink()
        path.rename(partial_path(path))
    (tmp_path / '.empty.partial').mkdir()
    found = settle_all(tmp_path, tmp_path / 'mine')
    assert [item.path.name for item in found] == ['mine_recovered', 'other']
    assert sorted(item.name for item in tmp_path.iterdir()) == ['.empty.partial', 'mine_recovered', 'other']
    assert _stamps(tmp_path / 'mine_recovered') == list(range(4 * CHUNK))


def test_a_full_disk_ends_in_an_error_and_a_bag_of_what_it_took(tmp_path):
    noise = os.urandom(20_000).hex().encode()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = BagWriter(tmp_path / 'bag', TOPICS)
    written = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # to a process, as good as a disk that is full
    try:
        writer.open()
        with pytest.raises(OutputError, match='room for the bag .* make room'):
            while True:
                writer.write('/words', written, b'\x00\x01\x00\x00' + noise)
                written += 1
                writer.flush()
        assert writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 2 < writer.count < written + 1
    assert _stamps(tmp_path / 'bag') == list(range(writer.count))
    assert [item.name for item in tmp_path.iterdir()] == ['bag']


def test_a_type_that_is_not_of_ros_needs_its_definition(tmp_path):
    with pytest.raises(OutputError, match='the definition of strange_msgs/msg/Thing'):
        BagWriter(tmp_path / 'bag', {'/thing': 'strange_msgs/msg/Thing'}).open()
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_it_cut_and_what_is_left(tmp_path, capsys):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    file.write_bytes(file.read_bytes()[:-1000])
    assert main(['recover', str(path)]) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert 'bag_0.mcap: ' in said and 'breaks off' in said and 'messages over 0.0 s' in said
    assert main(['recover', str(tmp_path / 'none')]) == 2
    assert 'found nothing there' in capsys.readouterr().err


def _spoiled(whole: bytes, chance: random.Random) -> bytes:
    """Flip, cut, drop, repeat or wipe some of a file."""
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 3])):
        begin = chance.randrange(len(data))
        end = min(len(data), begin + chance.randrange(1, 600))
        kind = chance.choice(['flip', 'cut', 'drop', 'repeat', 'wipe'])
        if kind == 'flip':
            data[begin] ^= 1 << chance.randrange(8)
        elif kind == 'cut':
            del data[max(begin, 1) :]
        elif kind == 'drop' and end - begin < len(data):
            del data[begin:end]
        elif kind == 'repeat':
            data[begin:begin] = data[begin:end]
        else:
            data[begin:end] = bytes(end - begin)
    return bytes(data)


@pytest.mark.parametrize('seed', range(4))
def test_whatever_happens_to_a_file_it_is_mended_copied_or_refused_with_a_true_account(tmp_path, seed):
    whole, chance = _file(_write(tmp_path / 'whole')).read_bytes(), random.Random(seed)
    outcomes = set()
    for number in range(40):
        path = tmp_path / f'bag{number}'
        path.mkdir()
        (path / 'bag_0.mcap').write_bytes(_spoiled(whole, chance))
        try:
            found = recover(path)
        except BagError as error:
            assert 'bag' in str(error)
            try:
                found = recover(path, tmp_path / f'copy{number}')
            except BagError:
                outcomes.add('refused')
                continue
        outcomes.add('mended' if found.path == path else 'copied')
        stamps = _stamps(found.path)
        assert len(stamps) == found.messages
        assert found.damages or not found.closed or set(stamps) >= set(range(4 * CHUNK))
    assert outcomes == {'mended', 'copied', 'refused'}
