"""A whole bag looked at: by the command, in the terminal and as a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from vdd_ros.commands.cli import main
from vdd_ros.contract.contract import load_contract
from vdd_ros.contract.naming import action_changes, observation_names
from vdd_ros.data.bag.bag_metadata import partial_path
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.bag.mcap_copy import scan
from vdd_ros.data.quality.inspection import inspect

STORE = get_typestore(Stores.ROS2_HUMBLE)
TOPICS = {
    '/joint_states': 'sensor_msgs/msg/JointState',
    '/arm_controller/commands': 'std_msgs/msg/Float64MultiArray',
    '/episode': 'diagnostic_msgs/msg/DiagnosticArray',
    '/notes': 'std_msgs/msg/String',
}
JOINTS = [f'joint{number}' for number in range(1, 8)]
MS = 1_000_000
CLOCK = 25 * MS


def _make(kind: str, *values: object) -> object:
    return STORE.types[kind](*values)


def _header(stamp: int) -> object:
    time = _make('builtin_interfaces/msg/Time', stamp // 10**9, stamp % 10**9)
    return _make('std_msgs/msg/Header', time, '')


def _mark(stamp: int, event: str, **labels: object) -> object:
    values = [_make('diagnostic_msgs/msg/KeyValue', key, str(value)) for key, value in labels.items()]
    status = _make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)
    return _make('diagnostic_msgs/msg/DiagnosticArray', _header(stamp), [status])


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three demonstrations of two seconds at 100 Hz: one good, one with a pause of its sensor, one discarded."""
    path = tmp_path_factory.mktemp('bags') / 'bag'
    with BagWriter(path, TOPICS) as writer:

        def write(topic: str, stamp: int, message: object) -> None:
            writer.write(topic, stamp, bytes(STORE.serialize_cdr(message, TOPICS[topic])))

        for index in range(3):
            begin = (1 + 3 * index) * 1000 * MS
            write('/episode', begin, _mark(begin, 'start', index=index))
            for tick in range(200):
                stamp = begin + 10 * MS * tick
                position = np.full(7, 0.2 + 0.1 * np.sin(stamp / 1e9))
                if not (index == 1 and 100 <= tick < 130):
                    state = _make('sensor_msgs/msg/JointState', _header(stamp), JOINTS, position, *[np.zeros(0)] * 2)
                    write('/joint_states', stamp + CLOCK, state)
                layout = _make('std_msgs/msg/MultiArrayLayout', [], 0)
                write('/arm_controller/commands', stamp, _make('std_msgs/msg/Float64MultiArray', layout, position))
            write('/episode', begin + 2000 * MS, _mark(begin + 2000 * MS, 'end', index=index, outcome='success'))
            writer.flush()
        write('/episode', 11_000 * MS, _mark(11_000 * MS, 'discard', index=2, reason='dropped the <cup>'))
        write('/notes', 11_000 * MS, _make('std_msgs/msg/String', 'hello'))
    return path


def test_streams_are_measured_without_a_contract(bag):
    found = inspect(bag)
    streams = {stream.topic: stream for stream in found.streams}
    assert {topic: stream.count for topic, stream in streams.items()} == {
        '/joint_states': 570, '/arm_controller/commands': 600, '/episode': 7, '/notes': 1
    }  # fmt: skip
    assert streams['/joint_states'].rate == pytest.approx(100)
    assert streams['/joint_states'].clock_offset == pytest.approx(0.025)
    assert streams['/arm_controller/commands'].clock_offset is None
    assert len(streams['/joint_states'].gaps) == 3  # between demonstrations, too
    assert not found.episodes and not found.joints


