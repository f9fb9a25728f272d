"""The parameters of the nodes, their shipped files, and the rules that validation applies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml

from vdd_ros.common.share import share_path
from vdd_ros.control.deployment import RULE_PARAMETERS, Deployment, load_deployment
from vdd_ros.nodes.bridge import bridge_parameters
from vdd_ros.nodes.parameters import INTEGERS, STRINGS, Parameter
from vdd_ros.nodes.policy.policy_parameters import PARAMETERS
from vdd_ros.nodes.replay import replay

FILES = {
    'policy.yaml': ('policy_node', PARAMETERS),
    'replay.yaml': ('replay', replay.PARAMETERS),
    'simulation.yaml': ('mujoco_bridge', bridge_parameters.PARAMETERS),
}


def defaults_of(table: Sequence[Parameter]) -> dict[str, object]:
    """Return the default of every parameter by name; lists are empty."""
    return {each.name: () if each.default in (INTEGERS, STRINGS) else each.default for each in table}


def test_node_and_validation_have_the_same_defaults():
    # The node declares the parameters of rules when it has read a file of rules.
    defaults = defaults_of(PARAMETERS) | {RULE_PARAMETERS: {}}
    assert Deployment.model_fields.keys() <= defaults.keys()
    assert Deployment() == Deployment.parse({name: defaults[name] for name in Deployment.model_fields})


@pytest.mark.parametrize('file', FILES)
def test_shipped_parameter_files_have_the_defaults_of_the_nodes(file):
    node, table = FILES[file]
    (values,) = yaml.safe_load(share_path('config', file).read_text(encoding='utf-8')).values()
    defaults = defaults_of(table)
    assert values['ros__parameters'] == {name: defaults.get(name) for name in values['ros__parameters']}
    assert list(yaml.safe_load(share_path('config', file).read_text(encoding='utf-8'))) == [f'/**/{node}']


def test_a_parameter_file_for_validation_has_the_defaults_of_the_deployment():
    assert load_deployment() == Deployment()
