"""Experts of two students are matched by what they do, not by their numbers."""

from __future__ import annotations

from itertools import permutations
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdd_ros.policy.expert_matching import Behaviour, assignment, likeness_of, match_experts
from vdd_ros.policy.labels import Label, Labels


def behaviour(experts: int, windows: int = 400, seed: int = 0) -> Behaviour:
    """Return experts of which each acts somewhere, differently from all others."""
    generator = np.random.default_rng(seed)
    logits = 4 * generator.normal(size=(windows, experts))
    gating = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = 2 * generator.normal(size=experts)[:, None] + 0.05 * generator.normal(size=(windows, experts, 2))
    return Behaviour(gating, mean)


def chosen(found: Behaviour, experts: list[int]) -> Behaviour:
    gating = found.gating[:, experts]
    return Behaviour(gating / gating.sum(axis=1, keepdims=True), found.mean[:, experts])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_assignment_is_the_cheapest_of_all_permutations(size, seed):
    cost = np.random.default_rng(seed).integers(-5, 6, size=(size, size)).astype(float)
    found = assignment(cost)
    rows = np.arange(size)
    assert sorted(found) == list(rows)
    assert cost[rows, found].sum() == min(cost[rows, list(order)].sum() for order in permutations(range(size)))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 1000))
def test_an_expert_keeps_its_number_whatever_place_it_has(order, seed):
    before = behaviour(6, seed=seed)
    found = match_experts(before, chosen(before, list(order)))
    assert [order[place] for place in found.places] == list(range(6))
    assert found.likeness == pytest.approx([1.0] * 6)
    assert not (found.moved or found.appeared or found.disappeared)


def test_likeness_is_one_with_itself_and_small_with_others():
    before = behaviour(5)
    likeness = likeness_of(before, before)
    np.testing.assert_allclose(np.diag(likeness), 1.0)
    assert (likeness - np.diag(np.diag(likeness))).max() < 0.5


def test_experts_that_moved_appeared_and_disappeared_are_reported_by_name():
    before = behaviour(6, seed=3)
    after = chosen(before, [5, 0, 1, 2, 4])  # expert 3 disappeared
    mean = after.mean.copy()
    mean[:, 3] += 0.7  # expert 2 moved
    gating = np.concatenate([0.9 * after.gating, np.full((len(mean), 1), 0.1)], axis=1)
    new = np.full((len(mean), 1, 2), 9.0)
    found = match_experts(before, Behaviour(gating, np.concatenate([mean, new], axis=1)))
    assert found.places == (1, 2, 3, None, 4, 0, 5)
    assert (found.moved, found.appeared, found.disappeared) == ([2], [6], [3])
    assert found.shares[6] == pytest.approx((0.0, 0.1)) and found.shares[3][1] == 0
    lines = found.lines(Labels(MappingProxyType({2: Label(name='far left')})))
    assert lines[0].startswith('5 of 6 experts are matched')
    assert 'Expert 2 (far left) moved' in lines[1] and lines[2].startswith('Expert 6 appeared: share 10.0%')
    assert lines[3].startswith('Expert 3 disappeared')
