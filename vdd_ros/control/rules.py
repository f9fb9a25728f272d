"""Rules on experts in YAML: named conditions with effects. `docs/deployment.md` is the guide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.common.yaml_file import Document, read_document
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.control.conditions import (
    Bounds,
    ConditionError,
    Predicate,
    State,
    Vocabulary,
    ranges,
    state_of,
    together,
    translate,
)
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.routing import Applied, Routing, Situation

Expert = Annotated[int, Field(ge=0)] | str
"""Number or name of an expert."""
Range = tuple[float | None, float | None]

_ALTERNATIVE = re.compile(r'(str|int|float|bool|constrained-int|tuple\[.*|function-.*)$')
"""Names of the alternatives of a union in the location of a pydantic error."""
_REMEMBERED = 4096
"""Number of cached combinations of applying rules."""


class Condition(Settings):
    """A range of one entry of the last observation: the form of conditions in older files."""

    feature: str
    """Name of a feature of the contract's observation."""
    entry: str | int
    """Entry of the feature: an axis, a joint, or an index from 0."""
    above: float | None = None
    """The entry is greater than this, in the units of the contract."""
    below: float | None = None
    """The entry is less than this."""

    @model_validator(mode='after')
    def _has_a_bound(self) -> Condition:
        if self.above is None and self.below is None:
            raise ValueError('a condition has `above`, `below` or both')
        return self


class Zone(Settings):
    """A box that the tool may be in, in the frame of the robot model [m]."""

    x: Range = (None, None)
    """Lower and upper bound, `null` for none."""
    y: Range = (None, None)
    """Lower and upper bound, `null` for none."""
    z: Range = (None, None)
    """Lower and upper bound, `null` for none."""

    @model_validator(mode='after')
    def _is_a_box(self) -> Zone:
        bounds = [(low, high) for low, high in (self.x, self.y, self.z) if low is not None and high is not None]
        if any(not low < high for low, high in bounds):
            raise ValueError('the lower bound of a zone is below its upper bound')
        if all(bound is None for ends in (self.x, self.y, self.z) for bound in ends):
            raise ValueError('a zone has at least one bound')
        return self

    @property
    def box(self) -> np.ndarray:
        """Lower and upper corner, shape (2, 3) [m]; infinite where there is no bound."""
        ends = [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in self.bounds]
        return np.array(ends).T

    @property
    def bounds(self) -> Bounds:
        """Lower and upper bound along x, y and z [m]; None: unbounded."""
        return self.x, self.y, self.z


