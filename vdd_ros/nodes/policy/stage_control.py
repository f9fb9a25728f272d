"""The stage of an arm in a running policy node: read from the log, enforced, recorded, and lowered if necessary."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from vdd_ros.common.errors import GateError, InterfaceError, VddError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.control_output import Command
from vdd_ros.control.supervision import EnablingDevice, Supervision
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.commander import Commander
from vdd_ros.nodes.arm.lifecycle import ArmNode, unless_closed
from vdd_ros.nodes.arm.parameters import deployment_of
from vdd_ros.nodes.parameters import Parameter, Value
from vdd_ros.nodes.policy.acting import Acting
from vdd_ros.nodes.policy.policy_view import View
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.validation.stages import STAGES, Standing, Subject, Tally, demote, record, standing_of

PARAMETERS = (
    Parameter('stage_log', '', 'log of the stages of this arm (vdd promote); empty: no stages', path=True),
    Parameter(
        'enabling_button',
        -1,
        'button of the sensor_msgs/Joy on `joy` that is the enabling device; -1: std_msgs/Bool on ~/enable',
        minimum=-1,
        maximum=63,
    ),
    Parameter(
        'enabling_timeout',
        0.25,
        'age of the newest message of the enabling device over which it counts as released [s]',
        minimum=0.02,
        maximum=2.0,
    ),
)

_SAMPLE_PERIOD = 0.2
_CHECK_PERIOD = 1.0
_RECORD_PERIOD = 600.0
_LONGEST_SAMPLE = 5.0
"""Longer intervals between two samples are not counted: the process was suspended, or the clock was set [s]."""


class StageControl:
    """Stage of one node, from its configuration to `close`; without a log, nothing is restricted or recorded."""

    def __init__(self, node: ArmNode) -> None:
        """Prepare for the configuration of a node."""
        self._node = node
        self._commander: Commander | None = None
        self._view: View | None = None
        self.closed = True
        self._standing: Standing | None = None
        self._device: EnablingDevice | None = None
        self._watched = False
        self._tally: Tally | None = None
        self._sampled = 0
        self._seen: tuple[int, int] = (0, 0)
        self._recorded = self._checked = 0.0
        self._timer: Any = None
        self._subscriptions: list[Any] = []

    def restricted(self, policy: DistilledPolicy) -> Mapping[str, Value]:
        """Read the log, and return the node's parameters under the restrictions of the stage.

        Raises
        ------
        GateError
            The log is absent, was edited, or grants a stage to another student or to other deployment parameters.
        ConfigurationError
            The stage names an expert that does not exist.

        """
        node = self._node
        self._standing = self._device = None
        if not node.values['stage_log']:
            return node.values
        self._seen = self._stamp()
        deployment = deployment_of(node.values)
        standing = standing_of(self._log)
        standing.subject.check(Subject.of(policy.artifact, deployment), self._log)
        found = standing.restricted(deployment, policy.expert_count or 0, policy.labels)
        self._standing = standing
        self._watched = deployment.ood_rules_of(policy) is not None
        if standing.stage == 'supervised' and found.operating_mode != 'shadow':
            self._device = EnablingDevice(round(node.values['enabling_timeout'] * NANOSECONDS))
        changed = ('operating_mode', 'slow_speed', 'forbidden_experts')
        return {**node.values, **{name: getattr(found, name) for name in changed}}

    def check(self, artifact: Artifact) -> None:
        """Refuse an artifact to which the log grants no stage, with a `GateError`."""
        if self._standing is not None:
            self._standing.subject.check(Subject.of(artifact, deployment_of(self._node.values)), self._log)

    @property
    def supervision(self) -> Supervision | None:
        """Enabling device and workspace in the stage supervised; None in the other stages."""
        if self._device is None or self._standing is None:
            return None
        return Supervision(self._device, self._standing.workspace)

    def open(self, acting: Acting, view: View) -> None:
        """Subscribe to the enabling device and to episodes, and start the evaluation."""
        node = self._node
        if self._standing is None:
            return
        self.closed = False
        self._commander, self._view = acting.driver.commander, view
        self._timer = node.create_timer(_SAMPLE_PERIOD, self._on_timer, clock=node.wall)
        topic = acting.contract.topics.episode
        self._subscriptions = [node.create_subscription(DiagnosticArray, topic, self._on_episode, qos.EPISODE)]
        if self._device is not None:
            button = node.values['enabling_button']
            kind, name, callback = (
                (Bool, '~/enable', self._on_enable)
                if button < 0
                else (Joy, 'joy', functools.partial(self._on_joy, button))
            )
            self._subscriptions.append(node.create_subscription(kind, name, callback, qos.ENABLING))

    def close(self) -> None:
        """Record the counts, and end all subscriptions."""
        self.end()
        if self.closed:
            return
        self.closed = True
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def begin(self) -> None:
        """Start counting, at activation.

        Raises
        ------
        GateError
            The log was edited.
        InterfaceError
            Another stage was granted since configuration.

        """
        if self._standing is None:
            return
        present = standing_of(self._log)
        if present.number != self._standing.number:
            raise InterfaceError(
                expected=f'stage {self._standing.stage}, as at configuration',
                found=f'stage {present.stage} in {self._log}',
                remedy='clean up and configure the node',
            )
        self._commander.stops.clear()
        self._tally = Tally(present, self._node.simulated)
        self._sampled = self._node.now()
        self._recorded = self._checked = time.monotonic()

    def end(self) -> None:
        """Record the counts, after the arm has come to rest."""
        if self._tally is None:
            return
        self._drain(ending=True)
        if not self._demote_if_due():
            self._record()
        self._tally = None

    def notes(self) -> dict[str, str]:
        """Return the lines about the stage for the report of the preflight, by subject."""
        standing = self._standing
        if standing is None:
            return {}
        return {'stage': f'{standing.stage} since {standing.since}, by {standing.who}: {standing.why}'}

    def values(self) -> dict[str, object]:
        """Return the values about the stage for the diagnostics, by name."""
        standing = self._standing
        if standing is None:
            return {'stage': 'none'}
        found: dict[str, object] = {
            'stage': standing.stage,
            'stage_since': standing.since,
            'stage_log_head': standing.head[:12],
        }
        if self._device is not None:
            found['enabling_device'] = self._device.missing(self._node.now()) or 'held'
        return found

    @property
    def _log(self) -> Path:
        return Path(self._node.values['stage_log'])

    @property
    def _who(self) -> str:
        return f'node {self._node.get_fully_qualified_name()}'

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._log.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    @unless_closed
    def _on_enable(self, message: Bool) -> None:
        self._on_enabling(message.data)

    @unless_closed
    def _on_joy(self, button: int, message: Joy) -> None:
        self._on_enabling(len(message.buttons) > button and message.buttons[button] == 1)

    def _on_enabling(self, held: bool) -> None:
        now = self._node.now()
        self._commander.replace(lambda loop: loop.on_enabling(held, now))

    @unless_closed
    def _on_episode(self, message: DiagnosticArray) -> None:
        try:
            event = messages.from_episode(message)
        except InterfaceError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
            return
        if event.kind == 'end' and self._tally is not None:
            self._tally.episode(event.outcome)

    @unless_closed
    def _on_timer(self) -> None:
        if self._tally is None:
            return
        self._sample()
        stopped = self._drain()
        if self._demote_if_due():
            return
        if stopped or self._tally.seconds >= _RECORD_PERIOD:
            self._record()
        if time.monotonic() - self._checked >= _CHECK_PERIOD:
            self._checked = time.monotonic()
            self._check_log()

    def _sample(self) -> None:
        node, tally = self._node, self._tally
        now, before = node.now(), self._sampled
        self._sampled = now
        commander = self._commander
        seconds = (now - before) / NANOSECONDS
        if isinstance(commander.outcome, Command) and 0 < seconds <= _LONGEST_SAMPLE:
            tally.sample(seconds, commander.loop.counters().level if self._watched else None)
        if (difference := self._view.disagreement) is not None:
            tally.disagree(difference)

    def _drain(self, *, ending: bool = False) -> bool:
        """Count the stops since the last call; return whether there was a safety stop."""
        stops, found = self._commander.stops, False
        while stops:
            stop = stops.popleft()
            if not (ending and stop.requested):
                self._tally.stop(stop.reason, requested=stop.requested)
            found |= not stop.requested
        return found

    def _record(self) -> None:
        if self._tally.is_empty:
            return
        session = self._tally.cut()
        try:
            record(self._log, self._who, 'operation', session)
        except GateError as error:
            self._bar(str(error))
        self._seen = self._stamp()

    def _demote_if_due(self) -> bool:
        """Lower the stage if that is due; return whether it was."""
        standing, reason = self._standing, self._tally.demotion
        if not reason or (self._node.simulated and not standing.settings.count_simulation):
            return False
        self._record()
        try:
            entry = demote(self._log, self._who, reason)
            found = f'stage {standing.stage} was lowered to {entry.values["stage"]}: {reason}'
        except GateError as error:
            found = f'stage {standing.stage} was to be lowered ({reason}): {error}'
        self._tally = None
        self._bar(found)
        return True

    def _check_log(self) -> None:
        """Stop the arm if the log was edited, or if a person has lowered the stage."""
        if (stamp := self._stamp()) == self._seen:
            return
        self._seen = stamp
        standing = self._standing
        try:
            present = standing_of(self._log)
        except VddError as error:
            self._bar(str(error))
            return
        lowered = STAGES.index(present.stage) < STAGES.index(standing.stage)
        if lowered or present.subject != standing.subject:
            self._bar(f'stage {present.stage} was granted by {present.who}: {present.why}')

    def _bar(self, reason: str) -> None:
        self._node.get_logger().error(reason)
        self._commander.bar(reason)
