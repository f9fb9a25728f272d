"""A whole validation: who is tried in which worlds, what is written of it, and what it decides."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, GateError, SimulationError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment, load_deployment
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.film import Film
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.films import worth_seeing
from vdd_ros.validation.gate import require
from vdd_ros.validation.report_file import FORMAT, read_report
from vdd_ros.validation.rollout import Recorded, Rollouts, Timing, Trial, rollout, rollout_all
from vdd_ros.validation.scenarios import described, load_scenarios
from vdd_ros.validation.thresholds import Gate, Threshold
from vdd_ros.validation.validate import Plan, validate

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.constant_student import save_student

WORLDS = """
calm: {}
loud: {joint_states: {position_noise: 0.01}}
"""


@pytest.fixture(scope='module')
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student that goes straight on, and what its validation in two worlds wrote."""
    folder = tmp_path_factory.mktemp('validation')
    (folder / 'worlds.yaml').write_text(WORLDS)
    (folder / 'gate.yaml').write_text('scenarios: {nominal: {success: 0.5}}\nothers: {episodes: 2}')
    student = save_student(folder / 'student', [[0.0, 0.01], [0.002, 0.01]])
    plan = Plan(
        scenario_file=folder / 'worlds.yaml',
        episodes=4,
        disturbance_episodes=2,
        deployed_episodes=4,
        ros_episodes=0,
        gate=folder / 'gate.yaml',
        core_price=2.0,
    )
    validate(folder / 'student.report', plan, student=student, progress=silent)
    return folder


def test_report_holds_every_world_with_figures_and_episodes(validated):
    report = read_report(validated / 'student.report')
    assert [item['name'] for item in report['scenarios']] == ['nominal', 'calm', 'loud', 'deployed', 'deployed_slow']
    nominal, calm, *_ = report['scenarios']
    assert nominal['student']['episodes'] == 4 and calm['student']['episodes'] == 2
    assert nominal['student']['outcomes']['success'] == [False] * 4
    # Straight on, the rod meets the first post: nothing else is as near as that.
    assert max(nominal['student']['outcomes']['clearance']) < 0.001
    assert nominal['teacher'] is None and report['ros']['episodes'] == 0
    artifact = load_artifact(validated / 'student')
    subject = report['subject']
    assert (subject['artifact'], subject['contract']) == (artifact.hash, artifact.manifest.contract_hash)
    assert subject['scene'] == load_task('avoiding').scene_hash and subject['period'] == 0.035
    assert report['deployment']['action_noise_scale'] == Deployment().action_noise_scale
    assert subject['deployment'] == Deployment().fingerprint


def test_report_shows_the_student_as_deployed_with_causes_and_limits_that_acted(validated):
    *_, deployed, slow = read_report(validated / 'student.report')['scenarios']
    assert 'commands at 250 Hz under all limits' in deployed['description'] and 'slow mode' in slow['description']
    assert (deployed['student']['episodes'], slow['student']['episodes']) == (4, 1)
    assert deployed['student']['causes'] == {'collision': 4} and deployed['teacher'] is None
    page = (validated / 'student.report' / 'report.html').read_text()
    assert page.index('Causes of failure') < page.index('4 x collision')


def test_limits_that_acted_are_counted_by_joint(validated):
    """An arm whose commands may hardly lead it is held back in the joints that move, and in no other way."""
    tight = Deployment(max_lag=0.002)
    trial = Trial(partial(DistilledPolicy.load, validated / 'student'), 1, timing=Timing(4_000_000), deployment=tight)
    rollouts = rollout_all(load_task('avoiding'), load_contract('avoiding_cartesian'), {'one': trial}, seed=0)['one']
    assert rollouts.limited['lag'].shape == (7,) and rollouts.limited['lag'].max() > 0.1


def test_rules_that_avoid_a_zone_keep_the_tool_out_of_it_in_rollouts(tmp_path):
    student = save_student(tmp_path / 'student', [[-0.004, 0.004], [0.004, 0.004]])
    rules = tmp_path / 'routing.yaml'
    rules.write_text('zones: {left: {x: [null, 0.52]}}\nrules: [{name: not left, avoid: [left]}]')
    make = partial(DistilledPolicy.load, student)
    trials = {
        name: Trial(make, 4, deployment=Deployment(rules=file)) for name, file in (('free', ''), ('ruled', str(rules)))
    }
    found = rollout_all(load_task('avoiding'), load_contract('avoiding_cartesian'), trials, seed=0)
    # At the start the left expert would enter it. Further to the right it may act again.
    assert all(next(expert for expert in experts if expert >= 0) == 1 for experts in found['ruled'].experts)
    left = {name: min(path[:, 0].min() for path in each.paths) for name, each in found.items()}
    assert left['free'] < 0.5 and left['ruled'] > 0.52


