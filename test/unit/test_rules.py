"""Rules on experts: what holds where, and that a rule about nothing is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from loops import (
    LIMITS,
    AnsweringPolicy,
    assert_limits_hold,
    from_rest,
    gentle,
    positions_of,
    run,
    started_loop,
    two_joint_contract,
)

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.control.rules import Rules, entries_of, load_rules
from vdd_ros.policy.labels import Label, Labels
from vdd_ros.policy.routing import Choice, Routing, Situation
from vdd_ros.robot.kinematics import Kinematics

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


def at(x: float, y: float, **change: object) -> Situation:
    """Return a situation."""
    return Situation(np.array([x, y]), **change)


def rules_of(folder: Path, text: str, *, labels: Labels = Labels(), experts: int | None = 5, **how: object) -> Rules:
    """Load rules on a student of five experts."""
    return load_rules(written(folder, text), CARTESIAN, Routing(), experts=experts, labels=labels, **how)


LABELS = Labels({1: Label(name='left'), 3: Label(name='far right')})


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
    found = rules.at(at(*place)).routing.probabilities(np.log(np.full(5, 0.2)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rules_add_to_the_parameters(tmp_path):
    base = Routing(mode='likeliest', forbidden=frozenset({0}), preferred={1: 2.0}, direction_hysteresis=0.5)
    rules = load_rules(written(tmp_path, RULES), CARTESIAN, base)
    there = rules.at(at(0.5, 0.2)).routing
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
        ('rules: [', 'expected rules in YAML in .*rules.yaml, line 1'),
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


NAMED = """
zones:
  table: {x: [0.3, 0.5], y: [null, 0.0]}
parameters: {task: boxes, shift: 1, night: false}
rules:
  - name: keep right
    when: commanded.y > 0.1 and not zone.table
    forbid: [left]
  - name: careful
    when: parameter.night or parameter.shift >= 3
    speed: 0.5
    temperature: 2
  - name: cans
    when: parameter.task =~ "can.*" and time > 1.5
    pin: far right
    prefer: {far right: 4, 0: 2}
  - name: not on
    when: acting == "far right" and likeliest in ["left", "0"]
    stop: true
