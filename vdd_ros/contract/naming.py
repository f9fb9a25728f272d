"""Names of the values in observations and actions of a contract, and the expected rates of its topics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature


def observation_names(contract: Contract) -> list[str]:
    """Return the name of each value of an observation."""
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
    """Return which values of an action are changes of a command (mode `delta` or `velocity`), shape (action,) bool."""
    parts = [(contract.mode_of(feature) != 'absolute', contract.width(feature)) for feature in contract.actions]
    return np.concatenate([np.full(width, changes) for changes, width in parts])


def expected_rates(contract: Contract) -> dict[str, float]:
    """Return the expected message rates of the contract's topics [Hz]; topics without an expected rate are left out."""
    rates = {contract.topics.joint_states: contract.measured.rate, contract.topics.commands: contract.commanded.rate}
    rates |= {feature.topic: feature.rate for feature in contract.topic_features}
    return {topic: rate for topic, rate in rates.items() if rate is not None}


def of_topic(rates: Mapping[str, float], name: str) -> float | None:
    """Return the rate of a bag topic, whose name may have a namespace that the topic in the contract lacks."""
    return next((rate for topic, rate in rates.items() if f'/{name}'.endswith(f'/{topic.lstrip("/")}')), None)


def action_names(contract: Contract) -> list[str]:
    """Return the name of each value of an action: the joint, or the feature and the axis."""
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
