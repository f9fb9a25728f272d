"""From recordings to windows: causal, exact at the ticks, and as the live arm sees it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdd_ros.common.errors import BagError, TrainingError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.dataset import episodes_of
from vdd_ros.data.decode.resample import latest
from vdd_ros.data.episode import Episode
from vdd_ros.data.recording import EpisodeMark, Recording, Stream
from vdd_ros.data.windows import Demonstrations, windows_of
from vdd_ros.policy.artifact import DataRecord

PERIOD = 35_000_000


def _contract(**change) -> Contract:
    joint = load_contract('avoiding_joint').model_dump(mode='json')
    joint['robot']['joints'] = ['a', 'b']
    return Contract.model_validate({**joint, 'prediction_horizon': 1, 'action_horizon': 1, **change})


def _recording(ticks: int = 6, start: int = 1_000_000_000, chunks: int = 7) -> Recording:
    """A measurement every fifth of a period, and at each tick the command that answers it."""
    measured = start + np.arange(ticks * chunks + 1) * (PERIOD // chunks)
    values = np.stack([np.arange(len(measured)), -np.arange(len(measured))], axis=1).astype(float)
    commanded = start + np.arange(ticks) * PERIOD
    commands = np.stack([100.0 + np.arange(ticks), 200.0 + np.arange(ticks)], axis=1)
    end = EpisodeMark(int(measured[-1]), 'end', {'outcome': 'success', 'mode': 'x'})
    return Recording(Stream(measured, values), Stream(commanded, commands), (EpisodeMark(start, 'start', {}), end))


@given(st.lists(st.integers(0, 50), max_size=20), st.lists(st.integers(0, 60), max_size=20), st.booleans())
def test_latest_is_what_a_search_by_hand_finds(stamps, ticks, inclusive):
    stamps = sorted(stamps)
    expected = [
        max((i for i, stamp in enumerate(stamps) if stamp < tick or (inclusive and stamp == tick)), default=-1)
        for tick in ticks
    ]
    found = latest(np.array(stamps, dtype=np.int64), np.array(ticks, dtype=np.int64), inclusive=inclusive)
    assert found.tolist() == expected


def test_a_command_at_a_tick_is_the_action_of_that_tick_and_not_yet_observed():
    (episode,) = episodes_of(_recording(), _contract(action_mode='absolute'), None)
    np.testing.assert_array_equal(episode.action[:, 0], 100 + np.arange(6))
    np.testing.assert_array_equal(episode.observation[1:, 2], 100 + np.arange(5))


def test_before_its_first_command_an_arm_counts_as_commanded_to_be_where_it_is():
    (episode,) = episodes_of(_recording(), _contract(), None)
    np.testing.assert_array_equal(episode.observation[0, :2], episode.observation[0, 2:])
    np.testing.assert_array_equal(episode.action[0], [100.0, 200.0])


def test_a_measurement_at_a_tick_is_observed_and_later_ones_are_not():
    (episode,) = episodes_of(_recording(), _contract(), None)
    np.testing.assert_array_equal(episode.observation[:, 0], 7 * np.arange(6))


def test_commands_of_an_earlier_episode_are_not_seen():
    recording = _recording()
    first, second = EpisodeMark(0, 'start', {}), EpisodeMark(10, 'end', {'outcome': 'failure'})
    stale = Stream(np.insert(recording.commanded.stamps, 0, 5), np.insert(recording.commanded.values, 0, 9e9, axis=0))
    joined = Recording(recording.measured, stale, (first, second, *recording.marks))
    (episode,) = episodes_of(joined, _contract(), None)
    assert np.abs(episode.observation).max() < 1e3


def test_outcome_and_labels_come_along():
    (episode,) = episodes_of(_recording(), _contract(), None)
    assert episode.success is True
    assert episode.labels['mode'] == 'x'


def test_a_recording_without_marks_is_refused():
    recording = _recording()
    with pytest.raises(BagError, match='marks'):
        episodes_of(Recording(recording.measured, recording.commanded, ()), _contract(), None)


@pytest.mark.parametrize(('horizon', 'stride'), [(1, 1), (2, 2), (3, 1), (2, 5)])
def test_windows_are_those_that_the_live_arm_sees(horizon, stride):
    contract = _contract(observation_horizon=horizon, observation_stride=stride)
    (episode,) = episodes_of(_recording(), contract, None)
    windows = windows_of([episode], contract)
    arm = PolicyInterface(contract, None)
    arm.anchor(episode.observation[0, :2])
    for tick in range(len(episode)):
        np.testing.assert_array_equal(arm.observe(episode.observation[tick, :2]), windows.observation[tick])
        command = arm.target(episode.action[tick])
        arm.sent(command)
        np.testing.assert_allclose(command, [100.0 + tick, 200.0 + tick])


def test_chunks_look_ahead_and_repeat_the_last_action():
    contract = _contract(prediction_horizon=3, action_horizon=2, action_mode='absolute')
    (episode,) = episodes_of(_recording(), contract, None)
    action = windows_of([episode], contract).action
    np.testing.assert_array_equal(action[0, :, 0], [100, 101, 102])
    np.testing.assert_array_equal(action[-1, :, 0], [105, 105, 105])


def test_no_episodes_make_no_windows():
    with pytest.raises(TrainingError):
        windows_of([], _contract())


@pytest.mark.parametrize(
    ('observation', 'action', 'value', 'message'),
    [
        (1, 2, 0.0, 'expected 4 numbers in each observation, as in the contract avoiding_joint; found 1 in episode 7 '),
        (5, 2, 0.0, 'expected 4 numbers .* found 5'),
        (4, 1, 0.0, 'expected 2 numbers in each action, .* found 1'),
        (4, 3, 0.0, 'expected 2 numbers in each action, .* found 3'),
        (4, 2, np.nan, 'expected finite numbers in each action; found nan in row 2, column 1 of episode 7 of a'),
        (4, 2, np.inf, 'found inf'),
    ],
)
def test_arrays_that_do_not_follow_the_contract_are_refused(observation, action, value, message):
    done = np.ones((5, action))
    done[2, -1] += value
    with pytest.raises(TrainingError, match=message):
        windows_of([Episode(np.ones((5, observation)), done, bag='a', index=7)], _contract())


def test_windows_that_do_not_follow_the_contract_are_not_used_for_training():
    good = windows_of([Episode(np.ones((5, 4)), np.ones((5, 2)))], _contract())
    record = DataRecord(bags={}, episodes=1, windows=5)
    longer = _contract(prediction_horizon=3)
    with pytest.raises(TrainingError, match=r'windows of the shapes \(2, 4\), \(3, 2\) and \(2,\) .* in train'):
        Demonstrations(longer, good, good, record)
    with pytest.raises(TrainingError, match='in held_out'):
        Demonstrations(_contract(), good, windows_of([Episode(np.ones((5, 4)), np.ones((5, 2)))], longer), record)
