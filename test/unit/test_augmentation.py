"""Displaced windows: what they leave alone, where they lead back to, and how they are spread."""

import numpy as np
import pytest
import torch

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import WindowArrays, windows_of
from vdd_ros.learning.augmentation import (
    AugmentationSettings,
    AugmentedWindows,
    fit_normalizers,
    shown_actions,
    step_root,
    undisplaced,
)
from vdd_ros.policy.normalization import Normalizer, Normalizers

NONE = AugmentationSettings(displacement=0, memory_noise=0)
COUNT = 20_000


def _contract(**change) -> Contract:
    values = load_contract('avoiding_cartesian').model_dump(mode='json')
    return Contract.model_validate({**values, 'prediction_horizon': 1, 'action_horizon': 1, **change})


def _arrays(contract: Contract, count: int = 64) -> WindowArrays:
    generator = np.random.default_rng(0)
    observation = generator.normal(size=(count, contract.observation_horizon, 2))
    step = generator.normal(size=(count, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]])
    action = np.repeat(step[:, None], contract.prediction_horizon, axis=1)
    return WindowArrays(observation, action, step)


def _same_window(contract: Contract) -> WindowArrays:
    observation, action = np.zeros((1, contract.observation_horizon, 2)), np.zeros((1, contract.prediction_horizon, 2))
    return WindowArrays(observation, action, np.eye(2) * 2**0.5)


def _plain() -> Normalizers:
    return Normalizers(Normalizer(np.zeros(2), np.ones(2)), Normalizer(np.zeros(2), np.ones(2)))


def test_without_displacement_windows_are_the_demonstrated_ones():
    contract = _contract()
    arrays = _arrays(contract)
    windows = AugmentedWindows(arrays, contract, _plain(), NONE)
    observation, action = windows.draw(50, torch.Generator().manual_seed(0))
    rows = [np.abs(arrays.observation - each.numpy()).sum(axis=(1, 2)).argmin() for each in observation]
    np.testing.assert_allclose(observation, arrays.observation[rows], rtol=1e-6)
    np.testing.assert_allclose(action, arrays.action[rows, 0], rtol=1e-6)


def test_step_root_has_the_second_moment_of_the_steps():
    arrays = _arrays(_contract())
    root = step_root(arrays)
    np.testing.assert_allclose(root.T @ root, arrays.step.T @ arrays.step / len(arrays.step), rtol=1e-9)


@pytest.mark.parametrize('mode', ['delta', 'absolute'])
def test_a_chunk_takes_back_the_same_share_of_the_push_in_every_step(mode):
    contract = _contract(prediction_horizon=4, action_mode=mode, observation_horizon=1)
    windows = AugmentedWindows(
        _same_window(contract), contract, _plain(), AugmentationSettings(displacement=1, recovery=0.25, memory_noise=0)
    )
    observation, action = windows.draw(100, torch.Generator().manual_seed(0))
    push, chunk = observation[:, 0], action.unflatten(1, (4, 2))
    left = push[:, None] + chunk.cumsum(dim=1) if mode == 'delta' else chunk
    expected = push[:, None] * (0.75 ** torch.arange(1, 5))[:, None]
    torch.testing.assert_close(left, expected)


def test_older_stamps_move_by_a_share_of_the_push_and_the_newest_by_all_of_it():
    contract = _contract()
    windows = AugmentedWindows(
        _same_window(contract), contract, _plain(), AugmentationSettings(displacement=1, recovery=0.5, memory_noise=0)
    )
    observation, action = windows.draw(COUNT, torch.Generator().manual_seed(0))
    older, newest = observation.unbind(dim=1)
    share = older / newest
    torch.testing.assert_close(share[:, 0], share[:, 1], rtol=1e-3, atol=1e-3)
    assert share.min() >= 0 and share.max() <= 1
    torch.testing.assert_close(action, -0.5 * newest)


def test_memory_noise_leaves_the_newest_stamp_and_the_action_alone():
    contract = _contract()
    settings = AugmentationSettings(displacement=0, memory_noise=2.0)
    observation, action = AugmentedWindows(_same_window(contract), contract, _plain(), settings).draw(
        COUNT, torch.Generator().manual_seed(0)
    )
    assert not observation[:, 1].any() and not action.any()
    # The standard error of a standard deviation is 2 / sqrt(2 COUNT) = .01; five of them.
    torch.testing.assert_close(observation[:, 0].std(dim=0), torch.full((2,), 2.0), atol=0.05, rtol=0)


def test_normalised_actions_have_unit_deviation_with_their_displacements():
    contract = _contract()
    settings = AugmentationSettings(displacement=1.5, recovery=0.5, memory_noise=0)
    arrays = _arrays(contract, COUNT)
    windows = AugmentedWindows(arrays, contract, fit_normalizers(arrays, contract, settings), settings)
    _, action = windows.draw(COUNT, torch.Generator().manual_seed(0))
    # Sampling with replacement, then noise: the standard error of the deviation is 1 / sqrt(2 COUNT) = .005.
    torch.testing.assert_close(action.std(dim=0), torch.ones(2), atol=0.03, rtol=0)