class Rule(Settings):
    """Effects that apply while a condition holds."""

    name: str = ''
    """Name in messages and explanations. Unique. Default: `rule N`, counted from 1."""
    when: str | tuple[Condition, ...] = ()
    """Condition in the language of rule-engine, or a list of ranges that all hold. Default: always."""
    forbid: tuple[Expert, ...] = ()
    """Experts that must not act."""
    prefer: dict[Expert, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Factors on the odds of experts: 10 makes an expert ten times as likely relative to the others."""
    avoid: tuple[str, ...] = ()
    """Zones. Experts whose mean chunk leads the tool into one of them must not act in this plan."""
    pin: Expert | None = None
    """The only expert that may act. If several applying rules pin, the last one applies."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Temperature of the gating; below 1 likely experts become more likely. The last applying rule applies."""
    speed: Annotated[float, Field(gt=0, le=1)] | None = None
    """Reduces the speed of the plan to this share. If several rules apply, the lowest speed counts. Not in lockstep."""
    stop: bool = False
    """Stops the arm within its limits until `~/resume`."""


class RuleFile(Settings):
    """Contents of a rule file: zones, parameters and rules."""

    zones: dict[str, Zone] = {}
    """Boxes by name; the condition `zone.NAME` holds while the tool is inside."""
    parameters: dict[str, bool | float | str] = {}
    """Values by name that other nodes set, with their defaults; `parameter.NAME` in conditions."""
    rules: tuple[Annotated[Rule, BeforeValidator(lambda value: {} if value is None else value)], ...]
    """The rules, in order."""


@dataclass(frozen=True)
class _Effect:
    """The effects of a rule, with experts as numbers."""

    name: str
    place: str
    """File and line."""
    always: bool
    """Whether it has no condition."""
    forbid: frozenset[int]
    prefer: Mapping[int, float]
    pin: int | None
    temperature: float | None
    speed: float | None
    stop: bool
    avoid: tuple[np.ndarray, ...]
    """Corners of zones, shape (2, 3) [m] each."""
    text: str


@dataclass(frozen=True)
class Rules:
    """Routing with conditional rules, in addition to a base routing."""

    base: Routing
    effects: tuple[_Effect, ...]
    predicates: tuple[Predicate, ...]
    """Condition of each effect."""
    labels: Labels
    defaults: Mapping[str, bool | float | str]
    """Default values of the rule parameters defined in the file, by name."""
    values: Mapping[str, bool | float | str] = field(default_factory=dict)
    """Values that were set for rule parameters, by name; the others have their defaults."""

    @property
    def direction_hysteresis(self) -> float | None:
        """Direction hysteresis of the base routing."""
        return self.base.direction_hysteresis

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules."""
        return tuple(effect.name for effect in self.effects)

    def with_parameters(self, values: Mapping[str, Any]) -> Rules:
        """Return the same rules with other values of the rule parameters.

        Raises
        ------
        ConfigurationError
            A parameter is not in the file, or a value has another type than its default.

        """
        return replace(self, values=_checked_parameters(values, self.defaults))

    def at(self, situation: Situation) -> Applied:
        """Return the effects of the rules in a situation.

        The arm stops if a condition cannot be evaluated (division by zero), or if a required tool pose is unknown;
        `Applied.stop` then contains the reason.
        """
        pose: Sequence[float] = ()
        if self._uses_tool:
            if situation.tool_pose is None:
                return Applied(self.base, stop='rules refer to the tool, whose pose is unknown without kinematics')
            pose = situation.tool_pose()
        acting = '' if situation.acting is None else self._name(situation.acting)
        likeliest, observation = self._name(situation.likeliest), situation.observation.tolist()
        state = state_of(observation, pose, self._parameters, situation.time, acting, likeliest)
        try:
            mask = self._applying(state)
        except (ArithmeticError, ValueError) as error:
            return Applied(self.base, stop=f'the rules cannot be evaluated: {self._culprit(state)}: {error}')
        if (known := self._known.get(mask)) is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[mask] = self._combined(mask)
        if mask & self._avoiding:
            if situation.tool_paths is None:
                return replace(known, stop='rules avoid zones, and without kinematics no path of the tool is known')
            return self._avoided(known, mask, situation.tool_paths())
        return known

    def check(self, experts: int) -> None:
        """Refuse rules that no mixture of ``experts`` experts can satisfy.

        These are rules that name unknown experts, and rules that leave no expert in any situation. Rules that leave no
        expert in some situations are legitimate: the arm then stops.

        Raises
        ------
        ConfigurationError
            A rule names an expert that does not exist, or the rules without a condition leave no expert.

        """
        for effect in self.effects:
            named = {*effect.forbid, *effect.prefer, *(() if effect.pin is None else (effect.pin,))}
            if absent := sorted(expert for expert in named if expert >= experts):
                raise ConfigurationError(
                    expected=f'experts from 0 to {experts - 1}, which the student has',
                    found=f'a rule on {", ".join(map(str, absent))} ({effect.name}, {effect.place})',
                    remedy='name experts of this student (~/expert_paths and /diagnostics number them)',
                )
        self.base.check_names(experts)
        self._routing(effect for effect in self.effects if effect.always).check(experts)

    @cached_property
    def _applying(self) -> Callable[[State], int]:
        return together(self.predicates)

    @cached_property
    def _parameters(self) -> tuple[bool | float | str, ...]:
        """Their values, in the order of the file."""
        return tuple({**self.defaults, **self.values}.values())

    @cached_property
    def _uses_tool(self) -> bool:
        return any(predicate.uses_tool for predicate in self.predicates)

    @cached_property
    def _avoiding(self) -> int:
        """The rules that avoid zones, as a bit mask."""
        return sum(1 << place for place, effect in enumerate(self.effects) if effect.avoid)

    def _avoided(self, applied: Applied, mask: int, paths: np.ndarray) -> Applied:
        """Forbid experts whose path, of shape (expert, step, 3), leads the tool into a zone to be avoided."""
        entering = np.zeros(len(paths), dtype=bool)
        for place, effect in enumerate(self.effects):
            for lower, upper in effect.avoid if mask >> place & 1 else ():
                entering |= ((paths >= lower) & (paths <= upper)).all(axis=-1).any(axis=-1)
        if not entering.any():
            return applied
        forbidden = applied.routing.forbidden | frozenset(np.flatnonzero(entering).tolist())
        return replace(applied, routing=replace(applied.routing, forbidden=forbidden))

    @cached_property
    def _known(self) -> dict[int, Applied]:
        return {}

    @cached_property
    def _name(self) -> Callable[[int], str]:
        return self.labels.name

    def _culprit(self, state: State) -> str:
        for effect, predicate in zip(self.effects, self.predicates):
            try:
                predicate.holds(state)
            except (ArithmeticError, ValueError):
                return f'{effect.name} ({effect.place})'
        return 'unknown'

    def _combined(self, mask: int) -> Applied:
        effects = [effect for place, effect in enumerate(self.effects) if mask >> place & 1]
        names, texts = tuple(effect.name for effect in effects), tuple(effect.text for effect in effects)
        speed = min((effect.speed for effect in effects if effect.speed is not None), default=1.0)
        stops = [effect.name for effect in effects if effect.stop]
        stop = f'stopped by the rule {", ".join(stops)}' if stops else ''
        return Applied(self._routing(effects), names, texts, speed, stop)

    def _routing(self, effects: Iterable[_Effect]) -> Routing:
        base = self.base
        forbidden, preferred = set(base.forbidden), dict(base.preferred)
        pinned, temperature = base.pinned, base.temperature
        for effect in effects:
            forbidden |= effect.forbid
            for expert, factor in effect.prefer.items():
                preferred[expert] = preferred.get(expert, 1.0) * factor
            pinned = pinned if effect.pin is None else effect.pin
            temperature = temperature if effect.temperature is None else effect.temperature
        return replace(
            base, forbidden=frozenset(forbidden), preferred=preferred, pinned=pinned, temperature=temperature
        )


def load_rules(
    path: str | Path,
    contract: Contract,
    base: Routing,
    *,
    experts: int | None = None,
    labels: Labels = Labels(),
    parameters: Mapping[str, Any] | None = None,
) -> Rules:
    """Read and check a YAML file of rules.

    Parameters
    ----------
    path
        Path of the file; see `RuleFile` for its keys.
    contract
        Contract whose observations the conditions refer to.
    base
        Routing that applies in addition to the rules.
    experts, labels
        Number and names of the student's experts. If the number is None, rules must refer to experts by number.
    parameters
        Values of rule parameters, by name; the others have their defaults.

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, a condition is malformed or uses an unknown symbol, or the name of an expert or
        rule parameter is unknown. The message names file and line.

    """
    document = read_document(path, 'rules in YAML')
    try:
        found = RuleFile.model_validate(document.values if isinstance(document.values, dict) else {})
    except ValidationError as error:
        raise _complaint(document, error) from error
    _refuse_unknown_names(document, found)
    vocabulary = Vocabulary(
        _entries_by_feature(contract),
        {name: zone.bounds for name, zone in found.zones.items()},
        found.parameters,
        None if experts is None else [labels.name(expert) for expert in range(experts)],
    )
    names = [rule.name or f'rule {number + 1}' for number, rule in enumerate(found.rules)]
    effects, predicates = [], []
    for number, (name, rule) in enumerate(zip(names, found.rules)):
        if names.index(name) < number:
            raise ConfigurationError(
                expected='a different name for each rule',
                found=f'{name!r} twice in {document.place(document.line(["rules", number]))}',
                remedy='rename one of them',
            )
        zones = _zones_of(found, document, number)
        effects.append(_effect_of(rule, name, labels, document, number, zones))
        try:
            predicates.append(_predicate_of(rule, contract, vocabulary))
        except ConditionError as error:
            raise ConfigurationError(
                expected=f'a condition in {document.place(document.line(["rules", number, "when"]))}',
                found=f'{error}',
                remedy=f'correct the rule {name!r}',
            ) from error
    values = _checked_parameters(parameters or {}, found.parameters)
    rules = Rules(base, tuple(effects), tuple(predicates), labels, found.parameters, values)
    if experts is not None:
        rules.check(experts)
    return rules


def _zones_of(file: RuleFile, document: Document, number: int) -> tuple[np.ndarray, ...]:
    """Return the boxes that a rule avoids."""
    avoided = file.rules[number].avoid
    if unknown := [zone for zone in avoided if zone not in file.zones]:
        raise ConfigurationError(
            expected=f'the name of a zone in {document.place(document.line(["rules", number, "avoid"]))}',
            found=repr(unknown[0]),
            remedy=f'known zones: {", ".join(file.zones) or "none"}',
        )
    return tuple(file.zones[zone].box for zone in avoided)


def entries_of(contract: Contract) -> list[tuple[str, str]]:
    """Return the feature and the name of every entry of an observation, in the order of the entries."""
    return [(feature, entry) for feature, entries in _entries_by_feature(contract).items() for entry in entries]


def _entries_by_feature(contract: Contract) -> dict[str, list[str]]:
    found = {}
    for feature in contract.observation:
        if isinstance(feature, TopicFeature):
            found[feature.name] = [str(place) for place in range(contract.width(feature))]
        else:
            found[feature.name] = list(contract.parts_of(feature))
    return found


def _predicate_of(rule: Rule, contract: Contract, vocabulary: Vocabulary) -> Predicate:
    if isinstance(rule.when, str):
        return translate(rule.when, vocabulary)
    return ranges([(_column(each, contract, vocabulary), each.above, each.below) for each in rule.when])


def _column(condition: Condition, contract: Contract, vocabulary: Vocabulary) -> int:
    known = list(vocabulary.entries.get(condition.feature, ()))
    if condition.entry in known:
        return vocabulary.place(condition.feature, known.index(condition.entry))
    if isinstance(condition.entry, int) and 0 <= condition.entry < len(known):
        return vocabulary.place(condition.feature, condition.entry)
    raise ConditionError(
        f'{condition.entry} of {condition.feature}, which is no entry of the observation of contract {contract.name}; '
        f'use some of {", ".join(f"{entry} of {feature}" for feature, entry in entries_of(contract))}'
    )


def _effect_of(
    rule: Rule, name: str, labels: Labels, document: Document, number: int, zones: tuple[np.ndarray, ...]
) -> _Effect:
    def known(expert: Expert, *part: str | int) -> int:
        found = expert if isinstance(expert, int) else labels.number(expert)
        if found is None:
            place = document.place(document.line(['rules', number, *part]))
            named = ', '.join(label.name for label in labels.experts.values()) or 'none; name them with `vdd label`'
            raise ConfigurationError(
                expected=f'the number or name of an expert in {place}',
                found=repr(expert),
                remedy=f'named experts of this student: {named}',
            )
        return found

    forbid = frozenset(known(expert, 'forbid', place) for place, expert in enumerate(rule.forbid))
    prefer: dict[int, float] = {}
    for expert, factor in rule.prefer.items():
        prefer[known(expert, 'prefer', expert)] = factor
    pin = None if rule.pin is None else known(rule.pin, 'pin')
    texts = [
        f'forbids {", ".join(map(labels.text, sorted(forbid)))}' if forbid else '',
        *(f'prefers {labels.text(expert)} x {factor:g}' for expert, factor in prefer.items()),
        f'avoids {", ".join(rule.avoid)}' if rule.avoid else '',
        f'pins {labels.text(pin)}' if pin is not None else '',
        f'temperature {rule.temperature:g}' if rule.temperature is not None else '',
        f'speed x {rule.speed:g}' if rule.speed is not None else '',
        'stops' if rule.stop else '',
    ]
    text = ', '.join(filter(None, texts)) or 'no effect'
    place = document.place(document.line(['rules', number]))
    return _Effect(
        name, place, not rule.when, forbid, prefer, pin, rule.temperature, rule.speed, rule.stop, zones, text
    )


def _checked_parameters(
    values: Mapping[str, Any], defaults: Mapping[str, bool | float | str]
) -> dict[str, bool | float | str]:
    found = {}
    for name, value in values.items():
        if name not in defaults:
            raise ConfigurationError(
                expected='a parameter of the file of rules',
                found=name,
                remedy=f'known parameters: {", ".join(defaults) or "none"}',
            )
        kind = type(defaults[name])
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind or (kind is float and not np.isfinite(value)):
            kinds = {bool: 'true or false', float: 'a finite number', str: 'a string'}
            raise ConfigurationError(
                expected=f'{kinds[kind]} for parameter {name} of the rules',
                found=repr(value),
                remedy='its type is that of its default in the file of rules',
            )
        found[name] = value
    return found


def _refuse_unknown_names(document: Document, found: RuleFile) -> None:
    for part, names in (('zones', found.zones), ('parameters', found.parameters)):
        for name in names:
            if not name.isidentifier() or not name.isascii():
                raise ConfigurationError(
                    expected=f'a name of letters, digits and _ in {document.place(document.line([part, name]))}',
                    found=repr(name),
                    remedy='rename it: conditions refer to it by that name',
                )


def _complaint(document: Document, error: ValidationError) -> ConfigurationError:
    # A misspelt key explains why another one is missing. Of the alternatives of a union, the best match fails deepest.
    first = min(error.errors(), key=lambda each: (each['type'] != 'extra_forbidden', -len(each['loc'])))
    where = [part for part in first['loc'] if not (isinstance(part, str) and _ALTERNATIVE.match(part))]
    part = {'zones': Zone, 'rules': Rule}.get(str(where[0]), RuleFile) if len(where) > 1 else RuleFile
    return ConfigurationError(
        expected=f'a valid rule in {document.place(document.line(where))}',
        found=f'{".".join(map(str, where))}: {first["msg"].removeprefix("Value error, ")}',
        remedy=f'known keys: {", ".join(part.model_fields)}',
    )
