"""Which expert acts: rules, exact renormalisation, and keeping to one mode."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.policy.routing import Routing

GATING = np.log([0.5, 0.2, 0.3])


@pytest.mark.parametrize('forbidden', [{0}, {1}, {0, 2}])
def test_forbidden_experts_never_act_and_the_rest_keep_their_proportions(forbidden):
    routing = Routing(forbidden=frozenset(forbidden))
    draws = 4000
    chosen = [routing.choose(GATING, (place + 0.5) / draws) for place in range(draws)]
    left = np.array([0.0 if expert in forbidden else p for expert, p in enumerate([0.5, 0.2, 0.3])])
    # Evenly spread uniforms hit each share to within one draw.
    np.testing.assert_allclose(np.bincount(chosen, minlength=3) / draws, left / left.sum(), atol=2 / draws)


def test_forbidding_all_experts_is_refused():
    with pytest.raises(ConfigurationError, match='may act'):
        Routing(forbidden=frozenset({0, 1})).choose(np.zeros(2), 0.5)


def test_the_most_probable_expert_acts_if_configured():
    assert Routing('likeliest').choose(np.log([0.2, 0.7, 0.1]), 0.99) == 1


@pytest.mark.parametrize(
    ('rules', 'expected'),
    [
        ({}, [0.5, 0.2, 0.3]),
        ({'preferred': {1: 10.0}}, [5 / 28, 20 / 28, 3 / 28]),
        ({'pinned': 2}, [0, 0, 1]),
        ({'pinned': 2, 'preferred': {0: 100.0}}, [0, 0, 1]),
        ({'temperature': 0.5}, [25 / 38, 4 / 38, 9 / 38]),
        ({'temperature': 1e9}, [1 / 3, 1 / 3, 1 / 3]),
        ({'forbidden': frozenset({0}), 'preferred': {2: 2.0}}, [0, 0.25, 0.75]),
        ({'forbidden': frozenset({7, -1}), 'preferred': {9: 3.0}}, [0.5, 0.2, 0.3]),
    ],
)
def test_rules_renormalise_exactly(rules, expected):
    np.testing.assert_allclose(Routing(**rules).probabilities(GATING), expected, rtol=1e-7)


def test_experts_without_any_probability_share_alike_when_only_they_are_allowed():
    gating = np.array([0.0, -np.inf, -np.inf])
    np.testing.assert_array_equal(Routing(forbidden=frozenset({0})).probabilities(gating), [0, 0.5, 0.5])


def test_pinning_an_expert_that_there_is_not_is_refused():
    with pytest.raises(ConfigurationError, match='expert 5 pinned'):
        Routing(pinned=5).choose(GATING, 0.5)


def test_by_default_every_plan_draws_again():
    routing = Routing()
    assert [routing.choose(GATING, uniform, present=1) for uniform in (0.1, 0.6, 0.9)] == [0, 1, 2]


def test_the_acting_expert_continues_while_it_is_likely_enough_beside_the_best():
    routing = Routing(expert_hysteresis=0.5)
    assert routing.choose(GATING, 0.1, present=2) == 2
    assert routing.choose(GATING, 0.1, present=1) == 0
    # The first draw has all the variety of the gating.
    assert routing.choose(GATING, 0.6, present=None) == 1


def test_or_while_it_keeps_its_direction():
    routing = Routing(direction_hysteresis=0.9)
    assert routing.choose(GATING, 0.1, present=1, cosine=0.95) == 1
    assert routing.choose(GATING, 0.1, present=1, cosine=0.5) == 0
    assert routing.choose(GATING, 0.1, present=1, cosine=None) == 0


def test_an_acting_expert_that_is_forbidden_or_gone_does_not_continue():
    assert Routing(expert_hysteresis=0.0, forbidden=frozenset({1})).choose(GATING, 0.1, present=1) == 0
    assert Routing(expert_hysteresis=0.0).choose(GATING, 0.1, present=8) == 0


@pytest.mark.parametrize(
    'change',
    [
        {'mode': 'best'},
        {'temperature': 0.0},
        {'preferred': {0: 0.0}},
        {'expert_hysteresis': 1.5},
        {'direction_hysteresis': np.nan},
    ],
)
def test_rules_that_make_no_sense_are_refused(change):
    with pytest.raises(ConfigurationError):
        Routing(**change)
