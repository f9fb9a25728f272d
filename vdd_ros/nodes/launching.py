"""What the launch files share: a launch fails where a file is absent, and ends when one of its nodes does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vdd_ros.common.errors import ConfigurationError, InterfaceError

# `launch` is imported where it is used: without a ROS installation it is not there, and nothing else needs it.


def existing_file(argument: str) -> Any:
    """Return an action that fails the launch if the file that an argument names is absent.

    launch_ros warns of a parameter file that is absent, and starts the node with other parameters than were meant.
    """
    from launch.actions import OpaqueFunction

    return OpaqueFunction(function=check_file, args=[argument])


def check_file(context: Any, argument: str) -> None:
    """Refuse a launch configuration that names no file; a leading ``~`` is the home of the user.

    Raises
    ------
    ConfigurationError
        There is no such file.

    """
    path = Path(context.launch_configurations[argument]).expanduser()
    if not path.is_file():
        raise ConfigurationError(
            expected=f'a file of parameters at {path}', found='none', remedy=f'set {argument} to one that is there'
        )
    context.launch_configurations[argument] = str(path)


def ending_with(*nodes: Any) -> list[Any]:
    """Return the actions that end a launch when one of its nodes ends: as a failure, unless its job was done."""
    from launch.actions import RegisterEventHandler
    from launch.event_handlers import OnProcessExit

    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=end_with)) for node in nodes]


def end_with(event: Any, context: Any) -> list[Any]:
    """End a launch, one of whose nodes has ended by itself.

    Raises
    ------
    InterfaceError
        It ended with an error; launch then returns a code other than 0.

    """
    from launch.actions import Shutdown

    if context.is_shutdown:
        return []
    if event.returncode:
        raise InterfaceError(
            expected=f'{event.process_name} to run', found=f'exit code {event.returncode}', remedy='read its last line'
        )
    return [Shutdown(reason=f'{event.process_name} has done its job')]
