"""The deployment gate: what passes, what does not, and that nobody passes by editing a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, GateError
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import Artifact, DataRecord, Manifest, load_artifact, save_artifact
from vdd_ros.validation.gate import Override, find_report, require
from vdd_ros.validation.judgement import judge
from vdd_ros.validation.outcomes import Outcomes, outcomes_of, path_length, root_mean_square_jerk
from vdd_ros.validation.report_file import FORMAT, sealed
from vdd_ros.validation.thresholds import Gate, Threshold, load_gate

GATE = Gate(
    scenarios={'nominal': Threshold(episodes=10, success=0.8, success_low=0.5, entropy=0.5, near_miss=0.001)},
    others=Threshold(success=0.5),
    latency=0.5,
)


def outcomes(successes: int, episodes: int = 20, *, modes: int = 4, clearance: float = 0.01) -> Outcomes:
    """Return episodes of which the first succeed, in all modes in turn."""
    number = np.arange(episodes)
    return Outcomes(
        success=number < successes,
        mode=np.where(number < successes, number % modes, -1),
        seconds=np.full(episodes, 3.0),
        path=np.full(episodes, 0.7),
        jerk=np.full(episodes, 20.0),
        clamped=np.full(episodes, 0.01),
        clearance=np.full(episodes, clearance),
    )


def report(artifact: Artifact, **scenarios: Outcomes) -> dict:
    """Return the values of a report of an artifact."""
    return {
        'report_version': FORMAT,
        'subject': {
            'artifact': artifact.hash,
            'contract': artifact.manifest.contract_hash,
            'period': 0.035,
            'deployment': Deployment().fingerprint,
        },
        'deployment': Deployment().model_dump(mode='json'),
        'mode_names': ['a', 'b', 'c', 'd'],
        'scenarios': [
            {'name': name, 'student': {'outcomes': each.values()}, 'teacher': None}
            for name, each in (scenarios or {'nominal': outcomes(18)}).items()
        ],
        'latency_us': {'student': {'p50': 20.0, 'p99': 40.0}, 'student_plan': {'p50': 200.0, 'p99': 400.0}},
    }


def save(path: Path, action_scale: float = 1.0) -> Artifact:
    """Save an artifact that is whole, though its network is none."""
    contract = load_contract('avoiding_cartesian')
    manifest = Manifest(
        kind='student',
        contract=contract,
        contract_hash=contract.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        observation_offset=(0.0, 0.0),
        observation_scale=(1.0, 1.0),
        action_offset=(0.0, 0.0),
        action_scale=(action_scale, 1.0),
        network={},
        training={},
        metrics={},
    )
    save_artifact(path, manifest, {'nothing': np.zeros(1, dtype=np.float32)}, b'network')
    return load_artifact(path)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A student on disk."""
    return save(tmp_path / 'student')


def write(path: Path, values: dict) -> Path:
    """Write a sealed report."""
    path.mkdir(exist_ok=True)
    (path / 'report.json').write_text(sealed(values))
    return path


def test_verdict_holds_for_the_deployment_parameters_of_the_validation_alone(artifact, tmp_path):
    write(tmp_path / 'student.report', report(artifact))
    with pytest.raises(GateError, match='found max_lag 0.4 instead of 0.5; validate with these parameters'):
        require(None, artifact, Deployment(max_lag=0.4), gate=GATE)
    assert not require(None, artifact, Deployment(operating_mode='slow'), gate=GATE).overridden


def test_changed_contents_of_a_limits_file_are_another_deployment(artifact, tmp_path):
    limits = tmp_path / 'limits.yaml'
    limits.write_text('joint_limits: {joint1: {has_velocity_limits: true, max_velocity: 1.0}}')
    deployment = Deployment(joint_limits=str(limits))
    values = report(artifact) | {'deployment': deployment.model_dump(mode='json')}
    values['subject'] |= {'deployment': deployment.fingerprint}
    write(tmp_path / 'student.report', values)
    assert not require(None, artifact, deployment, gate=GATE).overridden
    limits.write_text('joint_limits: {joint1: {has_velocity_limits: true, max_velocity: 2.0}}')
    with pytest.raises(GateError, match='different contents of joint_limits or rules'):
        require(None, artifact, deployment, gate=GATE)


