"""As much of launch and launch_ros as the launch files use, honouring their signatures; an unknown argument fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class LaunchDescription:
    """What a launch file describes."""

    entities: list


@dataclass(frozen=True)
class DeclareLaunchArgument:
    """An argument of a launch file."""

    name: str
    default_value: Any = None
    description: str = ''
    choices: list | None = None


@dataclass(frozen=True)
class LaunchConfiguration:
    """The value of an argument."""

    variable_name: str


@dataclass(frozen=True)
class PathJoinSubstitution:
    """A path put together at launch."""

    substitutions: list


@dataclass(frozen=True)
class PythonExpression:
    """An expression evaluated at launch."""

    expression: list


@dataclass(frozen=True)
class FindPackageShare:
    """The share folder of a package."""

    package: str


@dataclass(frozen=True)
class IfCondition:
    """Whether an action is carried out."""

    predicate_expression: Any


@dataclass(frozen=True)
class UnlessCondition:
    """Whether an action is left out."""

    predicate_expression: Any


@dataclass(frozen=True)
class ParameterValue:
    """A parameter with its type."""

    value: Any
    value_type: Any = None


@dataclass(frozen=True)
class PythonLaunchDescriptionSource:
    """Another launch file."""

    launch_file_path: Any


@dataclass(frozen=True)
class IncludeLaunchDescription:
    """The inclusion of another launch file."""

    launch_description_source: PythonLaunchDescriptionSource
    launch_arguments: Any = ()

    def __post_init__(self) -> None:
        """Launch arguments come as items, which can be gone through once."""
        object.__setattr__(self, 'launch_arguments', dict(self.launch_arguments))


@dataclass(frozen=True)
class GroupAction:
    """Actions in a scope of their own."""

    actions: list
    scoped: bool = True
    forwarding: bool = True
    launch_configurations: dict = field(default_factory=dict)
    condition: Any = None


@dataclass(frozen=True)
class SetRemap:
    """A name that all nodes of a scope have another one for."""

    src: str
    dst: str


@dataclass(frozen=True)
class OpaqueFunction:
    """A function that is called at launch."""

    function: Any
    args: list = field(default_factory=list)


@dataclass(frozen=True)
class Shutdown:
    """The end of a launch."""

    reason: str = ''


@dataclass(frozen=True)
class OnProcessExit:
    """What is done when a process has ended."""

    target_action: Any
    on_exit: Any


@dataclass(frozen=True)
class RegisterEventHandler:
    """The registration of what is done at an event."""

    event_handler: Any


@dataclass(frozen=True)
class Node:
    """A node that is started."""

    package: str
    executable: str
    name: Any = None
    namespace: Any = None
    parameters: list = field(default_factory=list)
    remappings: list = field(default_factory=list)
    arguments: list = field(default_factory=list)
    ros_arguments: list = field(default_factory=list)
    condition: Any = None
    output: str = 'log'


@dataclass(frozen=True)
class LifecycleNode(Node):
    """A node with a lifecycle."""


_MODULES = {
    'launch': [LaunchDescription],
    'launch.actions': [
        DeclareLaunchArgument,
        GroupAction,
        IncludeLaunchDescription,
        OpaqueFunction,
        RegisterEventHandler,
        Shutdown,
    ],
    'launch.conditions': [IfCondition, UnlessCondition],
    'launch.event_handlers': [OnProcessExit],
    'launch.launch_description_sources': [PythonLaunchDescriptionSource],
    'launch.substitutions': [LaunchConfiguration, PathJoinSubstitution, PythonExpression],
    'launch_ros': [],
    'launch_ros.actions': [Node, LifecycleNode, SetRemap],
    'launch_ros.parameter_descriptions': [ParameterValue],
    'launch_ros.substitutions': [FindPackageShare],
}


@contextmanager
def installed() -> Iterator[None]:
    """Let ``import launch`` mean this module, whatever else is installed."""
    before = {name: module for name, module in sys.modules.items() if name.split('.')[0] in ('launch', 'launch_ros')}
    for name in before:
        del sys.modules[name]
    for name, classes in _MODULES.items():
        module = ModuleType(name)
        for kind in classes:
            setattr(module, kind.__name__, kind)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in _MODULES:
            del sys.modules[name]
        sys.modules.update(before)
