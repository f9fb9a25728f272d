"""Validates a policy node over ROS: runs episodes from the start states of a task, judged by the bridge.

The node writes the outcome of every episode, the reasons of stops, the counters of the policy node, and, on request,
all commands with their publication times.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, InterfaceError, VddError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.output import Channel, Output
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import run
from vdd_ros.nodes.recorder.raw_subscription import RawSubscription
from vdd_ros.nodes.recorder.streams import Stream

PARAMETERS = (
    Parameter(
        'contract', 'avoiding_cartesian', 'contract whose topics are listened to: a file, or one that ships', path=True
    ),
    Parameter('episodes', 20, 'episodes to judge; 0: until the node is ended', minimum=0, maximum=100_000),
    Parameter('output', '', 'JSON file for the outcomes; must not exist', path=True),
    Parameter(
        'commands', '', 'file (.npz) for the commands of each episode as they are received; empty: none', path=True
    ),
    Parameter(
        'settling',
        0.0,
        'real time between the reset of the arm and the activation of the policy node [s]',
        minimum=0.0,
        maximum=60.0,
    ),
    Parameter('timeout', 60.0, 'maximum time without messages of a peer [s]', minimum=1.0, maximum=3600.0),
)

_ACTIVATION_PATIENCE = 10.0
_ACTIVATION_PERIOD = 0.2
_ANSWER = 2.0
"""Time after which a request without a response is repeated [s]. DDS drops a response to a client that the server has
not discovered yet."""
_POLL = 0.002
_POLICY = 'policy_node'


class Validator(Node):
    """Runs episodes: before each, it deactivates the policy, resets the arm and activates the policy."""

    # Of the class, since a node whose parameters are refused is destroyed as it is.
    _commands: CommandRecord | None = None
    _script: threading.Thread | None = None

    def __init__(self) -> None:
        """Declare the parameters, and start the episodes in a separate thread."""
        super().__init__('validator')
        self._values = declare(self, PARAMETERS)
        self._output = Path(self._values['output'])
        self._endless = not self._values['episodes']
        if (not self._values['output'] and not self._endless) or (self._values['output'] and self._output.exists()):
            raise ConfigurationError(
                expected='a free path for the outcomes',
                found=self._values['output'] or 'no output',
                remedy='set -p output:=FILE.json',
            )
        contract = load_contract(self._values['contract'])
        self.failure: Exception | None = None
        self._events: queue.Queue[messages.EpisodeEvent] = queue.Queue()
        self._outcomes: list[dict] = []
        self._policy = f'{self.get_namespace().rstrip("/")}/{_POLICY}'.lstrip('/')
        self._status: dict[str, str] = {}
        """Values of the last diagnostics of the policy node."""
        self._statuses = 0
        self._commands = CommandRecord(self, contract) if self._values['commands'] else None
        self._finished = False
        self._leaving = threading.Event()
        self.create_subscription(DiagnosticArray, contract.topics.episode, self._on_episode, qos.EPISODE)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, qos.DIAGNOSTICS)
        self._reset = self.create_client(Trigger, 'mujoco_bridge/reset')
        self._change = self.create_client(ChangeState, 'policy_node/change_state')
        self._state = self.create_client(GetState, 'policy_node/get_state')
        self._script = threading.Thread(target=self._guard, name='validation')
        self._script.start()

    @property
    def done(self) -> bool:
        """Whether all episodes are judged."""
        return self._finished

    def destroy_node(self) -> None:
        """End the thread of the episodes, then destroy the node."""
        if self._script is not None:
            self._leaving.set()
            self._script.join()
        if self._commands is not None:
            self._commands.close()
        super().destroy_node()

    def _on_episode(self, message: DiagnosticArray) -> None:
        self._events.put(messages.from_episode(message))

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._policy:
                self._status = {item.key: item.value for item in status.values}
                self._statuses += 1

    def _guard(self) -> None:
        try:
            self._validate()
        except VddError as error:
            self.failure = error
        except _Left:
            return
        except Exception as error:  # noqa: BLE001  (an error of this program ends the process, with its traceback)
            self.failure = error

    def _validate(self) -> None:
        if self._policy_state() == State.PRIMARY_STATE_UNCONFIGURED:
            self._transition(Transition.TRANSITION_CONFIGURE, 'configure')
        for count in itertools.count() if self._endless else range(self._values['episodes']):
            if self._policy_state() == State.PRIMARY_STATE_ACTIVE:
                self._transition(Transition.TRANSITION_DEACTIVATE, 'deactivate')
            self._call(self._reset, Trigger.Request())
            start = self._event('start')
            self._leaving.wait(self._values['settling'])
            if self._commands is not None:
                self._commands.begin()
            self._transition(Transition.TRANSITION_ACTIVATE, 'activate', patience=_ACTIVATION_PATIENCE)
            self._outcomes.append({**self._ended(), 'index': start.index})
            if self._endless:
                self._await_resume()
            if self._commands is not None:
                self._commands.end()
            successes = sum(item['outcome'] == 'success' for item in self._outcomes)
            of = self._values['episodes'] or 'endless'
            self.get_logger().info(f'rollouts: done={count + 1} of={of} successes={successes}')
        self._await_status()
        if self._commands is not None:
            self._commands.save(Path(self._values['commands']))
        aside = self._output.with_name(f'{self._output.name}.part')
        written = {'episodes': self._outcomes, 'policy': self._status}
        aside.write_text(json.dumps(written, indent=1), encoding='utf-8')
        aside.replace(self._output)
        self._finished = True

    def _ended(self) -> dict[str, object]:
        """Wait for the end of an episode, and return how it was; without a bound on episodes one may be given up.

        A policy node that has stopped does not go on by itself: the episode has failed. One that an operator has
        stopped may go on.
        """
        began = self._statuses

        def is_stopped() -> bool:
            stopped = self._statuses > began and self._status['outcome'] == 'stop'
            return stopped and not (self._endless and self._is_held)

        try:
            self._wait(lambda: not self._events.empty() or is_stopped(), 'the end of an episode')
            if self._events.empty():
                return {'outcome': 'failure', 'mode': '', 'steps': 0, **self._policy_status()}
            end = self._event('end')
        except InterfaceError as error:
            if not self._endless:
                raise
            self.get_logger().warning(f'given up, a failure: {error}')
            return {'outcome': 'given up', 'mode': '', 'steps': 0}
        found = {'outcome': end.outcome, 'mode': end.mode, 'steps': end.steps}
        return {**found, **self._policy_status()} if self._statuses > began else found

    @property
    def _is_held(self) -> bool:
        """Whether an operator has stopped the policy node, by its newest diagnostics."""
        return self._status.get('operator_stop') == 'True'

    def _await_resume(self) -> None:
        """Begin no episode while an operator holds the arm: its activation would end a stop of a moment ago."""
        self._await_status()
        if self._is_held:
            self.get_logger().info(f'stopped by an operator: ~/resume of {self._policy} goes on')
            self._wait(lambda: not self._is_held, f'~/resume of {self._policy}')

    def _policy_status(self) -> dict[str, object]:
        """Return the newest diagnostics of the policy node."""
        return {'stopped': self._status['outcome'] == 'stop', 'reason': self._status['reason']}

    def _await_status(self) -> None:
        """Wait for diagnostics of what has happened by now."""
        began = self._statuses
        self._wait(lambda: self._statuses > began, f'diagnostics of {self._policy}')

    def _transition(self, number: int, name: str, patience: float = 0.0) -> None:
        """Ask for a transition, again and again for ``patience`` [s]: a new node may lack a joint state of the arm."""
        deadline = time.monotonic() + patience
        while not self._call(self._change, ChangeState.Request(transition=Transition(id=number))).success:
            if time.monotonic() > deadline:
                raise InterfaceError(
                    expected=f'policy_node to {name}', found='a refusal', remedy='read why in the log of policy_node'
                )
            if self._leaving.wait(_ACTIVATION_PERIOD):
                raise _Left

    def _event(self, kind: str) -> messages.EpisodeEvent:
        self._wait(lambda: not self._events.empty(), f'the {kind} of an episode')
        event = self._events.get()
        return event if event.kind == kind else self._event(kind)

    def _policy_state(self) -> int:
        """Return the lifecycle state of the policy node; the first question to it, hence it is repeated."""
        name = self._state.srv_name
        self._wait(self._state.service_is_ready, f'the service {name}')
        future, asked = self._state.call_async(GetState.Request()), time.monotonic()

        def is_answered() -> bool:
            nonlocal future, asked
            if not future.done() and time.monotonic() - asked > _ANSWER:
                self._state.remove_pending_request(future)
                future, asked = self._state.call_async(GetState.Request()), time.monotonic()
            return future.done()

        self._wait(is_answered, f'an answer of {name}')
        return future.result().current_state.id

    def _call(self, client: Client, request: object) -> object:
        self._wait(client.service_is_ready, f'the service {client.srv_name}')
        future = client.call_async(request)
        self._wait(future.done, f'an answer of {client.srv_name}')
        return future.result()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        begin = time.monotonic()
        while not condition():
            if self._commands is not None:
                self._commands.take()
            if self._leaving.wait(_POLL):
                raise _Left
            if self._endless and self._is_held:
                begin = time.monotonic()  # an operator may take any time
            if time.monotonic() - begin > self._values['timeout']:
                raise InterfaceError(
                    expected=what,
                    found=f'silence for {self._values["timeout"]:g} s',
                    remedy='start mujoco_bridge and policy_node in the same namespace and ROS domain',
                )


class CommandRecord:
    """The commands of every episode, each with the time at which it was published."""

    def __init__(self, node: Node, contract: Contract) -> None:
        """Subscribe to the commands of all controllers of a contract."""
        self._channels = Output(contract).channels
        # A node of its own that nobody spins: messages are taken in bulk, and wake no thread as they come.
        self._node = Node(f'{node.get_name()}_commands', namespace=node.get_namespace(), use_global_arguments=False)
        self._subscriptions = [
            RawSubscription(self._node, node.resolve_topic_name(each.topic), Stream(each.topic, each.type_name))
            for each in self._channels
        ]
        self._taken: list[list[tuple[bytes, dict]]] = [[] for _ in self._channels]
        self._episodes: list[tuple[np.ndarray, np.ndarray]] = []

    def begin(self) -> None:
        """Start an episode, and drop the commands received between episodes."""
        self.take()
        self._taken = [[] for _ in self._channels]

    def take(self) -> None:
        """Read the commands that have arrived; call this often, so the subscription queues do not overflow."""
        for taken, subscription in zip(self._taken, self._subscriptions):
            taken += subscription.take()

    def end(self) -> None:
        """Store the commands of the episode: those of the arm, each with the last commands of other controllers."""
        self.take()
        (sent, arm), *further = map(_positions, self._channels, self._taken)
        rows = [arm]
        for stamps, values in further:
            newest = np.maximum(np.searchsorted(stamps, sent, side='right') - 1, 0)
            rows.append(values[newest] if len(values) else np.full((len(sent), values.shape[1]), np.nan))
        self._episodes.append((sent, np.concatenate(rows, axis=1)))
        self._taken = [[] for _ in self._channels]

    def save(self, path: Path) -> None:
        """Write arrays ``sent_I``, shape (time,) [ns], and ``position_I``, shape (time, joint) [rad], for episode I."""
        arrays = {}
        for number, (sent, position) in enumerate(self._episodes):
            arrays |= {f'sent_{number}': sent, f'position_{number}': position}
        aside = path.with_name(f'{path.name}.part')
        with aside.open('wb') as file:
            np.savez(file, **arrays)
        aside.replace(path)

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_node()


def _positions(channel: Channel, taken: Sequence[tuple[bytes, dict]]) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps, shape (time,) [ns], and joint values, shape (time, joint), of the messages for a controller."""
    stamps = np.array([info['source_timestamp'] for _, info in taken], dtype=np.int64)
    rows = [
        channel.position(deserialize_message(data, channel.type), now) for (data, _), now in zip(taken, stamps.tolist())
    ]
    return stamps, np.array(rows).reshape(len(rows), len(channel.joints))


class _Left(Exception):
    """The node is being destroyed while its script still runs."""


def main() -> int:
    """Run the node as a process."""
    return run(Validator, attend=lambda node: node.done)


if __name__ == '__main__':
    raise SystemExit(main())
