"""Demonstrations are edited in a new bag: every message as it was, and the original untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import Writer
from ros_messages import MILLISECOND, SECOND, command, mark, state, write_bag

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError, ConfigurationError, OutputError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag import fingerprint
from vdd_ros.data.bag.bag_edit import demonstrations_of, edit, merge
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport

NAMES = ('a', 'b')
CONTRACT = {
    'schema_version': 2,
    'name': 'edit',
    'robot': {'model': 'none.xml', 'tool': 'tool', 'joints': NAMES},
    'policy_rate': 20,
    'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}],
    'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
}


def rows(begin: int, count: int, *, marked: bool = True) -> list:
    """Some demonstrations of two seconds, two seconds apart."""
    found = []
    for number in range(count * 400):
        stamp = (begin * 100 + number) * 10 * MILLISECOND
        if number % 400 < 200:
            found.append(('/joint_states', stamp, state(stamp, NAMES, np.sin(number / 50 + np.arange(2)))))
            found.append(('/arm_controller/commands', stamp, command(np.sin(number / 50 + np.arange(2)))))
    for index in range(count if marked else 0):
        at = (begin + 4 * index) * SECOND
        found.append(('/episode', at, mark(at, 'start', index=str(index))))
        found.append(('/episode', at + 2 * SECOND, mark(at + 2 * SECOND, 'end', index=str(index), outcome='success')))
    # The operator changed his mind afterwards.
    late = (begin + 2) * SECOND + SECOND // 2
    found += [('/episode', late, mark(late, 'label', index='0', outcome='failure'))] if marked else []
    return sorted(found, key=lambda row: row[1])


@pytest.fixture
def bag(tmp_path) -> Path:
    """Three demonstrations, of which the first was amended to a failure."""
    return write_bag(tmp_path / 'bag', rows(10, 3))


def messages(path: Path) -> list:
    """Return everything that a bag holds, by another reader."""
    (file,) = path.glob('*.mcap')
    with file.open('rb') as stream:
        found = make_reader(stream).iter_messages(log_time_order=False)
        return [(channel.topic, item.log_time, item.publish_time, item.data) for _, channel, item in found]


def test_edits_are_marks_in_a_new_bag_that_holds_every_message_as_it_was(bag, tmp_path):
    before, held = fingerprint(bag), messages(bag)
    labels = {0: {'outcome': 'success', 'language': 'pick it'}}
    edit(bag, tmp_path / 'new', drop=[1], trim={2: (0.5, 0.25)}, labels=labels)
    assert fingerprint(bag) == before and not list(tmp_path.glob('.*'))
    new = messages(tmp_path / 'new')
    added = [item for item in new if item not in held]
    assert [item for item in new if item in held] == held and len(added) == 3
    first, second, third = demonstrations_of(tmp_path / 'new').spans
    assert (first.labels['outcome'], first.labels['language']) == ('success', 'pick it')
    assert second.dropped == 'discarded by vdd edit'
    assert (third.start, third.end) == (18 * SECOND + SECOND // 2, 20 * SECOND - SECOND // 4)
    report = ConversionReport()
    episodes = [*convert(tmp_path / 'new', Contract.model_validate(CONTRACT), None, report)]
    assert [(item.index, item.success, len(item)) for item in episodes] == [(0, True, 40), (2, True, 25)]


def test_edits_hold_in_a_bag_that_is_converted_piece_by_piece(bag, tmp_path):
    edit(bag, tmp_path / 'new', drop=[0], trim={1: (1.0, 0.0)})
    episodes = [*convert(tmp_path / 'new', Contract.model_validate(CONTRACT), None, ConversionReport(), held=2000)]
    assert [(item.index, len(item)) for item in episodes] == [(1, 20), (2, 40)]


def test_an_edited_bag_can_be_edited_again(bag, tmp_path):
    edit(bag, tmp_path / 'once', trim={0: (0.5, 0.0)})
    edit(tmp_path / 'once', tmp_path / 'twice', trim={0: (0.25, 0.25)}, labels={0: {'outcome': 'success'}})
    first = demonstrations_of(tmp_path / 'twice').spans[0]
    assert (first.end - first.start, first.labels['outcome']) == (SECOND, 'success')


def test_demonstrations_that_pauses_separate_get_marks(tmp_path):
    path = write_bag(tmp_path / 'bag', rows(10, 3, marked=False))
    pauses = Contract.model_validate({**CONTRACT, 'episodes': {'by': 'gaps'}})
    with pytest.raises(BagError, match='expected episode marks .*--contract'):
        demonstrations_of(path)
    edit(path, tmp_path / 'new', pauses, drop=[2])
    (one, two) = convert(tmp_path / 'new', Contract.model_validate(CONTRACT), None, ConversionReport())
    (first, second, _) = convert(path, pauses, None, ConversionReport())
    np.testing.assert_array_equal(one.observation, first.observation)
    np.testing.assert_array_equal(two.action, second.action)


def test_bags_are_merged_in_the_order_of_their_times_and_refused_where_these_overlap(bag, tmp_path):
    later = write_bag(tmp_path / 'later', rows(100, 2))
    assert merge([later, bag], tmp_path / 'both') == len(messages(bag)) + len(messages(later))
    assert messages(tmp_path / 'both') == [*messages(bag), *messages(later)]
    spans = demonstrations_of(tmp_path / 'both').spans
    assert [span.labels['outcome'] for span in spans] == ['failure', 'success', 'success', 'failure', 'success']
    edit(tmp_path / 'both', tmp_path / 'edited', labels={0: {'outcome': 'success'}}, drop=[3])
    spans = demonstrations_of(tmp_path / 'edited').spans
    assert [bool(span.dropped) for span in spans] == [False, False, False, True, False]
    assert spans[0].labels['outcome'] == 'success'
    other = write_bag(tmp_path / 'other', rows(15, 1))
    with pytest.raises(BagError, match='begins before .* ends'):
        merge([bag, other], tmp_path / 'never')
    assert not (tmp_path / 'never').exists()


def test_attachments_metadata_and_what_is_known_of_each_message_are_kept(bag, tmp_path):
    (file,) = bag.glob('*.mcap')
    with file.open('rb') as stream:
        held = [*make_reader(stream).iter_messages(log_time_order=False)]
    with file.open('wb') as stream:
        writer = Writer(stream, chunk_size=3000)
        writer.start('ros2', 'test')
        schemas = {schema.id: schema for schema, _, _ in held}
        channels = {channel.id: channel for _, channel, _ in held}
        schemas = {key: writer.register_schema(item.name, item.encoding, item.data) for key, item in schemas.items()}
        channels = {
            key: writer.register_channel(item.topic, item.message_encoding, schemas[item.schema_id], {'a': 'b'})
            for key, item in channels.items()
        }
        writer.add_attachment(1, 2, 'calibration.yaml', 'application/yaml', b'offset: 1')
        for number, (_, channel, item) in enumerate(held):
            writer.add_message(channels[channel.id], item.log_time, item.data, item.log_time - 5, number)
        writer.add_metadata('operator', {'name': 'Ada'})
        writer.finish()
    edit(bag, tmp_path / 'new', drop=[1])
    (new,) = (tmp_path / 'new').glob('*.mcap')
    with new.open('rb') as stream:
        reader = make_reader(stream)
        found = [item for _, _, item in reader.iter_messages(log_time_order=False)]
        old = [item for item in found if item.publish_time < item.log_time]
        assert [(item.publish_time - item.log_time, item.sequence) for item in old] == [
            (-5, number) for number in range(len(held))
        ]
        (attachment,) = reader.iter_attachments()
        assert (attachment.log_time, attachment.create_time, attachment.name) == (2, 1, 'calibration.yaml')
        assert (attachment.media_type, attachment.data) == ('application/yaml', b'offset: 1')
        assert [(item.name, item.metadata) for item in reader.iter_metadata()] == [('operator', {'name': 'Ada'})]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(BagError, match='vdd recover'):
        edit(bag, tmp_path / 'never', drop=[0])


def test_what_cannot_be_edited_is_refused_and_leaves_nothing_behind(bag, tmp_path):
    with pytest.raises(ConfigurationError, match='0 to 2; found 3'):
        edit(bag, tmp_path / 'new', drop=[3])
    with pytest.raises(ConfigurationError, match='less than 2 s'):
        edit(bag, tmp_path / 'new', trim={0: (1.5, 0.5)})
    with pytest.raises(OutputError, match='a free place'):
        edit(bag, bag, drop=[0])
    edit(bag, tmp_path / 'whole', drop=[0])  # with checksums, other than what rosbags writes
    (file,) = (tmp_path / 'whole').glob('*.mcap')
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(BagError, match='vdd recover'):
        edit(tmp_path / 'whole', tmp_path / 'new', drop=[0])
    assert sorted(item.name for item in tmp_path.iterdir()) == ['bag', 'whole']


def test_the_commands_list_and_edit(bag, tmp_path, capsys):
    new = tmp_path / 'new'
    assert main(['edit', 'relabel', str(bag), '--output', str(new), '--episodes', '0', '--outcome', 'success']) == 0
    assert main(['edit', 'drop', str(new), '--output', str(tmp_path / 'b'), '--episodes', '1', '2']) == 0
    assert main(['edit', 'trim', str(new), '--output', str(tmp_path / 'c'), '--episodes', '1', '--begin', '1']) == 0
    assert main(['edit', 'merge', str(bag), '--output', str(tmp_path / 'd')]) == 0
    capsys.readouterr()
    assert main(['edit', 'list', str(tmp_path / 'b')]) == 0
    printed = capsys.readouterr().out
    assert printed.count('vdd edit') == 2 and printed.count('success') == 3
    assert main(['edit', 'drop', str(bag), '--output', str(new), '--episodes', '1']) == 2
