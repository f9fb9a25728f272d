"""Measure expert rules on one thread: `python -m benchmarks.rules`.

Every row is the work of the planner for the rules of one plan: it evaluates the conditions, combines the effects,
renormalises the gating, selects an expert, and stores the data for `~/explain`. States are random, so that different
rules apply from plan to plan. For comparison, rule-engine evaluates the same conditions.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rule_engine
import tyro

from benchmarks.harness import Bar, finish
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.conditions import TOOL, Vocabulary
from vdd_ros.control.rules import Rules, load_rules
from vdd_ros.policy.routing import Choice, Routing, Situation

EXPERTS = 16
ZONES = 'zones:\n  left: {x: [0.3, 0.5], y: [0.0, null]}\n  right: {y: [null, 0.0], z: [0.1, 0.4]}\n'
PARAMETERS = 'parameters: {task: boxes, shift: 1.0, night: false}\n'
CONDITIONS = (
    'commanded.x > {0} and commanded.y < {1}',
    'zone.left and time > {0}',
    'parameter.task == "boxes" and (commanded.y > {0} or parameter.night)',
    'acting in ["1", "2", "3"] and likeliest != "{2}"',
    '$abs(tool.y - {0}) < {1} and not zone.right',
)
EFFECTS = ('forbid: [{0}]', 'prefer: {{{0}: 3}}', 'temperature: 0.7', 'speed: 0.5', 'forbid: [{0}]')


def rules_text(count: int) -> str:
    """Return a file with a number of rules, of all kinds in turn."""
    rules = []
    for number in range(count):
        kind = number % len(CONDITIONS)
        condition = CONDITIONS[kind].format(0.05 * (number % 7), 0.1 + 0.03 * number, number % EXPERTS)
        rules.append(f"  - name: rule{number}\n    when: '{condition}'\n    {EFFECTS[kind].format(number % EXPERTS)}")
    return f'{ZONES}{PARAMETERS}rules:\n' + '\n'.join(rules) + '\n'


def load(text: str, base: Routing = Routing()) -> Rules:
    """Load rules for Avoiding from a text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'routing.yaml')
        file.write_text(text, encoding='utf-8')
        return load_rules(file, load_contract('avoiding_cartesian'), base, experts=EXPERTS)


def durations(call: Callable[[int], object], count: int) -> np.ndarray:
    """Return the durations of some calls [us], after an equal number of warm-up calls."""
    for number in range(count):
        call(number)
    found = np.empty(count)
    gc.collect()
    gc.disable()
    for number in range(count):
        began = time.perf_counter_ns()
        call(number)
        found[number] = time.perf_counter_ns() - began
    gc.enable()
    return found / 1000


def states(count: int) -> list[tuple[Situation, np.ndarray, float]]:
    """Draw situations, log-gatings and the random numbers for expert selection."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        pose = tuple(generator.uniform([0.2, -0.3, 0.0, -3, -1, -3], [0.7, 0.3, 0.5, 3, 1, 3]).tolist())
        gating = generator.dirichlet(np.full(EXPERTS, 0.3)) + 1e-9
        situation = Situation(
            generator.uniform([0.2, -0.3], [0.7, 0.3]),
            float(generator.uniform(0, 10)),
            int(generator.integers(EXPERTS)),
            int(gating.argmax()),
            lambda pose=pose: pose,
        )
        found.append((situation, np.log(gating / gating.sum()).astype(np.float32), float(generator.random())))
    return found


def plan(rules: Rules | Routing, state: tuple[Situation, np.ndarray, float]) -> Choice:
    """Do the work of the planner for the rules of one plan."""
    situation, log_gating, uniform = state
    applied = rules.at(situation)
    refusal = applied.refusal(EXPERTS)
    expert = -1 if refusal else applied.routing.choose(log_gating, uniform, situation.acting)
    return Choice(expert, log_gating, uniform, situation.acting, None, applied, rules.base)


def library(count: int, drawn: Sequence[tuple[Situation, np.ndarray, float]]) -> Callable[[int], object]:
    """Return a function that evaluates similar conditions with rule-engine, without zones and expert names."""
    vocabulary = Vocabulary({}, {}, {'a': 0.0, **dict.fromkeys(TOOL, 0.0)}, None)
    kind = vocabulary.types()['parameter'].attributes
    context = rule_engine.Context(type_resolver=kind)
    rules = [rule_engine.Rule(f'x > {0.05 * (n % 7)} and y < {0.1 + 0.03 * n}', context=context) for n in range(count)]
    things = [dict(zip(TOOL, situation.tool_pose())) for situation, _, _ in drawn]
    return lambda number: [rule.matches(things[number]) for rule in rules]


def main(quick: bool = False, check: bool = False) -> int:
    """Measure expert rules, on one thread.

    Parameters
    ----------
    quick
        A few thousand plans, which only test the program.
    check
        Exit with 1 if a bar does not hold.

    """
    count = 2000 if quick else 50_000
    drawn = states(count)
    measured: dict[str, np.ndarray] = {}
    for rules in (0, 1, 20, 60):
        loaded: Rules | Routing = load(rules_text(rules)) if rules else Routing()
        measured[f'{rules} rules'] = durations(lambda number, loaded=loaded: plan(loaded, drawn[number]), count)
    few = min(count, 2000)
    measured['20 conditions by rule-engine itself'] = durations(library(20, drawn), few)
    began = time.perf_counter()
    load(rules_text(20))
    seconds = time.perf_counter() - began
    rows: list[dict[str, Any]] = [
        {'rules': name, **{f'p{share} [us]': float(np.percentile(found, share)) for share in (50, 99)}}
        for name, found in measured.items()
    ]
    rows.append({'rules': 'loading of 20 rules', 'once [ms]': 1000 * seconds})
    bars = [Bar('20 rules, p99 [us]', float(np.percentile(measured['20 rules'], 99)), 30, at_most=True)]
    return finish('rules', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
