"""Policy node and bridge, each in a process of its own, judged by the validator."""

from __future__ import annotations

import json
from pathlib import Path

from bags import read
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from students import save_student

INTO_THE_FIRST_POST = [[0.0, 0.01]]


def roll_out(graph, folder: Path, artifact: Path, episodes: int) -> list[dict]:
    """Let a student drive the arm and return the outcomes."""
    processes = [
        graph.start('mujoco_bridge'),
        graph.start('policy_node', artifact=artifact),
        graph.start('recorder', output=folder / 'bag'),
    ]
    person = graph.node('person')
    change = person.create_client(ChangeState, 'policy_node/change_state')
    graph.until(change.service_is_ready)
    graph.until(change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))).done)
    # The bridge and the recorder: all that follows is over before a recorder that came late had subscribed.
    graph.until(lambda: person.count_subscribers('/arm_controller/commands') == 2)
    validator = graph.start('validator', use_sim_time=False, episodes=episodes, output=folder / 'outcomes.json')
    assert validator.wait() == 0, validator.text
    assert [process.stop() for process in processes] == [0, 0, 0]
    return json.loads((folder / 'outcomes.json').read_text())['episodes']


def test_a_student_drives_the_arm_in_lockstep_and_each_episode_starts_afresh(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', INTO_THE_FIRST_POST)
    outcomes = roll_out(graph, tmp_path, artifact, episodes=4)
    assert [outcome['outcome'] for outcome in outcomes] == ['failure'] * 4
    assert len({outcome['steps'] for outcome in outcomes}) == 1

    bag = read(tmp_path / 'bag')
    starts = [stamp for topic, stamp, message in bag if topic == '/episode' and message.status[0].message == 'start']
    first_commands = [
        next(message.data.tolist() for topic, stamp, message in bag if topic.endswith('/commands') and stamp == start)
        for start in starts[-3:]  # the recorder may not have found everybody by the first
    ]
    assert first_commands[0] == first_commands[1] == first_commands[2]


def test_a_validator_without_a_policy_says_whom_it_waits_for(graph, tmp_path):
    graph.start('mujoco_bridge')
    output = tmp_path / 'outcomes.json'
    validator = graph.start('validator', use_sim_time=False, timeout=1.0, output=output)
    assert validator.wait() == 2
    assert 'expected the service' in validator.text
    assert 'policy_node/get_state' in validator.text
    assert not output.exists()


def test_without_a_bound_episode_follows_episode_until_the_validator_is_ended(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [[0.0, 0.01]])
    bridge = graph.start('mujoco_bridge')
    node = graph.start('policy_node', artifact=artifact)
    validator = graph.start('validator', use_sim_time=False, episodes=0)
    graph.until(lambda: 'rollouts: done=3 of=endless successes=0' in validator.text)
    assert [validator.stop(), node.stop(), bridge.stop()] == [0, 0, 0]
