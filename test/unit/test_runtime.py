"""Exported networks at work: bound buffers change the time that an answer takes, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch

from vdd_ros.common.errors import ArtifactError, ConfigurationError
from vdd_ros.learning.export import export_student
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.policy.experts import ActionNoise, choose, choose_one, covariance_of
from vdd_ros.policy.normalization import Normalizer, Normalizers
from vdd_ros.policy.runtime import PROVIDERS, Network

SHAPE = PolicyShape(observation_horizon=2, observation_size=3, action_size=2)
NORMALIZERS = Normalizers(Normalizer(np.zeros(3), np.ones(3)), Normalizer(np.zeros(2), np.ones(2)))


def export() -> bytes:
    """Return a small student as a model."""
    settings = StudentSettings(experts=3, trunk=TrunkSettings(width=16, depth=2))
    return export_student(Student(settings, SHAPE, torch.Generator().manual_seed(0)), NORMALIZERS)


@pytest.fixture(scope='module')
def network():
    """A small student."""
    return Network(export())


@pytest.fixture
def windows():
    """Different observations."""
    return np.random.default_rng(0).normal(size=(40, 2, 3))


def test_windows_are_answered_alike_one_by_one_and_together(network, windows):
    together = network({'observation': windows})
    alone = [network({'observation': window[None]}) for window in windows]
    for output, rows in zip(together, zip(*alone)):
        np.testing.assert_allclose(np.concatenate(rows), output, atol=1e-6)


def test_an_answer_is_not_altered_by_the_next(network, windows):
    first = network({'observation': windows[:1]})
    kept = [output.copy() for output in first]
    network({'observation': windows[1:2]})
    for output, before in zip(first, kept):
        np.testing.assert_array_equal(output, before)


def test_each_of_many_threads_gets_the_answer_to_its_own_question(network, windows):
    expected = [network({'observation': window[None]})[1] for window in windows]

    def ask(number: int) -> np.ndarray:
        return network({'observation': windows[number % 40][None]})[1]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(4000)))
    assert all(np.array_equal(answer, expected[number % 40]) for number, answer in enumerate(answers))


def test_what_is_no_network_is_refused_with_where_it_comes_from():
    with pytest.raises(ArtifactError, match='expected a network that runs at here'):
        Network(b'nothing', name='here')


MISSING = [name for name, (wanted, _) in PROVIDERS.items() if wanted not in onnxruntime.get_available_providers()]


@pytest.mark.parametrize('provider', MISSING)
def test_a_provider_that_is_not_installed_is_refused_with_the_package_that_has_it(provider):
    wanted, package = PROVIDERS[provider]
    with pytest.raises(ConfigurationError, match=f'{wanted} for provider={provider}.*install {package} in place of'):
        Network(export(), provider=provider)


def test_an_unknown_provider_is_refused():
    with pytest.raises(ConfigurationError, match='one of cpu, cuda, openvino.*found tpu'):
        Network(export(), provider='tpu')


def test_one_window_draws_the_expert_that_it_would_draw_among_many():
    generator = np.random.default_rng(0)
    log_gating = np.log(generator.dirichlet(np.ones(5), 200))
    uniform = generator.random(200)
    alone = [choose_one(row, number) for row, number in zip(log_gating, uniform)]
    np.testing.assert_array_equal(alone, choose(log_gating, uniform))
    assert set(alone) == set(range(5))


@pytest.mark.parametrize('size', [2, 8])
@pytest.mark.parametrize('covariance', ['diagonal', 'full', 'low_rank'])
def test_one_expert_deviates_as_it_would_among_many(covariance, size):
    settings = {'covariance': covariance, 'rank': 2, 'scale_floor': 0.01}
    parameters = {'diagonal': size, 'full': size * (size + 1) // 2, 'low_rank': 3 * size}[covariance]
    spread = np.random.default_rng(0).normal(scale=20.0, size=parameters).astype(np.float32)
    deviation = ActionNoise(settings, np.arange(1.0, size + 1.0))
    alone = deviation.of_one(spread.tolist(), np.random.default_rng(1))
    np.testing.assert_allclose(alone, deviation.of_each(spread[None], np.random.default_rng(1))[0], rtol=1e-9)


@pytest.mark.parametrize('size', [2, 8])
@pytest.mark.parametrize('covariance', ['diagonal', 'full', 'low_rank'])
def test_the_floor_of_learning_is_no_part_of_what_an_expert_acts_with(covariance, size):
    plain = {'covariance': covariance, 'rank': 2, 'scale_floor': 0.3}
    settings = {**plain, 'widening': 1.5}
    parameters = {'diagonal': size, 'full': size * (size + 1) // 2, 'low_rank': 3 * size}[covariance]
    spread = np.random.default_rng(0).normal(-1.0, scale=0.5, size=parameters).astype(np.float32)
    scale = np.arange(1.0, size + 1.0)
    deviation = ActionNoise(settings, scale)
    drawn = deviation.of_each(np.tile(spread, (200_000, 1)), np.random.default_rng(1)) / scale
    learned = covariance_of(spread, plain, np.ones(size))
    # What a student is surprised by makes its regions wider, and not its actions.
    np.testing.assert_allclose(covariance_of(spread, settings, np.ones(size)), 1.5**2 * learned)
    if covariance == 'full':  # of each dimension given those before it
        found = np.linalg.cholesky(np.cov(drawn.T)).diagonal() ** 2
        expected = np.linalg.cholesky(learned).diagonal() ** 2 - 0.3**2
    else:
        found, expected = np.cov(drawn.T), learned - 0.3**2 * np.eye(size)
    # Five standard errors of a variance: 5 sqrt(2 / 200000), and of a covariance fewer.
    np.testing.assert_allclose(found, expected, atol=0.016 * np.abs(expected).max())
    nothing = np.full(size, -50.0, dtype=np.float32)
    tight = np.concatenate([nothing, np.zeros(parameters - size, dtype=np.float32)])
    assert np.abs(deviation.of_each(tight[None], np.random.default_rng(1))).max() < 1e-8
    assert np.abs(deviation.of_one(tight.tolist(), np.random.default_rng(1))).max() < 1e-8
