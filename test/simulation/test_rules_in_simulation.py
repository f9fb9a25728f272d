"""Rules in simulation: `vdd rules check --simulate`, and the benchmark of rules as deployed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.constant_student import save_student
from benchmarks.rules_deployed import FORBID, bars_of, pinned
from vdd_ros.commands.cli import main
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.rules import load_rules
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.routing import Routing, Situation
from vdd_ros.sim.tasks import load_task
from vdd_ros.sim.tasks.avoiding.layout import MODES, ROWS, START
from vdd_ros.validation.latency import compare

ROOT = Path(__file__).parents[2]
CHUNKS = {'prediction_horizon': 12, 'action_horizon': 4}


@pytest.fixture(scope='module')
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One expert goes to the right of all posts, one to their left; an arm goes on with the one that it began with."""
    folder = tmp_path_factory.mktemp('two')
    return save_student(folder / 'student', [[0.0042, 0.01], [-0.0045, 0.01]], change=CHUNKS)


def test_the_effect_of_rules_is_shown_by_rollouts_with_and_without_them(student, tmp_path, capsys):
    rules = tmp_path / 'rules.yaml'
    rules.write_text(
        'parameters: {cable: false}\nzones: {left: {x: [null, 0.52]}, all: {x: [null, 2]}}\n'
        'rules:\n- {name: keep off, when: parameter.cable, avoid: [left]}\n'
        '- {name: nowhere, when: parameter.cable and tool.y > 0.1, avoid: [all]}\n'
    )
    command = ['rules', 'check', str(rules), str(student)]

    def told(*more: str) -> dict[str, list[str]]:
        assert main([*command, '--simulate', '4', *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line.strip().split('  ')[0]: line.split()[-2:] for line in lines if line.strip()}

    free = told()  # the parameter has its default: no rule applies
    assert free['success'] == ['1.000', '1.000'] and len(set(free['mode left-left-leftmost'])) == 1
    left = int(free['mode left-left-leftmost'][0])
    assert 0 < left < 4 and free['mode right-right-rightmost'] == [str(4 - left)] * 2
    ruled = told('--parameters', 'cable=true')
    assert ruled['success'] == ['1.000', '0.000'] and ruled['expert 1'][1] == '0.0%' != ruled['expert 1'][0]
    assert 'with rules: 4 of 4 end with the rules leave no expert: keep off, nowhere' in ruled
    rules.write_text('zones: {left: {x: [null, 0.52]}}\nrules: [{avoid: [left]}]')
    right = told()
    assert right['success'] == ['1.000', '1.000'] and right['mode right-right-rightmost'] == [str(4 - left), '4']
    assert main(command) == 2 and 'recordings, or --simulate EPISODES' in capsys.readouterr().err


REACH = ROOT / 'examples' / 'reach'


def test_rules_are_simulated_in_a_task_that_is_only_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REACH)  # its robot model is relative
    student = save_student(tmp_path / 'student', [[0.0, 0.0]], str(REACH / 'contract.yaml'))
    (tmp_path / 'rules.yaml').write_text('rules: [{when: tool.x > 9, speed: 0.5}]')
    command = ['rules', 'check', str(tmp_path / 'rules.yaml'), str(student), '--simulate', '1']
    assert main(command) == 2
    reported = ' '.join(capsys.readouterr().err.split())
    assert 'expected a task for the contract reach; found none' in reported and '--task FILE.py' in reported
    assert main([*command, '--task', str(REACH / 'task.py')]) == 0
    assert 'success' in capsys.readouterr().out
    assert main([*command, '--task', 'avoiding']) == 2
    assert 'expected a contract of the robot of avoiding' in ' '.join(capsys.readouterr().err.split())


def test_the_latency_of_a_policy_is_measured_under_rules_on_zones(student, tmp_path):
    file = tmp_path / 'rules.yaml'
    file.write_text('zones: {left: {x: [null, 0.52]}}\nrules: [{when: tool.x > 0.5, avoid: [left]}]')
    task, artifact = load_task('avoiding'), load_artifact(student)
    start = task.simulation(artifact.manifest.contract.robot.joints).position
    found = compare(None, artifact, lambda *_: None, deployment=Deployment(rules=str(file)), start=start, rounds=1)
    assert {'student', 'student_plan'} <= set(found) and all(each.p50 > 0 for each in found.values())


def test_the_rules_that_pin_a_mode_leave_its_way_and_close_all_others(tmp_path):
    contract, file = load_contract('avoiding_cartesian'), tmp_path / 'rules.yaml'

    def path(gaps: tuple[int, ...]) -> np.ndarray:
        """Return straight lines through the gaps, at the height of the task."""
        middles = [
            np.mean([*row.posts[max(gap - 1, 0) : gap + 1]]) + 0.08 * ((gap == len(row.posts)) - (gap == 0))
            for row, gap in zip(ROWS, gaps, strict=True)
        ]
        y = np.linspace(START[1], ROWS[-1].y, 120)
        x = np.interp(y, [START[1], *(row.y for row in ROWS)], [START[0], *middles])
        return np.stack([x, y, np.full_like(x, 0.12)], axis=-1)

    for wanted in (0, 7, 13, 23):
        file.write_text(json.dumps(pinned(wanted)))
        rules = load_rules(file, contract, Routing(), experts=len(MODES))
        paths = np.stack([path(gaps) for gaps in MODES])
        allowed = np.ones(len(MODES), dtype=bool)
        for tick in range(0, 110, 4):  # each tick sees what the student would plan there: the next twelve steps
            chunk = paths[:, tick : tick + 12]
            pose = (*chunk[wanted, 0].tolist(), 0.0, 0.0, 0.0)
            situation = Situation(np.zeros(2), tool_pose=lambda pose=pose: pose, tool_paths=lambda chunk=chunk: chunk)
            allowed &= ~np.isin(np.arange(len(MODES)), list(rules.at(situation).routing.forbidden))
        assert np.flatnonzero(allowed).tolist() == [wanted]


def test_the_benchmark_runs_and_its_bars_fall_where_rules_do_not_hold(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.rules_deployed', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'rules_deployed.json').read_text())
    assert [row['part'] for row in found['rows']] == ['forbid', 'forbid', 'pin', 'pin'] and len(found['bars']) == 4
    assert FORBID['rules'][0]['avoid'] == list(FORBID['zones'])

    def bars(left: int, success: float, in_mode: int) -> list[bool]:
        rows = [
            {'part': 'forbid', 'rules': 'none', 'success': 1.0, 'on the left': 200},
            {'part': 'forbid', 'rules': 'not on the left', 'success': success, 'on the left': left},
            {'part': 'pin', 'rules': 'a', 'successes': 20, 'in the mode': 20},
            {'part': 'pin', 'rules': 'b', 'successes': 20, 'in the mode': in_mode},
        ]
        return [bar.holds for bar in bars_of(rows)]

    assert bars(0, 0.98, 19) == [True] * 4
    assert bars(1, 0.96, 18) == [False, False, True, False] and bars(0, 0.98, 17)[2] is False