def test_with_a_contract_demonstrations_and_joints_are_measured_and_what_was_dropped_is_reported(bag):
    found = inspect(bag, load_contract('avoiding_joint'))
    assert [episode.index for episode in found.episodes] == [0, 1]
    assert [(span.success, bool(span.dropped)) for span in found.spans] == [(True, False)] * 2 + [(True, True)]
    assert found.gaps['/joint_states'] == 1
    assert [joint.name for joint in found.joints] == JOINTS
    assert found.joints[0].high == pytest.approx(0.3, abs=1e-3)
    texts = [f'{item.about}: {item.text}' for item in found.findings]
    assert '/joint_states: 1 gap in episodes, the longest of 0.31 s in episode 1' in texts
    assert any(text.startswith('episode 2: 1 episode dropped: discarded by the operator') for text in texts)
    assert all(len(trace.values) and trace.values.shape[1] == 7 for trace in found.traces)


def test_names_and_changes_go_with_the_numbers_of_observation_and_action():
    contract = load_contract('avoiding_cartesian')
    assert observation_names(contract) == ['commanded x', 'commanded y']
    assert action_changes(contract).tolist() == [True, True]
    assert len(observation_names(load_contract('avoiding_joint'))) == 14


class _Page(HTMLParser):
    """Reads a page as a browser would: what it shows, and whatever it would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.text = ''

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        if tag == 'img':
            self.images.append(values['src'])
        self.loaded += [value for key, value in attributes if key in ('src', 'href') and not value.startswith('data:')]
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != 'style':
            self.text += data


def test_the_command_shows_a_table_and_writes_one_whole_page(bag, tmp_path, capsys):
    page = tmp_path / 'report.html'
    assert main(['inspect', str(bag), '--contract', 'avoiding_joint', '--html', str(page)]) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    for text in (
        '2 success, 1 discarded; 2 for training',
        '/joint_states',
        'joint7',
        'duration [s]',
        '1 gap in episodes',
    ):
        assert text in printed
    read = _Page()
    read.feed(page.read_text(encoding='utf-8'))
    assert not read.open and not read.loaded
    assert len(read.images) == 6 and all(re.match(r'data:image/(png|svg\+xml);base64,', item) for item in read.images)
    assert 'dropped the <cup>' in read.text and 'Findings' in read.text
    assert not list(tmp_path.glob('.*'))


def test_a_bag_that_was_not_closed_is_finished_and_looked_at(bag, tmp_path, capsys):
    growing = partial_path(tmp_path / 'bag')
    growing.mkdir()
    data = next(bag.glob('*.mcap')).read_bytes()
    (growing / 'bag_0.mcap').write_bytes(data[: len(data) - 2000])
    assert main(['inspect', str(tmp_path / 'bag'), '--check']) == 0
    assert (tmp_path / 'bag' / 'metadata.yaml').exists()


def test_check_fails_a_bag_that_lost_data(bag, tmp_path):
    copy = tmp_path / 'bag'
    copy.mkdir()
    file = next(bag.glob('*.mcap'))
    data, (begin, end) = bytearray(file.read_bytes()), scan(file).chunks[1]
    data[(begin + end) // 2] ^= 0xFF
    (copy / 'bag_0.mcap').write_bytes(data)
    assert main(['inspect', str(copy), '--check']) == 1


def test_a_recording_is_as_long_as_the_recorder_ran_whatever_the_clock_of_its_headers(tmp_path):
    path = tmp_path / 'bag'
    with BagWriter(path, {'/joint_states': TOPICS['/joint_states'], '/notes': TOPICS['/notes']}) as writer:
        for tick in range(100):
            stamp, simulated = 1_700_000_000 * 10**9 + tick * 10 * MS, 5 * 10**9 + tick * 10 * MS
            state = _make('sensor_msgs/msg/JointState', _header(simulated), JOINTS, *(np.zeros(7) for _ in range(3)))
            writer.write('/joint_states', stamp, bytes(STORE.serialize_cdr(state, TOPICS['/joint_states'])))
            writer.write(
                '/notes', stamp, bytes(STORE.serialize_cdr(_make('std_msgs/msg/String', ''), TOPICS['/notes']))
            )
    found = inspect(path)
    assert found.seconds == pytest.approx(0.99)
    assert all((counts > 0).sum() == 100 for counts in found.activity.values())
