"""Replay a recorded episode: its commands to an arm, or its observations to a policy in shadow mode."""

from __future__ import annotations

import sys

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.nodes.arm import parameters as arm_parameters
from vdd_ros.nodes.arm.lifecycle import ArmNode, transition
from vdd_ros.nodes.parameters import Parameter
from vdd_ros.nodes.policy.policy_node import SWITCH_INTERVAL
from vdd_ros.nodes.process import run
from vdd_ros.nodes.replay.arm_replay import ArmReplay
from vdd_ros.nodes.replay.shadow_replay import ShadowReplay

PARAMETERS = (
    Parameter('bag', '', 'the bag', path=True),
    Parameter('contract', 'avoiding_cartesian', 'contract of the bag: a file, or the name of a shipped one', path=True),
    Parameter('arm_contract', '', 'contract of the arm, if topics, names or units differ from the bag', path=True),
    Parameter('episode', 0, 'number of the episode, from 0; -1 is the last', minimum=-1_000_000, maximum=1_000_000),
    Parameter('mode', 'commands', 'commands to an arm, or observations to a policy', choices=('commands', 'shadow')),
    Parameter(
        'operating_mode',
        'full',
        'slow: slow_speed and reduced limits',
        choices=('slow', 'full'),
        former_name='stage',
    ),
    Parameter('speed', 1.0, 'factor on the recorded speed', minimum=0.01, maximum=10.0),
    Parameter(
        'reset', '', 'service (Trigger) that resets the scene before, such as mujoco_bridge/reset; or none', topic=True
    ),
    Parameter('policy', 'policy_node', 'mode shadow: the policy node', topic=True),
    Parameter('patience', 1.0, 'mode shadow: maximum waiting time for a policy output [s]', minimum=0.01, maximum=60.0),
    Parameter('output', '', 'mode shadow: JSON file for the differences; empty: none', path=True),
    *arm_parameters.PARAMETERS,
)

_Player = ArmReplay | ShadowReplay


class ReplayNode(ArmNode):
    """A lifecycle node for replay: configure reads the bag, activate plays it, deactivate brakes."""

    # Class attributes, because a node with invalid parameters is destroyed before __init__ ends.
    _player: _Player | None = None

    def __init__(self) -> None:
        """Declare the parameters; with autostart, configure and activate automatically."""
        super().__init__('replay', PARAMETERS)

    def destroy_node(self) -> None:
        """Bring the arm to rest."""
        self._halt('shut down')
        super().destroy_node()

    @property
    def is_configured(self) -> bool:
        """Whether an episode is loaded."""
        return self._player is not None

    @property
    def is_ready(self) -> bool:
        """Whether the peer (arm or policy) is available."""
        return self._player.is_ready

    @property
    def is_hopeless(self) -> bool:
        """Whether the peer can never become available."""
        return self._player.is_hopeless

    @property
    def is_done(self) -> bool:
        """With autostart: whether replay has finished."""
        if not (self.values['autostart'] and self._player is not None and self._player.is_done):
            return False
        self.get_logger().info(self._player.summary())
        return True

    def preflight(self) -> tuple[bool, str]:
        """Return whether replay can start, and a line for each check; in every state."""
        return super().preflight() if self._player is None else self._player.preflight()

    @transition
    def on_configure(self) -> None:
        """Read the episode, and subscribe."""
        values = self.values
        if not values['bag']:
            raise ConfigurationError(expected='a bag to play', found='none', remedy='set -p bag:=PATH')
        contract = load_contract(values['contract'])
        self._player = {'commands': ArmReplay, 'shadow': ShadowReplay}[values['mode']](self, contract)
        self.get_logger().info(f'episode {values["episode"]} of {values["bag"]}, {values["mode"]}')

    @transition
    def on_activate(self) -> None:
        """Start the replay."""
        self._player.start()

    @transition
    def on_deactivate(self) -> None:
        """Brake and hold."""
        self._player.stop('deactivated')

    @transition
    def on_cleanup(self) -> None:
        """Release episode and arm."""
        self._player.close()
        self._player = None

    @transition
    def on_shutdown(self) -> None:
        """Bring the arm to rest, in every state."""
        self._halt('shut down')

    def _halt(self, reason: str) -> None:
        if self._player is not None:
            self._player.stop(reason)


def main() -> int:
    """Run the node as a process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(ReplayNode, attend=ReplayNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())
