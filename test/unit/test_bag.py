"""Reading bags: joints by name, commands by order, and errors that say what to do."""

import shutil

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from vdd_ros.common.errors import BagError, OutputError, TrainingError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag.bag import fingerprint
from vdd_ros.data.bag.bag_recording import read_recording
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.demonstrations import load_demonstrations

STORE = get_typestore(Stores.ROS2_HUMBLE)
TOPICS = {
    '/joint_states': 'sensor_msgs/msg/JointState',
    '/arm_controller/commands': 'std_msgs/msg/Float64MultiArray',
    '/episode': 'diagnostic_msgs/msg/DiagnosticArray',
}


def _contract() -> Contract:
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    return Contract.model_validate(values)


def _make(kind: str, *arguments: object) -> object:
    return STORE.types[kind](*arguments)


def _header(stamp: int) -> object:
    time = _make('builtin_interfaces/msg/Time', stamp // 10**9, stamp % 10**9)
    return _make('std_msgs/msg/Header', time, '')


def _state(stamp: int, names: list[str], position: list[float]) -> object:
    return _make('sensor_msgs/msg/JointState', _header(stamp), names, np.array(position), np.array([]), np.array([]))


def _two(position: list[float]) -> object:
    return _state(1, ['a', 'b'], position)


def _command(values: list[float]) -> object:
    layout = _make('std_msgs/msg/MultiArrayLayout', [], 0)
    return _make('std_msgs/msg/Float64MultiArray', layout, np.array(values))


def _mark(stamp: int, event: str, **labels: str) -> object:
    values = [_make('diagnostic_msgs/msg/KeyValue', key, value) for key, value in labels.items()]
    status = _make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)
    return _make('diagnostic_msgs/msg/DiagnosticArray', _header(stamp), [status])


def _write(path, messages, topics=TOPICS):
    with BagWriter(path, topics) as bag:
        for topic, stamp, message in messages:
            bag.write(topic, stamp, bytes(STORE.serialize_cdr(message, topics[topic])))
    return path


def _whole(path):
    return _write(
        path,
        [
            ('/episode', 5, _mark(5, 'start', seed='1')),
            ('/joint_states', 11, _state(10, ['b', 'x', 'a'], [2.0, 9.0, 1.0])),
            ('/arm_controller/commands', 12, _command([3.0, 4.0])),
            ('/joint_states', 21, _state(20, ['a', 'b'], [5.0, 6.0])),
            ('/episode', 30, _mark(30, 'end', outcome='success')),
        ],
    )


