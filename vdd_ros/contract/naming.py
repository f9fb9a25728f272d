"""What the numbers and topics of a contract are called, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature


def observation_names(contract: Contract) -> list[str]:
    """Return what each number of an observation is called."""
    names: list[str] = []
    for feature in contract.observation:
        width = contract.width(feature)
        if feature.source == 'topic':
            parts = [str(number) for number in range(width)]
            if feature.joints:
                several = len(feature.paths) > len(feature.joints)
                parts = [
                    f'{field} {joint}' if several else joint
                    for field in (feature.read_fields if several else ('',))
                    for joint in feature.joints
                ]
            elif not (feature.frames or feature.image or feature.points):
                parts = [part for field in feature.read_fields for part in _parts(field, feature)]
        else:
            parts = list(contract.parts_of(feature))
        names += [f'{feature.name} {part}' if width > 1 else feature.name for part in parts]
    return names


def _parts(field: str, feature: TopicFeature) -> list[str]:
    if types.is_orientation(field):
        quaternion = feature.rotation == 'quaternion'
        return [*'xyzw'] if quaternion else [f'turn {row}{column}' for column in 'xy' for row in 'xyz']
    return [path.rpartition('.')[2] for path in types.expand(field, feature.type)]


def action_changes(contract: Contract) -> np.ndarray:
    """Return which numbers of an action are changes of a command, shape (action,) bool."""
    parts = [(contract.mode_of(feature) != 'absolute', contract.width(feature)) for feature in contract.actions]
    return np.concatenate([np.full(width, changes) for changes, width in parts])


def expected_rates(contract: Contract) -> dict[str, float]:
    """Return how often messages are expected, by topic of the contract [Hz]; topics without are left out."""
    rates = {contract.topics.joint_states: contract.measured.rate, contract.topics.commands: contract.commanded.rate}
    rates |= {feature.topic: feature.rate for feature in contract.topic_features}
    return {topic: rate for topic, rate in rates.items() if rate is not None}


def of_topic(rates: Mapping[str, float], name: str) -> float | None:
    """Look a topic of the bag up by the contract's name of it, which may lack a namespace."""
    return next((rate for topic, rate in rates.items() if f'/{name}'.endswith(f'/{topic.lstrip("/")}')), None)


def action_names(contract: Contract) -> list[str]:
    """Return what each number of an action is called: joints by their names, axes with that of their feature."""
    names: list[str] = []
    for feature in contract.actions:
        if feature.source == 'topic' and feature.joints:
            names += feature.joints
        elif feature.source == 'topic':
            names += [f'{feature.name} {number}' for number in range(contract.width(feature))]
        elif feature.space == 'joint':
            names += contract.joints_of(feature)
        else:
            names += [f'{feature.name} {part}' for part in contract.parts_of(feature)]
    return names
