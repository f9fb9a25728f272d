"""Puts a policy node to the test over ROS: episode after episode from the task's start, judged by the bridge."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, InterfaceError, VddError
from vdd_ros.contract.contract import load_contract
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import run

PARAMETERS = (
    Parameter(
        'contract', 'avoiding_cartesian', 'contract whose topics are listened to: a file, or one that ships', path=True
    ),
    Parameter('episodes', 20, 'episodes to judge; 0: until the node is ended', minimum=0, maximum=100_000),
    Parameter('output', '', 'JSON file for the outcomes; must not exist', path=True),
    Parameter('timeout', 60.0, 'how long a peer may be silent [s]', minimum=1.0, maximum=3600.0),
)

_ACTIVATION_PATIENCE = 10.0
_ACTIVATION_PERIOD = 0.2


class Validator(Node):
    """Before each episode the policy is deactivated, the arm reset, and the policy activated: as a person would."""

    # Of the class, since a node whose parameters are refused is destroyed as it is.
    _script: threading.Thread | None = None

    def __init__(self) -> None:
        """Declare the parameters, and begin in a thread of its own."""
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
        self.failure: VddError | None = None
        self._events: queue.Queue[messages.EpisodeEvent] = queue.Queue()
        self._outcomes: list[dict] = []
        self._finished = False
        self._leaving = threading.Event()
        self.create_subscription(DiagnosticArray, contract.topics.episode, self._on_episode, qos.EPISODE)
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
        """Leave the script, then the graph."""
        if self._script is not None:
            self._leaving.set()
            self._script.join()
        super().destroy_node()

    def _on_episode(self, message: DiagnosticArray) -> None:
        self._events.put(messages.from_episode(message))

    def _guard(self) -> None:
        try:
            self._validate()
        except VddError as error:
            self.failure = error
        except _Left:
            return

    def _validate(self) -> None:
        if self._call(self._state, GetState.Request()).current_state.id == State.PRIMARY_STATE_UNCONFIGURED:
            self._transition(Transition.TRANSITION_CONFIGURE, 'configure')
        for count in itertools.count() if self._endless else range(self._values['episodes']):
            if self._call(self._state, GetState.Request()).current_state.id == State.PRIMARY_STATE_ACTIVE:
                self._transition(Transition.TRANSITION_DEACTIVATE, 'deactivate')
            self._call(self._reset, Trigger.Request())
            start = self._event('start')
            self._transition(Transition.TRANSITION_ACTIVATE, 'activate', patience=_ACTIVATION_PATIENCE)
            self._outcomes.append({**self._ended(), 'index': start.index})
            successes = sum(item['outcome'] == 'success' for item in self._outcomes)
            of = self._values['episodes'] or 'endless'
            self.get_logger().info(f'rollouts: done={count + 1} of={of} successes={successes}')
        aside = self._output.with_name(f'{self._output.name}.part')
        aside.write_text(json.dumps(self._outcomes, indent=1), encoding='utf-8')
        aside.replace(self._output)
        self._finished = True

    def _ended(self) -> dict[str, object]:
        """Wait for the end of an episode, and return how it was; without a bound on episodes one may be given up."""
        try:
            end = self._event('end')
        except InterfaceError as error:
            if not self._endless:
                raise
            self.get_logger().warning(f'given up, a failure: {error}')
            return {'outcome': 'given up', 'way': '', 'steps': 0}
        return {'outcome': end.outcome, 'way': end.way, 'steps': end.steps}

    def _transition(self, number: int, name: str, patience: float = 0.0) -> None:
        """Ask for a transition, again and again for ``patience`` [s]: a node just come may not have heard the arm."""
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

    def _call(self, client: Client, request: object) -> object:
        self._wait(client.service_is_ready, f'the service {client.srv_name}')
        future = client.call_async(request)
        self._wait(future.done, f'an answer of {client.srv_name}')
        return future.result()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        begin = time.monotonic()
        while not condition():
            if self._leaving.wait(0.002):
                raise _Left
            if time.monotonic() - begin > self._values['timeout']:
                raise InterfaceError(
                    expected=what,
                    found=f'silence for {self._values["timeout"]:g} s',
                    remedy='start mujoco_bridge and policy_node in the same namespace and ROS domain',
                )


class _Left(Exception):
    """The node is being destroyed while its script still runs."""


def main() -> int:
    """Run the node as a process."""
    return run(Validator, attend=lambda node: node.done)


if __name__ == '__main__':
    raise SystemExit(main())
