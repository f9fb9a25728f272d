"""Rules on experts in YAML: forbid, prefer or pin some, everywhere or only where an observation is in some range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import Field, model_validator

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.policy.routing import Routing

Expert = Annotated[int, Field(ge=0)]


class Condition(Settings):
    """A range of one entry of the newest observation."""

    feature: str
    """Name of a feature of the contract's observation."""
    entry: str | int
    """Which number of it: an axis, a joint, or its place from 0."""
    above: float | None = None
    """It is greater than this, in the units of the contract."""
    below: float | None = None
    """It is less than this."""

    @model_validator(mode='after')
    def _has_a_bound(self) -> Condition:
        if self.above is None and self.below is None:
            raise ValueError('a condition has `above`, `below` or both')
        return self


class Rule(Settings):
    """What holds for some experts while all conditions do."""

    when: tuple[Condition, ...] = ()
    """None of them: always."""
    forbid: tuple[Expert, ...] = ()
    """Experts that must not act."""
    prefer: dict[Expert, Annotated[float, Field(gt=0)]] = {}
    """Factors on the odds of experts: 10 makes one ten times as likely beside the others."""
    pin: Expert | None = None
    """The only expert that may act; of several rules the last one wins."""


class RuleFile(Settings):
    """A file of rules."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Rules:
    """Routing that depends on where the policy is; what it adds to is the routing by parameters."""

    base: Routing
    rules: tuple[Rule, ...]
    columns: tuple[tuple[int, ...], ...]
    """Of every rule, which entry of an observation each of its conditions looks at."""

    @property
    def direction_hysteresis(self) -> float | None:
        """As of the base."""
        return self.base.direction_hysteresis

    def at(self, window: np.ndarray) -> Routing:
        """Return what holds in a window of shape (observation_horizon, observation), by its newest stamp."""
        newest = window[-1]
        return self._with(
            rule
            for rule, columns in zip(self.rules, self.columns)
            if all(_holds(condition, newest[column]) for condition, column in zip(rule.when, columns))
        )

    def check(self, experts: int) -> None:
        """Refuse what no mixture of so many experts can follow: absent experts, or none that may act anywhere.

        Rules that leave no expert in some places are legitimate: there the arm stops.

        Raises
        ------
        ConfigurationError
            A rule names an expert that does not exist, or the rules without a condition leave none.

        """
        for rule in self.rules:
            self._with([rule]).check_names(experts)
        self._with(rule for rule in self.rules if not rule.when).check(experts)

    def _with(self, rules: Iterable[Rule]) -> Routing:
        forbidden, preferred, pinned = set(self.base.forbidden), dict(self.base.preferred), None
        for rule in rules:
            forbidden |= set(rule.forbid)
            for expert, factor in rule.prefer.items():
                preferred[expert] = preferred.get(expert, 1.0) * factor
            pinned = pinned if rule.pin is None else rule.pin
        pinned = self.base.pinned if pinned is None else pinned
        return replace(self.base, forbidden=frozenset(forbidden), preferred=preferred, pinned=pinned)


def load_rules(path: str | Path, contract: Contract, base: Routing) -> Rules:
    """Read rules for a contract from YAML.

    Parameters
    ----------
    path
        A file with the key ``rules``: a list of `Rule`.
    contract
        Whose observations the conditions speak of.
    base
        What holds besides.

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, or names a feature or an entry that the contract does not have.

    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            expected=f'rules in YAML at {path}', found=' '.join(str(error).split()), remedy='mend the path or the file'
        ) from error
    rules = RuleFile.parse(document if isinstance(document, dict) else {}).rules
    return Rules(base, rules, tuple(_columns(rule.when, contract) for rule in rules))


def _columns(conditions: Sequence[Condition], contract: Contract) -> tuple[int, ...]:
    names = entries_of(contract)
    columns = []
    for condition in conditions:
        known = [entry for feature, entry in names if feature == condition.feature]
        first = next((place for place, (feature, _) in enumerate(names) if feature == condition.feature), 0)
        if condition.entry in known:
            columns.append(first + known.index(condition.entry))
        elif isinstance(condition.entry, int) and 0 <= condition.entry < len(known):
            columns.append(first + condition.entry)
        else:
            raise ConfigurationError(
                expected=f'an entry of the observation of contract {contract.name}',
                found=f'{condition.entry} of {condition.feature}',
                remedy=f'use some of {", ".join(f"{entry} of {feature}" for feature, entry in names)}',
            )
    return tuple(columns)


def entries_of(contract: Contract) -> list[tuple[str, str]]:
    """Return feature and name of every entry of an observation, in their order."""
    found = []
    for feature in contract.observation:
        if isinstance(feature, TopicFeature):
            entries = [str(place) for place in range(contract.width(feature))]
        else:
            entries = list(contract.parts_of(feature))
        found += [(feature.name, entry) for entry in entries]
    return found


def _holds(condition: Condition, value: float) -> bool:
    return (condition.above is None or value > condition.above) and (condition.below is None or value < condition.below)
