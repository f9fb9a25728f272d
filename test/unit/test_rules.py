"""Rules on experts: what holds where, and that a rule about nothing is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.rules import entries_of, load_rules
from vdd_ros.policy.routing import Routing

CARTESIAN = load_contract('avoiding_cartesian')
RULES = """
rules:
  - forbid: [3]
  - when: [{feature: commanded, entry: y, above: 0.1}]
    prefer: {1: 9}
  - when: [{feature: commanded, entry: y, above: 0.1}, {feature: commanded, entry: 0, below: 0.4}]
    pin: 2
"""


def written(folder: Path, text: str) -> Path:
    """Write rules to a file."""
    file = folder / 'rules.yaml'
    file.write_text(text)
    return file


def at(x: float, y: float) -> np.ndarray:
    """Return a window whose older stamp must not count."""
    return np.array([[0.0, 9.0], [x, y]])


@pytest.mark.parametrize(
    ('place', 'expected'),
    [
        ((0.5, 0.0), [0.25, 0.25, 0.25, 0, 0.25]),
        ((0.5, 0.2), [1 / 12, 9 / 12, 1 / 12, 0, 1 / 12]),
        ((0.3, 0.2), [0, 0, 1, 0, 0]),
    ],
)
def test_rules_hold_where_their_conditions_do(tmp_path, place, expected):
    rules = load_rules(written(tmp_path, RULES), CARTESIAN, Routing())
    found = rules.at(at(*place)).probabilities(np.log(np.full(5, 0.2)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rules_add_to_what_the_parameters_say(tmp_path):
    base = Routing(mode='likeliest', forbidden=frozenset({0}), preferred={1: 2.0}, direction_hysteresis=0.5)
    rules = load_rules(written(tmp_path, RULES), CARTESIAN, base)
    there = rules.at(at(0.5, 0.2))
    assert there.mode == 'likeliest' and there.forbidden == {0, 3} and there.preferred == {1: 18.0}
    assert rules.direction_hysteresis == there.direction_hysteresis == 0.5


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('rules:\n- when: [{feature: measured, entry: x, above: 0}]', 'x of measured.*use some of x of commanded'),
        ('rules:\n- when: [{feature: commanded, entry: 2, above: 0}]', '2 of commanded'),
        ('rules:\n- when: [{feature: commanded, entry: x}]', 'above'),
        ('rules:\n- {forbids: [1]}', 'forbids'),
        ('rules:\n- {forbid: [-1]}', 'greater than or equal to 0'),
        ('nothing', 'Field required'),
        ('rules: [', 'mend the path or the file'),
    ],
)
def test_what_is_no_rule_is_refused(tmp_path, text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        load_rules(written(tmp_path, text), CARTESIAN, Routing())


def test_entries_are_named_by_axis_and_joint_in_the_order_of_the_observation():
    contract = load_contract('avoiding_joint')
    entries = entries_of(contract)
    assert len(entries) == contract.observation_size
    assert entries[0] == ('measured', 'joint1') and entries[-1] == ('commanded', 'joint7')


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('rules: [{pin: 99}]', 'experts from 0 to 7, which the student has; found a rule on 99'),
        ('rules: [{forbid: [8, 3, 12]}]', 'found a rule on 8, 12'),
        ('rules: [{prefer: {8: 2.0}}]', 'found a rule on 8'),
        ('rules:\n- when: [{feature: commanded, entry: y, above: 0.1}]\n  pin: 8', 'found a rule on 8'),
        ('rules: [{forbid: [0, 1, 2, 3, 4, 5, 6, 7]}]', 'at least one of 8 experts'),
        ('rules: [{forbid: [2]}, {pin: 2}]', 'found expert 2 pinned'),
    ],
)
def test_rules_that_no_mixture_of_so_many_experts_can_follow_are_refused(tmp_path, text, complaint):
    rules = load_rules(written(tmp_path, text), CARTESIAN, Routing())
    with pytest.raises(ConfigurationError, match=complaint):
        rules.check(8)


def test_rules_on_experts_that_exist_pass_even_if_they_leave_none_in_some_place(tmp_path):
    text = RULES + '  - when: [{feature: commanded, entry: y, above: 0.4}]\n    forbid: [0, 1, 2, 3, 4]\n'
    load_rules(written(tmp_path, text), CARTESIAN, Routing(forbidden=frozenset({0}))).check(5)


def test_a_deployment_that_forbids_an_expert_that_does_not_exist_is_refused():
    deployment = Deployment(forbidden_experts=(3, 4))
    deployment.routing_of(CARTESIAN, '', 5)
    deployment.routing_of(CARTESIAN, '', None)
    with pytest.raises(ConfigurationError, match='found a rule on 4'):
        deployment.routing_of(CARTESIAN, '', 4)
