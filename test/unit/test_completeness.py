"""Demonstrations whose commands a recorder has lost or stamped late are found by number; sound ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ros_messages import MILLISECOND, SECOND, command, mark, state, write_bag

from vdd_ros.commands.cli import main
from vdd_ros.commands.pipeline import require_complete
from vdd_ros.common.errors import InterfaceError
from vdd_ros.contract.contract import Contract

JOINTS = ('j1', 'j2', 'j3')
CONTRACT = {
    'schema_version': 2,
    'name': 'arm',
    'robot': {'model': 'arm.xml', 'tool': 'tool0', 'joints': list(JOINTS)},
    'policy_rate': 20,
    'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}],
    'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
    'episodes': {'by': 'marks'},
}
MODEL = """<mujoco><worldbody><body name="a"><joint name="j1"/><geom size="0.05"/>
<body name="b" pos="0 0 0.3"><joint name="j2" axis="0 1 0"/><geom size="0.05"/>
<body name="c" pos="0 0 0.3"><joint name="j3" axis="0 1 0"/><geom size="0.05"/>
<site name="tool0" pos="0 0 0.1"/></body></body></body></worldbody></mujoco>"""
COMMANDS = '/arm_controller/commands'
COUNT = 200
"""Commands of a demonstration."""


def place(seconds: float) -> np.ndarray:
    """Where the arm is [rad]."""
    return 0.5 * np.sin(0.7 * seconds * np.arange(1, 4) + np.arange(1, 4))


def demonstration(index: int, moves: float = 2.0, **counts: str) -> list:
    """One demonstration of two seconds, with states and commands at 100 Hz; the arm rests after some time [s]."""
    begin = (100 + 4 * index) * SECOND
    found = [('/episode', begin, mark(begin, 'start', index=str(index)))]
    for tick in range(COUNT):
        stamp, seconds = begin + tick * 10 * MILLISECOND, min(tick / 100, moves) + 4 * index
        found += [('/joint_states', stamp, state(stamp, JOINTS, place(seconds)))]
        found += [(COMMANDS, stamp, command(place(seconds + 0.1)))]
    end = begin + 2 * SECOND
    return [*found, ('/episode', end, mark(end, 'end', index=str(index), outcome='success', **counts))]


def without(messages: list, first: int, last: int) -> list:
    """Return a demonstration without some of its commands."""
    dropped = [id(row) for row in messages if row[0] == COMMANDS][first:last]
    return [row for row in messages if id(row) not in dropped]


def crowded(messages: list, first: int, last: int) -> list:
    """Return a demonstration in which some commands have the stamp of the last of them."""
    chosen = [row for row in messages if row[0] == COMMANDS][first:last]
    late = {id(row): chosen[-1][1] for row in chosen}
    return [(row[0], late.get(id(row), row[1]), row[2]) for row in messages]


def results(tmp_path: Path, third: list) -> tuple[int, int]:
    """Return the exit codes of contract check and of inspect --check for a bag of six demonstrations."""
    messages = [row for index in range(6) for row in (third if index == 2 else demonstration(index))]
    bag, contract = write_bag(tmp_path / 'bag', sorted(messages, key=lambda row: row[1])), tmp_path / 'contract.yaml'
    contract.write_text(
        yaml.safe_dump({**CONTRACT, 'robot': {**CONTRACT['robot'], 'model': str(tmp_path / 'arm.xml')}})
    )
    (tmp_path / 'arm.xml').write_text(MODEL)
    checked = main(['contract', 'check', str(bag), str(contract)])
    return checked, main(['inspect', str(bag), '--contract', str(contract), '--check'])


@pytest.mark.parametrize(
    ('third', 'text'),
    [
        (crowded(demonstration(2), 50, 120), 'episode 2: 70 commands with the stamp 109.190 s'),
        (without(demonstration(2), 80, COUNT), 'episode 2: its last command is 1.21 s before its end'),
        (without(demonstration(2, **{COMMANDS: '200'}), 199, COUNT), 'episode 2: 199 of 200 commands'),
    ],
    ids=['one stamp', 'early end', 'count'],
)
def test_lost_and_late_commands_fail_both_checks_with_the_number_of_the_episode(tmp_path, capsys, third, text):
    assert results(tmp_path, third) == (1, 1)
    shown = ' '.join(capsys.readouterr().out.split())
    assert 'incomplete or wrong commands in episode 2 ' in shown
    assert text in shown


@pytest.mark.parametrize(
    'third',
    [
        demonstration(2, **{COMMANDS: '200', '/joint_states': '200'}),
        without(demonstration(2, moves=0.8), 80, COUNT),
        crowded(demonstration(2), 50, 54),
    ],
    ids=['counted', 'operator has let go', 'a few late'],
)
def test_sound_demonstrations_pass_both_checks(tmp_path, third):
    assert results(tmp_path, third) == (0, 0)


def test_a_recording_with_lost_commands_or_too_few_successes_is_refused_and_kept_under_another_name(tmp_path):
    counted = [demonstration(index, **{COMMANDS: '200'}) for index in range(2)]
    contract = Contract.model_validate(CONTRACT)
    whole = write_bag(tmp_path / 'whole', [row for each in counted for row in each])
    require_complete(whole, contract, 2, tmp_path)
    with pytest.raises(InterfaceError, match=r'expected 3 successful demonstrations.*found 2;.*whole.incomplete$'):
        require_complete(whole, contract, 3, tmp_path)
    short = write_bag(tmp_path / 'short', [*counted[0], *without(counted[1], 150, 151)])
    with pytest.raises(InterfaceError, match='found incomplete or wrong commands in episode 1 .*199 of 200 commands'):
        require_complete(short, contract, 2, tmp_path)
    assert not short.exists()
    assert list((tmp_path / 'short.incomplete').glob('*.mcap'))