def test_joints_are_matched_by_name_in_every_message(tmp_path):
    recording = read_recording(_whole(tmp_path / 'bag'), _contract())
    np.testing.assert_array_equal(recording.measured.values, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(recording.measured.stamps, [10, 20])


def test_commands_keep_the_order_of_the_controller_and_the_stamps_of_the_bag(tmp_path):
    recording = read_recording(_whole(tmp_path / 'bag'), _contract())
    np.testing.assert_array_equal(recording.commanded.values, [[3, 4]])
    assert recording.commanded.stamps.tolist() == [12]


def test_marks_carry_their_labels(tmp_path):
    start, end = read_recording(_whole(tmp_path / 'bag'), _contract()).marks
    assert (start.event, start.stamp, start.labels) == ('start', 5, {'seed': '1'})
    assert (end.event, end.labels) == ('end', {'outcome': 'success'})


def test_a_topic_under_a_namespace_is_found(tmp_path):
    topics = {f'/arm{topic}': kind for topic, kind in TOPICS.items()}
    path = _write(
        tmp_path / 'bag',
        [
            ('/arm/joint_states', 1, _state(1, ['a', 'b'], [1.0, 2.0])),
            ('/arm/arm_controller/commands', 2, _command([1.0, 2.0])),
        ],
        topics,
    )
    assert len(read_recording(path, _contract()).measured.stamps) == 1


@pytest.mark.parametrize(
    ('messages', 'reported'),
    [
        ([('/joint_states', 1, _state(1, ['a'], [1.0])), ('/arm_controller/commands', 2, _command([1.0, 2.0]))], "'b'"),
        ([('/joint_states', 1, _two([1])), ('/arm_controller/commands', 2, _command([1, 2]))], 'joint'),
        ([('/joint_states', 1, _two([1, 2])), ('/arm_controller/commands', 2, _command([1]))], '2 val'),
        ([('/joint_states', 1, _state(1, ['a', 'b'], [1.0, 2.0]))], 'messages on arm_controller/commands'),
    ],
)
def test_messages_that_do_not_fit_the_contract_are_refused_in_one_line(tmp_path, messages, reported):
    path = _write(tmp_path / 'bag', messages)
    with pytest.raises(BagError, match=reported) as caught:
        read_recording(path, _contract())
    assert '\n' not in str(caught.value)


def test_a_missing_topic_is_answered_with_those_that_are_there(tmp_path):
    topics = {'/something/else': 'std_msgs/msg/Float64MultiArray'}
    path = _write(tmp_path / 'bag', [('/something/else', 1, _command([1.0]))], topics)
    with pytest.raises(BagError, match='expected one topic joint_states .* found /something/else'):
        read_recording(path, _contract())


def test_a_topic_of_another_type_is_refused(tmp_path):
    topics = {**TOPICS, '/joint_states': 'std_msgs/msg/Float64MultiArray'}
    path = _write(tmp_path / 'bag', [('/joint_states', 1, _command([1.0]))], topics)
    with pytest.raises(BagError, match='expected sensor_msgs/msg/JointState'):
        read_recording(path, _contract())


def test_no_bag_at_the_path_is_an_error(tmp_path):
    with pytest.raises(BagError, match='nothing there'):
        read_recording(tmp_path / 'none', _contract())


def test_a_folder_that_is_no_bag_is_an_error(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'metadata.yaml').write_text('nonsense: [')
    with pytest.raises(BagError):
        read_recording(tmp_path / 'bag', _contract())


def test_a_bag_appears_whole_or_not_at_all(tmp_path):
    writer = BagWriter(tmp_path / 'bag', TOPICS)
    writer.open()
    writer.write('/joint_states', 1, bytes(STORE.serialize_cdr(_state(1, ['a'], [1.0]), TOPICS['/joint_states'])))
    assert not (tmp_path / 'bag').exists()
    assert writer.close()
    assert (tmp_path / 'bag' / 'metadata.yaml').exists()
    assert [item.name for item in tmp_path.iterdir()] == ['bag']


def test_an_occupied_place_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'bag').mkdir()
    with pytest.raises(OutputError, match='already there'):
        BagWriter(tmp_path / 'bag', TOPICS).open()
    assert [item.name for item in tmp_path.iterdir()] == ['bag']


def test_fingerprint_changes_with_a_single_byte(tmp_path):
    path = _whole(tmp_path / 'bag')
    before = fingerprint(path)
    file = next(path.glob('*.mcap'))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert fingerprint(path) != before


def test_the_order_of_joints_follows_a_publisher_that_changes_its_mind(tmp_path):
    states = [('/joint_states', n, _state(n, list(names), [1.0, 2.0])) for n, names in enumerate(('ba', 'ab', 'ba'))]
    path = _write(tmp_path / 'bag', [*states, ('/arm_controller/commands', 3, _command([1.0, 2.0]))])
    np.testing.assert_array_equal(read_recording(path, _contract()).measured.values, [[2, 1], [1, 2], [2, 1]])


def test_too_few_demonstrations_are_refused_with_their_number(tmp_path):
    bags = [_whole(tmp_path / name) for name in 'abcd']
    with pytest.raises(TrainingError, match='at least 5 successful demonstrations; found 4 in .*record more'):
        load_demonstrations(bags, _contract(), None, silent)
    bags.append(_whole(tmp_path / 'e'))
    assert load_demonstrations(bags, _contract(), None, silent).record.episodes == 5


def test_what_a_killed_recorder_left_is_read_where_it_lies_and_what_grows_is_not(tmp_path):
    writer = BagWriter(tmp_path / 'bag', TOPICS)
    writer.open()
    for stamp in range(3):
        for topic, message in (('/joint_states', _two([1, 2])), ('/arm_controller/commands', _command([1, 2]))):
            writer.write(topic, stamp, bytes(STORE.serialize_cdr(message, TOPICS[topic])))
    writer.flush()
    with pytest.raises(BagError, match='stop the recorder first'):
        read_recording(tmp_path / 'bag', _contract())
    shutil.copytree(tmp_path / '.bag.partial', tmp_path / '.killed.partial')
    report = ConversionReport()
    recording = read_recording(tmp_path / 'killed', _contract(), report=report)
    assert len(recording.commanded.stamps) == 3 and 'was not closed' in str(report.entries[0])
    assert len(fingerprint(tmp_path / 'killed')) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.bag.partial', '.killed.partial']
    writer.close()
