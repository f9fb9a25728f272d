"""Every node as a process: spin it, end cleanly on a signal, report what is wrong in one line."""

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
    """Return the executor with the least latency that this ROS distribution has."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def run(
    create: Callable[[], Node], arguments: Sequence[str] | None = None, *, attend: Callable[[Node], bool] | None = None
) -> int:
    """Spin a node until it is done or a signal comes, and return the exit code of the process.

    With ``--help`` among the arguments, write what the node is and which parameters it has, and start nothing.

    The ROS context outlives the signal: a node may still publish, and drain what has arrived, in ``destroy_node``.

    Parameters
    ----------
    create
        Builds the node: its class, whose module has the table ``PARAMETERS``.
    arguments
        Command line, for ROS to read; by default that of the process.
    attend
        Called between callbacks, at least ten times a second; returns whether the node has finished its job.

    Returns
    -------
    0 when the node ended as it should, on SIGINT and SIGTERM too; 2 after a `VddError`, which is logged in one line.

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
            _spin(node, lambda: stopping.asked or (attend is not None and attend(node)))
        finally:
            node.destroy_node()
    except VddError as error:
        get_logger('vdd_ros').fatal(str(error))
        return EXIT_ERROR
    finally:
        rclpy.try_shutdown()
    return 0


def guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """Let a callback of a node raise a `VddError` that ends the process as any other: one line, exit code 2.

    The executors of rclpy would log it on their own, with or without a traceback.
    """

    @functools.wraps(callback)
    def call(self: Node, *arguments: object) -> None:
        try:
            callback(self, *arguments)
        except VddError as error:
            self.failure = error

    return call


class _StopOnSignal:
    """Remembers that SIGINT or SIGTERM came, and lets neither interrupt anything: a second Ctrl-C comes easily."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _help(create: Callable[[], Node]) -> str:
    """Return what a node is, and a table of its parameters."""
    module = sys.modules[create.__module__]
    name = module.__name__ if module.__spec__ is None else module.__spec__.name
    lines = [f'usage: {name.rpartition(".")[2]} [--ros-args -p NAME:=VALUE ... -r FROM:=TO ...]', '']
    lines += [(module.__doc__ or '').strip().partition('\n')[0], '', 'parameters and their defaults:']
    for row in module.PARAMETERS:
        lines.append(f'  {row.name}: {json.dumps([] if row.is_list else row.default)}')
        lines.append(f'      {row.description} ({row.allowed})')
    lines += ['', 'also: use_sim_time, and what every node of ROS 2 has']
    return '\n'.join(lines) + '\n'


def _created(create: Callable[[], Node]) -> Node:
    """Build a node; parameters that rclpy itself declares are refused like those of the node."""
    try:
        return create()
    except (ParameterException, NameValidationException) as error:
        raise ConfigurationError(
            expected='parameters of the right type, and names as ROS has them',
            found=' '.join(str(error).split()),
            remedy='set them right',
        ) from error


def _initialise(arguments: Sequence[str]) -> None:
    try:
        foreign = remove_ros_args(['node', *arguments])[1:]
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ConfigurationError(
            expected='ROS arguments and parameter files that can be read',
            found=' '.join(str(error).split()),
            remedy='correct them',
        ) from error
    if foreign:
        raise ConfigurationError(
            expected='no arguments but those behind --ros-args',
            found=' '.join(foreign),
            remedy='set parameters by --ros-args -p NAME:=VALUE; --help lists them',
        )


def _spin(node: Node, stop: Callable[[], bool]) -> None:
    executor = new_executor()
    executor.add_node(node)
    try:
        # Not spin(): that of the EventsExecutor keeps a core busy for ever in rclpy 9.
        while rclpy.ok() and not stop():
            executor.spin_once(timeout_sec=0.1)
            if failure := getattr(node, 'failure', None):
                raise failure
    finally:
        executor.remove_node(node)
        executor.shutdown()
