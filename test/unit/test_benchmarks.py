"""The benchmarks run on a small budget and leave what programs read."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracles import seeded

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.toy_problems import TOYS, measure  # noqa: E402
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture  # noqa: E402


def test_a_quick_run_of_the_toys_leaves_rows_bars_and_a_picture(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.toy', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'toy.json').read_text())
    assert found['machine']['cores'] >= 1 and found['versions']['torch'] == torch.__version__
    made = {(row['toy'], row['method'], row['seed']) for row in found['rows']}
    assert made == {(toy, method, seed) for toy in TOYS for method in ('default', 'paper', 'EM') for seed in (0, 1)}
    for row in found['rows']:
        assert row['forward_kl'] > 0 and row['reverse_kl'] > 0 and row['seconds'] > 0
        assert 0 <= row['modes'] <= 8 and 1 <= row['experts'] <= 16
        assert ('weight_error' in row) == (row['toy'] != 'junction')
    assert len(found['bars']) == 7
    for bar in found['bars']:
        assert bar['holds'] == (bar['value'] <= bar['bar'] if bar['at_most'] else bar['value'] >= bar['bar'])
    assert (tmp_path / 'runs' / 'benchmarks' / 'toy.png').read_bytes().startswith(b'\x89PNG')


def test_a_quick_run_of_avoiding_compares_all_methods(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.avoiding', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'avoiding.json').read_text())
    methods = {row['method'] for row in found['rows']}
    assert methods == {*(f'teacher {calls}' for calls in (16, 8, 4, 2, 1)), 'vdd', 'paper', 'EM', 'consistency'}
    assert all(0 <= row['success'] <= 1 and 0 <= row['entropy'] <= 1 for row in found['rows'])
    assert {'name', 'value', 'bar', 'holds'} <= found['bars'][0].keys()
    assert (tmp_path / 'runs' / 'benchmarks' / 'avoiding.png').read_bytes().startswith(b'\x89PNG')


def test_a_quick_run_of_learning_on_compares_the_student_of_before_and_afterwards(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.learning_on', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'learning_on.json').read_text())
    assert [row['student'] for row in found['rows']] == ['before', 'learned on']
    assert len(found['bars']) == 5 and found['bars'][-1]['value'] == 1.0  # all experts keep their names


def test_a_quick_run_of_training_times_updates_beside_an_eager_loop_and_on_two_devices(tmp_path):
    pytest.importorskip('lightning_fabric', reason='learning on several devices needs the extra `distributed`')
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.training', '--quick', '--parts', 'steps', '--devices', '2']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'runs' / 'benchmarks' / 'training.json').read_text())['rows']
    timed = {(row['kind'], row['method']) for row in rows if row['part'] == 'steps'}
    assert timed == {(kind, method) for kind in ('teacher', 'student') for method in ('eager', 'full', 'mixed')}
    both = [row for row in rows if row['part'] == 'scaling']
    assert [row['kind'] for row in both] == ['teacher', 'student']
    assert all(math.isclose(row['ratio'], row['several [windows/s]'] / row['single [windows/s]']) for row in both)


@pytest.mark.parametrize('name', TOYS)
def test_a_normalised_toy_has_actions_of_unit_deviation_and_finds_the_same_modes(name):
    toy = TOYS[name].normalised()
    deviation = toy.demonstrations(50_000, seeded()).action.std(dim=0)
    torch.testing.assert_close(deviation, torch.ones(2), rtol=0.02, atol=0)

    def student(observation):
        truth = toy.density(observation)
        offset = torch.tensor([0.99 * toy.near, 0]) / torch.tensor(toy.unit)
        return GaussianMixture(truth.log_gating, truth.mean + offset, truth.covariance)

    assert measure(toy, student, seeded(), 1000)['modes'] == (7 if name == 'junction' else 8)


@pytest.mark.parametrize('name', TOYS)
def test_a_student_that_is_the_teacher_is_without_fault(name):
    toy = TOYS[name]
    found = measure(toy, toy.density, seeded(), 5000)
    assert found['forward_kl'] == found['reverse_kl'] == 0
    assert found['modes'] == (7 if name == 'junction' else 8)
    assert found.get('weight_error', 0) == 0


def test_a_student_that_lacks_a_mode_is_found_out():
    toy = TOYS['ring']

    def student(observation):
        return toy.density(observation).select(torch.arange(7))

    found = measure(toy, student, seeded(), 50_000)
    assert found['modes'] == 7
    # One mode of eight is missed, and the others have 1/7 each.
    assert found['weight_error'] == pytest.approx(1 / 8)
    # Where it has mass, it is the teacher times 8/7, less what the missed mode adds there.
    assert 0 < found['reverse_kl'] < math.log(8 / 7) < found['forward_kl']


def test_an_expert_of_too_little_gating_or_too_far_off_finds_no_mode():
    toy = TOYS['hard ring']

    def student(observation):
        truth = toy.density(observation)
        gating = truth.log_gating.exp()
        gating[:, 7] = 0.009
        mean = truth.mean.clone()
        mean[:, 0, 0] += 0.31
        mean[:, 1, 0] += 0.29
        return GaussianMixture(gating.log().log_softmax(dim=-1), mean, truth.covariance)

    assert measure(toy, student, seeded(), 1000)['modes'] == 6


def test_the_modes_of_the_junction_split_merge_and_keep_their_weights():
    mixture = TOYS['junction'].density(torch.tensor([-1.0, 0.0, 0.5, 1.0]).reshape(4, 1, 1))
    torch.testing.assert_close(mixture.log_gating.exp().sum(dim=-1), torch.ones(4))
    apart = torch.stack(
        [(mixture.mean[:, 1] - mixture.mean[:, 2]).norm(dim=-1), (mixture.mean[:, 3] - mixture.mean[:, 4]).norm(dim=-1)]
    )
    torch.testing.assert_close(apart, torch.tensor([[0.0, 0.0, 1.2, 2.4], [3.6, 1.2, 0.0, 0.0]]))