def test_one_seed_draws_one_batch():
    contract = _contract()
    windows = AugmentedWindows(_arrays(contract), contract, _plain(), AugmentationSettings())
    first, second = (windows.draw(16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


ARM = {'source': 'commanded', 'space': 'joint'}
TOOL = {'source': 'commanded', 'space': 'tool', 'axes': ['x', 'y']}
NUMBERS = {'name': 'numbers', 'topic': 'numbers', 'type': 'Float64MultiArray', 'fields': ['data[0:2]']}
GRIP = {'name': 'grip', 'topic': 'grip', 'type': 'Float64', 'mode': 'absolute'}


def _robot(observation: list, action: list, **change) -> Contract:
    robot = {'model': 'none', 'tool': 'none', 'joints': ['x', 'y']}
    values = {'schema_version': 2, 'name': 'two', 'robot': robot, 'policy_rate': 10, 'prediction_horizon': 3}
    return Contract.model_validate({**values, 'observation': observation, 'action': action, **change})


@pytest.mark.parametrize(
    ('observation', 'action', 'shown'),
    [
        ([{'name': 'c', **TOOL}], [{'name': 'a', **TOOL}], [True, True]),
        ([{'name': 'm', 'source': 'measured', 'space': 'joint'}], [{'name': 'a', **ARM}], [True, True]),
        ([{'name': 'm', 'source': 'measured', 'space': 'joint'}], [{'name': 'a', **TOOL}], [False, False]),
        ([{'name': 'c', **ARM, 'joints': ['y']}], [{'name': 'a', **ARM}], [False, True]),
        ([{'name': 'c', **TOOL, 'axes': ['z', 'x']}], [{'name': 'a', **TOOL}], [True, False]),
        ([NUMBERS], [{'name': 'a', **ARM}], [False, False]),
        ([{'name': 'c', **ARM}], [{'name': 'a', **ARM}, GRIP], [True, True, False]),
        ([{'name': 'c', **ARM}, GRIP], [{'name': 'a', **ARM}, GRIP], [True, True, False]),
    ],
)
@pytest.mark.parametrize('mode', ['delta', 'absolute', 'velocity'])
def test_actions_are_displaced_only_as_far_as_the_observation_explains_it(observation, action, shown, mode):
    contract = _robot(observation, action, action_mode=mode)
    assert shown_actions(contract).tolist() == shown
    names = undisplaced(contract, AugmentationSettings())
    assert len(names) == shown.count(False) and not undisplaced(contract, NONE)
    generator = np.random.default_rng(0)
    sizes = (contract.observation_size, contract.action_size)
    arrays = windows_of([Episode(*(generator.normal(size=(400, size)) for size in sizes))], contract)
    settings = AugmentationSettings(displacement=1, recovery=0.5, memory_noise=0)
    plain = AugmentedWindows(arrays, contract, fit_normalizers(arrays, contract, NONE), NONE)
    normalizers = fit_normalizers(arrays, contract, settings)
    displaced = AugmentedWindows(arrays, contract, normalizers, settings)
    observed, done = displaced.draw(2000, torch.Generator().manual_seed(0))
    before, was = plain.draw(2000, torch.Generator().manual_seed(0))  # the same windows: their index is drawn first
    push = ((observed - before).numpy() * normalizers.observation.scale)[:, -1]
    unmoved = fit_normalizers(arrays, contract, NONE).action.scale
    shape = (2000, 3, contract.action_size)
    answer = done.numpy().reshape(shape) * normalizers.action.scale - was.numpy().reshape(shape) * unmoved
    assert (np.abs(answer).max(axis=(0, 1)) > 1e-3).tolist() == shown
    assert (normalizers.action.scale > unmoved).tolist() == shown
    for step in range(3):  # a linear function of the push that is seen, without a remainder
        solved = np.linalg.lstsq(push, answer[:, step], rcond=1e-6)[0]
        np.testing.assert_allclose(push @ solved, answer[:, step], atol=1e-4)


def test_a_gripper_on_a_topic_of_its_own_is_trained_as_it_was_commanded():
    contract = _robot([{'name': 'c', **ARM}], [{'name': 'a', **ARM}, GRIP])
    generator = np.random.default_rng(0)
    grip = np.where(np.arange(90) % 30 < 15, 0.0, 0.08)[:, None]
    episode = Episode(generator.normal(size=(90, 2)), np.hstack([generator.normal(size=(90, 2)), grip]))
    arrays = windows_of([episode], contract)
    settings = AugmentationSettings()
    normalizers = fit_normalizers(arrays, contract, settings)
    _, action = AugmentedWindows(arrays, contract, normalizers, settings).draw(500, torch.Generator().manual_seed(0))
    learned = normalizers.action.denormalize(action.unflatten(1, (3, 3)).numpy())[..., 2]
    np.testing.assert_allclose(np.unique(learned.round(6)), [0, 0.08], atol=1e-6)
