"""Rules on experts in a running policy node: explanation, reload, and parameters that other nodes set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.control.deployment import RULE_PARAMETERS
from vdd_ros.control.rules import Rules
from vdd_ros.nodes.arm.lifecycle import ArmNode
from vdd_ros.nodes.arm.parameters import deployment_of
from vdd_ros.nodes.policy.acting import Acting
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import Routing

_NOT_CONFIGURED = 'the node is not configured'


class RuleControl:
    """Rules of a policy node: services ``~/explain`` and ``~/reload_rules``, parameters ``rule_parameters.NAME``."""

    def __init__(self, node: ArmNode, acting: Callable[[], Acting | None]) -> None:
        """Create the services. The rule parameters depend on the rules, and are declared later.

        ``acting`` returns the acting student and its arm; None while the node is not configured.
        """
        self._node, self._acting = node, acting
        self._declared: set[str] = set()
        self._logged = ''
        node.create_service(Trigger, '~/explain', self._on_explain)
        node.create_service(Trigger, '~/reload_rules', self._on_reload)

    def read(self, path: str, policy: DistilledPolicy) -> Routing | Rules:
        """Read a rule file for a policy; parameters that the present rules also have keep their values.

        Raises
        ------
        ConfigurationError
            The rules cannot be read, or do not match the contract or the policy.

        """
        acting = self._acting()
        deployment = deployment_of({**acting.effective, RULE_PARAMETERS: {}})
        routing = deployment.routing_of(acting.contract, path, policy.expert_count, policy.labels)
        if not isinstance(routing, Rules):
            return routing
        present, defaults = self._values(), routing.defaults
        return routing.with_parameters(
            {name: value for name, value in present.items() if type(value) is type(defaults.get(name))}
        )

    def use(self, routing: Routing | Rules) -> None:
        """Use a routing from the next plan on."""
        self._acting().driver.commander.replace(lambda loop: loop.replace_routing(routing))

    def set(self, changed: Mapping[str, Any]) -> None:
        """Set rule parameters, by their full names.

        Raises
        ------
        ConfigurationError
            The rules have no such parameter, or a value has the wrong type.

        """
        routing = self._acting().driver.commander.loop.routing
        values = {name.removeprefix(f'{RULE_PARAMETERS}.'): value for name, value in changed.items()}
        if not isinstance(routing, Rules):
            raise ConfigurationError(
                expected='rules that have parameters', found='none', remedy='set the parameter rules first'
            )
        self.use(routing.with_parameters({**routing.values, **values}))

    def declare(self) -> None:
        """Declare the parameters of the present rules, and undeclare those of earlier rules."""
        node, acting = self._node, self._acting()
        routing = None if acting is None else acting.driver.commander.loop.routing
        wanted = {**routing.defaults, **routing.values} if isinstance(routing, Rules) else {}
        for name in sorted(self._declared - wanted.keys()):
            node.undeclare_parameter(f'{RULE_PARAMETERS}.{name}')
        for name in sorted(wanted.keys() - self._declared):
            node.declare_parameter(
                f'{RULE_PARAMETERS}.{name}',
                wanted[name],
                ParameterDescriptor(description='parameter of the rules on experts; other nodes may set it'),
                ignore_override=True,
            )
        self._declared = set(wanted)
        self._log(routing)

    def _log(self, routing: Routing | Rules | None) -> None:
        """Log names and colours of the experts, and the rules in force, unless the newest such message is the same."""
        if routing is None:
            self._logged = ''
            return
        labels = self._acting().policy.labels
        parts = []
        if labels.experts:
            names = (f'{labels.text(expert)} {labels.colour(expert)}' for expert in labels.experts)
            parts.append(f'experts: {", ".join(names)}')
        if isinstance(routing, Rules):
            parts.append('rules: ' + (', '.join(f'{each.name} ({each.text})' for each in routing.effects) or 'none'))
        text = '; '.join(parts)
        if text and text != self._logged:
            self._node.get_logger().info(text)
        self._logged = text

    def values(self) -> dict[str, object]:
        """Return the diagnostics of the last plan: its expert, the probabilities, and the rules that apply."""
        acting = self._acting()
        choice, policy = acting.driver.commander.loop.choice, acting.policy
        labels, experts = policy.labels, range(policy.expert_count)
        known = {
            'expert_names': ', '.join(map(labels.name, experts)),
            'expert_colours': ' '.join(map(labels.colour, experts)),
        }
        if choice is None:
            return known
        acts = choice.expert >= 0
        return {
            **known,
            'expert_name': labels.text(choice.expert) if acts else 'none',
            'gating': ' '.join(f'{share:.4f}' for share in choice.probabilities.tolist()) if acts else '',
            'rules': ', '.join(choice.applied.rules) or 'none',
            'explanation': choice.explain(labels.text),
        }

    def _values(self) -> dict[str, object]:
        return {name: self._node.get_parameter(f'{RULE_PARAMETERS}.{name}').value for name in sorted(self._declared)}

    def _on_explain(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        acting = self._acting()
        choice = None if acting is None else acting.driver.commander.loop.choice
        if choice is None:
            response.message = _NOT_CONFIGURED if acting is None else 'no plan was made yet'
            return response
        response.success, response.message = True, choice.explain(acting.policy.labels.text)
        return response

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        acting = self._acting()
        if acting is None:
            response.message = _NOT_CONFIGURED
            return response
        path = self._node.get_parameter('rules').value
        try:
            routing = self.read(path, acting.policy)
        except VddError as error:
            response.message = f'{error}; the rules of before stay active'
            return response
        self.use(routing)
        self.declare()
        response.success = True
        response.message = f'{len(routing.names)} rules of {path}' if isinstance(routing, Rules) else 'no rules are set'
        return response
