"""Definitions of every legal form, of bags and of folders, and what a topic is serialised as."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType, IndexType, Writer
from ros_messages import MILLISECOND, STORE, command, state
from rosbags.typesys import Stores, get_typestore

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_definitions import SEARCH_PATH, definitions_of, search_in
from vdd_ros.data.bag.bag_recording import read_recording
from vdd_ros.data.bag.recovery import recover
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.serialized import FieldType, Undecodable, walk
from vdd_ros.data.quality.check import check as judge
from vdd_ros.data.quality.draft import draft
from vdd_ros.data.quality.inspection import inspect
from vdd_ros.data.quality.survey import survey

ROS1 = get_typestore(Stores.ROS1_NOETIC)
RULE = '=' * 80 + '\n'
NUMBER, REAL = FieldType('float64'), FieldType('float32')
IDL_TIME = 'module builtin_interfaces { module msg { struct Time { int32 sec; uint32 nanosec; }; }; };\n'
IDL = (
    RULE + 'IDL: my_gripper/msg/State\n// generated\n#include "builtin_interfaces/msg/Time.idl"\nmodule my_gripper {\n'
    '  module msg {\n    module State_Constants {\n      const uint8 OPEN = 1;\n    };\n'
    '    @verbatim (language="comment", text=\n      "Opening." "\\n"\n      "With a stamp.")\n    struct State {\n'
    '      builtin_interfaces::msg::Time stamp;\n      @unit (value="m")\n      double opening;\n'
    '      @default (value=0.0)\n      float force;\n      sequence<double, 4> pads;\n      string<16> mode;\n'
    '      double corners[2];\n    };\n  };\n};\n'
)
IDL_FIELDS = (
    ('stamp', FieldType('builtin_interfaces/msg/Time')),
    ('opening', NUMBER),
    ('force', REAL),
    ('pads', FieldType('float64', 0)),
    ('mode', FieldType('string')),
    ('corners', FieldType('float64', 2)),
)
OPENING = (('opening', NUMBER), ('force', NUMBER))


@pytest.mark.parametrize(
    ('encoding', 'text', 'fields'),
    [
        ('ros2idl', IDL + RULE + 'IDL: builtin_interfaces/msg/Time\n' + IDL_TIME, IDL_FIELDS),
        ('ros2idl', IDL + RULE + 'MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n', IDL_FIELDS),
        ('ros2idl', (IDL + RULE + 'IDL: builtin_interfaces/msg/Time\n' + IDL_TIME).replace('\n', '\r\n'), IDL_FIELDS),
        ('ros2msg', '# state\r\nfloat64 opening\r\nfloat64 force # N\r\n', OPENING),
        ('ros2msg', '\ufefffloat64\topening\nfloat64 force', OPENING),
        ('ros1msg', 'float64 opening\nfloat64 force\n', OPENING),
    ],
)
def test_a_definition_of_any_form_is_read(encoding, text, fields):
    report = ConversionReport()
    found = definitions_of('my_gripper/msg/State', encoding, text, report, ros1=encoding == 'ros1msg')
    assert found['my_gripper/msg/State'] == fields and not report.entries


def test_actions_keep_their_names():
    text = 'float64 opening\n' + RULE + 'MSG: my_gripper/Pad\nfloat64 force\n'
    found = definitions_of('my_gripper/action/Grip_FeedbackMessage', 'ros2msg', text, ConversionReport(), ros1=False)
    assert found['my_gripper/action/Grip_FeedbackMessage'] == (('opening', NUMBER),)


def test_what_cannot_be_decoded_is_named():
    known = definitions_of('a/msg/B', 'ros2msg', 'wstring word\n', ConversionReport(), ros1=False)
    for data, kind, printed in (
        (b'\0\1\0\0' + bytes(8), 'a/msg/B', 'word is a wstring'),
        (b'\0\7\0\0' + bytes(8), 'std_msgs/msg/Float64', r'serialised as XCDR2 \(0x0007\), not as plain CDR'),
        (b'\0\3\0\0' + bytes(8), 'std_msgs/msg/Float64', 'parameter list CDR'),
        (b'\0\1\0\0' + bytes(8), 'a/msg/C', 'no definition of a/msg/C; give the folder of its package'),
    ):
        with pytest.raises(Undecodable, match=printed):
            walk(data, kind, known)


def contract(kind: str = 'my_gripper/msg/State') -> Contract:
    """Joints a and b at 100 Hz, and the opening of a gripper."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    grip = {'name': 'grip', 'topic': 'gripper', 'type': kind, 'stamp': 'receive', 'fields': ['opening']}
    values |= {'schema_version': 2, 'observation': [*values['observation'], grip], 'policy_rate': 100.0}
    values['episodes'] = {'by': 'bag'}
    return Contract.model_validate(values)


