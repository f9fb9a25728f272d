"""Replays the commands of an episode on an arm, real or simulated, with the driver of the policy node."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.task import Future
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.control.control_output import Command, ControlOutput
from vdd_ros.control.playback import Track
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.driver import ArmDriver, Setting
from vdd_ros.nodes.arm.lifecycle import ArmNode
from vdd_ros.nodes.arm.parameters import deployment_of, horizon_of, period_of
from vdd_ros.nodes.recorder.raw_subscription import message_class
from vdd_ros.validation.recorded_episode import RecordedEpisode, driven, read_episode

_VERDICT = 3.0
"""Maximum time to wait for the verdict of a scene after the replay [s]."""


def _contracts(recorded: Contract, other: str) -> tuple[Contract, Contract, dict[str, str]]:
    """Return the contracts of the recording and of the arm, as far as joints are commanded, and the types of the rest.

    ``other`` names the contract of the arm if it differs from that of the recording. The rest is by topic.
    """
    contract = load_contract(other) if other else recorded
    if contract.robot != recorded.robot:
        raise ConfigurationError(
            expected=f'an arm_contract with the robot of {recorded.name}: {recorded.robot}',
            found=str(contract.robot),
            remedy='let the two differ in topics, names and units alone',
        )
    left = driven(contract).further_actions
    beside = {each.topic: each.type for each in contract.further_actions if each not in left}
    recorded, contract = driven(recorded), driven(contract)
    if unknown := [joint for joint in contract.joints if joint not in recorded.joints]:
        raise ConfigurationError(
            expected=f'an arm_contract whose controllers move some of {", ".join(recorded.joints)}',
            found=', '.join(unknown),
            remedy='leave out the actions of which the bag holds no commands',
        )
    return recorded, contract, beside


class ArmReplay:
    """Replays the commands of an episode on an arm, from construction to `close`."""

    def __init__(self, node: ArmNode, contract: Contract) -> None:
        """Read the episode, and subscribe to the arm; errors as for `read_episode` and `Deployment.build_playback`.

        ``contract`` is the contract of the bag. It is also that of the arm, unless ``arm_contract`` names another one.
        """
        values = node.values
        recorded, contract, beside = _contracts(contract, values['arm_contract'])
        self._node, self._contract = node, contract
        self._episode: RecordedEpisode = read_episode(values['bag'], recorded, values['episode'], [*beside])
        columns = [recorded.joints.index(joint) for joint in contract.joints]
        track = self._episode.track
        track = Track(track.stamps, track.positions[:, columns])
        kinematics = node.kinematics_of(contract)
        period = period_of(values, contract, simulated=node.simulated)
        deployment = deployment_of(values)
        loop, self._playback = deployment.build_playback(
            contract,
            track,
            kinematics,
            period=period,
            speed=values['speed'],
            guarded=not node.simulated,
            horizon=horizon_of(values, contract),
        )
        setting = Setting(
            contract,
            deployment.limits_of(contract, kinematics, lockstep=True),
            period,
            beside=beside,
            notes=self._notes,
            values=lambda: {'played': f'{self._playback.share:.3f}'},
        )
        self._driver = ArmDriver(node, loop, setting)
        self._publish = self._driver.output.open(node)
        self._driver.open(self._send)
        self._beside = {
            topic: node.create_publisher(message_class(kind), topic, qos.COMMANDS) for topic, kind in beside.items()
        }
        self._published = self._commands = self._clamped = 0
        self._apart = np.zeros(len(contract.joints))
        self._units = kinematics.units_of(contract.joints)
        self._events = node.create_subscription(DiagnosticArray, contract.topics.episode, self._on_episode, qos.EPISODE)
        self._outcome = ''
        self._done_since: float | None = None
        self._reset = node.create_client(Trigger, values['reset']) if values['reset'] else None
        self._resetting: Future | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a joint state of the arm has arrived, and the scene has been reset."""
        if self._driver.waiting_for:
            return False
        if self._reset is not None and self._resetting is None and self._reset.service_is_ready():
            self._resetting = self._reset.call_async(Trigger.Request())
        return self._reset is None or (self._resetting is not None and self._resetting.done())

    @property
    def is_hopeless(self) -> bool:
        """Whether joints of the contract are missing in the joint states."""
        return self._driver.arm.incomplete

    @property
    def is_done(self) -> bool:
        """Whether the episode has been played to its end, and no verdict is awaited."""
        if self._outcome:  # the scene has judged it, and takes no further command
            return True
        if self._playback.share < 1 or not self._playback.is_playing:
            return False
        self._done_since = self._done_since or time.monotonic()
        if self._reset is not None:  # a scene judges it
            return time.monotonic() - self._done_since > _VERDICT
        return self._node.simulated or not self._driver.commander.loop.moving

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each check."""
        return self._driver.preflight()

    def start(self) -> None:
        """Begin with a slow approach to the start of the episode; errors as for `ArmDriver.start`."""
        self._playback.rewind()
        self._published = self._commands = self._clamped = 0
        self._outcome, self._done_since = '', None
        self._apart = np.zeros(len(self._contract.joints))
        self._driver.start()

    def stop(self, reason: str) -> None:
        """Brake."""
        self._driver.halt(reason)

    def close(self) -> None:
        """Brake, and release the arm."""
        self._driver.close('cleaned up')
        self._node.destroy_subscription(self._events)
        if self._reset is not None:
            self._node.destroy_client(self._reset)
        for publisher in self._beside.values():
            self._node.destroy_publisher(publisher)

    def summary(self) -> str:
        """Return a summary of the replay in one line."""
        seconds = self._episode.track.length / NANOSECONDS
        changed = f'; a limit changed {self._clamped} of {self._commands} commands' if self._clamped else ''
        outcome = f'; outcome: {self._outcome}' if self._outcome else ''
        most = {unit: self._apart[[unit == each for each in self._units]].max() for unit in self._units}
        distances = ' and '.join(f'{distance:.3f} {unit}' for unit, distance in most.items())
        apart = f'; the arm at most {distances} from its commands'
        return f'{self._playback.share:.0%} of {seconds:.1f} s played{apart}{changed}{outcome}'

    def _notes(self) -> Mapping[str, str]:
        values = self._node.values
        return {
            'episode': f'{values["episode"]} of {values["bag"]}, {self._episode.track.length / NANOSECONDS:.1f} s',
            'contract': f'{self._contract.name} ({self._contract.hash[:12]})',
            'operating_mode': values['operating_mode'],
        }

    def _send(self, outcome: ControlOutput, stamp: int) -> None:
        self._publish(outcome, stamp)
        if self._playback.is_playing and isinstance(outcome, Command):
            if self._commands:
                apart = np.abs(self._driver.arm.reading.position - self._before)
                self._apart = np.maximum(self._apart, apart)
            self._commands += 1
            self._clamped += outcome.clamped
            self._publish_beside()
        self._before = outcome.position

    def _publish_beside(self) -> None:
        """Send what the episode commands on other topics by now, such as a gripper's, as it was recorded."""
        messages, until = self._episode.messages, self._episode.begin + self._playback.played
        while self._published < len(messages) and messages[self._published].received <= until:
            item = messages[self._published]
            self._beside[item.topic].publish(item.data)
            self._published += 1

    def _on_episode(self, message: DiagnosticArray) -> None:
        event = messages.from_episode(message)
        if event.kind == 'end' and self._driver.commander.active:
            self._outcome = event.outcome
