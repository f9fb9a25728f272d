"""Replacement of the artifact of an active policy node: the service ``~/reload``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rclpy.task import Future
from std_srvs.srv import Trigger

from vdd_ros.nodes.arm.lifecycle import ArmNode
from vdd_ros.nodes.arm.parameters import deployment_of
from vdd_ros.nodes.late_answer import LateAnswer, answering_late
from vdd_ros.nodes.parameters import Value
from vdd_ros.nodes.policy.acting import Acting
from vdd_ros.nodes.policy.policy_parameters import artifact_path
from vdd_ros.nodes.policy.policy_rules import RuleControl
from vdd_ros.nodes.policy.reloading import Reloader, load_alike
from vdd_ros.policy.policy import DistilledPolicy


class Reload:
    """The service ``~/reload``. It exists for the lifetime of the node, so every request gets a response."""

    def __init__(
        self,
        node: ArmNode,
        acting: Callable[[], Acting | None],
        rules: RuleControl,
        admit: Callable[[DistilledPolicy, Mapping[str, Value]], None],
    ) -> None:
        """Create the service.

        Parameters
        ----------
        node
            The policy node.
        acting
            Returns the acting student and its arm; None while the node is not configured.
        rules
            The rules on experts, which are read anew for each student.
        admit
            Raises a `GateError` for a student that may not command the arm with the given parameter values.

        """
        self._node, self._acting, self._rules, self._admit = node, acting, rules, admit
        answering_late(node.create_service(Trigger, '~/reload', self._on_reload))
        self._reloader = Reloader(self._load)
        self._reloaded = self._refused = 0
        self._last = ''

    def close(self) -> None:
        """Wait for a load in progress."""
        self._reloader.close()

    def values(self) -> dict[str, object]:
        """Return the values about reloads for the diagnostics, by name."""
        if not (self._reloaded or self._refused):
            return {}
        return {'reloaded': self._reloaded, 'reloads_refused': self._refused, 'reload': self._last}

    def begin(self, path: str) -> Future:
        """Load another artifact while the acting one continues.

        The result of the future is whether the new artifact took over, and the reason.
        """
        node, acting, future = self._node, self._acting(), Future(executor=self._node.executor)

        def done(policy: DistilledPolicy | None, complaint: str) -> None:
            if policy is None:
                self._refused += 1
                self._last = f'refused, {acting.policy.artifact.path} acts on: {complaint}'
                node.get_logger().error(f'reload {self._last}')
            else:
                before, acting.policy = acting.policy.artifact.hash[:12], policy
                ood_rules = deployment_of(node.values).ood_rules_of(policy)
                # Numbers and names of experts are those of the new artifact.
                routing = self._rules.read(node.get_parameter('rules').value, policy)
                acting.driver.commander.replace(lambda loop: loop.replace_policy(policy, ood_rules))
                self._rules.use(routing)
                self._rules.declare()
                self._reloaded += 1
                self._last = f'{policy.artifact.path} ({policy.artifact.hash[:12]}) takes over from {before}'
                node.get_logger().info(f'reload: {self._last}')
            future.set_result((policy is not None, self._last))

        if acting is None:
            future.set_result((False, 'the node is not configured'))
        elif not self._reloader.begin(path, done):
            future.set_result((False, 'another artifact is being loaded'))
        return future

    def _load(self, path: str) -> DistilledPolicy:
        """Load a policy that may take over: incompatibilities are found before it replaces the acting one."""
        node, acting = self._node, self._acting()
        policy = load_alike(path, acting.policy, node.values['threads'], node.values['provider'])
        self._admit(policy, acting.effective)
        deployment_of(node.values).ood_rules_of(policy)
        self._rules.read(node.get_parameter('rules').value, policy)
        return policy

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> LateAnswer:
        answer = Future(executor=self._node.executor)

        def take(done: Future) -> None:
            response.success, response.message = done.result()
            answer.set_result(response)

        self.begin(artifact_path(self._node)).add_done_callback(take)
        return LateAnswer(answer)