def test_student_that_fails_gets_an_error_and_does_not_come_through(validated):
    report = read_report(validated / 'student.report')
    assert not report['gate']['passes'] and 'nominal: success is 0' in report['gate']['text']
    gate = Gate(scenarios={'nominal': Threshold(success=0.5)})
    with pytest.raises(GateError, match='nominal: success is 0'):
        require(None, load_artifact(validated / 'student'), Deployment(), gate=gate)
    lenient = Gate(others=Threshold(episodes=1))
    assert require(None, load_artifact(validated / 'student'), Deployment(), gate=lenient)


def test_cost_sheet_describes_what_the_student_costs_and_what_was_not_tested(validated):
    report = read_report(validated / 'student.report')
    cost, page = report['cost'], (validated / 'student.report' / 'report.html').read_text()
    lines = dict(cost['lines'])
    assert list(lines)[:4] == ['Demonstrations', 'Training', 'Inference', 'Success and modes']
    student = cost['inference']['student']
    assert 0 < student['call'] == report['student']['latency_us']['processor'] / 1e6
    assert student['load'] == pytest.approx(student['call'] / report['subject']['period'])  # one call per step
    assert student['price'] == pytest.approx(2 * student['load']) and 'At 2 per core and hour' in lines['Inference']
    assert 'is unknown' in lines['Training'] and 'The teacher was not evaluated' in lines['Success and modes']
    assert lines['Tested'].startswith('13 simulated rollouts of the student in 5 scenarios: nominal (4), calm (2)')
    assert 'A real arm' in lines['Not tested'] and 'operation over ROS' in lines['Not tested']
    assert 'the scenario everything' in lines['Not tested'] and 'calm' not in lines['Not tested']
    assert 'collision' in lines['Remaining risks'] and 'The gate is not passed' in lines['Remaining risks']
    assert page.index('Cost sheet') < page.index('At 2 per core and hour')


def test_page_starts_with_the_verdict_and_needs_no_other_file(validated):
    page = (validated / 'student.report' / 'report.html').read_text()
    assert page.index('must not command an arm') < page.index('<h2>Scenarios') < page.index('Paths and modes')
    for source in ('src="http', 'href="', 'src="films'):
        assert source not in page
    assert page.count('src="data:') == page.count('src="')


def test_videos_are_whole_within_the_page_and_nothing_half_written_is_left(validated, tmp_path):
    plan = Plan(scenarios=('nominal',), episodes=1, deployed_episodes=0, ros_episodes=0, films=True)
    validate(tmp_path / 'r', plan, student=validated / 'student', progress=silent)
    assert [path.name for path in (tmp_path / 'r' / 'films').iterdir()] == ['nominal.mp4']
    assert (tmp_path / 'r' / 'films' / 'nominal.mp4').read_bytes()[4:8] == b'ftyp'
    assert (tmp_path / 'r' / 'report.html').read_text().count('<video src="data:video/mp4') == 1


def test_nothing_to_validate_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match='neither student nor teacher nor bag'):
        validate(tmp_path / 'r', Plan(), progress=silent)
    with pytest.raises(ConfigurationError, match='the contract of the recordings'):
        validate(tmp_path / 'r', Plan(), bags=[tmp_path], progress=silent)


def test_world_over_ros_that_is_not_tried_is_refused(validated, tmp_path):
    plan = Plan(scenarios=('nominal',), ros_scenarios=('everything',))
    with pytest.raises(ConfigurationError, match='found everything'):
        validate(tmp_path / 'r', plan, student=validated / 'student', progress=silent)


@pytest.mark.parametrize('task', ['avoiding', 'avoiding_starts', 'placing'])
def test_recorded_actions_done_again_end_as_they_did(task):
    """Placing needs contact to come out the same, and several starts need the right one to be found."""
    place = load_task(task)
    contract = load_contract(place.contract)
    shown = demonstrate(place, contract, 4, seed=0)
    recorded = Recorded(tuple(each.observation[0] for each in shown), tuple(each.action for each in shown))
    rollouts = rollout(place, contract, recorded, 4, seed=0)
    assert rollouts.success.all()
    assert [place.mode_names[mode] for mode in rollouts.mode] == [each.labels['mode'] for each in shown]
    assert all(np.all(experts == -1) for experts in rollouts.experts)


def test_recording_that_is_over_leaves_the_arm_where_it_is():
    task, contract = load_task('avoiding'), load_contract('avoiding_joint')
    turn = np.zeros((5, 7))
    turn[:, 0] = 0.01
    rollouts = rollout(task, contract, Recorded((np.zeros(14),), (turn,)), 1, seed=0)
    path = rollouts.paths[0]
    assert not rollouts.success[0] and len(path) == task.max_steps + 1
    assert np.linalg.norm(path[6] - path[0]) > 0.02
    np.testing.assert_allclose(path[30:], path[-1:].repeat(len(path) - 30, axis=0), atol=1e-5)


