"""A task with a gripper goes the same way as any other: over DDS in lockstep into a bag, and out of it as episodes."""

from __future__ import annotations

from functools import partial

import numpy as np

from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.demonstrations import converted
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.rollout import Recorded, rollout


def test_recorded_session_of_placing_holds_what_was_demonstrated_and_can_be_done_again(graph, tmp_path):
    contract = load_contract('placing_cartesian')
    bridge = graph.start('mujoco_bridge', task='placing', command_rate=200.0)
    recorder = graph.start('recorder', output=tmp_path / 'bag', contract='placing_cartesian')
    demonstrator = graph.start(
        'demonstrator', task='placing', contract='placing_cartesian', episodes=2, seed=3, recorder='recorder'
    )
    assert [demonstrator.wait(), recorder.stop(), bridge.stop()] == [0, 0, 0], demonstrator.text
    make = partial(Kinematics.from_contract, contract)
    episodes = [each for found in converted([tmp_path / 'bag'], contract, make, silent) for each in found.episodes]
    shown = demonstrate(load_task('placing'), contract, 2, seed=3)
    assert [each.labels['way'] for each in episodes] == [each.labels['way'] for each in shown]
    for each in episodes:
        assert each.success and len(each) > 60 and np.ptp(each.observation[:, 3]) > 0.03
    # Over DDS an episode ends with its success; in process the script is heard to its end, and draws more noise.
    recorded, known = episodes[0], shown[0]
    assert len(recorded) <= len(known)
    np.testing.assert_allclose(recorded.observation, known.observation[: len(recorded)], atol=1e-9)
    np.testing.assert_allclose(recorded.action[:-1], known.action[: len(recorded) - 1], atol=1e-9)
    again = Recorded(tuple(each.observation[0] for each in episodes), tuple(each.action for each in episodes))
    assert rollout(load_task('placing'), contract, again, 2, seed=0).success.all()
