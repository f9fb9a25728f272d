"""Stages of a deployment: the log that shows every edit, promotion on evidence, demotion, restrictions."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gate import GATE, report, save, write

from vdd_ros.common.errors import ConfigurationError, GateError
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.labels import Label, Labels
from vdd_ros.validation import stage_log
from vdd_ros.validation.stage_log import append, read_log
from vdd_ros.validation.stages import (
    Evidence,
    Session,
    StageSettings,
    Tally,
    demote,
    load_fleet,
    load_stage_settings,
    promote,
    record,
    standing_of,
)

QUICK = {'hours': 0.5, 'episodes': 3}
SETTINGS = StageSettings.parse(
    {
        'supervised': {'speed': 0.2, 'workspace': {'z': [0.1, None]}},
        'limited': {'speed': 0.6, 'experts': ['left', 2]},
        **{f'to_{stage}': QUICK for stage in ('supervised', 'limited', 'full')},
        'demotion': {'safety_stops': 2},
    }
)
LABELS = Labels({0: Label(name='left')})
GOOD = {'seconds': 3600.0, 'episodes': 5, 'ood_seconds': 10.0, 'disagreement': 0.02}


@pytest.fixture
def arm(tmp_path):
    """A validated student, and an arm in stage shadow."""
    artifact = save(tmp_path / 'student')
    write(tmp_path / 'student.report', report(artifact))
    found = Arm(tmp_path / 'arm.jsonl', artifact)
    found.promote('shadow')
    return found


class Arm:
    """One arm with its log."""

    def __init__(self, log, artifact):
        self.log, self.artifact = log, artifact

    def promote(self, stage, settings=SETTINGS, **change):
        subject = {'artifact': self.artifact, 'deployment': Deployment(), 'settings': settings, 'gate': GATE}
        return promote(self.log, stage, 'Ada', 'a test', **{**subject, **change})

    def operate(self, **change):
        standing = standing_of(self.log)
        record(self.log, 'node', 'operation', Session(standing.stage, standing.number, **{**GOOD, **change}))

    def bring_to(self, *stages):
        for stage in stages:
            self.operate()
            self.promote(stage)


def test_one_stage_follows_the_other_on_evidence_up_to_full(arm):
    arm.bring_to('supervised', 'limited', 'full')
    standing = standing_of(arm.log)
    assert (standing.stage, standing.who, standing.next) == ('full', 'Ada', None)
    kinds = [(entry.kind, entry.values['stage']) for entry in read_log(arm.log)]
    assert kinds == [
        *(('stage', 'shadow'), ('session', 'shadow'), ('stage', 'supervised'), ('session', 'supervised')),
        *(('stage', 'limited'), ('session', 'limited'), ('stage', 'full')),
    ]
    assert 'passed its validation' in read_log(arm.log)[-1].values['gate']


@pytest.mark.parametrize(
    ('operation', 'missing'),
    [
        ({'seconds': 1700.0}, '0.47 of 0.5 hours in shadow'),
        ({'episodes': 2}, '2 of 3 episodes'),
        ({'safety_stops': ('emergency stop',)}, r'1 safety stops \(emergency stop\)'),
        ({'ood_seconds': 400.0}, 'out of distribution 0.111, greatest 0.05'),
        ({'ood_seconds': None}, 'no share of the time out of distribution was measured'),
        ({'disagreement': 0.2}, r'disagreement \[rad\] 0.2, greatest 0.1'),
        ({'disagreement': None}, r'no disagreement \[rad\] was measured'),
        ({'simulated': True}, '0.00 of 0.5 hours'),
        ({'granted': 7}, '0.00 of 0.5 hours'),
    ],
)
def test_promotion_is_refused_without_each_part_of_the_evidence(arm, operation, missing):
    record(arm.log, 'node', 'operation', dataclasses.replace(Session('shadow', 0, **GOOD), **operation))
    with pytest.raises(GateError, match=missing):
        arm.promote('supervised')
    assert standing_of(arm.log).stage == 'shadow'


def test_success_of_episodes_can_be_required(arm):
    demanding = SETTINGS.changed(['to_supervised.success=0.9'])
    arm.operate(episodes=20, successes=17)
    with pytest.raises(GateError, match='success 0.85, least 0.9'):
        arm.promote('supervised', demanding)
    arm.operate(episodes=20, successes=20)
    arm.promote('supervised', demanding)


def test_promotion_is_refused_to_what_is_not_validated_as_deployed_and_to_another_subject(arm, tmp_path):
    arm.operate()
    with pytest.raises(GateError, match='the deployment'):
        arm.promote('supervised', deployment=Deployment(max_lag=0.4))
    with pytest.raises(GateError, match='the artifact'):
        arm.promote('supervised', artifact=save(tmp_path / 'other', action_scale=2.0))
    write(tmp_path / 'student.report', report(arm.artifact) | {'scenarios': []})
    with pytest.raises(GateError, match='a validation that passes'):
        arm.promote('supervised')
    assert standing_of(arm.log).stage == 'shadow'


def test_no_stage_is_left_out_and_nothing_is_above_full(arm):
    arm.operate()
    with pytest.raises(GateError, match='from shadow to supervised; found one to full'):
        arm.promote('full')
    arm.bring_to('supervised', 'limited', 'full')
    with pytest.raises(GateError, match='nothing above it'):
        arm.promote('full')


@pytest.mark.parametrize(('who', 'why'), [('', 'reason'), ('Ada', ' ')])
def test_a_promotion_has_a_name_and_a_reason(tmp_path, who, why):
    artifact = save(tmp_path / 'student')
    with pytest.raises(GateError, match='who and why'):
        promote(tmp_path / 'log', 'shadow', who, why, artifact=artifact, deployment=Deployment(), settings=SETTINGS)
    assert not (tmp_path / 'log').exists()


def test_after_a_demotion_evidence_begins_anew(arm):
    arm.bring_to('supervised', 'limited')
    demote(arm.log, 'node', 'emergency stop')
    standing = standing_of(arm.log)
    assert (standing.stage, standing.evidence, standing.settings) == ('supervised', Evidence(), SETTINGS)
    with pytest.raises(GateError, match='a stage below supervised; found full'):
        demote(arm.log, 'Ada', 'up', 'full')
    demote(arm.log, 'Ada', 'new tool', 'shadow')
    demote(arm.log, 'node', 'not finite')  # in shadow, evidence begins anew
    assert standing_of(arm.log).stage == 'shadow'
    assert standing_of(arm.log).number == len(read_log(arm.log)) - 1


@pytest.mark.parametrize(
    ('stage', 'mode', 'found'),
    [
        ('shadow', 'full', ('shadow', 0.25, ())),
        ('supervised', 'full', ('slow', 0.2, ())),
        ('limited', 'full', ('slow', 0.6, (1, 3))),
        ('limited', 'slow', ('slow', 0.25, (1, 3))),
        ('limited', 'shadow', ('shadow', 0.25, ())),
        ('full', 'full', ('full', 0.25, ())),
        ('full', 'slow', ('slow', 0.25, ())),
    ],
)
def test_stage_restricts_mode_speed_and_experts_and_widens_nothing(arm, stage, mode, found):
    standing = dataclasses.replace(standing_of(arm.log), stage=stage)
    result = standing.restricted(Deployment(operating_mode=mode), 4, LABELS)
    assert (result.operating_mode, result.slow_speed, result.forbidden_experts) == found
    assert (standing.workspace is not None) == (stage == 'supervised')


def test_an_expert_that_the_student_does_not_have_cannot_be_permitted(arm):
    standing = dataclasses.replace(standing_of(arm.log), stage='limited')
    with pytest.raises(ConfigurationError, match="found 'left'"):
        standing.restricted(Deployment(), 4, Labels())


def test_an_activation_is_one_episode_from_its_first_time_in_operation(arm):
    arm.bring_to('supervised')
    tally = Tally(standing_of(arm.log))
    tally.stop('emergency stop', requested=False)
    assert tally.cut().episodes == 0  # it stopped at once
    tally.sample(0.2, 'fine')
    assert tally.cut().episodes == 1
    tally.sample(0.2, 'fine')
    assert tally.cut().episodes == 0  # the same one


def test_stage_is_lowered_after_safety_stops_and_long_time_out_of_distribution(arm):
    arm.bring_to('supervised')
    tally = Tally(standing_of(arm.log))
    tally.stop('stop was asked for', requested=True)
    tally.stop('emergency stop', requested=False)
    assert not tally.demotion
    assert tally.cut().safety_stops == ('emergency stop',)
    assert not tally.demotion  # one is permitted, and recording does not forget it
    tally.stop('joint 2 does not move', requested=False)
    assert tally.demotion == '2 safety stops, the last one: joint 2 does not move'
    tally = Tally(standing_of(arm.log))
    for level, seconds, lowered in (('warn', 58.0, False), ('fine', 20.0, True), ('fine', 40.0, False)):
        for _ in range(int(seconds / 0.2)):
            tally.sample(0.2, level)
        assert bool(tally.demotion) == lowered, level


def test_a_session_is_recorded_in_parts_without_counting_anything_twice(arm):
    tally = Tally(standing_of(arm.log))
    for _ in range(10):
        tally.sample(0.2, 'fine')
    tally.disagree(0.03)
    first = tally.cut()
    assert (first.seconds, first.episodes, first.successes, first.disagreement) == (2.0, 1, None, 0.03)
    assert tally.is_empty
    tally.sample(0.2, 'warn')
    second = tally.cut()
    assert (second.seconds, second.episodes, second.ood_seconds) == (0.2, 0, 0.2)
    tally.episode('success')
    tally.episode('collision')
    third = tally.cut()
    assert (third.episodes, third.successes) == (2, 1)


def test_fleet_names_logs_from_its_own_folder(tmp_path):
    (tmp_path / 'fleet.yaml').write_text(
        'arms: {left: {log: left.jsonl, anchor: abc}, right: {log: /logs/right.jsonl}}'
    )
    fleet = load_fleet(tmp_path / 'fleet.yaml')
    assert fleet['left'] == (tmp_path / 'left.jsonl', 'abc') and str(fleet['right'][0]) == '/logs/right.jsonl'


def test_settings_that_ship_are_the_documented_defaults():
    assert load_stage_settings() == StageSettings()


def written(folder) -> tuple:
    """Write a log of four entries."""
    log = folder / 'log.jsonl'
    for number in range(4):
        append(log, 'stage', f'person {number}', 'because', {'stage': 'shadow', 'number': number})
    return log, log.with_name('log.jsonl.head')


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """A log and its head, as bytes, and its entries."""
    log, head = written(tmp_path_factory.mktemp('sound'))
    return log.read_bytes(), head.read_bytes(), read_log(log)


@st.composite
def edits(draw, size):
    """Replace, insert, remove or move a part."""
    begin = draw(st.integers(0, size))
    end = draw(st.integers(begin, size))
    put = draw(st.one_of(st.binary(max_size=40), st.sampled_from([b'', b'\n', b' ', b'\r\n', b'{}\n'])))
    return begin, end, put


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_edit_is_detected_or_changes_nothing(tmp_path_factory, sound, data):
    text, head, entries = sound
    folder = tmp_path_factory.mktemp('edited')
    log = folder / 'log.jsonl'
    new = {}
    for name, content in (('log', text), ('head', head)):
        begin, end, put = data.draw(edits(len(content)))
        keep = data.draw(st.booleans())
        new[name] = content if keep else content[:begin] + put + content[end:]
    log.write_bytes(new['log'])
    log.with_name('log.jsonl.head').write_bytes(new['head'])
    try:
        found = read_log(log)
    except GateError:
        assert (new['log'], new['head']) != (text, head)
        return
    assert found == entries
    # Only the newest line may be incomplete, as it is after an interrupted write.
    assert new['head'] == head and text.startswith(new['log']) and len(new['log']) >= len(text) - len(head)


@pytest.mark.parametrize('kept', [0, 1, 2, 3])
def test_a_cut_log_a_missing_head_and_a_rewritten_log_are_detected(tmp_path, sound, kept):
    text, head, entries = sound
    log = tmp_path / 'log.jsonl'
    log.write_bytes(b''.join(text.splitlines(keepends=True)[:kept]))
    if kept == 3:  # as after an interrupted write: the head completes it
        log.with_name('log.jsonl.head').write_bytes(head)
        assert read_log(log) == entries
        append(log, 'stage', 'Ada', 'on', {})
        assert log.read_bytes().startswith(text) and len(read_log(log)) == 5
        log.with_name('log.jsonl.head').unlink()
    else:
        log.with_name('log.jsonl.head').write_bytes(head)
    with pytest.raises(GateError, match='as it was written'):
        read_log(log)
    with pytest.raises(GateError, match='as it was written'):
        append(log, 'stage', 'Ada', 'on', {})


def test_a_log_written_anew_is_found_out_by_an_anchor(tmp_path, sound):
    entries = sound[2]
    log, _ = written(tmp_path)
    assert read_log(log, entries[2].hash[:12] if log.read_bytes() == sound[0] else read_log(log)[2].hash[:12])
    with pytest.raises(GateError, match='no entry with the hash 123'):
        read_log(log, '123')


def _append_many(log) -> None:
    for _ in range(20):
        append(log, 'session', 'node', 'operation', {})


def test_several_processes_append_to_one_log(tmp_path):
    log = tmp_path / 'log.jsonl'
    context = multiprocessing.get_context('spawn')
    processes = [context.Process(target=_append_many, args=(log,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [entry.number for entry in read_log(log)] == list(range(40))
    assert json.loads(log.read_text().splitlines()[-1])['number'] == 39


@pytest.mark.parametrize('step', range(3))
def test_an_interrupted_write_loses_neither_the_log_nor_the_line(tmp_path, sound, step):
    """After each step of a write, the log is as before or as afterwards."""
    text, head, entries = sound
    log = tmp_path / 'log.jsonl'
    lines = text.splitlines(keepends=True)
    before = b''.join(lines[:3])
    log.write_bytes(before + (b'', lines[3][:40], lines[3])[step])
    log.with_name('log.jsonl.head').write_bytes(head)
    assert read_log(log) == entries
    append(log, 'session', 'node', 'operation', {})
    assert log.read_bytes().startswith(text) and len(read_log(log)) == 5
    assert stage_log.read_log(log)[3] == entries[3]


def test_workspace_is_a_box_in_the_frame_of_the_model(arm):
    standing = dataclasses.replace(standing_of(arm.log), stage='supervised')
    np.testing.assert_array_equal(standing.workspace, [[-np.inf, -np.inf, 0.1], [np.inf, np.inf, np.inf]])
