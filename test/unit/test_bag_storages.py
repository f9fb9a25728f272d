"""Any rosbag: every storage and compression gives the same numbers, and what is damaged is told of."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from ros_messages import MILLISECOND, STORE, command, mark, state, write_bag, write_ros1
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_recording import read_recording
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.decode.conversion_report import ConversionReport

MODES = [
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
]


def contract() -> Contract:
    """Joints a and b, at 100 Hz."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    return Contract.model_validate({**values, 'policy_rate': 100.0})


def messages(count: int, start: int = 0) -> list:
    """One demonstration: states every 10 ms, each answered by a command."""
    rows = [('/episode', start, mark(start, 'start', index='0'))]
    for number in range(count):
        stamp = start + number * 10 * MILLISECOND
        rows.append(('/joint_states', stamp, state(stamp, ['b', 'x', 'a'], [-number, 9, number])))
        rows.append(('/arm_controller/commands', stamp, command([number + 0.5, -number - 0.5])))
    return [*rows, ('/episode', start + count * 10 * MILLISECOND, mark(start + count * 10 * MILLISECOND, 'end'))]


def check(path, count: int) -> ConversionReport:
    """Read a bag, compare every number, and return what was odd."""
    report = ConversionReport()
    recording = read_recording(path, contract(), report=report)
    numbers = np.arange(count)
    np.testing.assert_array_equal(recording.measured.values, np.stack([numbers, -numbers], axis=1))
    np.testing.assert_array_equal(recording.measured.stamps, numbers * 10 * MILLISECOND)
    np.testing.assert_array_equal(np.abs(recording.commanded.values), (numbers + 0.5)[:, None].repeat(2, axis=1))
    assert [item.event for item in recording.marks] == ['start', 'end']
    return report


@pytest.mark.parametrize(('storage', 'mode'), MODES, ids=lambda item: item.name)
def test_every_storage_and_compression_gives_the_same_numbers(tmp_path, storage, mode):
    report = check(write_bag(tmp_path / 'bag', messages(5000), storage, mode), 5000)
    assert not report.entries
    assert report.read == {'/joint_states': 5000, '/arm_controller/commands': 5000, '/episode': 2}


def test_a_bag_of_ros_1_gives_the_same_numbers(tmp_path):
    assert not check(write_ros1(tmp_path / 'one.bag', 5000), 5000).entries


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=lambda item: item.name)
def test_a_single_file_of_a_bag_will_do(tmp_path, storage):
    path = write_bag(tmp_path / 'bag', messages(50), storage)
    suffix = 'mcap' if storage == StoragePlugin.MCAP else 'db3'
    report = check(next(path.glob(f'*.{suffix}')), 50)
    assert not [entry for entry in report.entries if entry.kind != 'note']


def test_a_split_bag_is_read_in_the_order_of_its_metadata(tmp_path):
    rows = messages(100)
    first = write_bag(tmp_path / 'first', rows[:101])
    second = write_bag(tmp_path / 'second', rows[101:])
    shutil.move(second / 'second.mcap', first / 'a_second.mcap')
    information = yaml.safe_load((first / 'metadata.yaml').read_text())
    inner = information['rosbag2_bagfile_information']
    inner['relative_file_paths'] = ['first.mcap', 'a_second.mcap']
    inner.pop('files', None)
    for item, count in zip(inner['topics_with_message_count'], (2, 100, 100)):
        item['message_count'] = count
    (first / 'metadata.yaml').write_text(yaml.safe_dump(information))
    assert not check(first, 100).entries
    (first / 'a_second.mcap').unlink()
    report = ConversionReport()
    read_recording(first, contract(), report=report)
    assert any('a_second.mcap is listed' in str(entry) for entry in report.entries)


def test_a_chunk_of_lz4_is_read(tmp_path):
    with (tmp_path / 'one.mcap').open('wb') as file:
        writer = McapWriter(file, chunk_size=1000, compression=CompressionType.LZ4)
        writer.start('ros2')
        schemas, channels = {}, {}
        for topic, stamp, message in messages(100):
            kind = message.__msgtype__
            if topic not in channels:
                text = STORE.generate_msgdef(kind, ros_version=2)[0]
                schemas[kind] = writer.register_schema(kind, 'ros2msg', text.encode())
                channels[topic] = writer.register_channel(topic, 'cdr', schemas[kind])
            writer.add_message(channels[topic], stamp, bytes(STORE.serialize_cdr(message, kind)), stamp)
        writer.finish()
    assert not check(tmp_path / 'one.mcap', 100).entries


def test_a_bag_without_metadata_is_read_and_told_of(tmp_path):
    path = write_bag(tmp_path / 'bag', messages(50), compression=CompressionMode.MESSAGE)
    (path / 'metadata.yaml').write_text('nonsense: [')
    assert 'metadata.yaml cannot be read' in str(check(path, 50).entries[0])


