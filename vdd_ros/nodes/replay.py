"""Plays a recorded episode: its commands onto an arm, or its observations to a policy that works in the shadow."""

from __future__ import annotations

import time
from typing import Union

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from vdd_ros.contract import load_contract
from vdd_ros.errors import ConfigurationError
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm_replay import ArmReplay
from vdd_ros.nodes.lifecycle import transition
from vdd_ros.nodes.parameters import STRINGS, Parameter, declare
from vdd_ros.nodes.process import run
from vdd_ros.nodes.shadow_replay import ShadowReplay

PARAMETERS = (
    Parameter('bag', '', 'the bag'),
    Parameter('contract', 'avoiding_cartesian', 'contract that the bag is read by: a file, or one that ships'),
    Parameter('arm_contract', '', 'contract of the arm that plays, if topics, names or units differ from the bag'),
    Parameter('episode', 0, 'which episode, from 0; -1 is the last', minimum=-1_000_000, maximum=1_000_000),
    Parameter('mode', 'commands', 'what is played, and to whom', choices=('commands', 'shadow')),
    Parameter('speed', 1.0, 'times the speed of the recording', minimum=0.01, maximum=10.0),
    Parameter('autostart', False, 'configure and activate without being asked, and end when it is done'),
    Parameter('startup_timeout', 10.0, 'how long autostart waits for the arm [s]', minimum=0.1, maximum=3600.0),
    Parameter('controller', '', 'position controller, takes NAME/commands; empty: the commands topic of the contract'),
    Parameter('interface', 'position', 'what the controller takes', choices=('position', 'trajectory')),
    Parameter('controller_joints', STRINGS, 'joints in the order of the controller; empty: that of the contract'),
    Parameter('control_rate', 0.0, 'commands per second [Hz]; 0: the policy rate in simulated time, 100 else',
              minimum=0.0, maximum=1000.0),
    Parameter('reset', '', 'service (Trigger) that puts the scene back before, as mujoco_bridge/reset; or none'),
    Parameter('approach_speed', 0.2, 'how fast the arm goes to the first command [rad/s]', minimum=0.001, maximum=2.0),
    Parameter('max_age', 0.25, 'age of the joint state over which the arm holds [s]', minimum=0.001, maximum=10.0),
    Parameter('velocity_scale', 1.0, 'share of the velocity limits of the model', minimum=0.01, maximum=1.0),
    Parameter('max_acceleration', 0.0, 'greatest acceleration [rad/s^2]; 0 for no limit', minimum=0.0, maximum=1000.0),
    Parameter('max_lag', 0.5, 'how far a command may be from the measured position [rad]', minimum=0.01, maximum=3.2),
    Parameter('policy', 'policy_node', 'in the shadow: the node that is shown the observations'),
    Parameter('patience', 1.0, 'in the shadow: how long an answer is waited for [s]', minimum=0.01, maximum=60.0),
    Parameter('output', '', 'in the shadow: JSON file for the differences; empty writes none'),
)  # fmt: skip

_Player = Union[ArmReplay, ShadowReplay]


class ReplayNode(LifecycleNode):
    """A player under a lifecycle: configure reads the bag, activate plays, deactivate brakes."""

    def __init__(self) -> None:
        """Declare the parameters; with autostart, begin by itself."""
        super().__init__('replay')
        self._values = declare(self, PARAMETERS)
        self.starting = self._values['autostart']
        """Whether it goes through its lifecycle by itself, and is not active yet."""
        self.complaint: Exception | None = None
        """What let the last transition fail."""
        self._player: _Player | None = None
        self._listening = 0.0

    def destroy_node(self) -> None:
        """Leave the arm at rest."""
        self._halt('shut down')
        super().destroy_node()

    @transition
    def on_configure(self) -> None:
        """Read the episode, and listen."""
        values = self._values
        if not values['bag']:
            raise ConfigurationError(expected='a bag to play', found='none', remedy='set -p bag:=PATH')
        contract = load_contract(values['contract'])
        player = {'commands': ArmReplay, 'shadow': ShadowReplay}[values['mode']]
        self._player = player(self, values, contract)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._beats = [
            self.create_timer(1.0, self._report, clock=wall),
            self.create_timer(0.05, self._notice_silence, clock=wall),
        ]
        self._listening = time.monotonic()
        self.get_logger().info(f'episode {values["episode"]} of {values["bag"]}, {values["mode"]}')

    @transition
    def on_activate(self) -> None:
        """Play."""
        self._player.start()

    @transition
    def on_deactivate(self) -> None:
        """Brake, and hold."""
        self._player.stop('deactivated')

    @transition
    def on_cleanup(self) -> None:
        """Let go of the episode and the arm."""
        for timer in self._beats:
            self.destroy_timer(timer)
        self.destroy_publisher(self._diagnostics)
        self._player.close()
        self._player = None

    @transition
    def on_shutdown(self) -> None:
        """Leave the arm at rest, whatever the state."""
        self._halt('shut down')

    def _halt(self, reason: str) -> None:
        if self._player is not None:
            self._player.stop(reason)

    def attend(self) -> bool:
        """With autostart: configure, wait for the arm, activate, and end when all is played."""
        if self.starting:
            if self._player is None:
                self._demand(self.trigger_configure())
            elif self._player.is_ready or time.monotonic() - self._listening > self._values['startup_timeout']:
                self._demand(self.trigger_activate())
                self.starting = False
        elif self._values['autostart'] and self._player is not None and self._player.is_done:
            self.get_logger().info(self._player.summary())
            return True
        return False

    def _demand(self, result: TransitionCallbackReturn) -> None:
        if result != TransitionCallbackReturn.SUCCESS:
            raise self.complaint

    def _notice_silence(self) -> None:
        if self._player is None:  # cleaned up; executors call the timers that waited
            return
        self._player.notice_silence()

    def _report(self) -> None:
        if self._player is None:
            return
        text, values, well = self._player.report()
        stamp = self.get_clock().now().nanoseconds
        level = DiagnosticStatus.OK if well else DiagnosticStatus.WARN
        self._diagnostics.publish(messages.to_diagnostics(stamp, self.get_name(), text, values, level))


def main() -> int:
    """Run the node as a process."""
    return run(ReplayNode, attend=ReplayNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())