def test_artifact_with_a_passing_report_of_its_own_comes_through(artifact, tmp_path):
    write(tmp_path / 'student.report', report(artifact))
    passage = require(None, artifact, Deployment(), gate=GATE)
    assert not passage.overridden and 'passed' in passage.text
    assert not list(tmp_path.glob('*.jsonl'))


@pytest.mark.parametrize(
    ('scenarios', 'reported'),
    [
        ({'nominal': outcomes(15)}, 'success is 0.75'),
        ({'nominal': outcomes(9, 9)}, 'episodes is 9'),
        ({'nominal': outcomes(8, 10)}, 'lower end of the success interval'),
        ({'nominal': outcomes(18, modes=1)}, 'entropy is 0,'),
        ({'nominal': outcomes(18, clearance=0.0002)}, 'near miss is 0.0002'),
        ({'nominal': outcomes(18, clearance=np.nan)}, 'near miss was not measured'),
        ({'other': outcomes(18)}, 'nominal: success was not measured'),
        ({'nominal': outcomes(18), 'windy': outcomes(9)}, 'windy: success is 0.45'),
    ],
)
def test_what_does_not_reach_a_threshold_is_named(artifact, tmp_path, scenarios, reported):
    with pytest.raises(GateError, match=reported):
        require(write(tmp_path / 'r', report(artifact, **scenarios)), artifact, Deployment(), gate=GATE)


def test_slow_answers_do_not_pass(artifact, tmp_path):
    values = report(artifact)
    values['latency_us']['student_plan']['p99'] = 18_000.0
    with pytest.raises(GateError, match=r'latency / policy period is 0\.514'):
        require(write(tmp_path / 'r', values), artifact, Deployment(), gate=GATE)


def test_student_far_behind_its_teacher_does_not_pass(artifact):
    values = report(artifact)
    values['scenarios'][0]['teacher'] = {'outcomes': outcomes(20).values()}
    gate = Gate(scenarios={'nominal': Threshold(behind_teacher=0.05)})
    assert not judge(values, gate).passes
    assert judge(values, Gate(scenarios={'nominal': Threshold(behind_teacher=0.11)})).passes


def test_gate_without_requirements_passes_nothing(artifact):
    assert not judge(report(artifact), Gate()).passes


def test_report_of_another_artifact_is_no_pass(artifact, tmp_path):
    other = save(tmp_path / 'other', action_scale=2.0)
    with pytest.raises(GateError, match=f'expected a report of the artifact {artifact.hash[:12]}'):
        require(write(tmp_path / 'r', report(other)), artifact, Deployment(), gate=GATE)


def test_edited_report_is_noticed_and_an_edited_verdict_is_not_even_read(artifact, tmp_path):
    values = report(artifact, nominal=outcomes(2))
    folder = write(tmp_path / 'r', {**values, 'gate': {'passes': True}})
    with pytest.raises(GateError, match=r'success is 0\.1,'):
        require(folder, artifact, Deployment(), gate=GATE)
    text = (folder / 'report.json').read_text()
    (folder / 'report.json').write_text(text.replace('false', 'true'))
    with pytest.raises(GateError, match='found another digest'):
        require(folder, artifact, Deployment(), gate=GATE)


@pytest.mark.parametrize('text', ['', '[]', '{"report_version": 1}', '{"report_version": 7}', '\0\1'])
def test_what_is_no_report_is_refused(artifact, tmp_path, text):
    (tmp_path / 'report.json').write_text(text)
    with pytest.raises(GateError):
        require(tmp_path / 'report.json', artifact, Deployment(), gate=GATE)


@pytest.mark.parametrize('missing', ['scenarios', 'mode_names', 'latency_us'])
def test_report_that_lacks_something_is_refused(artifact, tmp_path, missing):
    values = {name: value for name, value in report(artifact).items() if name != missing}
    with pytest.raises(GateError, match='validate again'):
        require(write(tmp_path / 'r', values), artifact, Deployment(), gate=GATE)


