"""Rollouts on a Ray cluster of two workers: equal to those of two processes of this computer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from vdd_ros.common.errors import ArtifactError
from vdd_ros.contract.contract import load_contract
from vdd_ros.learning.distillation.rounds import DrawOfStudent, TorchPolicy
from vdd_ros.learning.jobs import shape_of
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.normalization import Normalizer, Normalizers
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.rollout import BATCH, Rollouts, rollout_all
from vdd_ros.validation.trial import Trial
from vdd_ros.validation.visits import TaskSimulator

EPISODES = BATCH + 8


class Wandering:
    """Goes on with noise of its own."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Go away from the start."""
        action = np.array([0.0, 0.01]) + 0.004 * generator.normal(size=(len(observation), 1, 2))
        return Plan(action, np.full(len(observation), -1))


def refuse() -> Wandering:
    """Fail as a planner does whose artifact is damaged."""
    raise ArtifactError(expected='weights', found='noise', remedy='train again')


@pytest.fixture(scope='module')
def address():
    """The address of a cluster with two processors."""
    pytest.importorskip('ray', reason='rollouts on several computers need the extra `ray`')
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 2, 'include_dashboard': False})
    yield cluster.address
    cluster.shutdown()


def rolled_out(policy, **how) -> tuple[dict[str, Rollouts], list]:
    told = []
    trials = {'many': Trial(policy, EPISODES), 'few': Trial(policy, 3)}
    task, contract = load_task('avoiding'), load_contract('avoiding_cartesian')
    return rollout_all(task, contract, trials, 5, progress=lambda *counts: told.append(counts), **how), told


def test_a_cluster_rolls_out_what_local_processes_do(address):
    local, _ = rolled_out(Wandering, processes=2)
    remote, told = rolled_out(Wandering, ray=address)
    assert remote.keys() == local.keys()
    for name, found in remote.items():
        expected = local[name]
        assert found.causes == expected.causes
        for field in ('success', 'mode', 'steps', 'clamped', 'clearance'):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
        for field in ('paths', 'states', 'commands', 'experts'):
            for one, other in zip(getattr(found, field), getattr(expected, field)):
                np.testing.assert_array_equal(one, other, err_msg=field)
    assert ('many', EPISODES, EPISODES) in told and ('few', 3, 3) in told


def test_an_error_of_a_policy_arrives_as_it_was(address):
    with pytest.raises(ArtifactError, match='found noise') as caught:
        rolled_out(refuse, ray=address)
    assert caught.value.remedy == 'train again'


def test_windows_that_policies_come_to_are_the_same_on_a_cluster(address):
    contract = load_contract('avoiding_cartesian')
    torch.manual_seed(0)
    student = Student(
        StudentSettings(experts=2, covariance='diagonal', mean_init_std=0.1),
        shape_of(contract),
        torch.Generator().manual_seed(0),
    )
    ones = Normalizer(np.zeros(contract.observation_size), np.ones(contract.observation_size))
    normalizers = Normalizers(ones, Normalizer(np.array([0.0, 0.01]), np.array([0.01, 0.01])))
    policy = TorchPolicy(DrawOfStudent(student), contract, normalizers, torch.device('cpu'))
    local, remote = (TaskSimulator(load_task('avoiding'), contract, ray) for ray in ('', address))
    seen = local.visit(policy, EPISODES, 3)
    assert seen.shape[1:] == (contract.observation_horizon, contract.observation_size) and len(seen) > EPISODES
    np.testing.assert_allclose(remote.visit(policy, EPISODES, 3), seen, atol=1e-5)
