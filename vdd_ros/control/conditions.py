"""Conditions of rules: parsed and type-checked by the library rule-engine, then compiled to Python in doubles.

rule-engine evaluates its syntax tree in decimal arithmetic, at about 9 us for a condition of three comparisons. The
control loop evaluates twenty rules within 30 us. The tree is therefore translated once, when the rules are loaded, into
one Python expression. What has no exact counterpart in doubles (dates, regular expressions over groups, comprehensions,
bit operations) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rule_engine
from rule_engine import ast
from rule_engine.types import DataType

TOOL = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
"""Attributes of the symbol `tool`: position [m] and orientation [rad], in the order of the tuple that is evaluated."""

_IDENTIFIER = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*')
_COMPARISONS = {'eq': '==', 'ne': '!=', 'gt': '>', 'ge': '>=', 'lt': '<', 'le': '<='}
_ARITHMETIC = {'add': '+', 'sub': '-', 'mul': '*', 'tdiv': '/'}
_MATCHES = {'eq_fzm': ('match', 'is not'), 'eq_fzs': ('search', 'is not'), 'ne_fzm': ('match', 'is')}
_MATCHES |= {'ne_fzs': ('search', 'is')}


class ConditionError(ValueError):
    """What is wrong with a condition, in one line."""


@dataclass(frozen=True)
class Vocabulary:
    """What the conditions of one file of rules may refer to."""

    entries: Mapping[str, Sequence[str]]
    """By feature, the names of the numbers of the observation, in the order of the contract."""
    zones: Mapping[str, str]
    """By zone, the Python expression over the tool pose ``t`` that is true inside."""
    parameters: Mapping[str, float | str | bool]
    """By parameter, its default value."""
    experts: Collection[str] | None
    """Names and numbers of the experts; None where the student is not known, and names are not checked."""

    def names(self) -> list[str]:
        """Return what a condition may refer to, for messages."""
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

    def column(self, feature: str, entry: int) -> int:
        """Return the place of a number in the observation."""
        before = 0
        for name, entries in self.entries.items():
            if name == feature:
                return before + entry
            before += len(entries)
        raise KeyError(feature)


def _named(feature: str, entries: Sequence[str]) -> bool:
    return all(_IDENTIFIER.fullmatch(name) for name in (feature, *entries))


@dataclass(frozen=True)
class Code:
    """A condition as a Python expression."""

    text: str
    """Over ``o`` (observation), ``t`` (tool pose), ``p`` (parameters), ``time``, ``acting`` and ``likeliest``."""
    patterns: Mapping[str, re.Pattern[str]]
    """Regular expressions that it refers to, by variable."""
    uses_tool: bool
    """Whether it refers to the tool pose."""


def translate(text: str, vocabulary: Vocabulary, number: int = 0) -> Code:
    """Parse and check a condition, and translate it; ``number`` is its place among those that are compiled together.

    Raises
    ------
    ConditionError
        It is malformed, refers to what does not exist, compares different types, or is not true or false.

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
    translator = _Translator(vocabulary, number)
    return Code(translator.of(found), translator.patterns, translator.uses_tool)


def compile_all(codes: Sequence[Code]) -> Callable[..., int]:
    """Return a function that tells which conditions hold, as a bit mask; the first condition is the lowest bit.

    Its arguments are the observation (a list), the tool pose (a sequence as `TOOL`), the values of the parameters by
    name, the time [s], and the names of the acting and of the likeliest expert.
    """
    names: dict[str, Any] = {}
    terms = []
    for number, code in enumerate(codes):
        names |= code.patterns
        terms.append(f'({1 << number} if {code.text} else 0)')
    source = f'lambda o, t, p, time, acting, likeliest: {" | ".join(terms) or "0"}'
    # No text of the file of rules comes in: every part of the source is a template of this module, a finite number, the
    # place of a number, or the repr of a string, and no builtin but abs can be named.
    return eval(compile(source, '<rules>', 'eval'), {'__builtins__': {}, 'abs': abs, **names})