def rows(count: int = 30) -> list[tuple[str, int, bytes]]:
    """States, commands, and openings of a gripper that no one but the bag knows."""
    found = []
    for number in range(count):
        stamp = number * 10 * MILLISECOND
        found.append(('/joint_states', stamp, cdr(state(stamp, ['b', 'a'], [-number, number]))))
        found.append(('/arm_controller/commands', stamp, cdr(command([number, -number]))))
        found.append(('/gripper', stamp, b'\0\1\0\0' + struct.pack('<dd', number / 8, 2.0)))
    return found


def cdr(message: object) -> bytes:
    """Serialise."""
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


KINDS = {
    '/joint_states': 'sensor_msgs/msg/JointState',
    '/arm_controller/commands': 'std_msgs/msg/Float64MultiArray',
    '/gripper': 'my_gripper/msg/State',
}
TEXT = 'float64 opening\nfloat64 force\n'


def mcap(
    path: Path, *, ros1: bool = False, encoding: str = '', xcdr2: bool = False, grip: str = '', **options: object
) -> Path:
    """Write them as one MCAP file of any layout, with a type of the gripper's messages."""
    path.mkdir(parents=True)
    with (path / 'bag_0.mcap').open('wb') as file:
        writer = Writer(file, **{'chunk_size': 2000, 'compression': CompressionType.NONE, **options})
        writer.start('ros1' if ros1 else 'ros2')
        channels = {}
        for topic, kind in (KINDS | ({'/gripper': grip} if grip else {})).items():
            store, version = (ROS1, 1) if ros1 else (STORE, 2)
            text = TEXT if topic == '/gripper' else store.generate_msgdef(kind, ros_version=version)[0]
            name = kind.replace('/msg/', '/') if ros1 else kind
            schema = writer.register_schema(name, 'ros1msg' if ros1 else 'ros2msg', text.encode())
            channels[topic] = writer.register_channel(topic, encoding or ('ros1' if ros1 else 'cdr'), schema)
        for topic, stamp, data in rows():
            if ros1:
                data = data[4:] if topic == '/gripper' else bytes(STORE.cdr_to_ros1(data, KINDS[topic]))
            data = b'\0\7' + data[2:] if xcdr2 else data
            writer.add_message(channels[topic], stamp, data, stamp)
        writer.finish()
    return path


def sqlite(path: Path) -> Path:
    """Write them as Humble does: sqlite3, without definitions."""
    path.mkdir()
    insert = 'INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)'
    with sqlite3.connect(path / 'bag_0.db3') as base:
        base.execute('CREATE TABLE topics(id INTEGER, name TEXT, type TEXT, serialization_format TEXT, qos TEXT)')
        base.execute('CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)')
        numbers = {topic: number for number, topic in enumerate(KINDS)}
        for topic, kind in KINDS.items():
            base.execute('INSERT INTO topics VALUES (?, ?, ?, ?, ?)', (numbers[topic], topic, kind, 'cdr', ''))
        for topic, stamp, data in rows():
            base.execute(insert, (numbers[topic], stamp, data))
    base.close()
    return path


def check(path: Path, kind: str = 'my_gripper/msg/State') -> None:
    """Read and compare every number."""
    recording = read_recording(path, contract(kind))
    numbers = np.arange(30.0)
    np.testing.assert_array_equal(recording.streams['grip'].values[:, 0], numbers / 8)
    np.testing.assert_array_equal(recording.measured.values, np.stack([numbers, -numbers], axis=1))


def test_the_feedback_of_an_action_is_read_like_any_message(tmp_path):
    kind = 'my_gripper/action/Grip_FeedbackMessage'
    assert contract(kind).topic_features[0].type == kind
    check(mcap(tmp_path / 'bag', grip=kind), kind)


def test_a_bag_of_ros_1_inside_of_mcap_is_read_with_its_own_types(tmp_path):
    check(mcap(tmp_path / 'bag', ros1=True))


@pytest.mark.parametrize('installed', [False, True])
def test_types_that_a_bag_does_not_define_are_read_by_a_folder_of_definitions(tmp_path, monkeypatch, installed):
    monkeypatch.delenv(SEARCH_PATH, raising=False)
    path = sqlite(tmp_path / 'bag')
    with pytest.raises(BagError, match='no definition of my_gripper/msg/State; give the folder'):
        read_recording(path, contract())
    package = tmp_path / 'prefix' / 'share' / 'my_gripper' / 'msg'
    package.mkdir(parents=True)
    (package / 'State.msg').write_text(TEXT)
    if installed:
        monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    else:
        monkeypatch.setenv(SEARCH_PATH, '')
        search_in([tmp_path / 'prefix'])
    check(path)


