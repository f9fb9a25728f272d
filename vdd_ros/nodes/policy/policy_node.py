"""Commands an arm by a distilled policy: joint states in, commands out, under a lifecycle, in stages."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.service import Service

from vdd_ros.common.errors import ConfigurationError, GateError, VddError
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.control.deployment import RULE_PARAMETERS
from vdd_ros.nodes.arm.driver import ArmDriver, Setting
from vdd_ros.nodes.arm.lifecycle import ArmNode, transition
from vdd_ros.nodes.arm.parameters import deployment_of, period_of
from vdd_ros.nodes.listening import live_streams
from vdd_ros.nodes.parameters import Value
from vdd_ros.nodes.policy.gatekeeper import admit, outlook
from vdd_ros.nodes.policy.policy_parameters import PARAMETERS, build_loop
from vdd_ros.nodes.policy.policy_reload import Reload
from vdd_ros.nodes.policy.policy_rules import RuleControl
from vdd_ros.nodes.policy.policy_view import View
from vdd_ros.nodes.process import run
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy

SWITCH_INTERVAL = 5e-4
"""How long a thread may keep the others from python [s]; the default of 5 ms is five periods of fast commands."""


class PolicyNode(ArmNode):
    """Puts a student, an arm and a person together; what moves the arm is `ArmDriver`."""

    driver: ArmDriver | None = None
    """The connection to the arm; None before configuration, and in a node whose parameters are refused."""
    policy: DistilledPolicy
    """The student that acts, since configuration; a reload replaces it."""
    contract: Contract
    """Its contract, since configuration."""
    reload: Reload
    """The service that replaces the student."""
    rules: RuleControl
    """The services and parameters of the rules on experts."""
    _view: View
    """What the node publishes of its plans, since configuration."""
    _passage: str = ''
    """How the student came through the gate."""
    _loaded: dict[str, tuple[bool, str]]
    """By path, whether an artifact that the parameter `artifact` names may take over, and why not."""

    def __init__(self) -> None:
        """Declare the parameters; with autostart, begin by itself."""
        super().__init__('policy_node', PARAMETERS, self._apply, RULE_PARAMETERS)
        self._loaded = {}
        self.reload = Reload(self)
        self.rules = RuleControl(self)

    def destroy_node(self) -> None:
        """Leave the arm at rest."""
        self._leave('shut down')
        super().destroy_node()

    @property
    def is_configured(self) -> bool:
        """Whether an artifact is loaded."""
        return self.driver is not None

    @property
    def is_ready(self) -> bool:
        """Whether the arm was heard."""
        return self.driver.unheard is None

    @property
    def is_hopeless(self) -> bool:
        """Whether joints of the contract are missing in what the arm reports."""
        return self.driver.arm.incomplete

    @property
    def artifact_path(self) -> str:
        """The folder that the parameter `artifact` names now."""
        return os.path.expanduser(self.get_parameter('artifact').value)

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each thing that was looked at; in every state."""
        if self.driver is not None:
            return self.driver.preflight()
        lines = [super().preflight()[1]]
        try:
            artifact = load_artifact(self.artifact_path, kind='student')
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
        """Load the artifact, and listen to the arm."""
        values = self.values
        path = self.artifact_path
        if not path:
            raise ConfigurationError(
                expected='the folder of a student', found='no artifact', remedy='set -p artifact:=PATH'
            )
        expected = load_contract(values['contract']) if values['contract'] else None
        self.policy = self.admitted(DistilledPolicy.load(path, contract=expected, threads=values['threads']))
        self.contract = contract = self.policy.contract
        kinematics = self.kinematics_of(contract)
        period = period_of(values, contract, simulated=self.simulated)
        streams = live_streams(contract) if contract.topic_features else None
        rules = {'period': period, 'streams': streams, 'simulated': self.simulated}
        loop = build_loop(values, self.policy, kinematics, **rules)
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
        self.driver = ArmDriver(self, loop, setting)
        self._view = View(self)
        self.driver.open(self._view.shadow() if shadow else None)
        self.rules.declare()
        self.get_logger().info(
            f'{path}: {contract.name}, stage {values["operating_mode"]}, '
            f'{NANOSECONDS / period:g} commands a second on {", ".join(self.driver.topics)}'
        )
        if self.policy.calibration is None and values['ood_response'] != 'ignore':
            self.get_logger().warning(f'{path} does not know what is usual: no watch over what it has not seen')

    def admitted(self, policy: DistilledPolicy) -> DistilledPolicy:
        """Return a policy if it may command this arm; else raise a `GateError`."""
        deployment = deployment_of(self.values)
        passage = admit(self.values, policy.artifact, deployment, simulated=self.simulated)
        if passage is None:
            self._passage = outlook(self.values, policy.artifact, deployment, simulated=self.simulated)
        else:
            self._passage = passage.text
            tell = self.get_logger().warning if passage.overridden else self.get_logger().info
            tell(f'{policy.artifact.path}: {passage.text}')
        return policy

    @transition
    def on_activate(self) -> None:
        """Look around, anchor at where the arm is, and start."""
        self.driver.start()

    @transition
    def on_deactivate(self) -> None:
        """Bring the arm to rest."""
        self.driver.halt('deactivated')

    @transition
    def on_cleanup(self) -> None:
        """Let go of the artifact and the arm."""
        self._leave('cleaned up')

    @transition
    def on_shutdown(self) -> None:
        """Bring the arm to rest, whatever the state."""
        if self.driver:
            self.driver.halt('shut down')

    def _leave(self, reason: str) -> None:
        if self.driver is None:
            return
        self.driver.halt(reason)
        self.reload.close()
        self._view.close()
        self.driver.close(reason)
        self.driver = None
        if self.context.ok():
            self.rules.declare()

    def _notes(self) -> Mapping[str, str]:
        artifact, contract = self.policy.artifact, self.contract
        return {
            'artifact': f'{artifact.path} ({artifact.hash[:12]}), of vdd_ros {artifact.manifest.version}',
            'contract': f'{contract.name} ({contract.hash[:12]})',
            'gate': self._passage,
            'operating_mode': self.values['operating_mode'],
        }

    def _further_values(self) -> Mapping[str, object]:
        return {
            'artifact': self.policy.artifact.hash[:12],
            **self._view.values(),
            **self.rules.values(),
            **self.reload.values(),
        }

    def create_service(self, kind: type, name: str, callback: Callable[..., Any], **how: Any) -> Service:
        """Offer a service; one that sets parameters loads an artifact first, beside the one that acts."""
        if kind in (SetParameters, SetParametersAtomically):
            callback = self._loading_first(callback)
        return super().create_service(kind, name, callback, **how)

    def _loading_first(self, set_parameters: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, response: Any) -> Any:
            for each in request.parameters:
                if each.name == 'artifact' and self.driver is not None:
                    path = os.path.expanduser(each.value.string_value)
                    self._loaded[path] = await self.reload.begin(path)
            answer = set_parameters(request, response)
            self.rules.declare()  # those of a file of rules that was set just now
            return answer

        return call

    def _apply(self, changed: Mapping[str, Value]) -> None:
        """Heed parameters that are set while the node runs: rules on experts, another artifact."""
        if self.driver is not None and 'rules' in changed:
            self.rules.use(self.rules.read(changed['rules'], self.policy))
        ruled = {name: value for name, value in changed.items() if name.startswith(f'{RULE_PARAMETERS}.')}
        if self.driver is not None and ruled:
            self.rules.set(ruled)
        if path := changed.get('artifact'):
            if self.driver is None:
                load_artifact(path, kind='student')
                return
            taken, text = self._loaded.pop(path, (False, 'it was not loaded: set it by ros2 param set, or ~/reload'))
            if not taken:
                raise ConfigurationError(
                    expected='an artifact that may take over', found=text, remedy='mend it, and set it again'
                )


def main() -> int:
    """Run the node as a process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(PolicyNode, attend=PolicyNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())
