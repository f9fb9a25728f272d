"""Conditions of rules: parsed and type-checked by the library rule-engine, then evaluated by functions in doubles.

rule-engine evaluates its syntax tree in decimal arithmetic, at about 9 us for a condition of three comparisons. The
control loop evaluates twenty rules within 30 us. The tree is therefore translated once, when the rules are loaded, into
nested functions. Operations without an exact counterpart in doubles (dates, regular expressions over groups,
comprehensions, bit operations) are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter
from operator import itemgetter
from typing import Any

import rule_engine
from rule_engine import ast
from rule_engine.types import DataType

TOOL = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
"""Attributes of the symbol `tool` in the order of a state: position [m], then roll, pitch and yaw [rad]."""

_IDENTIFIER = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*')

State = Sequence[Any]
"""Values of all symbols: time [s], names of the acting and the likeliest expert, tool pose as `TOOL`, parameters,
entries of the observation."""
Value = Callable[[State], Any]
"""Evaluates a part of a condition in a state."""
Bounds = Sequence[tuple[float | None, float | None]]
"""Lower and upper bound of a zone along x, y and z [m]; None: unbounded."""
Box = Mapping[int, tuple[float, float]]
"""Lowest and highest value, by index in the state."""

_SYMBOLS = {'time': 0, 'acting': 1, 'likeliest': 2}
"""Places of symbols in the state."""
_POSE = len(_SYMBOLS)
"""Place of the tool pose in the state."""
_PARAMETERS = _POSE + len(TOOL)
"""Place of the first parameter in the state."""
_NO_POSE = (0.0,) * len(TOOL)
_SYMBOL_NODES = (ast.GetAttributeExpression, ast.GetItemExpression, ast.SymbolExpression)
"""Nodes of the syntax tree that refer to a value of the state, or to a zone."""
_ARITHMETIC = ('add', 'sub', 'mul', 'tdiv')
_OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    'eq': lambda left, right: lambda state: left(state) == right(state),
    'ne': lambda left, right: lambda state: left(state) != right(state),
    'gt': lambda left, right: lambda state: left(state) > right(state),
    'ge': lambda left, right: lambda state: left(state) >= right(state),
    'lt': lambda left, right: lambda state: left(state) < right(state),
    'le': lambda left, right: lambda state: left(state) <= right(state),
    'add': lambda left, right: lambda state: left(state) + right(state),
    'sub': lambda left, right: lambda state: left(state) - right(state),
    'mul': lambda left, right: lambda state: left(state) * right(state),
    'tdiv': lambda left, right: lambda state: left(state) / right(state),
    'and': lambda left, right: lambda state: left(state) and right(state),
    'or': lambda left, right: lambda state: left(state) or right(state),
}
_WITH_LITERAL: dict[str, Callable[[int, Any], Value]] = {
    'eq': lambda place, literal: lambda state: state[place] == literal,
    'ne': lambda place, literal: lambda state: state[place] != literal,
    'add': lambda place, literal: lambda state: state[place] + literal,
    'sub': lambda place, literal: lambda state: state[place] - literal,
    'mul': lambda place, literal: lambda state: state[place] * literal,
    'tdiv': lambda place, literal: lambda state: state[place] / literal,
}
"""The same for a symbol on the left and a literal on the right, the common case, in one call instead of three."""
_INTERVALS: dict[str, Callable[[float], tuple[float, float]]] = {
    'gt': lambda literal: (nextafter(literal, inf), inf),
    'ge': lambda literal: (literal, inf),
    'lt': lambda literal: (-inf, nextafter(literal, -inf)),
    'le': lambda literal: (-inf, literal),
}
"""The doubles, from the lowest to the highest, for which a symbol compared with a literal holds."""
_MATCHES = {'eq_fzm': ('match', True), 'eq_fzs': ('search', True), 'ne_fzm': ('match', False)}
_MATCHES |= {'ne_fzs': ('search', False)}


class ConditionError(ValueError):
    """An invalid condition; the message is one line."""


@dataclass(frozen=True)
class Vocabulary:
    """The symbols that conditions of one rule file may use."""

    entries: Mapping[str, Sequence[str]]
    """Names of the entries of each feature of the observation, in the order of the contract."""
    zones: Mapping[str, Bounds]
    """Boxes by zone name."""
    parameters: Mapping[str, float | str | bool]
    """Default value of each parameter."""
    experts: Collection[str] | None
    """Names and numbers of the experts; None if the student is unknown, so expert names are not checked."""

    def names(self) -> list[str]:
        """Return the names of all symbols, for error messages."""
        found = []
        for feature, entries in self.entries.items():
            if _named(feature, entries):
                found += [f'{feature}.{entry}' for entry in entries]
            elif _IDENTIFIER.fullmatch(feature):
                found.append(f'{feature}[0] to [{len(entries) - 1}]')
        found += [f'tool.{axis}' for axis in TOOL]
        found += [f'zone.{zone}' for zone in self.zones] + [f'parameter.{name}' for name in self.parameters]
        return [*found, 'time', 'acting', 'likeliest']

    def types(self) -> dict[str, Any]:
        """Return the type of every symbol."""
        found: dict[str, Any] = {}
        for feature, entries in self.entries.items():
            if _named(feature, entries):
                found[feature] = DataType.OBJECT(feature, attributes=dict.fromkeys(entries, DataType.FLOAT))
            elif _IDENTIFIER.fullmatch(feature):
                found[feature] = DataType.ARRAY(DataType.FLOAT)
        kinds = {name: DataType.from_value(value) for name, value in self.parameters.items()}
        return found | {
            'tool': DataType.OBJECT('tool', attributes=dict.fromkeys(TOOL, DataType.FLOAT)),
            'zone': DataType.OBJECT('zone', attributes=dict.fromkeys(self.zones, DataType.BOOLEAN)),
            'parameter': DataType.OBJECT('parameter', attributes=kinds),
            'time': DataType.FLOAT,
            'acting': DataType.STRING,
            'likeliest': DataType.STRING,
        }

    def place(self, feature: str, entry: int) -> int:
        """Return the index in the state of an entry of the observation."""
        before = _PARAMETERS + len(self.parameters)
        for name, entries in self.entries.items():
            if name == feature:
                return before + entry
            before += len(entries)
        raise KeyError(feature)

    def place_of_parameter(self, name: str) -> int:
        """Return the index of a parameter in the state."""
        return _PARAMETERS + list(self.parameters).index(name)


def _named(feature: str, entries: Sequence[str]) -> bool:
    return all(_IDENTIFIER.fullmatch(name) for name in (feature, *entries))


@dataclass(frozen=True)
class Predicate:
    """A condition of a rule, translated to a function of the state."""

    holds: Value
    """Returns whether the condition holds in a state."""
    uses_tool: bool
    """Whether the condition uses the tool pose."""


def state_of(
    observation: Sequence[float],
    pose: Sequence[float],
    parameters: Sequence[Any],
    time: float,
    acting: str,
    likeliest: str,
) -> State:
    """Return the values of all symbols as one sequence; ``pose`` may be empty if no condition uses the tool pose."""
    return [time, acting, likeliest, *(pose or _NO_POSE), *parameters, *observation]


def translate(text: str, vocabulary: Vocabulary) -> Predicate:
    """Parse and check a condition, and translate it.

    Raises
    ------
    ConditionError
        The condition is malformed, uses an unknown symbol, compares different types, or is not a truth value.

    """
    context = rule_engine.Context(type_resolver=vocabulary.types())
    try:
        statement = rule_engine.Rule(text, context=context).statement
    except (rule_engine.SymbolResolutionError, rule_engine.AttributeResolutionError) as error:
        known = vocabulary.names()
        raise ConditionError(f'{error.message} (known: {", ".join(known)})') from error
    except rule_engine.EngineError as error:
        raise ConditionError(error.message) from error
    found = statement.expression
    if found.result_type != DataType.BOOLEAN:
        raise ConditionError('not a condition: it is neither true nor false')
    translator = _Translator(vocabulary)
    return Predicate(translator.of(found), translator.uses_tool)


def ranges(bounds: Sequence[tuple[int, float | None, float | None]]) -> Predicate:
    """Return a condition that holds while values of the state are inside their bounds.

    Each bound is an index in the state, a lower and an upper bound; None means unbounded.
    """
    box: Box = {}
    for place, lower, upper in bounds:
        if lower is not None:
            box = _intersected(box, {place: _INTERVALS['gt'](lower)})
        if upper is not None:
            box = _intersected(box, {place: _INTERVALS['lt'](upper)})
    return Predicate(_within(box), uses_tool=False)


def together(predicates: Sequence[Predicate]) -> Callable[[State], int]:
    """Return a function that evaluates all conditions to a bit mask; the first condition is the lowest bit."""
    bits = tuple((1 << number, predicate.holds) for number, predicate in enumerate(predicates))

    def mask(state: State) -> int:
        found = 0
        for bit, holds in bits:
            if holds(state):
                found |= bit
        return found

    return mask


def _box_of(bounds: Bounds) -> Box:
    ends = {
        _POSE + axis: (-inf if low is None else low, inf if high is None else high)
        for axis, (low, high) in enumerate(bounds)
    }
    return {place: both for place, both in ends.items() if both != (-inf, inf)}


def _intersected(one: Box, other: Box) -> Box:
    both = dict(one)
    for place, (low, high) in other.items():
        before = both.get(place, (-inf, inf))
        both[place] = max(low, before[0]), min(high, before[1])
    return both


def _within(box: Box) -> Value:
    """Return the condition that all values lie in their intervals: one call for up to three of them."""
    terms = [(place, *ends) for place, ends in box.items()]
    if not terms:
        return lambda state: True
    (place, low, high), *rest = terms
    if not rest:
        return lambda state: low <= state[place] <= high
    (second, low_2, high_2), *rest = rest
    if not rest:
        return lambda state: low <= state[place] <= high and low_2 <= state[second] <= high_2
    (third, low_3, high_3), *rest = rest
    if not rest:
        return lambda state: (
            low <= state[place] <= high and low_2 <= state[second] <= high_2 and low_3 <= state[third] <= high_3
        )
    three, others = _within(dict(list(box.items())[:3])), _within(dict(list(box.items())[3:]))
    return lambda state: three(state) and others(state)


class _Translator:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._boxes: dict[Value, Box] = {}
        """The conditions that only test whether values lie in intervals: joined by `and`, they are one of them."""
        self.uses_tool = False

    def of(self, node: Any) -> Value:
        """Return the function of a node of the syntax tree."""
        for kind, translate_node in _NODES:
            if isinstance(node, kind):
                return translate_node(self, node)
        raise ConditionError(f'{type(node).__name__.removesuffix("Expression")} is not available in rules')

    def _logic(self, node: Any) -> Value:
        for side in (node.left, node.right):
            _require(side, DataType.BOOLEAN, f'a condition on each side of `{node.type}`')
        left, right = self.of(node.left), self.of(node.right)
        if node.type == 'and' and left in self._boxes and right in self._boxes:
            return self._boxed(_intersected(self._boxes[left], self._boxes[right]))
        return _OPERATORS[node.type](left, right)

    def _boxed(self, box: Box) -> Value:
        test = _within(box)
        self._boxes[test] = box
        return test

    def _comparison(self, node: Any) -> Value:
        if node.left.result_type != node.right.result_type:
            raise ConditionError('values of different types are compared')
        if node.left.result_type not in (DataType.FLOAT, DataType.STRING, DataType.BOOLEAN):
            raise ConditionError('only numbers, strings and booleans can be compared')
        for side, other in ((node.left, node.right), (node.right, node.left)):
            self._check_expert(side, other)
        return self._operation(node)

    def _match(self, node: Any) -> Value:
        if not isinstance(node.right, ast.StringExpression):
            raise ConditionError('a regular expression is a string in the rule itself')
        function, wanted = _MATCHES[node.type]
        find, text = getattr(re.compile(node.right.value), function), self.of(node.left)
        return lambda state: (find(text(state)) is not None) == wanted

    def _arithmetic(self, node: Any) -> Value:
        for side in (node.left, node.right):
            _require(side, DataType.FLOAT, 'numbers in arithmetic')
        if node.type not in _ARITHMETIC:
            raise ConditionError('only + - * / are available in rules')
        return self._operation(node)

    def _operation(self, node: Any) -> Value:
        """Return the function of a comparison or of arithmetic."""
        place = self._place(node.left) if isinstance(node.left, _SYMBOL_NODES) else None
        if place is None or not isinstance(node.right, ast.LiteralExpressionBase):
            return _OPERATORS[node.type](self.of(node.left), self.of(node.right))
        if node.type in _INTERVALS:
            return self._boxed({place: _INTERVALS[node.type](_literal(node.right))})
        return _WITH_LITERAL[node.type](place, _literal(node.right))

    def _contains(self, node: Any) -> Value:
        if not isinstance(node.container, ast.ArrayExpression | ast.SetExpression):
            raise ConditionError('`in` needs a list of values in the rule itself, such as ["a", "b"]')
        members = list(node.container.value)
        for member in members:
            if not isinstance(member, ast.LiteralExpressionBase) or member.result_type != node.member.result_type:
                raise ConditionError('`in` needs a list of values of the same type')
            self._check_expert(node.member, member)
        member, values = self.of(node.member), tuple(map(_literal, members))
        return lambda state: member(state) in values

    def _unary(self, node: Any) -> Value:
        value = self.of(node.right)
        if node.type == 'not':
            _require(node.right, DataType.BOOLEAN, 'a condition after `not`')
            return lambda state: not value(state)
        _require(node.right, DataType.FLOAT, 'a number after `-`')
        return lambda state: -value(state)

    def _ternary(self, node: Any) -> Value:
        _require(node.condition, DataType.BOOLEAN, 'a condition before `?`')
        if node.case_true.result_type != node.case_false.result_type:
            raise ConditionError('values of different types on both sides of `:`')
        condition, then, otherwise = self.of(node.condition), self.of(node.case_true), self.of(node.case_false)
        return lambda state: then(state) if condition(state) else otherwise(state)

    def _call(self, node: Any) -> Value:
        function = node.function
        if not isinstance(function, ast.SymbolExpression) or function.name != 'abs' or len(node.arguments) != 1:
            raise ConditionError('the only function in rules is $abs')
        value = self.of(node.arguments[0])
        return lambda state: abs(value(state))

    def _literal(self, node: Any) -> Value:
        value = _literal(node)
        return lambda state: value

    def _symbol(self, node: Any) -> Value:
        place = self._place(node)
        return self._boxed(_box_of(self._vocabulary.zones[node.name])) if place is None else itemgetter(place)

    def _place(self, node: Any) -> int | None:
        """Return the place of a symbol in the state; None for a zone, which is no single value."""
        if isinstance(node, ast.GetAttributeExpression):
            return self._place_of_attribute(node)
        if isinstance(node, ast.GetItemExpression):
            return self._place_of_item(node)
        if node.name not in _SYMBOLS or node.scope is not None:
            known = ', '.join(self._vocabulary.names())
            raise ConditionError(f'{node.name} is no value by itself (known: {known})')
        return _SYMBOLS[node.name]

    def _place_of_attribute(self, node: Any) -> int | None:
        if not isinstance(node.object, ast.SymbolExpression) or node.safe:
            raise ConditionError(f'attribute {node.name} of a value is not available in rules')
        symbol, name = node.object.name, node.name
        if symbol in ('tool', 'zone'):
            self.uses_tool = True
            return _POSE + TOOL.index(name) if symbol == 'tool' else None
        if symbol == 'parameter':
            return self._vocabulary.place_of_parameter(name)
        return self._vocabulary.place(symbol, list(self._vocabulary.entries[symbol]).index(name))

    def _place_of_item(self, node: Any) -> int:
        container, item = node.container, node.item
        if not isinstance(container, ast.SymbolExpression) or not isinstance(item, ast.FloatExpression):
            raise ConditionError('an index is a whole number in the rule itself')
        entries, entry = self._vocabulary.entries[container.name], item.value
        if entry != int(entry) or not 0 <= entry < len(entries):
            raise ConditionError(f'{container.name} has the entries 0 to {len(entries) - 1}, not {entry}')
        return self._vocabulary.place(container.name, int(entry))

    def _check_expert(self, symbol: Any, value: Any) -> None:
        known = self._vocabulary.experts
        if not isinstance(symbol, ast.SymbolExpression) or symbol.name not in ('acting', 'likeliest') or known is None:
            return
        if isinstance(value, ast.StringExpression) and value.value not in known:
            raise ConditionError(f'no expert is named {value.value!r} (known: {", ".join(known)})')


def _literal(node: Any) -> Any:
    """Return the value of a literal, a number as a double."""
    if node.result_type != DataType.FLOAT:
        return node.value
    value = float(node.value)
    if not -1e300 < value < 1e300:
        raise ConditionError('numbers in rules are finite')
    return value


def _require(node: Any, kind: Any, expected: str) -> None:
    if node.result_type != kind:
        raise ConditionError(f'expected {expected}')


_NODES: tuple[tuple[Any, Callable[[_Translator, Any], Value]], ...] = (
    (ast.LogicExpression, _Translator._logic),
    (ast.FuzzyComparisonExpression, _Translator._match),
    (ast.ComparisonExpression, _Translator._comparison),
    ((ast.AddExpression, ast.SubtractExpression, ast.ArithmeticExpression), _Translator._arithmetic),
    (ast.ContainsExpression, _Translator._contains),
    (ast.UnaryExpression, _Translator._unary),
    (ast.TernaryExpression, _Translator._ternary),
    (ast.FunctionCallExpression, _Translator._call),
    ((ast.FloatExpression, ast.StringExpression, ast.BooleanExpression), _Translator._literal),
    (_SYMBOL_NODES, _Translator._symbol),
)
