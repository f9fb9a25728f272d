"""Rollouts over DDS and in process: the same arm under the same loop."""

from __future__ import annotations

import functools

from students import save_student

from vdd_ros.common.progress import silent
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.rollout import rollout


def test_student_comes_as_far_in_process_as_over_dds_and_no_farther_when_commands_are_late(tmp_path):
    # Past the first post on the right, and then into the second row.
    artifact = save_student(tmp_path / 'student', [[0.0022, 0.0095]])
    task, policy = load_task('avoiding'), functools.partial(DistilledPolicy.load, artifact)
    late = Disturbances.parse({'commands': {'latency': 0.05}})
    steps = {}
    for name, disturbances in (('nominal', Disturbances()), ('late', late)):
        over = rollout_over_ros(artifact, episodes=1, disturbances=disturbances, logs=tmp_path / name, progress=silent)
        inside = rollout(
            task,
            policy().contract,
            policy,
            1,
            0,
            disturbances=disturbances,
            deployment=Deployment(action_noise_scale=0.0),
        )
        assert [each['outcome'] for each in over] == ['failure'] and not inside.success[0]
        steps[name] = over[0]['steps'], int(inside.steps[0])
    assert steps['nominal'][0] == steps['nominal'][1] > 10
    assert steps['late'][0] > steps['nominal'][0] and steps['late'][1] > steps['nominal'][1]