def test_rows_that_lie_in_the_journal_of_a_killed_recorder_are_read(tmp_path):
    path = write_bag(tmp_path / 'bag', messages(50), StoragePlugin.SQLITE3)
    file = next(path.glob('*.db3'))
    connection = sqlite3.connect(file)
    connection.execute('PRAGMA journal_mode=WAL')
    connection.execute('PRAGMA wal_autocheckpoint=0')
    connection.execute('INSERT INTO messages SELECT id + 999, topic_id, timestamp, data FROM messages WHERE id = 5')
    connection.commit()
    killed = tmp_path / 'killed'
    shutil.copytree(path, killed)
    connection.close()
    report = ConversionReport()
    with Bag(killed, report) as bag:
        assert sum(len(item) for block in bag.blocks(bag.topics) for item in block.values()) == 103
    assert any('journal' in str(entry) for entry in report.entries)


def test_a_type_that_is_not_known_is_read_by_the_definition_in_the_bag(tmp_path):
    store = get_typestore_with('my/msg/Grip', 'std_msgs/Header header\nmy/Finger[2] fingers\nstring<=10 mode\n')
    finger = store.types['my/msg/Finger']
    rows = messages(20)
    for number in range(20):
        stamp = number * 10 * MILLISECOND
        fingers = [finger(number, 2 * number), finger(3 * number, 4 * number)]
        top = store.types['std_msgs/msg/Header'](store.types['builtin_interfaces/msg/Time'](0, stamp), 'hand')
        rows.append(('/grip', stamp, store.types['my/msg/Grip'](top, fingers, 'x' * (number % 3))))
    path = write_bag(tmp_path / 'bag', rows, store=store)
    values = contract().model_dump(mode='json')
    grip = {'name': 'grip', 'topic': 'grip', 'type': 'my/msg/Grip', 'stamp': 'header', 'fields': ['fingers[1].width']}
    values |= {'schema_version': 2, 'observation': [*values['observation'], grip]}
    recording = read_recording(path, Contract.model_validate(values))
    np.testing.assert_array_equal(recording.streams['grip'].values[:, 0], 3 * np.arange(20))


def get_typestore_with(name: str, text: str):
    """Return a typestore that also knows my/Grip."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg('float32 width\nuint8 force\n', 'my/msg/Finger'))
    store.register(get_types_from_msg(text, name))
    return store


def test_bits_that_flip_in_a_chunk_with_a_checksum_lose_that_chunk_and_are_reported(tmp_path):
    rows = messages(2000)
    path = tmp_path / 'bag'
    with BagWriter(path, {topic: message.__msgtype__ for topic, _, message in rows}) as bag:
        for number, (topic, stamp, message) in enumerate(rows):
            bag.write(topic, stamp, bytes(STORE.serialize_cdr(message, message.__msgtype__)))
            if number % 1000 == 999:
                bag.flush()
    file = next(path.glob('*.mcap'))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    report = ConversionReport()
    recording = read_recording(path, contract(), report=report)
    kinds = {entry.kind for entry in report.entries}
    assert 'part' in kinds and file.name in str(report.entries[0]) and 'byte' in str(report.entries[0])
    missing = report.dropped('message', '/joint_states')
    assert missing == 2000 - len(recording.measured.stamps) > 400


@pytest.mark.parametrize('share', [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=lambda item: item.name)
def test_a_truncated_bag_gives_what_is_left_and_counts_the_rest(tmp_path, storage, share):
    path = write_bag(tmp_path / 'bag', messages(3000), storage)
    file = next(item for item in path.iterdir() if item.suffix != '.yaml')
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    report = ConversionReport()
    try:
        recording = read_recording(path, contract(), report=report)
    except BagError as error:
        assert str(path) in str(error) or file.name in str(error)
        return
    assert report.dropped('message', '/joint_states') == 3000 - len(recording.measured.stamps)
    assert report.entries


def test_messages_of_another_type_on_the_topic_are_counted(tmp_path):
    path = write_bag(tmp_path / 'bag', messages(10))
    rows = [('/joint_states', 5, command([1.0]))]
    other = write_bag(tmp_path / 'other', rows)
    shutil.move(other / 'other.mcap', path / 'other.mcap')
    information = yaml.safe_load((path / 'metadata.yaml').read_text())
    information['rosbag2_bagfile_information']['relative_file_paths'].append('other.mcap')
    (path / 'metadata.yaml').write_text(yaml.safe_dump(information))
    report = ConversionReport()
    recording = read_recording(path, contract(), report=report)
    assert len(recording.measured.stamps) == 10
    (entry,) = report.entries
    assert 'their type is std_msgs/msg/Float64MultiArray, not sensor_msgs/msg/JointState' in str(entry)
    assert (entry.where, entry.count, 'of other.mcap' in entry.place) == ('/joint_states', 1, True)
