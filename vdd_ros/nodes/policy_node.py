"""Commands an arm by a distilled policy: joint states in, commands out, under a lifecycle, in stages."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter as RclpyParameter

from vdd_ros.contract import NANOSECONDS, load_contract
from vdd_ros.errors import ConfigurationError, VddError
from vdd_ros.kinematics import Kinematics
from vdd_ros.nodes.arm.driver import ArmDriver, Setting
from vdd_ros.nodes.arm.lifecycle import ArmNode, transition
from vdd_ros.nodes.arm.parameters import control_period, deployment_of
from vdd_ros.nodes.gatekeeper import admit
from vdd_ros.nodes.listening import live_streams
from vdd_ros.nodes.policy_parameters import PARAMETERS, build_loop
from vdd_ros.nodes.policy_reload import Reload
from vdd_ros.nodes.policy_view import View
from vdd_ros.nodes.process import run
from vdd_ros.policy import DistilledPolicy

SWITCH_INTERVAL = 5e-4
"""How long a thread may keep the others from python [s]; the default of 5 ms is five periods of fast commands."""


class PolicyNode(ArmNode):
    """Puts a student, an arm and a person together; what moves the arm is `ArmDriver`."""

    # Of the class, since a node whose parameters are refused is destroyed as it is.
    driver: ArmDriver | None = None

    commander: Commander | None = None

    def __init__(self) -> None:
        """Declare the parameters; with autostart, begin by itself."""
        super().__init__('policy_node', PARAMETERS)
        self.add_on_set_parameters_callback(self._on_parameters)

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

    @transition
    def on_configure(self) -> None:
        """Load the artifact, and listen to the arm."""
        values = self.values
        path = self.get_parameter('artifact').value
        if not path:
            raise ConfigurationError(
                expected='the folder of a student', found='no artifact', remedy='set -p artifact:=PATH'
            )
        expected = load_contract(values['contract']) if values['contract'] else None
        self.policy = self.admitted(DistilledPolicy.load(path, contract=expected, threads=values['threads']))
        self.contract = contract = self.policy.contract
        kinematics = Kinematics.from_contract(contract)
        period = control_period(values, contract, simulated=self.simulated)
        streams = live_streams(contract) if contract.topic_features else None
        loop = build_loop(values, self.policy, kinematics, period=period, streams=streams)
        shadow = values['stage'] == 'shadow'
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
        self._view, self._reload = View(self), Reload(self)
        self.driver.open(self._view.shadow() if shadow else None)
        self.get_logger().info(
            f'{path}: {contract.name}, stage {values["stage"]}, '
            f'{NANOSECONDS / period:g} commands a second on {self.driver.commands}'
        )
        if self.policy.calibration is None and values['novelty'] != 'ignore':
            self.get_logger().warning(f'{path} does not know what is usual: no watch over what it has not seen')

    def admitted(self, policy: DistilledPolicy) -> DistilledPolicy:
        """Return a policy if it may command this arm; else raise a `GateError`."""
        passage = admit(self.values, policy.artifact, simulated=self.simulated)
        if passage is not None:
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
        self._reload.close()
        self._view.close()
        self.driver.close(reason)
        self.driver = None

    def _notes(self) -> Mapping[str, str]:
        artifact, contract = self.policy.artifact, self.contract
        return {
            'artifact': f'{artifact.path} ({artifact.hash[:12]}), of vdd_ros {artifact.manifest.version}',
            'contract': f'{contract.name} ({contract.hash[:12]})',
            'stage': self.values['stage'],
        }

    def _further_values(self) -> Mapping[str, object]:
        return {'artifact': self.policy.artifact.hash[:12], **self._view.values(), **self._reload.values()}

    def _on_parameters(self, parameters: list[RclpyParameter]) -> SetParametersResult:
        """Heed those that may be set while the node runs."""
        if self.driver is None:
            return SetParametersResult(successful=True)
        for parameter in parameters:
            if parameter.name == 'rules':
                try:
                    experts = self.policy.expert_count
                    routing = deployment_of(self.values).routing_of(self.contract, parameter.value, experts)
                except VddError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                self.driver.commander.replace(lambda loop: loop.replace_routing(routing))
            elif parameter.name == 'artifact':
                self._reload.reload(parameter.value)
        return SetParametersResult(successful=True)


def main() -> int:
    """Run the node as a process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(PolicyNode, attend=PolicyNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())
