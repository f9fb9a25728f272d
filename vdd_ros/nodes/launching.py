"""Common parts of the launch files: fail if a file is missing, and end when a node ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vdd_ros.common.errors import ConfigurationError, InterfaceError

# `launch` is imported where it is used, because it is missing without a ROS installation.


def existing_file(argument: str) -> Any:
    """Return an action that fails the launch if the file given by an argument is missing.

    launch_ros only warns about a missing parameter file, and starts the node with default parameters.
    """
    from launch.actions import OpaqueFunction

    return OpaqueFunction(function=check_file, args=[argument])


def check_file(context: Any, argument: str) -> None:
    """Check that a launch configuration names an existing file; a leading ``~`` is the home of the user.

    Raises
    ------
    ConfigurationError
        There is no such file.

    """
    path = Path(context.launch_configurations[argument]).expanduser()
    if not path.is_file():
        raise ConfigurationError(
            expected=f'a file of parameters at {path}', found='none', remedy=f'set {argument} to an existing file'
        )
    context.launch_configurations[argument] = str(path)


def ending_with(*nodes: Any) -> list[Any]:
    """Return the actions that end a launch when one of its nodes ends: as a failure, unless it was finished."""
    from launch.actions import RegisterEventHandler
    from launch.event_handlers import OnProcessExit

    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end_with)) for node in nodes]


def end_with(event: Any, context: Any) -> list[Any]:
    """End a launch after one of its nodes has ended.

    Raises
    ------
    InterfaceError
        The node failed; launch then returns a code other than 0.

    """
    from launch.actions import Shutdown

    if context.is_shutdown:
        return []
    if event.returncode:
        raise InterfaceError(
            expected=f'{event.process_name} to run', found=f'exit code {event.returncode}', remedy='see its last output'
        )
    return [Shutdown(reason=f'{event.process_name} has finished')]