class _Translator:
    def __init__(self, vocabulary: Vocabulary, number: int) -> None:
        self._vocabulary, self._number = vocabulary, number
        self.patterns: dict[str, re.Pattern[str]] = {}
        self.uses_tool = False

    def of(self, node: Any) -> str:
        """Return the Python expression of a node of the syntax tree."""
        for kind, translate_node in _NODES:
            if isinstance(node, kind):
                return translate_node(self, node)
        raise ConditionError(f'{type(node).__name__.removesuffix("Expression")} is not available in rules')

    def _logic(self, node: Any) -> str:
        for side in (node.left, node.right):
            _require(side, DataType.BOOLEAN, f'a condition on each side of `{node.type}`')
        return f'({self.of(node.left)} {node.type} {self.of(node.right)})'

    def _comparison(self, node: Any) -> str:
        if node.left.result_type != node.right.result_type:
            raise ConditionError('values of different types are compared')
        if node.left.result_type not in (DataType.FLOAT, DataType.STRING, DataType.BOOLEAN):
            raise ConditionError('only numbers, strings and booleans can be compared')
        for side, other in ((node.left, node.right), (node.right, node.left)):
            self._check_expert(side, other)
        return f'({self.of(node.left)} {_COMPARISONS[node.type]} {self.of(node.right)})'

    def _match(self, node: Any) -> str:
        if not isinstance(node.right, ast.StringExpression):
            raise ConditionError('a regular expression is a string in the rule itself')
        function, test = _MATCHES[node.type]
        variable = f'pattern_{self._number}_{len(self.patterns)}'
        self.patterns[variable] = re.compile(node.right.value)
        return f'({variable}.{function}({self.of(node.left)}) {test} None)'

    def _arithmetic(self, node: Any) -> str:
        for side in (node.left, node.right):
            _require(side, DataType.FLOAT, 'numbers in arithmetic')
        if node.type not in _ARITHMETIC:
            raise ConditionError('only + - * / are available in rules')
        return f'({self.of(node.left)} {_ARITHMETIC[node.type]} {self.of(node.right)})'

    def _contains(self, node: Any) -> str:
        if not isinstance(node.container, ast.ArrayExpression | ast.SetExpression):
            raise ConditionError('`in` needs a list of values in the rule itself, such as ["a", "b"]')
        members = list(node.container.value)
        for member in members:
            if not isinstance(member, ast.LiteralExpressionBase) or member.result_type != node.member.result_type:
                raise ConditionError('`in` needs a list of values of the same type')
            self._check_expert(node.member, member)
        return f'({self.of(node.member)} in ({"".join(f"{self.of(member)}, " for member in members)}))'

    def _unary(self, node: Any) -> str:
        if node.type == 'not':
            _require(node.right, DataType.BOOLEAN, 'a condition after `not`')
            return f'(not {self.of(node.right)})'
        _require(node.right, DataType.FLOAT, 'a number after `-`')
        return f'(-{self.of(node.right)})'

    def _ternary(self, node: Any) -> str:
        _require(node.condition, DataType.BOOLEAN, 'a condition before `?`')
        if node.case_true.result_type != node.case_false.result_type:
            raise ConditionError('values of different types on both sides of `:`')
        return f'({self.of(node.case_true)} if {self.of(node.condition)} else {self.of(node.case_false)})'

    def _call(self, node: Any) -> str:
        function = node.function
        if not isinstance(function, ast.SymbolExpression) or function.name != 'abs' or len(node.arguments) != 1:
            raise ConditionError('the only function in rules is $abs')
        return f'abs({self.of(node.arguments[0])})'

    def _literal(self, node: Any) -> str:
        if node.result_type == DataType.FLOAT:
            value = float(node.value)
            if not -1e300 < value < 1e300:
                raise ConditionError('numbers in rules are finite')
            return repr(value)
        return repr(node.value)

    def _attribute(self, node: Any) -> str:
        if not isinstance(node.object, ast.SymbolExpression) or node.safe:
            raise ConditionError(f'attribute {node.name} of a value is not available in rules')
        symbol = node.object.name
        if symbol == 'tool':
            self.uses_tool = True
            return f't[{TOOL.index(node.name)}]'
        if symbol == 'zone':
            self.uses_tool = True
            return self._vocabulary.zones[node.name]
        if symbol == 'parameter':
            return f'p[{node.name!r}]'
        entry = list(self._vocabulary.entries[symbol]).index(node.name)
        return f'o[{self._vocabulary.column(symbol, entry)}]'

    def _item(self, node: Any) -> str:
        container, item = node.container, node.item
        if not isinstance(container, ast.SymbolExpression) or not isinstance(item, ast.FloatExpression):
            raise ConditionError('an index is a whole number in the rule itself')
        entries, entry = self._vocabulary.entries[container.name], item.value
        if entry != int(entry) or not 0 <= entry < len(entries):
            raise ConditionError(f'{container.name} has the entries 0 to {len(entries) - 1}, not {entry}')
        return f'o[{self._vocabulary.column(container.name, int(entry))}]'

    def _symbol(self, node: Any) -> str:
        if node.name not in ('time', 'acting', 'likeliest') or node.scope is not None:
            known = ', '.join(self._vocabulary.names())
            raise ConditionError(f'{node.name} is no value by itself (known: {known})')
        return node.name

    def _check_expert(self, symbol: Any, value: Any) -> None:
        known = self._vocabulary.experts
        if not isinstance(symbol, ast.SymbolExpression) or symbol.name not in ('acting', 'likeliest') or known is None:
            return
        if isinstance(value, ast.StringExpression) and value.value not in known:
            raise ConditionError(f'no expert is named {value.value!r} (known: {", ".join(known)})')


def _require(node: Any, kind: Any, expected: str) -> None:
    if node.result_type != kind:
        raise ConditionError(f'expected {expected}')


_NODES: tuple[tuple[Any, Callable[[_Translator, Any], str]], ...] = (
    (ast.LogicExpression, _Translator._logic),
    (ast.FuzzyComparisonExpression, _Translator._match),
    (ast.ComparisonExpression, _Translator._comparison),
    ((ast.AddExpression, ast.SubtractExpression, ast.ArithmeticExpression), _Translator._arithmetic),
    (ast.ContainsExpression, _Translator._contains),
    (ast.UnaryExpression, _Translator._unary),
    (ast.TernaryExpression, _Translator._ternary),
    (ast.FunctionCallExpression, _Translator._call),
    ((ast.FloatExpression, ast.StringExpression, ast.BooleanExpression), _Translator._literal),
    (ast.GetAttributeExpression, _Translator._attribute),
    (ast.GetItemExpression, _Translator._item),
    (ast.SymbolExpression, _Translator._symbol),
)
