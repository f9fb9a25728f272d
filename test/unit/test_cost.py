"""The cost sheet in closed form: from figures to costs, and from the record of a training to words."""

from __future__ import annotations

import json

import pytest

from benchmarks.constant_student import save_student
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.learning.runs import run_path
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.validation.cost import cost_sheet
from vdd_ros.validation.latency import Latency

CONTRACT = Contract.model_validate({**load_contract('avoiding_cartesian').model_dump(mode='json'), 'policy_rate': 20.0})
RATES = {'episodes': 200, 'modes': 3, 'entropy': 0.8, 'success_interval': (0.9, 0.97), 'causes': {'collision': 8}}
REPORT = {
    'scenarios': [
        {
            'name': 'nominal',
            'student': {**RATES, 'success': 0.94, 'mode_counts': (100, 88, 0, 1)},
            'teacher': {**RATES, 'success': 0.95, 'modes': 4, 'entropy': 0.9},
        },
        {'name': 'joint_states', 'student': {**RATES, 'success': 0.7, 'success_interval': (0.6, 0.8)}, 'teacher': None},
    ],
    'mode_names': ['a', 'b', 'c', 'd'],
    'ros': {'episodes': 20},
    'failures': {},
    'gate': {'passes': True, 'text': ''},
}
LATENCY = {
    'student': Latency(100.0, 200.0, 150.0),
    'teacher_same_runtime': Latency(1.0, 2.0, 3000.0),
    'teacher_eager': Latency(1.0, 2.0, 300_000.0),
}


def test_costs_follow_from_processor_time_rate_and_price(tmp_path):
    student = load_artifact(save_student(tmp_path / 'student', [[0.0, 0.001]]))
    run_path(student.path).mkdir()
    record = {'contract_hash': student.manifest.contract_hash, 'seconds': 9000.0, 'accelerator': 'a GPU'}
    record['environment'] = {'created': '2026', 'machine': {'system': 'Linux', 'cores': 8}}
    (run_path(student.path) / 'run.json').write_text(json.dumps(record))
    sheet = cost_sheet(
        REPORT,
        CONTRACT,
        {'student': student, 'teacher': load_artifact(save_student(tmp_path / 'other', [[0.0, 0.001]]))},
        LATENCY,
        Deployment(replan_steps=2),
        core_price=0.5,
        shipped=['nominal', 'joint_states', 'obstacle_shift'],
    )
    assert sheet.calls_per_second == 10.0
    assert sheet.demonstration_hours == pytest.approx(student.manifest.data.windows / 20 / 3600)
    assert sheet.inference['student'].load == pytest.approx(10 * 150e-6)
    assert sheet.inference['student'].price == pytest.approx(10 * 150e-6 * 0.5)
    assert sheet.inference['teacher_eager'].load == pytest.approx(3.0)
    lines = dict(sheet.lines)
    assert 'The student took 2.5 h on Linux, 8 cores, a GPU.' in lines['Training']
    assert 'for the teacher is unknown' in lines['Training']
    assert '150 us of processor time' in lines['Inference'] and 'At 0.5 per core and hour' in lines['Inference']
    assert 'in the same runtime takes 20 times as much' in lines['Inference']
    assert 'takes 2e+03 times as much: 300.000% of one core, 1.5 per hour; it cannot keep up' in lines['Inference']
    assert '94.0% of 200 rollouts' in lines['Success and modes'] and '-1.0% success' in lines['Success and modes']
    assert '-0.10 entropy' in lines['Success and modes']
    assert lines['Tested'].startswith('400 simulated rollouts') and '20 more over ROS' in lines['Tested']
    assert 'the scenario obstacle shift' in lines['Not tested'] and 'as deployed' in lines['Not tested']
    risks = lines['Remaining risks']
    assert 'up to 10.0% of the episodes fail in the nominal scenario, and up to 40.0% in the worst one' in risks
    assert 'collision (16)' in risks and '1 of 4 modes' in risks and 'monitoring is disabled' in risks