def test_a_folder_without_definitions_is_refused_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(SEARCH_PATH, '')
    path = sqlite(tmp_path / 'bag')
    assert main(['inspect', str(path), '--definitions', str(tmp_path / 'none')]) == 2
    assert 'no such folder' in capsys.readouterr().err
    assert os.environ[SEARCH_PATH] == ''


@pytest.mark.parametrize(
    ('encoding', 'xcdr2', 'name'),
    [('json', False, 'JSON'), ('protobuf', False, 'protobuf'), ('cdr', True, r'XCDR2 \(0x0007\)')],
    ids=['json', 'protobuf', 'xcdr2'],
)
def test_what_is_not_serialised_as_plain_cdr_is_named_by_inspection_draft_and_check(
    tmp_path, capsys, encoding, xcdr2, name
):
    path = mcap(tmp_path / 'bag', encoding=encoding, xcdr2=xcdr2)
    with pytest.raises(BagError, match=f'serialised as {name}'):
        read_recording(path, contract())
    assert any(
        re.search(rf'serialised as {name}.*record it with rosbag2 as plain CDR', f'{item.text}; {item.remedy}')
        for item in inspect(path).findings
        if item.about == '/joint_states'
    )
    with pytest.raises(BagError, match=rf'(?s)serialised as {name}.*record the joint states with rosbag2 as plain CDR'):
        draft(survey(path, values=True))
    assert any(re.search(f'measured: .*serialised as {name}', item) for item in judge(path, contract()).complaints)
    assert main(['inspect', str(path)]) == 0
    assert re.search(name.partition(' ')[0], capsys.readouterr().out)


def test_a_topic_of_two_types_is_of_the_one_with_most_messages(tmp_path):
    path = tmp_path / 'bag'
    path.mkdir()
    with (path / 'bag_0.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start('ros2')
        for kind, count in (('std_msgs/msg/String', 3), ('std_msgs/msg/Float64', 20)):
            schema = writer.register_schema(kind, 'ros2msg', STORE.generate_msgdef(kind, ros_version=2)[0].encode())
            channel = writer.register_channel('/value', 'cdr', schema)
            for stamp in range(count):
                writer.add_message(channel, stamp, b'\0\1\0\0' + bytes(8), stamp)
        writer.finish()
    report = ConversionReport()
    with Bag(path, report) as bag:
        assert bag.topics['/value'].type == 'std_msgs/msg/Float64'
        assert sum(len(block['/value']) for block in bag.blocks(['/value']) if block) == 20
    assert report.dropped('message', '/value') == 3


def test_an_empty_payload_on_a_topic_with_headers_is_counted_and_hurts_no_inspection(tmp_path, capsys):
    path = tmp_path / 'bag'
    path.mkdir()
    with (path / 'bag_0.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start('ros2')
        kind = 'sensor_msgs/msg/JointState'
        schema = writer.register_schema(kind, 'ros2msg', STORE.generate_msgdef(kind, ros_version=2)[0].encode())
        channel = writer.register_channel('/joint_states', 'cdr', schema)
        for stamp in range(0, 300 * MILLISECOND, 10 * MILLISECOND):
            writer.add_message(channel, stamp, cdr(state(stamp, ['a'], [1.0])), stamp)
        writer.add_message(channel, stamp + 1, b'', stamp + 1)
        writer.finish()
    assert main(['inspect', str(path)]) == 0
    assert 'too short for a header' in ' '.join(capsys.readouterr().out.split())


def test_a_folder_of_bags_is_named_as_such_with_brackets_in_its_name(tmp_path, capsys):
    for name in ('one', 'two'):
        mcap(tmp_path / 'take[red]' / name)
    assert main(['inspect', str(tmp_path / 'take[red]')]) == 2
    printed = capsys.readouterr().err.replace('\n', '')
    assert '2 folders of bags' in printed and 'take[red]/*' in printed


SUMMARIES = ('repeat_channels', 'repeat_schemas', 'use_statistics', 'use_summary_offsets', 'enable_crcs')
INDICES = (IndexType.ALL, IndexType.NONE, IndexType.CHUNK, IndexType.MESSAGE, IndexType.CHUNK | IndexType.MESSAGE)


@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('index', INDICES, ids=str)
def test_every_layout_of_an_mcap_file_is_read_and_is_whole(tmp_path, chunked, index):
    for number, flags in enumerate(itertools.product([False, True], repeat=len(SUMMARIES))):
        path = mcap(tmp_path / f'{number}', use_chunking=chunked, index_types=index, **dict(zip(SUMMARIES, flags)))
        with Bag(path) as bag:
            assert {name: info.type for name, info in bag.topics.items()} == KINDS
            assert sum(len(item) for block in bag.blocks(bag.topics) for item in block.values()) == 90
        found = recover(path)
        assert found.path == path and found.messages == 90 and found.closed and not found.damages
        shutil.rmtree(path)
