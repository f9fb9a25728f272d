"""What a policy node does before it commands a real arm: it asks for a passing validation of this very artifact."""

from __future__ import annotations

import json

from students import save_student

STEP = [0.0, 0.01]


def test_on_a_real_arm_an_artifact_without_a_report_ends_in_one_line_with_the_remedy(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, autostart=True)
    assert node.wait() == 2
    assert f'found none beside the artifact; run `vdd validate --student {artifact}`' in node.text
    assert not list(tmp_path.glob('*.jsonl'))


def test_override_is_warned_of_and_logged(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    given = {'override_name': 'Ada', 'override_reason': 'arm in a cage', 'startup_timeout': 0.5}
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, autostart=True, **given)
    # There is no arm, so it does not come further than that.
    assert node.wait() == 2
    assert 'gate overridden by Ada (arm in a cage)' in node.text and 'joint states' in node.text
    entry = json.loads((tmp_path / 'student.overrides.jsonl').read_text())
    assert (entry['name'], entry['reason']) == ('Ada', 'arm in a cage')


def test_in_the_shadow_no_gate_applies(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    given = {'operating_mode': 'shadow', 'startup_timeout': 0.5}
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, autostart=True, **given)
    assert node.wait() == 2
    assert 'vdd validate' not in node.text and 'joint states' in node.text