"""


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({}, ()),
        ({'y': 0.2}, ('keep right',)),
        ({'y': 0.2, 'tool': (0.4, -0.1)}, ()),
        ({'y': 0.2, 'tool': (0.4, 0.01)}, ('keep right',)),
        ({'parameters': {'night': True}}, ('careful',)),
        ({'parameters': {'shift': 3}}, ('careful',)),
        ({'parameters': {'task': 'cans'}, 'time': 1.4}, ()),
        ({'parameters': {'task': 'cans'}, 'time': 1.6}, ('cans',)),
        ({'acting': 3, 'likeliest': 1}, ('not on',)),
        ({'acting': 3, 'likeliest': 2}, ()),
        ({'acting': 1, 'likeliest': 1}, ()),
    ],
)
def test_named_rules_apply_by_observation_zone_parameter_time_and_expert(tmp_path, change, expected):
    rules = rules_of(tmp_path, NAMED, labels=LABELS).with_parameters(change.get('parameters', {}))
    pose = (*change.get('tool', (0.0, 0.0)), 0.3, 0.0, 0.0, 0.0)
    facts = {key: change[key] for key in ('time', 'acting', 'likeliest') if key in change}
    assert rules.at(at(0.4, change.get('y', 0.0), tool_pose=lambda: pose, **facts)).rules == expected


def test_effects_of_named_rules_combine(tmp_path):
    rules = rules_of(tmp_path, NAMED, labels=LABELS, parameters={'night': True, 'task': 'can', 'shift': 2})
    found = rules.at(at(0.4, 0.2, time=2.0, tool_pose=lambda: (0.0,) * 6))
    assert found.rules == ('keep right', 'careful', 'cans') and found.speed == 0.5 and not found.stop
    assert found.effects[0] == 'forbids 1 (left)' and found.effects[2].startswith('prefers 3 (far right) x 4')
    assert found.routing == Routing(forbidden=frozenset({1}), preferred={3: 4.0, 0: 2.0}, pinned=3, temperature=2.0)
    assert rules.at(at(0.4, 0.0, acting=3, likeliest=1, tool_pose=lambda: (0.0,) * 6)).stop.endswith('rule not on')


@pytest.mark.parametrize(
    ('rule', 'complaint'),
    [
        ('when: commanded.z > 1', 'line 3.*unknown attribute.*commanded.x, commanded.y.*time, acting, likeliest'),
        ('when: comanded.x > 1', 'line 3.*unknown symbol'),
        ('when: commanded.x > "a"', 'line 3.*data type mismatch'),
        ('when: commanded.x == "a"', 'line 3.*values of different types'),
        ('when: commanded.x', 'line 3.*neither true nor false'),
        ('when: commanded.x >', 'line 3.*syntax error'),
        ('when: commanded.x ** 2 > 1', 'line 3.*only'),
        ('when: acting == "middle"', "line 3.*no expert is named 'middle' .known: 0, left, 2, far right, 4"),
        ('when: acting in ["middle"]', "line 3.*no expert is named 'middle'"),
        ('when: zone.table', 'line 3.*unknown attribute'),
        ('when: parameter.task == "a"', 'line 3.*unknown attribute'),
        (
            'when: time > 1\n  forbid: [middle]',
            "line 4; found 'middle'; named experts of this student: left, far right",
        ),
        ('when: time > 1\n  prefer: {middle: 2}', 'line 4'),
        ('when: time > 1\n  pin: 5', 'experts from 0 to 4.*a rule on 5 .first, .*line 2'),
        ('speed: 0', 'line 3.*greater than 0'),
        ('speed: 1.5', 'line 3.*less than or equal to 1'),
        ('stop: 7', 'line 3.*valid boolean'),
        ('temperature: .nan', 'line 3.*finite'),
        ('whenever: true', 'line 3.*whenever.*known keys: name, when, forbid'),
    ],
)
def test_a_fault_in_a_rule_is_found_on_loading_with_its_line(tmp_path, rule, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        rules_of(tmp_path, f'rules:\n- name: first\n  {rule}', labels=LABELS)


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('zones: {a: {}}\nrules: []', 'line 1.*at least one bound'),
        ('zones:\n  a: {x: [1, 0]}\nrules: []', 'line 2.*lower bound'),
        ('zones:\n  a b: {x: [0, 1]}\nrules: []', "line 2.*'a b'"),
        ('parameters: {a: [1]}\nrules: []', 'line 1.*parameters.a'),
        ('rules: []\nrules: []', 'rules twice'),
        ('rules:\n- {name: a}\n- {name: a}', "'a' twice in .*line 3"),
    ],
)
def test_a_fault_beside_the_rules_is_found_too(tmp_path, text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        rules_of(tmp_path, text)


@pytest.mark.parametrize(
    ('values', 'complaint'),
    [
        ({'tusk': 'a'}, 'found tusk; known parameters: task, shift, night'),
        ({'task': 3}, 'a string for parameter task'),
        ({'shift': True}, 'a finite number'),
        ({'shift': float('nan')}, 'a finite number'),
        ({'night': 1}, 'true or false'),
    ],
)
def test_a_parameter_of_rules_has_the_name_and_type_of_the_file(tmp_path, values, complaint):
    rules = rules_of(tmp_path, NAMED, labels=LABELS)
    with pytest.raises(ConfigurationError, match=complaint):
        rules.with_parameters(values)
    with pytest.raises(ConfigurationError, match='no file, but task'):
        Deployment(rule_parameters={'task': 'cans'}).routing_of(CARTESIAN, '', 5)
    deployed = Deployment(rules='a.yaml', rule_parameters={'task': 'cans'})
    assert deployed.parameters['rule_parameters.task'] == 'cans'
    assert len({deployed, Deployment(rules='a.yaml'), Deployment(rules='a.yaml')}) == 2


def test_experts_that_lead_the_tool_into_a_zone_do_not_act(tmp_path):
    contract = load_contract('avoiding_cartesian')
    kinematics = Kinematics.from_contract(contract)
    home = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    interface = PolicyInterface(contract, kinematics)
    interface.anchor(home)
    x, y, z = kinematics.tool_position(home).tolist()
    steps = 0.01 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 1.0]])
    paths = interface.tool_paths(np.repeat(steps[:, None], 12, axis=1))
    np.testing.assert_allclose(paths[:, -1], [x, y, z] + 0.12 * np.pad(steps / 0.01, ((0, 0), (0, 1))), atol=1e-12)
    # What limits and reach leave of them is the same as long as they suffice.
    slow = np.repeat(0.001 * steps[:, None] / 0.01, 3, axis=1)
    for expert, path in enumerate(interface.tool_paths(slow)):
        np.testing.assert_allclose(
            path, kinematics.tool_position(interface.waypoints(slow[expert], home).joints), atol=1e-3
        )
    rules = rules_of(
        tmp_path,
        f'zones: {{behind: {{x: [null, {x - 0.05}]}}, beside: {{y: [{y - 0.2}, {y - 0.05}]}}}}\nrules:\n'
        '- {name: not behind, avoid: [behind]}\n- {name: late, when: time > 1, avoid: [beside, behind]}\n',
    )
    situation = Situation(np.array([x, y]), tool_paths=lambda: paths)
    assert rules.at(situation).routing.forbidden == {1, 4} and rules.at(situation).effects == ('avoids behind',)
    assert rules.at(replace(situation, time=2.0)).routing.forbidden == {1, 3, 4}
    assert rules.at(replace(situation, tool_paths=lambda: paths[[1, 4]])).refusal(2) == (
        'the rules leave no expert: not behind'
    )
    assert 'no path of the tool is known' in rules.at(replace(situation, tool_paths=None)).refusal(5)
    with pytest.raises(ConfigurationError, match="line 2.*'ahead'; known zones: none"):
        rules_of(tmp_path, 'rules:\n- avoid: [ahead]')


def test_joints_that_are_commanded_lead_the_tool_where_they_put_it():
    contract = load_contract('avoiding_joint')
    kinematics = Kinematics.from_contract(contract)
    home = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    interface = PolicyInterface(contract, kinematics)
    interface.anchor(home)
    chunks = np.random.default_rng(0).normal(0, 0.005, (3, 12, contract.action_size))
    for chunk, path in zip(chunks, interface.tool_paths(chunks)):
        expected = kinematics.tool_position(interface.waypoints(chunk, home).joints)
        np.testing.assert_allclose(path[: len(expected)], expected, atol=1e-9)


def test_a_condition_that_cannot_be_evaluated_stops_the_arm_and_is_named(tmp_path):
    rules = rules_of(tmp_path, 'rules:\n- when: commanded.x > 9\n- {name: ratio, when: 1 / commanded.y > 2, pin: 1}')
    assert rules.at(at(0.0, 0.1)).rules == ('ratio',)
    assert re.search(r'cannot be evaluated: ratio .*line 3.*division', rules.at(at(0.0, 0.0)).refusal(5))
    rules = rules_of(tmp_path, 'rules: [{when: tool.z > 0.1, pin: 1}]')
    assert 'unknown without kinematics' in rules.at(at(0.0, 0.0)).refusal(5)


NUMBERS = [-np.inf, -1.0, np.nextafter(0.3, 0), 0.3, np.nextafter(0.3, 1), 0.5, np.nextafter(0.5, 1), np.inf, np.nan]


@pytest.mark.parametrize(
    ('when', 'oracle'),
    [
        ('commanded.x > 0.3', lambda x, y: x > 0.3),
        ('commanded.x >= 0.3', lambda x, y: x >= 0.3),
        ('commanded.x < 0.3', lambda x, y: x < 0.3),
        ('commanded.x <= 0.3', lambda x, y: x <= 0.3),
        ('commanded.x == 0.3', lambda x, y: x == 0.3),
        ('0.3 < commanded.x', lambda x, y: x > 0.3),
        ('commanded.x > 0.3 and commanded.x <= 0.5', lambda x, y: 0.3 < x <= 0.5),
        ('commanded.x > 0.5 and commanded.x < 0.3', lambda x, y: False),
        ('commanded.x > 0.3 and commanded.y < 0.5', lambda x, y: x > 0.3 and y < 0.5),
        ('not (commanded.x > 0.3 and commanded.y < 0.5)', lambda x, y: not (x > 0.3 and y < 0.5)),
        ('commanded.x > 0.3 or commanded.y < 0.5', lambda x, y: x > 0.3 or y < 0.5),
        (
            'zone.box and commanded.x >= 0.3 and time > 1 and commanded.y < 0.5',
            lambda x, y: x <= 0.3 and y >= -1 and x >= 0.3 and y < 0.5,
        ),
        ([{'feature': 'commanded', 'entry': 'x', 'above': 0.3, 'below': 0.5}], lambda x, y: 0.3 < x < 0.5),
    ],
    ids=lambda value: 'oracle' if callable(value) else str(value),
)
def test_bounds_hold_to_the_last_bit_and_never_for_what_is_no_number(tmp_path, when, oracle):
    text = yaml.safe_dump({'zones': {'box': {'x': [None, 0.3], 'y': [-1, None]}}, 'rules': [{'when': when, 'pin': 1}]})
    rules = rules_of(tmp_path, text)
    for x in NUMBERS:
        for y in NUMBERS:
            found = rules.at(at(x, y, time=2.0, tool_pose=lambda x=x, y=y: (x, y, 0.0, 0.0, 0.0, 0.0)))
            assert found.rules == (('rule 1',) if oracle(x, y) else ()), (x, y)


TERMS = {
    'commanded.x > {0}': lambda facts, a: facts.observation[0] > a,
    'commanded.y <= {0}': lambda facts, a: facts.observation[1] <= a,
    'tool.z * 2 - {0} > tool.x': lambda facts, a: facts.tool_pose()[2] * 2 - a > facts.tool_pose()[0],
    'zone.box': lambda facts, a: -0.5 <= facts.tool_pose()[0] <= 0.5 and facts.tool_pose()[1] <= 0.25,
    'time > {0}': lambda facts, a: facts.time > a,
    'acting == "left"': lambda facts, a: facts.acting == 1,
    'likeliest != "far right"': lambda facts, a: facts.likeliest != 3,
    '$abs(commanded.x) < {0}': lambda facts, a: abs(facts.observation[0]) < a,
}


def test_of_a_thousand_random_states_and_rules_the_explanation_names_those_that_apply(tmp_path):
    generator = np.random.default_rng(0)
    stopped = changed = 0
    for _ in range(100):
        rules, oracles = ['zones: {box: {x: [-0.5, 0.5], y: [null, 0.25]}}', 'rules:'], {}
        for number in range(generator.integers(1, 7)):
            (one, first), (other, second) = (list(TERMS.items())[generator.integers(len(TERMS))] for _ in range(2))
            a, b, joint = (
                *generator.uniform(-1, 1, 2).round(3).tolist(),
                str(generator.choice(['and', 'or', 'and not'])),
            )
            effect = ['forbid: [{0}, {1}]', 'prefer: {{{0}: 3}}', 'pin: {0}', 'temperature: 0.5', 'stop: true']
            text = str(generator.choice(effect, p=[0.4, 0.2, 0.2, 0.15, 0.05])).format(*generator.permutation(5)[:2])
            when = f'{one.format(a)} {joint} {other.format(b)}'
            rules.append(f"- {{name: r{number}, when: '{when}', {text}}}")
            oracles[f'r{number}'] = (first, a, joint, second, b)
        loaded = rules_of(tmp_path, '\n'.join(rules), labels=LABELS)
        for _ in range(10):
            pose = tuple(generator.uniform(-1, 1, 6).tolist())
            acting = int(generator.integers(5))
            gating = generator.dirichlet(np.ones(5))
            facts = Situation(
                generator.uniform(-1, 1, 2), float(generator.uniform(-1, 1)), acting, int(gating.argmax()), lambda: pose
            )
            applied = loaded.at(facts)
            expert, uniform = -1, float(generator.random())
            if not (refusal := applied.refusal(5)):
                expert = applied.routing.choose(np.log(gating), uniform, acting)
            choice = Choice(expert, np.log(gating), uniform, acting, None, applied, loaded.base)
            expected = [
                name
                for name, (first, a, joint, second, b) in oracles.items()
                if {
                    'and': first(facts, a) and second(facts, b),
                    'or': first(facts, a) or second(facts, b),
                    'and not': first(facts, a) and not second(facts, b),
                }[joint]
            ]
            explanation = choice.explain(LABELS.text)
            assert '\n' not in explanation
            named = re.findall(r'(r\d) \(', explanation.split('; rules: ')[1].split('; without rules: ')[0])
            assert named == expected == list(applied.rules)
            if refusal:
                stopped += 1
                assert applied.stop or all(name in refusal for name in expected)
                continue
            probability = choice.probabilities
            assert abs(probability.sum() - 1) < 1e-9 and probability[expert] > 0
            assert explanation.startswith(f'expert {LABELS.text(expert)} acts, probability {probability[expert]:.3f}')
            other = choice.without_rules[0]
            assert ('without rules: the same' if other == expert else f'without rules: expert {other}') in explanation
            changed += other != expert
    assert stopped > 20 and changed > 100  # the draws reach what they are for


def moving(folder: Path, text: str, experts: int = 1) -> tuple:
    """Let an arm of two joints move under rules for a second; return the loop and what was commanded."""
    contract = two_joint_contract()
    rules = load_rules(written(folder, text), contract, Routing(), experts=experts)
    loop = started_loop(AnsweringPolicy(lambda call, seen: [gentle(call, seen)] * experts), rules={'routing': rules})
    return loop, run(loop, 0, 1000)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('- {name: end, when: measured.a > 0.05, forbid: [0]}', 'the rules leave no expert: end'),
        ('- {name: end, when: measured.a > 0.05, stop: true}', 'stopped by the rule end'),
        ('- {name: early, when: time > 0.3, stop: true}', 'stopped by the rule early'),
    ],
)
def test_rules_that_stop_the_arm_do_so_within_limits_and_are_named(tmp_path, text, reason):
    loop, outcomes = moving(tmp_path, f'rules:\n{text}')
    assert outcomes[-1].reason == reason and not outcomes[-1].moving
    assert_limits_hold(from_rest(outcomes), LIMITS, 0.001)
    commands = positions_of(outcomes)
    assert 0.003 < commands[-1, 0] < 0.2 and np.array_equal(commands[-1], commands[-100])
    assert reason in loop.choice.explain()


def test_a_rule_slows_the_arm_down_on_the_same_path(tmp_path):
    _, usual = moving(tmp_path, 'rules: []')
    _, slowed = moving(tmp_path, 'rules: [{name: careful, speed: 0.5}]')
    assert_limits_hold(from_rest(slowed), LIMITS, 0.001)
    fast, slow = positions_of(usual)[-1], positions_of(slowed)[-1]
    assert 0.1 < slow[0] / fast[0] < 0.9
    np.testing.assert_allclose(slow[1] / slow[0], fast[1] / fast[0], atol=1e-6)
