"""The parameters of the policy node, and the rules that validation applies."""

from __future__ import annotations

from vdd_ros.control.deployment import RULE_PARAMETERS, Deployment
from vdd_ros.nodes.parameters import INTEGERS
from vdd_ros.nodes.policy.policy_parameters import PARAMETERS


def test_node_and_validation_have_the_same_defaults():
    defaults = {each.name: () if each.default is INTEGERS else each.default for each in PARAMETERS}
    defaults[RULE_PARAMETERS] = {}  # of the file of rules: the node declares them when it has read one
    assert Deployment.model_fields.keys() <= defaults.keys()
    assert Deployment() == Deployment.parse({name: defaults[name] for name in Deployment.model_fields})
