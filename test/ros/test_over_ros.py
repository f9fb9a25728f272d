"""Rollouts over DDS and in process: the same arm under the same loop."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from students import save_student

from vdd_ros.common.progress import silent
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.rollout import rollout
from vdd_ros.validation.validate import Plan, validate


def test_student_comes_as_far_in_process_as_over_dds_and_no_farther_when_commands_are_late(tmp_path):
    # Past the first post on the right, and then into the second row. The arm has topics, names and units of its own.
    names = [f'axis_{number}' for number in range(1, 8)]
    own = {
        'schema_version': 2,
        'topics': {'joint_states': 'cell/joints', 'commands': 'cell/command', 'episode': 'cell/episode'},
        'measured': {'names': names, 'unit': 'degree', 'sign': [1, -1, 1, 1, 1, 1, 1], 'offset': [0.1] * 7},
        'commanded': {'names': names, 'unit': 'degree'},
    }
    artifact = save_student(tmp_path / 'student', [[0.0022, 0.0095]], change=own)
    task, policy = load_task('avoiding'), functools.partial(DistilledPolicy.load, artifact)
    late = Disturbances.parse({'commands': {'latency': 0.05}})
    steps = {}
    for name, disturbances in (('nominal', Disturbances()), ('late', late)):
        over = rollout_over_ros(artifact, episodes=1, disturbances=disturbances, logs=tmp_path / name, progress=silent)
        inside = rollout(task, policy().contract, policy, 1, 0, disturbances=disturbances)
        assert not over.success[0] and not inside.success[0] and over.causes == inside.causes == ('collision',)
        # What was received are the steps of the student.
        np.testing.assert_allclose(
            np.diff(over.paths[0], axis=0), [[0.0022, 0.0095, 0.0]] * (len(over.paths[0]) - 1), atol=1e-5
        )
        steps[name] = int(over.steps[0]), int(inside.steps[0])
    assert steps['nominal'][0] == steps['nominal'][1] > 10
    assert steps['late'][0] > steps['nominal'][0] and steps['late'][1] > steps['nominal'][1]


@pytest.mark.realtime
def test_in_real_time_the_report_gives_over_ros_too_why_episodes_failed_and_which_limits_acted(tmp_path):
    """The student answers with NaN once it has come some way, and steps that no joint could take at control rate."""
    change = {'prediction_horizon': 12, 'action_horizon': 4}
    student = save_student(tmp_path / 'student', [[0.0, 0.01]], change=change, nan_above=-0.2)
    plan = Plan(
        scenarios=('nominal',),
        episodes=1,
        deployed_episodes=0,
        ros_episodes=2,
        ros_time='real',
        deployment=tmp_path / 'p',
    )
    (tmp_path / 'p').write_text('policy_node: {ros__parameters: {control_rate: 200.0, joint_limits: fr3}}')
    report = validate(tmp_path / 'report', plan, student=student, progress=silent)
    assert [item['name'] for item in report['scenarios']] == ['nominal', 'deployed_over_ros']
    assert 'over ROS in real time: commands at 200 Hz' in report['scenarios'][1]['description']
    found = report['scenarios'][1]['student']
    assert found['causes'] == {'the policy output is not finite': 2}
    assert found['limited_seconds']['acceleration'] and found['jerk'] > 0
    assert found['outcomes']['path'] == pytest.approx([0.1, 0.1], abs=0.06)
    assert report['ros']['episodes'] == 0
    assert 'deployed_over_ros: episodes is 2, required: at least 20' in report['gate']['text']
    page = (tmp_path / 'report' / 'report.html').read_text()
    assert page.index('Causes of failure') < page.index('2 x the policy output is not finite')
    assert json.loads((tmp_path / 'report' / 'report.json').read_text())['gate']['passes'] is False
