"""Run a node as a process: spin it, stop it on a signal, report errors in one line."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vdd_ros.common.errors import ConfigurationError, VddError

EXIT_ERROR = 2


def new_executor() -> Executor:
    """Return the executor with the lowest latency in this ROS distribution."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def run(
    create: Callable[[], Node], arguments: Sequence[str] | None = None, *, attend: Callable[[Node], bool] | None = None
) -> int:
    """Spin a node until it is done or a signal arrives, and return the exit code of the process.

    With ``--help``, print the description and parameters of the node instead.

    The ROS context remains valid after the signal: ``destroy_node`` can publish, and process pending messages.

    Parameters
    ----------
    create
        Creates the node: its class, whose module has the table ``PARAMETERS``.
    arguments
        Command line for ROS; by default that of the process.
    attend
        Called between callbacks, at least ten times per second; returns whether the node has finished.

    Returns
    -------
    0 after a normal end, including SIGINT and SIGTERM; 2 after a `VddError`, which is logged in one line.

    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    own = words[: words.index('--ros-args')] if '--ros-args' in words else words
    if {'-h', '--help'} & set(own):
        sys.stdout.write(_help(create))
        return 0
    stopping = _StopOnSignal()
    try:
        _initialise(words)
        node = _created(create)
        try:
            _spin(node, lambda: stopping.requested or (attend is not None and attend(node)))
        finally:
            node.destroy_node()
    except VddError as error:
        get_logger('vdd_ros').fatal(str(error))
        return EXIT_ERROR
    finally:
        rclpy.try_shutdown()
    return 0


def guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """Make a `VddError` in a callback end the process in the usual way: one line, exit code 2.

    The executors of rclpy would log it themselves.
    """

    @functools.wraps(callback)
    def call(self: Node, *arguments: object) -> None:
        try:
            callback(self, *arguments)
        except VddError as error:
            self.failure = error

    return call


class _StopOnSignal:
    """Stores SIGINT and SIGTERM without interrupting the process, also for repeated Ctrl-C."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def _help(create: Callable[[], Node]) -> str:
    """Return the description of a node, and a table of its parameters."""
    module = sys.modules[create.__module__]
    name = module.__name__ if module.__spec__ is None else module.__spec__.name
    lines = [f'usage: {name.rpartition(".")[2]} [--ros-args -p NAME:=VALUE ... -r FROM:=TO ...]', '']
    lines += [(module.__doc__ or '').strip().partition('\n')[0], '', 'parameters and their defaults:']
    for row in module.PARAMETERS:
        lines.append(f'  {row.name}: {json.dumps([] if row.is_list else row.default)}')
        lines.append(f'      {row.description} ({row.allowed})')
    lines += ['', 'also: use_sim_time and the other standard parameters of ROS 2 nodes']
    return '\n'.join(lines) + '\n'


def _created(create: Callable[[], Node]) -> Node:
    """Create a node; invalid values of parameters declared by rclpy raise the usual error."""
    try:
        return create()
    except (ParameterException, NameValidationException) as error:
        raise ConfigurationError(
            expected='parameters of the declared types and valid ROS names',
            found=' '.join(str(error).split()),
            remedy='correct the parameters',
        ) from error


def _initialise(arguments: Sequence[str]) -> None:
    try:
        foreign = remove_ros_args(['node', *arguments])[1:]
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ConfigurationError(
            expected='valid ROS arguments and parameter files',
            found=' '.join(str(error).split()),
            remedy='correct the arguments',
        ) from error
    if foreign:
        raise ConfigurationError(
            expected='only arguments after --ros-args',
            found=' '.join(foreign),
            remedy='set parameters with --ros-args -p NAME:=VALUE; --help lists them',
        )


def _spin(node: Node, stop: Callable[[], bool]) -> None:
    executor = new_executor()
    executor.add_node(node)
    try:
        # Not spin(): the EventsExecutor of rclpy 9 then uses a core permanently.
        while rclpy.ok() and not stop():
            executor.spin_once(timeout_sec=0.1)
            if failure := getattr(node, 'failure', None):
                raise failure
    finally:
        executor.remove_node(node)
        executor.shutdown()
