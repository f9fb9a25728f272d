"""Bags that were not closed: what was flushed comes back, and what is lost is told."""

from __future__ import annotations

import io
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_metadata import partial_path
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.bag.mcap_copy import scan
from vdd_ros.data.bag.recovery import recover, settle, settle_all

STORE = get_typestore(Stores.ROS2_HUMBLE)
TOPICS = {'/numbers': 'std_msgs/msg/Float64', '/words': 'std_msgs/msg/String'}
CHUNK = 50

# Writes a bag as the recorder does, flushing every so many messages, says how many are flushed, and never closes it.
WRITER = """
import sys
from vdd_ros.data.bag.bag_writer import BagWriter
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
    number_type, word_type = STORE.types['std_msgs/msg/Float64'], STORE.types['std_msgs/msg/String']
    with BagWriter(path, TOPICS) as writer:
        for number in range(count):
            topic, message = (
                ('/words', word_type(f'{number}')) if number % 2 else ('/numbers', number_type(float(number)))
            )
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
    ends = [end for _, end in scan(_file(tmp_path / 'whole')).chunks]
    # Around every record's end, and in between: a chunk counts as soon as its last byte is there.
    around = (end + step for end in ends for step in (0, 1))
    cuts = sorted({ends[0], len(whole), *range(ends[0], len(whole), 97), *around})
    for cut in cuts:
        path = tmp_path / f'cut{cut}'
        path.mkdir()
        (path / 'cut_0.mcap').write_bytes(whole[:cut])
        found = recover(path)
        kept = CHUNK * sum(end <= cut for end in ends)
        assert found.messages == kept
        assert found.path == (path if cut == len(whole) else tmp_path / f'cut{cut}_recovered')
        assert (path / 'cut_0.mcap').read_bytes() == whole[:cut]
        assert _stamps(found.path) == list(range(kept))
        with _file(found.path).open('rb') as file:
            assert make_reader(file, validate_crcs=True).get_summary().statistics.message_count == kept
        assert sum(damage.size for _, damage in found.damages) < len(whole)


def test_what_was_recovered_is_whole_and_is_left_alone(tmp_path):
    path = _write(tmp_path / 'bag')
    _file(path).write_bytes(_file(path).read_bytes()[:-400])
    first = recover(path)
    written = {item.name: item.read_bytes() for item in first.path.iterdir()}
    second = recover(first.path)
    assert first.messages == second.messages == 4 * CHUNK
    assert first.lost_bytes > 0 and first.original == path
    assert second.path == first.path and not second.damages and second.closed and second.original is None
    assert {item.name: item.read_bytes() for item in first.path.iterdir()} == written
    assert sorted(item.name for item in tmp_path.iterdir()) == ['bag', 'bag_recovered']


def test_a_bag_that_lacks_its_metadata_alone_gets_it(tmp_path):
    path = _write(tmp_path / 'bag')
    before = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').unlink()
    assert recover(path).path == path
    assert yaml.safe_load((path / 'metadata.yaml').read_text()) == yaml.safe_load(before)


def test_a_damaged_chunk_is_reported_with_its_messages_and_left_out(tmp_path):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    data = bytearray(file.read_bytes())
    begin, end = scan(file).chunks[1]
    data[end - 20] ^= 1
    file.write_bytes(data)
    found = recover(path, tmp_path / 'copy')
    assert file.read_bytes() == data
    assert found.lost_messages == CHUNK and found.damages[0][1].offset == begin
    assert _stamps(tmp_path / 'copy') == [*range(CHUNK), *range(2 * CHUNK, 4 * CHUNK)]
    assert f'{CHUNK} messages could not be read' in str(found)


@pytest.mark.parametrize('place', [1, 4, 8])
def test_a_bit_in_the_length_of_a_chunk_costs_no_message(tmp_path, place):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    data = bytearray(file.read_bytes())
    data[scan(file).chunks[2][0] + place] ^= 1
    file.write_bytes(data)
    with Bag(path) as bag:
        assert sum(len(item) for block in bag.blocks(bag.topics) for item in block.values()) == 4 * CHUNK
    found = recover(path)
    assert found.messages == 4 * CHUNK and found.damages
    assert _stamps(found.path) == list(range(4 * CHUNK))
    assert file.read_bytes() == data


def test_a_file_without_index_whose_first_chunk_is_damaged_keeps_the_definitions_of_that_chunk(tmp_path):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    _, end = scan(file).chunks[0]
    data = bytearray(file.read_bytes()[: scan(file).chunks[3][1]])
    data[end - 5] ^= 16
    file.write_bytes(data)
    (path / 'metadata.yaml').unlink()
    assert _stamps(recover(path).path) == list(range(CHUNK, 4 * CHUNK))


def _odd(path: Path) -> tuple[Path, bytes]:
    """Write a file with what others leave out: JSON, ROS 1, no schema, an attachment, metadata, an unknown record."""
    path.mkdir()
    file = path / 'odd_0.mcap'
    with file.open('wb') as opened:
        writer = McapWriter(opened, chunk_size=1000, compression=CompressionType.LZ4)
        writer.start('', 'odd')
        ros1 = writer.register_schema('std_msgs/String', 'ros1msg', b'string data\n')
        channels = [
            writer.register_channel('/ros1', 'ros1', ros1, {'md5sum': 'x'}),
            writer.register_channel('/json', 'json', 0, {'web': 'yes'}),
        ]
        writer.add_attachment(1, 2, 'calibration.yaml', 'application/yaml', b'offset: 1\n' * 30)
        writer.add_metadata('operator', {'name': 'Ada'})
        writer._Writer__flush()
        opened.write(b'\x93' + (5).to_bytes(8, 'little') + b'other')
        for number in range(100):
            writer.add_message(channels[number % 2], number, b'%d' % number * 20, number + 1, number)
        writer.finish()
    return path, file.read_bytes()


def test_other_encodings_attachments_metadata_and_unknown_records_are_copied_unchanged(tmp_path):
    path, whole = _odd(tmp_path / 'bag')
    file = path / 'odd_0.mcap'
    file.write_bytes(whole[:-300])
    found = recover(path)
    copy = found.path / 'odd_0.mcap'
    assert b'\x93' + (5).to_bytes(8, 'little') + b'other' in copy.read_bytes()
    with copy.open('rb') as one, io.BytesIO(whole) as other:
        new, old = make_reader(one, validate_crcs=True), make_reader(other)
        assert [*new.iter_attachments()] == [*old.iter_attachments()]
        assert [*new.iter_metadata()] == [*old.iter_metadata()]
        assert [(c, m) for _, c, m in new.iter_messages()] == [(c, m) for _, c, m in old.iter_messages()]
        assert new.get_header() == old.get_header()
        summary = new.get_summary()
        assert (summary.statistics.attachment_count, summary.statistics.metadata_count) == (1, 1)
    topics = yaml.safe_load((found.path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    kinds = {item['topic_metadata']['name']: item['topic_metadata'] for item in topics['topics_with_message_count']}
    assert {name: (item['type'], item['serialization_format']) for name, item in kinds.items()} == {
        '/ros1': ('std_msgs/String', 'ros1'), '/json': ('', 'json')
    }  # fmt: skip


def test_files_beside_and_compression_in_the_metadata_are_kept(tmp_path):
    path = _write(tmp_path / 'bag')
    (path / 'notes').mkdir()
    (path / 'notes' / 'day.txt').write_text('sunny')
    information = yaml.safe_load((path / 'metadata.yaml').read_text())
    reported = information['rosbag2_bagfile_information']
    reported |= {'compression_format': 'zstd', 'compression_mode': 'MESSAGE', 'custom_data': {'robot': 'left'}}
    reported['topics_with_message_count'][0]['topic_metadata']['offered_qos_profiles'] = 'reliable'
    (path / 'metadata.yaml').write_text(yaml.safe_dump(information))
    _file(path).write_bytes(_file(path).read_bytes()[: scan(_file(path)).chunks[1][1]])
    found = recover(path)
    new = yaml.safe_load((found.path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert (found.path / 'notes' / 'day.txt').read_text() == 'sunny'
    assert {key: new[key] for key in ('compression_mode', 'custom_data')} == {
        'compression_mode': 'MESSAGE', 'custom_data': {'robot': 'left'}
    }  # fmt: skip
    assert new['topics_with_message_count'][0]['topic_metadata']['offered_qos_profiles'] == 'reliable'
    assert new['message_count'] == 2 * CHUNK


@pytest.mark.parametrize('version', [5, 9])
def test_what_a_careless_tool_has_left_empty_in_the_metadata_does_not_make_the_recovered_bag_unreadable(
    tmp_path, version
):
    path = _write(tmp_path / 'bag')
    empty = dict.fromkeys(('topics_with_message_count', 'compression_format', 'compression_mode', 'custom_data'))
    information = {'version': version, 'storage_identifier': '', 'relative_file_paths': [_file(path).name], **empty}
    (path / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': information}))
    _file(path).write_bytes(_file(path).read_bytes()[: scan(_file(path)).chunks[1][1]])
    with AnyReader([recover(path).path]) as reader:
        assert sum(1 for _ in reader.messages()) == 2 * CHUNK


def test_a_file_that_another_recorder_still_writes_is_refused(tmp_path):
    path = _write(tmp_path / 'bag')
    whole = _file(path).read_bytes()
    with _file(path).open('wb') as growing:
        growing.write(whole[:-1000])
        growing.flush()
        with pytest.raises(BagError, match='found one that is being written; stop the recorder'):
            recover(path)
        growing.write(whole[-1000:])
    assert _file(path).read_bytes() == whole
    assert recover(path).messages == 4 * CHUNK


def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_nothing(tmp_path):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1000])
    with pytest.raises(BagError, match='found one that is being written'):
        recover(path, progress=lambda share: share > 0.9 and file.write_bytes(whole))
    assert sorted(item.name for item in tmp_path.iterdir()) == ['bag']


def test_an_mcap_file_on_its_own_is_recovered_beside_it(tmp_path):
    source = _file(_write(tmp_path / 'bag'))
    single = tmp_path / 'single.mcap'
    single.write_bytes(source.read_bytes()[:-500])
    found = recover(single)
    assert found.path == tmp_path / 'single_recovered.mcap' and found.path.is_file()
    assert len(_stamps(recover(single, tmp_path / 'as_a_bag').path)) == 4 * CHUNK


def test_an_occupied_output_is_refused(tmp_path):
    path = _write(tmp_path / 'bag')
    with pytest.raises(OutputError, match='already there; choose another path'):
        recover(path, path)


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
        printed = [process.stdout.readline()]
        while int(printed[-1]) < 1000:
            printed.append(process.stdout.readline())
        with pytest.raises(BagError, match='being recorded; stop the recorder'):
            settle(path)
        assert settle_all(tmp_path, path) == []
        process.kill()
        printed += [line for line in process.stdout if line.endswith('\n')]
        flushed = int(printed[-1])
    found = settle(path)
    assert found.path == path and found.messages >= flushed
    assert _stamps(path) == list(range(found.messages))
    assert [item.name for item in tmp_path.iterdir()] == ['bag']
    assert settle(path) is None


def test_what_is_cut_off_a_killed_recording_is_kept_and_one_that_is_damaged_within_is_kept_whole(tmp_path):
    for name in ('torn', 'damaged'):
        path = _write(tmp_path / name)
        (path / 'metadata.yaml').unlink()
        data = bytearray(_file(path).read_bytes()[:-1500])
        if name == 'damaged':
            data[scan(_file(path)).chunks[1][1] - 20] ^= 1
        _file(path).write_bytes(data)
        path.rename(partial_path(path))
        settle(path)
        if name == 'torn':
            end = scan(path / 'torn_0.mcap').torn_at or scan(path / 'torn_0.mcap').chunks[-1][1]
            cut = (path / 'torn_0.mcap.cut').read_bytes()
            assert data.endswith(cut) and (path / 'torn_0.mcap').read_bytes()[:end] == data[:end]
            assert (path / 'torn_0.mcap').read_bytes()[: len(data) - len(cut)] + cut == data
        else:
            assert (path / 'damaged_0.mcap.damaged').read_bytes() == data
            assert _stamps(path) == [*range(CHUNK), *range(2 * CHUNK, 4 * CHUNK)]
    assert sorted(item.name for item in tmp_path.iterdir()) == ['damaged', 'torn']


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
        with pytest.raises(OutputError, match='disk space for the bag .* free disk space'):
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


def test_the_command_reports_what_it_cut_and_what_is_left(tmp_path, capsys):
    path = _write(tmp_path / 'bag')
    file = _file(path)
    file.write_bytes(file.read_bytes()[:-1000])
    assert main(['recover', str(path)]) == 0
    printed = ''.join(capsys.readouterr().out.split())  # long paths are divided between lines
    assert 'bag_0.mcap:' in printed and 'truncated' in printed and 'messagesover0.0s' in printed
    assert f'{path}_recovered:' in printed and f'{path}isunchanged' in printed
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
def test_whatever_happens_to_a_file_what_can_be_read_does_not_become_less(tmp_path, seed):
    whole, chance = _file(_write(tmp_path / 'whole')).read_bytes(), random.Random(seed)
    outcomes = set()
    for number in range(40):
        path = tmp_path / f'bag{number}'
        path.mkdir()
        data = _spoiled(whole, chance)
        (path / 'bag_0.mcap').write_bytes(data)
        before = _readable(path)
        try:
            found = recover(path)
        except BagError as error:
            assert 'bag' in str(error) and not before
            outcomes.add('refused')
        else:
            outcomes.add('whole' if found.path == path else 'recovered')
            stamps = _stamps(found.path)
            assert len(stamps) == found.messages
            assert not before - Counter(stamps)
            assert found.damages or not found.closed or set(stamps) >= set(range(4 * CHUNK))
        assert (path / 'bag_0.mcap').read_bytes() == data
    assert outcomes >= {'recovered', 'refused'}


def _readable(path: Path) -> Counter:
    """Count stamps as the package reads them."""
    try:
        with Bag(path) as bag:
            blocks = [item for block in bag.blocks(bag.topics) for item in block.values()]
    except BagError:
        return Counter()
    return Counter(stamp for item in blocks for stamp in item.received.tolist())
