"""Shows a running policy node on a local web page: stage, experts, rules, OOD score, limits and latency, live."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from vdd_ros.nodes import qos
from vdd_ros.nodes.dashboard.access import is_loopback, load_token
from vdd_ros.nodes.dashboard.server import Answer, Command, Server
from vdd_ros.nodes.dashboard.watch import Watch
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import run

PARAMETERS = (
    Parameter('node', 'policy_node', 'name of the policy node that is shown', topic=True),
    Parameter('host', '127.0.0.1', 'address to serve at; the default is reached from this machine alone'),
    Parameter('port', 8600, 'port to serve at; 0: any that is free', minimum=0, maximum=65535),
    Parameter(
        'token_file',
        '',
        'file with the token that buttons need, created if it does not exist; empty: the page is read-only',
        path=True,
    ),
    Parameter('stale_after', 3.0, 'age of diagnostics from which values are stale [s]', minimum=0.1, maximum=60.0),
)
_PATIENCE = 30.0
"""Maximum time for the response of a service [s]; braking before a deactivation, or the check of an artifact, takes
seconds."""
_NICENESS = 10
"""Increment of the process's nice value: on a busy machine, the commands of the arm have priority."""
_SERVICES = (
    ('stop', 'Stop the arm', 'motion', ''),
    ('resume', 'Resume', 'motion', 'The arm goes on moving. Is its workspace clear?'),
    ('preflight', 'Preflight check', 'setup', ''),
    ('reload_rules', 'Reload rules', 'setup', ''),
    ('reload', 'Reload student', 'setup', ''),
)
"""Services of the node: name, label, group, and the question that the page asks before it sends the request."""
_TRANSITIONS = (
    ('activate', Transition.TRANSITION_ACTIVATE, 'Activate', 'The arm begins to move. Is its workspace clear?'),
    (
        'deactivate',
        Transition.TRANSITION_DEACTIVATE,
        'Deactivate',
        'The arm brakes, and the node sends no more commands.',
    ),
)


class Dashboard(Node):
    """Subscribes to the diagnostics, and serves the page. The node publishes nothing except its log."""

    # Of the class, since a node whose parameters are refused is destroyed as it is.
    _server: Server | None = None

    def __init__(self) -> None:
        """Declare the parameters, and start the web server."""
        super().__init__('dashboard')
        values = declare(self, PARAMETERS)
        token = load_token(values['token_file']) if values['token_file'] else ''
        self._shown = self.resolve_service_name(values['node'])
        self._watch = Watch(self._shown, values['stale_after'])
        log = self.get_logger()
        self._server = Server(self._watch, self._commands() if token else {}, token=token, log=log.info)
        address = self._server.start(values['host'], values['port'])
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.WATCHING)
        log.info(f'dashboard of {self._shown} at {address}')
        log.info(f'commands need the token in {values["token_file"]}' if token else 'the page is read-only')
        if not is_loopback(values['host']):
            log.warning(f'{values["host"]} is reached from other machines, and the connection is not encrypted')

    def destroy_node(self) -> None:
        """Stop the web server."""
        if self._server is not None:
            self._server.close()
        super().destroy_node()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {each.key: each.value for each in status.values}
            if f'/{status.name}' == self._shown:
                self._watch.take(time.monotonic(), status.level[0], status.message, values)
                self._server.notify()
            elif 'operating_mode' in values:
                self._watch.note(f'/{status.name}')

    def _commands(self) -> dict[str, Command]:
        """Return the buttons: clients exist only where a token permits their use."""
        found = {}
        for name, label, group, question in _SERVICES:
            client = self.create_client(Trigger, f'{self._shown}/{name}')
            call = functools.partial(self._ask, client, Trigger.Request())
            found[name] = Command(label, group, call, question)
        client = self.create_client(ChangeState, f'{self._shown}/change_state')
        for name, transition, label, question in _TRANSITIONS:
            request = ChangeState.Request(transition=Transition(id=transition))
            found[name] = Command(label, 'setup', functools.partial(self._ask, client, request), question)
        return found

    async def _ask(self, client: Client, request: Any) -> Answer:
        """Call a service of the node from the thread of the server."""
        if not client.service_is_ready():
            return False, f'{client.srv_name} does not exist: is the node running?'
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def done(future: Future) -> None:
            loop.call_soon_threadsafe(lambda: answer.done() or answer.set_result(future.result()))

        future = client.call_async(request)
        future.add_done_callback(done)
        try:
            response = await asyncio.wait_for(answer, _PATIENCE)
        except asyncio.TimeoutError:
            client.remove_pending_request(future)
            return False, f'{client.srv_name} has not answered for {_PATIENCE:g} s'
        # A transition has no text: the log of the node has the reason of a refusal.
        text = getattr(
            response, 'message', 'done' if response.success else 'refused: the log of the node has the reason'
        )
        return response.success, text


def main() -> int:
    """Run the node as a process."""
    os.nice(_NICENESS)
    return run(Dashboard)


if __name__ == '__main__':
    raise SystemExit(main())
