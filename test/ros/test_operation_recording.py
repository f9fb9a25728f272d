"""A recorder that watches a policy node, over real DDS: failures and interventions are episodes with a pre-roll."""

from __future__ import annotations

import pytest
from arms import ANSWERED, Arm
from bags import read
from students import save_student

from vdd_ros.commands.cli import main

pytestmark = pytest.mark.realtime

PRE_ROLL = 0.4


def test_a_stop_by_hand_and_a_failure_become_labelled_episodes_that_inspect_reads(graph, tmp_path, capsys):
    artifact = save_student(tmp_path / 'student', [[0.0, 0.001]], change={'prediction_horizon': 4})
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, control_rate=100, **ANSWERED)
    arm = Arm(graph)
    arm.activate()
    recorder = graph.start(
        'recorder',
        use_sim_time=False,
        output=tmp_path / 'bag',
        continuous=False,
        pre_roll=PRE_ROLL,
        post_roll=0.5,
        watch='policy_node',
    )
    graph.until(lambda: arm.live() and recorder.alive and '/joint_states' in recorder.text and arm.listeners == 2)
    arm.moves(0.05)  # the recorder finds the commands meanwhile, long before the pre-roll begins
    assert arm.ask('stop').success
    graph.until(lambda: arm.live() and 'episode 0 ended' in recorder.text)
    arm.resume()
    arm.moves(0.02)
    begin = arm.commands[-1].copy()
    begin[0] += 0.5
    graph.until(lambda: arm.live(position=begin) and 'episode 1 started' in recorder.text)
    graph.until(lambda: arm.live() and 'episode 1 ended as a failure' in recorder.text)
    assert node.stop() == 0
    assert recorder.stop() == 0
    bag = read(tmp_path / 'bag')
    marks = [
        (status.message, {item.key: item.value for item in status.values})
        for topic, _, message in bag
        if topic == '/episode'
        for status in message.status
    ]
    assert [kind for kind, _ in marks] == ['start', 'label', 'end'] * 2
    assert marks[1][1]['event'] == 'intervention: stop was asked for'
    assert marks[4][1]['event'].startswith('failure: ') and 'outcome' not in marks[2][1]
    assert marks[5][1]['outcome'] == 'failure'
    # The commands of before the event are there.
    starts = [stamp for topic, stamp, message in bag if topic == '/episode' and message.status[0].message == 'start']
    labels = [stamp for topic, stamp, message in bag if topic == '/episode' and message.status[0].message == 'label']
    for start, label in zip(starts, labels):
        assert 0.7 * PRE_ROLL < (label - start) / 1e9 < 2 * PRE_ROLL
        before = [stamp for topic, stamp, _ in bag if topic == '/arm_controller/commands' and start <= stamp < label]
        assert len(before) > 50 * PRE_ROLL
    assert not main(['inspect', str(tmp_path / 'bag'), '--contract=avoiding_cartesian'])
    assert '2 demonstrations' in capsys.readouterr().out
