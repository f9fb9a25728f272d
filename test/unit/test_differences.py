"""A policy beside demonstrations: what it would have done, less what was done."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.episode import Episode
from vdd_ros.policy.experts import Experts
from vdd_ros.validation.differences import shadow


class TwoWays:
    """A student with two experts: one goes as shown, one a fixed distance beside it; the gating is told."""

    def __init__(self, share: float, beside: float) -> None:
        """Let the second expert have a share of the gating."""
        self._log_gating = np.log([1 - share, share])
        self._beside = beside

    def experts(self, observation: np.ndarray) -> Experts:
        """Answer windows whose newest observation says what is done next."""
        shown = observation[:, -1, None, :]
        mean = np.stack([shown, shown + [self._beside, 0.0]], axis=1)
        return Experts(np.tile(self._log_gating, (len(observation), 1)), mean, np.zeros((len(observation), 2, 3)))


@pytest.fixture
def contract() -> Contract:
    """One step at a time, and no past."""
    values = load_contract('avoiding_cartesian').model_dump(mode='json')
    return Contract.model_validate({**values, 'observation_horizon': 1, 'prediction_horizon': 1, 'action_horizon': 1})


@pytest.fixture
def episodes() -> list[Episode]:
    """Demonstrations whose observation is the action that follows."""
    chance = np.random.default_rng(0)
    return [
        Episode(path, path, True, {}, index=place) for place in range(3) if (path := chance.normal(size=(400, 2))).any()
    ]


def test_a_student_that_does_as_shown_differs_in_nothing(contract, episodes):
    found = shadow(TwoWays(0.0 + 1e-12, 0.5), contract, episodes, np.random.default_rng(0))
    assert len(found.drawn) == 1200 and found.ticks.tolist() == [400] * 3
    assert not found.drawn.error.any() and not found.nearest.error.any()
    assert [row[:4] for row in found.drawn.by_number()] == [('step x', 0, 0, 0), ('step y', 0, 0, 0)]
    assert [row[:3] for row in found.drawn.by_expert()] == [(0, 1.0, 0.0)]


def test_each_expert_is_described_by_its_share_and_its_error_in_each_number(contract, episodes):
    found = shadow(TwoWays(0.25, 0.5), contract, episodes, np.random.default_rng(0))
    (first, kept, none, errors), (second, other, relative, others) = found.drawn.by_expert()
    assert (first, second) == (0, 1) and other == pytest.approx(0.25, abs=0.04) and kept == pytest.approx(1 - other)
    assert none == 0 and not errors.any()
    np.testing.assert_allclose(others, [0.5, 0.0])
    typical = found.drawn.typical
    assert relative == pytest.approx(0.5 / typical[0] / np.sqrt(2))
    x, y = found.drawn.by_number()
    assert x[1] == pytest.approx(0.5 * other) and x[2] == 0 and x[3] == pytest.approx(0.5)
    assert y[1:4] == (0, 0, 0)
    assert not found.nearest.error.any() and (found.nearest.expert == 0).all()


def test_the_sign_of_an_error_is_kept_and_the_farthest_episode_is_found(contract, episodes):
    episodes[1] = Episode(episodes[1].observation, episodes[1].action + [0.3, 0.0], True, {}, index=1)
    found = shadow(TwoWays(0.0 + 1e-12, 5.0), contract, episodes, np.random.default_rng(0))
    assert found.by_episode().argmax() == 1 and found.by_episode()[0] == 0
    np.testing.assert_allclose(found.drawn.error[400:800, 0], -0.3, atol=1e-12)