def test_world_of_an_episode_depends_on_its_number_alone():
    task, contract = load_task('avoiding'), load_contract('avoiding_cartesian')
    still = Recorded((np.zeros(2),) * 3, (np.full((60, 2), [0.0003, 0.004]),) * 3)
    disturbances = Disturbances.parse(
        {'randomization': {'stiffness': {'between': [0.5, 1.5]}}, 'commands': {'drop': 0.2}}
    )
    three = rollout(task, contract, still, 3, seed=0, disturbances=disturbances)
    one = rollout(task, contract, still, 1, seed=0, disturbances=disturbances)
    np.testing.assert_array_equal(one.paths[0], three.paths[0])
    assert not np.array_equal(three.paths[0], three.paths[1])
    other = rollout(task, contract, still, 1, seed=1, disturbances=disturbances)
    assert not np.array_equal(one.paths[0], other.paths[0])


def test_limits_of_the_robot_hold_in_rollouts_and_are_counted():
    task, contract = load_task('avoiding'), load_contract('avoiding_joint')
    hasty = Recorded((np.zeros(14),), (np.tile([0.5, 0, 0, 0, 0, 0, 0], (4, 1)),))
    slow = Deployment(velocity_scale=0.1)
    rollouts = rollout_all(task, contract, {'hasty': Trial(hasty, 1)}, 0, deployment=slow)['hasty']
    assert rollouts.clamped[0] == 4
    turned = np.arctan2(*rollouts.paths[0][-1, 1::-1]) - np.arctan2(*rollouts.paths[0][0, 1::-1])
    assert turned == pytest.approx(4 * 0.2175 * 0.035, rel=0.02)


def test_everything_is_all_other_disturbances_at_once():
    for name in ('avoiding', 'placing'):
        scenarios = load_scenarios(load_task(name))
        whole = scenarios.pop('everything')
        assert next(iter(scenarios)) == 'nominal' and scenarios['nominal'].is_nominal
        joint, commands, worlds, objects = {}, {}, {}, []
        for each in scenarios.values():
            entries = each.model_dump(exclude_defaults=True)
            joint |= entries.get('joint_states', {})
            commands |= entries.get('commands', {})
            worlds |= entries.get('randomization', {})
            objects += [item['body'].strip('*') for item in entries.get('randomization', {}).get('objects', ())]
        found = whole.model_dump(exclude_defaults=True)
        assert (found['joint_states'], found['commands']) == (joint, commands)
        assert [item['body'].strip('*') for item in found['randomization'].pop('objects')] == objects
        worlds.pop('objects')
        assert found['randomization'] == worlds
        for disturbances in scenarios.values():
            rollout(load_task('placing'), load_contract('placing_joint'), _nothing(), 1, 0, disturbances=disturbances)


def _nothing() -> Recorded:
    contract = load_contract('placing_joint')
    contact = np.zeros((1, contract.action_size))
    contact[0, 0] = np.nan  # ends the episode at once: only its world is wanted
    return Recorded((np.zeros(14),), (contact,))


def test_scenarios_are_described_in_words():
    assert described(Disturbances()) == 'no disturbances'
    late = Disturbances.parse({'joint_states': {'latency': 0.03}, 'randomization': {'mass': {'between': [0.9, 1.1]}}})
    assert described(late) == 'joint states: latency 0.03 s; mass: x 0.9 to 1.1'


def test_unknown_scenario_is_answered_with_the_known_ones():
    with pytest.raises(ConfigurationError, match='noisy_sensors'):
        load_scenarios(load_task('avoiding'), ('windy',))


def test_rollouts_are_set_up_as_the_policy_node_is(tmp_path):
    assert load_deployment() == Deployment()
    file = tmp_path / 'policy.yaml'
    file.write_text('/**/policy_node: {ros__parameters: {velocity_scale: 0.2, threads: 1}}')
    assert load_deployment(file).velocity_scale == 0.2
    file.write_text('policy_node: {}')
    with pytest.raises(ConfigurationError, match='parameters of policy_node'):
        load_deployment(file)


def test_failures_are_shown_first_and_modes_in_turn():
    success = np.array([True, True, False, True, True, False, False, False])
    count = len(success)
    rollouts = Rollouts(
        success=success,
        mode=np.array([0, 0, -1, 1, 2, -1, -1, -1]),
        steps=np.ones(count),
        clamped=np.zeros(count),
        clearance=np.zeros(count),
        paths=(),
        states=(),
        experts=(),
        mode_names=('a', 'b', 'c'),
        period=0.1,
        seconds=1.0,
    )
    assert worth_seeing(rollouts, 6) == [2, 5, 6, 0, 3, 4]
    assert worth_seeing(rollouts, 3) == [2, 0, 3]


def test_images_of_a_video_are_all_alike_and_an_error_leaves_none(tmp_path):
    with pytest.raises(SimulationError, match='RGB images of 64 x 48'), Film(tmp_path / 'film.mp4') as film:
        film.add(np.zeros((48, 64, 3), dtype=np.uint8))
        film.add(np.zeros((48, 66, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())


def test_report_survives_json(validated):
    text = (validated / 'student.report' / 'report.json').read_text()
    assert 'NaN' not in text and json.loads(text)['report_version'] == FORMAT
