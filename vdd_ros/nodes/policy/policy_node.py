"""Commands an arm by a distilled policy: joint states in, commands out, with a lifecycle and operating modes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.service import Service
from rclpy.task import Future

from vdd_ros.common.errors import ConfigurationError, GateError, VddError
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.control.deployment import RULE_PARAMETERS
from vdd_ros.nodes.arm.driver import ArmDriver, Setting
from vdd_ros.nodes.arm.lifecycle import ArmNode, transition
from vdd_ros.nodes.arm.parameters import deployment_of, period_of
from vdd_ros.nodes.late_answer import LateAnswer, answering_late
from vdd_ros.nodes.listening import live_streams
from vdd_ros.nodes.parameters import Value
from vdd_ros.nodes.policy.acting import Acting
from vdd_ros.nodes.policy.gatekeeper import admit, outlook
from vdd_ros.nodes.policy.policy_parameters import PARAMETERS, artifact_path, build_loop
from vdd_ros.nodes.policy.policy_reload import Reload
from vdd_ros.nodes.policy.policy_rules import RuleControl
from vdd_ros.nodes.policy.policy_view import View
from vdd_ros.nodes.policy.stage_control import StageControl
from vdd_ros.nodes.process import run
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy

SWITCH_INTERVAL = 5e-4
"""Switch interval of the interpreter lock [s]; the default of 5 ms is five periods of fast commands."""


class PolicyNode(ArmNode):
    """Lifecycle node that commands an arm with a student; `ArmDriver` moves the arm."""

    acting: Acting | None = None
    """The student and its arm; None before configuration, and in a node whose parameters were refused."""
    reload: Reload
    """Service that replaces the student."""
    rules: RuleControl
    """Services and parameters of the rules on experts."""
    view: View
    """Publishers of plans, since configuration."""
    stages: StageControl
    """Stage of the arm."""
    _passage: str = ''
    """How the student passed the gate, in words."""
    _loaded: dict[str, tuple[bool, str]]
    """Results of loading the artifacts of `artifact`, by path: whether the artifact took over, and a text."""

    def __init__(self) -> None:
        """Declare the parameters; with autostart, configure and activate."""
        super().__init__('policy_node', PARAMETERS, self._apply, RULE_PARAMETERS)
        self._loaded = {}
        self.rules = RuleControl(self, lambda: self.acting)
        self.reload = Reload(self, lambda: self.acting, self.rules, self._admit)
        self.stages = StageControl(self)

    def destroy_node(self) -> None:
        """Brake until the arm is at rest."""
        self._leave('shut down')
        super().destroy_node()

    @property
    def is_configured(self) -> bool:
        """Whether an artifact is loaded."""
        return self.acting is not None

    @property
    def is_ready(self) -> bool:
        """Whether a joint state has arrived."""
        return self.acting.driver.waiting_for is None

    @property
    def is_hopeless(self) -> bool:
        """Whether joints of the contract are missing in the joint states."""
        return self.acting.driver.arm.incomplete

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each check; in every state."""
        if self.acting is not None:
            return self.acting.driver.preflight()
        lines = [super().preflight()[1]]
        try:
            artifact = load_artifact(artifact_path(self), kind='student')
            lines.append(f'fine: artifact: {artifact.path} ({artifact.hash[:12]})')
            deployment = deployment_of(self.values)
            found = outlook(self.values, artifact, deployment, simulated=self.simulated)
            lines.append(f'fine: gate: {found}')
        except GateError as error:
            lines.append(f'failure: gate: {error}')
        except VddError as error:
            lines.append(f'failure: artifact: {error}')
        return False, '\n'.join(lines)

    @transition
    def on_configure(self) -> None:
        """Load the artifact, and subscribe to the arm."""
        values = self.values
        path = artifact_path(self)
        if not path:
            raise ConfigurationError(
                expected='the folder of a student', found='no artifact', remedy='set -p artifact:=PATH'
            )
        expected = load_contract(values['contract']) if values['contract'] else None
        policy = DistilledPolicy.load(path, contract=expected, threads=values['threads'], provider=values['provider'])
        values = self.stages.restricted(policy)
        self._admit(policy, values)
        contract = policy.contract
        kinematics = self.kinematics_of(contract)
        period = period_of(values, contract, simulated=self.simulated)
        streams = live_streams(contract) if contract.topic_features else None
        rules = {'period': period, 'streams': streams, 'simulated': self.simulated}
        loop = build_loop(values, policy, kinematics, supervision=self.stages.supervision, **rules)
        shadow = values['operating_mode'] == 'shadow'
        setting = Setting(
            contract,
            deployment_of(values).limits_of(contract, kinematics, lockstep=True),
            period,
            streams,
            notes=self._notes,
            values=self._further_values,
            shadow=shadow,
        )
        driver = ArmDriver(self, loop, setting)
        self.acting = Acting(driver, policy, values)
        self.view = View(self, self.acting)
        try:
            driver.open(self.view.shadow() if shadow else None)
            self.stages.open(self.acting, self.view)
            self.rules.declare()
        except Exception:
            self._leave('not configured')
            raise
        self.get_logger().info(
            f'{path}: {contract.name}, operating mode {values["operating_mode"]}, '
            f'{NANOSECONDS / period:g} commands a second on {", ".join(driver.topics)}'
        )
        if policy.calibration is None and values['ood_response'] != 'ignore':
            self.get_logger().warning(f'{path} has no calibration data: out-of-distribution monitoring is disabled')

    def _admit(self, policy: DistilledPolicy, effective: Mapping[str, Value]) -> None:
        """Check that a policy may command this arm with the given parameter values; otherwise raise a `GateError`."""
        self.stages.check(policy.artifact)
        deployment = deployment_of(self.values)
        passage = admit(effective, policy.artifact, deployment, simulated=self.simulated)
        if passage is None:
            self._passage = outlook(effective, policy.artifact, deployment, simulated=self.simulated)
        else:
            self._passage = passage.text
            log = self.get_logger().warning if passage.overridden else self.get_logger().info
            log(f'{policy.artifact.path}: {passage.text}')

    @transition
    def on_activate(self) -> None:
        """Run the preflight, and start at the measured position."""
        self.stages.begin()
        self.acting.driver.start()

    @transition
    def on_deactivate(self) -> None:
        """Brake until the arm is at rest."""
        self.acting.driver.halt('deactivated')
        self.stages.end()

    @transition
    def on_cleanup(self) -> None:
        """Release the artifact and the arm."""
        self._leave('cleaned up')

    @transition
    def on_shutdown(self) -> None:
        """Brake until the arm is at rest, in any state."""
        if self.acting is not None:
            self.acting.driver.halt('shut down')
            self.stages.end()

    def _leave(self, reason: str) -> None:
        if self.acting is None:
            return
        self.acting.driver.halt(reason)
        self.stages.close()
        self.reload.close()
        self.view.close()
        self.acting.driver.close(reason)
        self.acting = None
        if self.context.ok():
            self.rules.declare()

    def _notes(self) -> Mapping[str, str]:
        artifact, contract = self.acting.policy.artifact, self.acting.contract
        return {
            'artifact': f'{artifact.path} ({artifact.hash[:12]}), of vdd_ros {artifact.manifest.version}',
            'contract': f'{contract.name} ({contract.hash[:12]})',
            'gate': self._passage,
            'operating_mode': self.acting.effective['operating_mode'],
            **self.stages.notes(),
        }

    def _further_values(self) -> Mapping[str, object]:
        return {
            'artifact': self.acting.policy.artifact.hash[:12],
            **self.view.values(),
            **self.rules.values(),
            **self.reload.values(),
            'operating_mode': self.acting.effective['operating_mode'],
            **self.stages.values(),
        }

    def create_service(self, kind: type, name: str, callback: Callable[..., Any], **how: Any) -> Service:
        """Create a service; the services that set parameters load a requested artifact before they answer.

        The node keeps commanding the arm while the artifact is loaded.
        """
        if kind in (SetParameters, SetParametersAtomically):
            callback = self._loading_first(callback)
            return answering_late(super().create_service(kind, name, callback, **how))
        return super().create_service(kind, name, callback, **how)

    def _loading_first(self, set_parameters: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, response: Any) -> Any:
            wanted = [each.value.string_value for each in request.parameters if each.name == 'artifact']
            paths = deque(map(os.path.expanduser, wanted if self.acting is not None else []))
            answer = Future(executor=self.executor)

            def answered() -> Any:
                answer = set_parameters(request, response)
                self.rules.declare()  # the parameters of a file of rules that was set in the same request
                return answer

            def load(path: str) -> None:
                self.reload.begin(path).add_done_callback(lambda found: take(path, found.result()))

            def take(path: str, found: tuple[bool, str]) -> None:
                self._loaded[path] = found
                if paths:
                    load(paths.popleft())
                else:
                    answer.set_result(answered())

            if not paths:
                return answered()
            load(paths.popleft())
            return LateAnswer(answer)

        return call

    def _apply(self, changed: Mapping[str, Value]) -> None:
        """Apply parameters that were set at run time: rules on experts, another artifact."""
        if self.acting is not None and 'rules' in changed:
            self.rules.use(self.rules.read(changed['rules'], self.acting.policy))
        ruled = {name: value for name, value in changed.items() if name.startswith(f'{RULE_PARAMETERS}.')}
        if self.acting is not None and ruled:
            self.rules.set(ruled)
        if path := changed.get('artifact'):
            if self.acting is None:
                load_artifact(path, kind='student')
                return
            taken, text = self._loaded.pop(path, (False, 'it was not loaded: set it by ros2 param set, or ~/reload'))
            if not taken:
                raise ConfigurationError(
                    expected='an artifact that may take over', found=text, remedy='correct it, and set it again'
                )


def main() -> int:
    """Run the node as a process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(PolicyNode, attend=PolicyNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())