def test_artifact_without_a_report_is_refused_with_the_remedy(artifact):
    assert find_report(artifact.path) is None
    with pytest.raises(GateError, match='vdd validate --student'):
        require(None, artifact, Deployment(), gate=GATE)


def test_override_with_name_and_reason_passes_and_is_logged(artifact, tmp_path):
    for reason in ('a demonstration', 'another'):
        passage = require(None, artifact, Deployment(), gate=GATE, override=Override('Ada', reason))
        assert passage.overridden and 'Ada' in passage.text and 'found none beside the artifact' in passage.text
    entries = [json.loads(line) for line in (tmp_path / 'student.overrides.jsonl').read_text().splitlines()]
    assert [entry['reason'] for entry in entries] == ['a demonstration', 'another']
    assert entries[0]['artifact'] == artifact.hash and 'none beside the artifact' in entries[0]['refusal']


@pytest.mark.parametrize('override', [Override('', 'why'), Override('Ada', '  ')])
def test_override_without_name_or_reason_is_refused(artifact, tmp_path, override):
    with pytest.raises(GateError, match='name and reason of the override'):
        require(None, artifact, Deployment(), gate=GATE, override=override)
    assert not list(tmp_path.glob('*.jsonl'))


def test_override_that_cannot_be_written_down_is_none(artifact, tmp_path):
    with pytest.raises(GateError, match='a writable log of overrides'):
        require(
            None,
            artifact,
            Deployment(),
            gate=GATE,
            override=Override('Ada', 'why'),
            record=tmp_path / 'nowhere' / 'file',
        )


def test_passing_artifact_needs_no_override_and_none_is_written(artifact, tmp_path):
    write(tmp_path / 'student.report', report(artifact))
    assert not require(None, artifact, Deployment(), gate=GATE, override=Override('Ada', 'why')).overridden
    assert not list(tmp_path.glob('*.jsonl'))


def test_a_misspelt_threshold_lists_the_thresholds_of_a_scenario(tmp_path):
    file = tmp_path / 'gate.yaml'
    file.write_text('scenarios:\n  nominal: {sucess: 0.5}\n')
    with pytest.raises(ConfigurationError) as caught:
        load_gate(file)
    assert 'gate.yaml, line 2; found scenarios.nominal.sucess: an unknown setting; did you mean success?' in str(
        caught.value
    )
    assert 'known settings of scenarios.nominal: episodes, ' in str(caught.value)


def test_shipped_gate_requires_nominal_and_for_everything_at_once():
    gate = load_gate()
    assert {'nominal', 'everything'} <= gate.scenarios.keys()
    assert gate.scenarios['nominal'].success >= 0.95 and gate.others is not None


@pytest.mark.parametrize('text', ['scenarios: {nominal: {sucess: 1}}', 'others: {success: 2}', '[1]', 'a: ['])
def test_thresholds_that_cannot_be_meant_are_refused(tmp_path, text):
    (tmp_path / 'gate.yaml').write_text(text)
    with pytest.raises(ConfigurationError):
        load_gate(tmp_path / 'gate.yaml')


def test_outcomes_survive_the_report():
    before = outcomes(18, clearance=np.nan)
    after = outcomes_of(json.loads(json.dumps(before.values())))
    for name in before.values():
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_jerk_and_length_are_those_of_the_closed_form():
    time = np.linspace(0, 1, 101)
    path = np.stack([time**3, np.zeros(101), 2 * time], axis=1)
    assert root_mean_square_jerk(path, 0.01) == pytest.approx(6.0, rel=1e-6)
    assert np.isnan(root_mean_square_jerk(path[:3], 0.01))
    assert path_length(np.array([[0, 0, 0], [3, 4, 0], [3, 4, 2.0]])) == 7.0


def test_contract_of_the_report_counts_too(artifact, tmp_path):
    values = report(artifact)
    values['subject']['contract'] = load_contract('avoiding_joint').hash
    with pytest.raises(GateError, match='a report of the contract'):
        require(write(tmp_path / 'r', values), artifact, Deployment(), gate=GATE)
