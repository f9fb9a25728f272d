"""What a person asks of a policy node: stop, resume, emergency stop, a look around, another artifact."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vdd_ros.nodes import qos
from vdd_ros.nodes.policy_parameters import deployment_of
from vdd_ros.nodes.preflight import Arm, Report, Stream, look
from vdd_ros.nodes.reloading import Reloader, load_alike
from vdd_ros.policy import DistilledPolicy

if TYPE_CHECKING:
    from vdd_ros.nodes.policy_node import PolicyNode

_STATE_TYPE = 'sensor_msgs/msg/JointState'


def while_configured(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out a callback of a node, or of a part of one, that has been cleaned up: executors call those that waited.

    A service's answer is left as it is, which is a no.
    """

    @functools.wraps(callback)
    def call(self: Any, *arguments: Any) -> Any:
        node = getattr(self, '_node', self)
        if node.commander is None:
            return arguments[-1] if arguments else None
        return callback(self, *arguments)

    return call


class Controls:
    """The services and the emergency stop of one configured node."""

    def __init__(self, node: PolicyNode) -> None:
        """Offer them."""
        self._node = node
        self._services = [
            node.create_service(Trigger, '~/stop', self._on_stop),
            node.create_service(Trigger, '~/resume', self._on_resume),
            node.create_service(Trigger, '~/preflight', self._on_preflight),
            node.create_service(Trigger, '~/reload', self._on_reload),
        ]
        self._estop = node.create_subscription(Bool, '~/estop', self._on_estop, qos.ESTOP)
        threads = node.get_parameter('threads').value
        self._reloader = Reloader(lambda path: node.admitted(load_alike(path, node.policy, threads)))
        self._reloaded = self._refused = 0
        self._last = ''

    def close(self) -> None:
        """Withdraw them."""
        self._reloader.close()
        for service in self._services:
            self._node.destroy_service(service)
        self._node.destroy_subscription(self._estop)

    def values(self) -> dict[str, object]:
        """Return what diagnostics tell of reloading."""
        if not (self._reloaded or self._refused):
            return {}
        return {'reloaded': self._reloaded, 'reloads_refused': self._refused, 'reload': self._last}

    def look(self) -> Report:
        """Look around before the arm moves."""
        return look(self._node, self._streams(), self._arm(), self._notes())

    def reload(self, path: str) -> Future:
        """Load another artifact beside the one that acts; the answer is whether it took over, and in words."""
        node, future = self._node, Future(executor=self._node.executor)

        def done(policy: DistilledPolicy | None, complaint: str) -> None:
            if policy is None:
                self._refused += 1
                self._last = f'refused, {node.policy.artifact.path} acts on: {complaint}'
                node.get_logger().error(f'reload {self._last}')
            else:
                before, node.policy = node.policy.artifact.hash[:12], policy
                novelty = deployment_of(node.values).novelty_of(policy)
                node.commander.replace(lambda loop: loop.replace_policy(policy, novelty))
                self._reloaded += 1
                self._last = f'{policy.artifact.path} ({policy.artifact.hash[:12]}) takes over from {before}'
                node.get_logger().info(f'reload: {self._last}')
            future.set_result((policy is not None, self._last))

        if node.commander is None:
            future.set_result((False, 'the node was cleaned up'))
        elif not self._reloader.begin(path, done):
            future.set_result((False, 'another artifact is being loaded'))
        return future

    async def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = await self.reload(self._node.get_parameter('artifact').value)
        return response

    @while_configured
    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._node.commander.stop('stop was asked for')
        response.success, response.message = True, 'braking; ~/resume goes on'
        return response

    @while_configured
    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refusal = 'the emergency stop is pressed' if self._node.estopped else self._node.commander.resume()
        response.success, response.message = refusal is None, refusal or 'going on'
        return response

    @while_configured
    def _on_preflight(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if unheard := self._node.unheard:
            response.success, response.message = False, f'failure: {unheard}'
            return response
        report = self.look()
        response.success, response.message = not report.failures, report.text
        return response

    @while_configured
    def _on_estop(self, message: Bool) -> None:
        self._node.estopped = message.data
        if message.data:
            self._node.commander.stop('emergency stop')

    def _streams(self) -> list[Stream]:
        node, contract, output = self._node, self._node.contract, self._node.output
        resolve = node.resolve_topic_name
        commands = resolve(output.topic)
        shadow = node.values['stage'] == 'shadow'
        role = 'subscription' if shadow else 'publisher'
        return [
            Stream(resolve(contract.topics.joint_states), _STATE_TYPE, 'subscription', needed=True),
            Stream(commands, output.type_name, role, needed=not shadow, alone=not shadow),
            Stream(resolve('~/estop'), 'std_msgs/msg/Bool', 'subscription', needed=False),
            *(
                Stream(resolve(topic), kind, 'subscription', needed=not topic.endswith('_static'))
                for topic, kind in (node.streams.topics.items() if node.streams else ())
            ),
        ]

    def _arm(self) -> Arm:
        node = self._node
        reading = node.arm.reading
        limits = deployment_of(node.values).limits_of(node.contract, node.kinematics, lockstep=True)
        return Arm(
            node.contract.robot.joints,
            reading.position,
            (node.now() - reading.stamp) / 1e9,
            node.values['max_age'],
            node.arm.rate,
            node.contract.policy_rate,
            limits.lower,
            limits.upper,
            limits.velocity,
            node.simulated,
        )

    def _notes(self) -> dict[str, str]:
        node = self._node
        artifact, contract = node.policy.artifact, node.contract
        return {
            'artifact': f'{artifact.path} ({artifact.hash[:12]}), of vdd_ros {artifact.manifest.version}',
            'contract': f'{contract.name} ({contract.hash[:12]})',
            'joint order': f'{node.output.topic} takes {", ".join(node.output.joints)}',
            'stage': node.values['stage'],
        }
