"""Replacement of the artifact of an active policy node: the service ``~/reload``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.task import Future
from std_srvs.srv import Trigger

from vdd_ros.nodes.arm.parameters import deployment_of
from vdd_ros.nodes.policy.reloading import Reloader, load_alike
from vdd_ros.policy.policy import DistilledPolicy

if TYPE_CHECKING:
    from vdd_ros.nodes.policy.policy_node import PolicyNode


class Reload:
    """The service for the lifetime of the node, so that every request is answered."""

    def __init__(self, node: PolicyNode) -> None:
        """Create the service."""
        self._node = node
        node.create_service(Trigger, '~/reload', self._on_reload)
        self._reloader = Reloader(self._load)
        self._reloaded = self._refused = 0
        self._last = ''

    def close(self) -> None:
        """Wait for a load in progress."""
        self._reloader.close()

    def values(self) -> dict[str, object]:
        """Return the diagnostics of reloads."""
        if not (self._reloaded or self._refused):
            return {}
        return {'reloaded': self._reloaded, 'reloads_refused': self._refused, 'reload': self._last}

    def begin(self, path: str) -> Future:
        """Load another artifact in parallel to the acting one.

        The response is whether it took over, with the reason.
        """
        node, future = self._node, Future(executor=self._node.executor)

        def done(policy: DistilledPolicy | None, complaint: str) -> None:
            if policy is None:
                self._refused += 1
                self._last = f'refused, {node.policy.artifact.path} acts on: {complaint}'
                node.get_logger().error(f'reload {self._last}')
            else:
                before, node.policy = node.policy.artifact.hash[:12], policy
                ood_rules = deployment_of(node.values).ood_rules_of(policy)
                # Numbers and names of experts are those of the new artifact.
                routing = node.rules.read(node.get_parameter('rules').value, policy)
                node.driver.commander.replace(lambda loop: loop.replace_policy(policy, ood_rules))
                node.rules.use(routing)
                self._reloaded += 1
                self._last = f'{policy.artifact.path} ({policy.artifact.hash[:12]}) takes over from {before}'
                node.get_logger().info(f'reload: {self._last}')
            future.set_result((policy is not None, self._last))

        if node.driver is None:
            future.set_result((False, 'the node is not configured'))
        elif not self._reloader.begin(path, done):
            future.set_result((False, 'another artifact is being loaded'))
        return future

    def _load(self, path: str) -> DistilledPolicy:
        """Load a policy that may take over: incompatibilities are found before it replaces the acting one."""
        node = self._node
        policy = node.admitted(load_alike(path, node.policy, node.values['threads']))
        deployment = deployment_of(node.values)
        deployment.ood_rules_of(policy)
        node.rules.read(node.get_parameter('rules').value, policy)
        return policy

    async def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = await self.begin(self._node.artifact_path)
        return response
