"""What commands that need no ROS say: settings, changes of them, the installation, tables, occupied outputs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from ros_messages import MILLISECOND, command, mark, state, write_bag

from vdd_ros.commands.cli import main
from vdd_ros.commands.doctor import suffices
from vdd_ros.commands.echo import summarize
from vdd_ros.common.errors import OutputError
from vdd_ros.common.output import claim_output
from vdd_ros.common.settings_docs import settings_of
from vdd_ros.contract.contract import load_contract
from vdd_ros.learning.learning_settings import LearningSettings, load_settings

_COLUMNS = 80


def lines_of(capsys: pytest.CaptureFixture) -> list[str]:
    """Return what was printed, and see that it fits a terminal of 80 columns."""
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > _COLUMNS] == []
    return lines


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """Six demonstrations of two seconds, of the joints of a contract that ships."""
    monkeypatch.setenv('COLUMNS', str(_COLUMNS))
    joints, rows = load_contract('avoiding_joint').robot.joints, []
    for begin in range(0, 24_000 * MILLISECOND, 4000 * MILLISECOND):
        end = begin + 2000 * MILLISECOND
        rows.append(('/episode', begin, mark(begin, 'start')))
        for stamp in range(begin, end, 10 * MILLISECOND):
            position = [0.1 * np.sin(stamp / 1e9 + place) for place in range(len(joints))]
            rows.append(('/joint_states', stamp, state(stamp, joints, position)))
            rows.append(('/arm_controller/commands', stamp + 1, command(position)))
        rows.append(('/episode', end, mark(end, 'end', outcome='success', mode='left')))
    return write_bag(tmp_path / 'bag', rows)


def test_every_setting_of_learning_has_a_name_a_type_and_a_docstring():
    found = {item.name: item for item in settings_of(LearningSettings())}
    assert len(found) > 60 and [item.name for item in found.values() if not (item.kind and item.text)] == []
    width = found['teacher.trunk.width']
    assert (width.kind, width.default) == ('integer, at least 1', str(LearningSettings().teacher.trunk.width))
    # Each can be set by its name: to the value that is shown.
    settings = LearningSettings()
    assert settings.changed(f'{item.name}={item.default}' for item in found.values()) == settings


def test_settings_are_listed_with_the_values_of_a_file(capsys):
    assert main(['settings', 'teacher.trunk', '--settings', 'learning_joint']) == 0
    lines = lines_of(capsys)
    assert 'teacher.trunk.width = 512' in lines and '    integer, at least 1' in lines
    assert not [line for line in lines if line.startswith('student')]
    assert main(['settings', 'no_such']) == 2
    assert 'the groups are' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['train-teacher', 'demo'])
def test_a_wrong_setting_is_refused_before_any_bag_is_read(name, tmp_path, capsys):
    bags = [str(tmp_path / 'nowhere')] if name == 'train-teacher' else []
    words = [name, *bags, '--output', str(tmp_path / 'output'), '--set', 'teacher.trunk.widht=5', '--set', 'seed=1']
    assert main(words) == 2
    error = capsys.readouterr().err
    assert 'did you mean width' in error and 'known settings of teacher.trunk: kind, width' in error


def test_the_chosen_settings_are_named_with_the_changes(tmp_path, capsys):
    words = ['train-teacher', str(tmp_path / 'nowhere'), '--output', str(tmp_path / 'output')]
    assert main([*words, '--contract', 'avoiding_joint', '--set', 'seed=5']) == 2
    text_of = ' '.join(capsys.readouterr().out.split())
    assert 'settings: learning_joint, which suit the contract avoiding_joint, seed=5' in text_of
    assert main([*words, '--settings', 'learning']) == 2
    assert 'settings: learning' in capsys.readouterr().out


def test_an_occupied_output_is_refused_before_any_bag_is_read(tmp_path, capsys):
    bag, output = str(tmp_path / 'nowhere'), str(tmp_path)
    for words in (
        ['train-teacher', bag, '--output', output],
        ['distill', bag, '--teacher', bag, '--output', output],
        ['edit', 'drop', bag, '--episodes', '0', '--output', output],
        ['edit', 'merge', bag, '--output', output],
        ['dataset', 'import', bag, '--output', output],
        ['dataset', 'export', bag, '--output', output],
    ):
        assert main(words) == 2
        assert 'expected a free place' in capsys.readouterr().err, words


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='a writable folder at'):
        claim_output(tmp_path / 'file' / 'output')
    assert claim_output(tmp_path / 'new' / 'output').parent.is_dir() and not list((tmp_path / 'new').iterdir())


def test_tables_fit_80_columns_and_cut_no_number(bag, capsys):
    main(['contract', 'check', str(bag), 'avoiding_joint'])
    text_of = '\n'.join(lines_of(capsys))
    assert '/arm_controller/commands' in text_of and 'Float64MultiArray' in text_of and '…' not in text_of
    assert main(['inspect', str(bag), '--contract', 'avoiding_joint']) == 0
    assert '…' not in '\n'.join(lines_of(capsys))
    assert main(['edit', 'list', str(bag)]) == 0
    assert any(line.split()[:4] == ['5', '20.00', '2.00', 'success'] for line in lines_of(capsys))
    figures = {'success': 0.951, 'entropy': 0.823}
    scenario = {'name': 'a_scenario_of_a_long_name', **dict.fromkeys(('student', 'teacher', 'recorded'), figures)}
    summarize({'scenarios': [scenario], 'ros': {'episodes': 0}}, bag)
    assert '\n'.join(lines_of(capsys)).count('0.951') == 3


@pytest.mark.parametrize(
    ('version', 'specifiers', 'enough'),
    [
        ('1.2.3', '>=1.2,<2', True),
        ('2.0', '>=1.2,<2', False),
        ('2', '==2.0.0', True),
        ('0.9.12', '>=0.10', False),
        ('2.13.0+cpu', '>=2.4,<2.14', True),
        ('1.10', '!=1.10', False),
        ('3', '', True),
    ],
)
def test_versions_are_compared_number_by_number(version, specifiers, enough):
    assert suffices(version, specifiers) is enough


def test_the_doctor_reports_what_is_there_and_fails_where_something_is_missing():
    def doctor(**environment: str) -> subprocess.CompletedProcess:
        words = [sys.executable, '-m', 'vdd_ros.commands.cli', 'doctor', '--purpose', 'robot', 'library']
        return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=180)

    done = doctor(ROS_DOMAIN_ID='7')
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {'ok', 'note', 'missing'}, done.stdout + done.stderr
    for subject in ('Python', 'packages', 'disk', 'real-time priority', 'ROS domain: 7', 'GPU', 'rendering', 'ROS'):
        assert sum(line.partition(' ')[2].strip().startswith(subject) for line in lines) >= 1, subject
    assert done.returncode == 0, done.stdout
    wrong = doctor(ROS_DOMAIN_ID='many')
    assert wrong.returncode == 1
    assert "missing ROS domain: ROS_DOMAIN_ID is 'many'; set it to a number from 0 to 232" in wrong.stdout


def test_files_that_ship_hold_settings_that_are_known():
    for name in ('learning', 'learning_chunked', 'learning_joint'):
        assert load_settings(name) != LearningSettings()


def test_help_whose_reader_is_gone_ends_without_a_traceback():
    """As in `vdd --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    program = 'from vdd_ros.commands.cli import main; raise SystemExit(main(["--help"]))'
    done = subprocess.run(
        [sys.executable, '-c', program], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=180
    )
    os.close(writer)
    assert not done.stderr
    assert done.returncode == 2
