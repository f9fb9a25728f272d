"""A task with a gripper goes the same way as any other: over DDS in lockstep into a bag, and out of it as episodes."""

from __future__ import annotations

from functools import partial

import numpy as np
import yaml
from commander import Commander
from std_msgs.msg import Float64
from students import save_student

from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.demonstrations import converted
from vdd_ros.nodes import qos
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.over_ros import rollout_over_ros
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
    assert [each.labels['mode'] for each in episodes] == [each.labels['mode'] for each in shown]
    for each in episodes:
        assert each.success and len(each) > 60 and np.ptp(each.observation[:, 3]) > 0.03
    # Over DDS an episode ends with its success; in process the script runs to its end, and draws more noise.
    recorded, known = episodes[0], shown[0]
    assert len(recorded) <= len(known)
    np.testing.assert_allclose(recorded.observation, known.observation[: len(recorded)], atol=1e-9)
    np.testing.assert_allclose(recorded.action[:-1], known.action[: len(recorded) - 1], atol=1e-9)
    again = Recorded(tuple(each.observation[0] for each in episodes), tuple(each.action for each in episodes))
    assert rollout(load_task('placing'), contract, again, 2, seed=0).success.all()


def test_the_simulated_controllers_of_a_contract_have_its_topics_types_and_units(graph, tmp_path):
    values = load_contract('placing_two_controllers').model_dump(mode='json', exclude_defaults=True)
    hand = {'name': 'gripper', 'topic': 'hand/opening', 'type': 'Float64', 'scale': 0.001, 'joints': ['gripper']}
    values['topics'] = {'commands': 'ur/commands'}
    values |= {'observation': [values['observation'][0], hand], 'further_actions': [hand]}
    file = tmp_path / 'contract.yaml'
    file.write_text(yaml.safe_dump(values), encoding='utf-8')
    graph.start('mujoco_bridge', task='placing', contract=file, mode='lockstep')
    commander = Commander(graph, commands='ur/commands')
    opening = graph.node('hand').create_publisher(Float64, 'hand/opening', qos.COMMANDS)
    graph.until(opening.get_subscription_count)
    commander.reset()
    arm = [commander.states[-1].name.index(joint) for joint in values['robot']['joints']]
    fingers = commander.states[-1].name.index('gripper')
    home, began = commander.position[arm], commander.stamp
    for step in range(1, 21):
        opening.publish(Float64(data=20.0))
        commander.send(home)
        graph.until(lambda step=step: commander.stamp >= began + step * 50_000_000)
    np.testing.assert_allclose(commander.position[fingers], 0.02, atol=2e-3)
    np.testing.assert_allclose(commander.position[arm], home, atol=5e-3)
    # In lockstep, a period takes a command for each of the two.
    commander.send(home)
    commander.diagnostics.clear()
    graph.until(lambda: commander.diagnostics)
    assert commander.stamp == began + 20 * 50_000_000
    opening.publish(Float64(data=20.0))
    graph.until(lambda: commander.stamp >= began + 21 * 50_000_000)


def test_a_policy_commands_an_arm_and_a_gripper_alike_under_one_controller_and_under_two(tmp_path):
    commands = []
    for contract in ('placing_cartesian', 'placing_two_controllers'):
        student = save_student(tmp_path / contract, [[0.001, 0.0, -0.001, -0.0004]], contract)
        done = rollout_over_ros(
            student, task='placing', episodes=1, logs=tmp_path / f'{contract}.logs', progress=silent
        )
        commands.append(done.commands[0][: int(done.steps[0])])  # the answer to the last state may be received, too
    one, two = commands
    assert one.shape == two.shape == (len(one), 7) and len(one) > 20
    np.testing.assert_allclose(two, one, atol=1e-9)
    assert np.ptp(one[:, 6]) > 0.005
