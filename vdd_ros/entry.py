"""The executables of the package. A missing Python package ends an executable with one line."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable
from importlib import metadata

EXECUTABLES = {
    'vdd': 'vdd_ros.commands.cli',
    'dashboard': 'vdd_ros.nodes.dashboard.dashboard',
    'demonstrator': 'vdd_ros.nodes.demonstrator',
    'distillation_node': 'vdd_ros.nodes.distillation_node',
    'domain_check': 'vdd_ros.nodes.domain_check',
    'mujoco_bridge': 'vdd_ros.nodes.bridge.mujoco_bridge',
    'policy_node': 'vdd_ros.nodes.policy.policy_node',
    'recorder': 'vdd_ros.nodes.recorder.recorder',
    'replay': 'vdd_ros.nodes.replay.replay',
    'validator': 'vdd_ros.nodes.validator',
    'viewer': 'vdd_ros.nodes.bridge.viewer',
}
"""Module of each executable; the module's ``main`` returns the exit code."""
EXIT_ERROR = 2
_PACKAGE = 'vdd_ros'
_ROS = re.compile(r'rclpy|rosidl_\w+|ament_\w+|builtin_interfaces|rcl_interfaces|\w+_(msgs|srvs)|launch(_ros)?')
_REQUIREMENT = re.compile(r'(?P<name>[\w.-]+)\s*(\[[^\]]*\])?\s*\(?(?P<versions>[^;)]*)\)?\s*(;.*)?')
_DISTRIBUTIONS = {'PIL': 'pillow', 'yaml': 'pyyaml', 'pydantic_core': 'pydantic'}


def __getattr__(name: str) -> Callable[[], int]:
    """Return an executable: ``vdd_ros.entry:policy_node`` is the entry point of policy_node."""
    if name in EXECUTABLES:
        return functools.partial(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def run(name: str) -> int:
    """Run an executable with the arguments of the process.

    Returns
    -------
    The exit code of its ``main``, or 2 after one line on standard error if a required Python package is missing or
    too old.

    """
    try:
        return importlib.import_module(EXECUTABLES[name]).main()
    except ImportError as error:
        explanation = explain(error)
        if not explanation:
            raise
        sys.stderr.write(f'error: {explanation}\n')
        return EXIT_ERROR


def explain(error: ImportError) -> str:
    """Return a line with expected, found and remedy for a failed import; empty if the installation is not the cause."""
    module = (error.name or '').partition('.')[0]
    missing = isinstance(error, ModuleNotFoundError)
    if not module or module == _PACKAGE:
        return ''
    if _ROS.fullmatch(module):
        return (
            f'expected the ROS package {module}; found none in {sys.prefix}; source a ROS 2 installation '
            '(source /opt/ros/$ROS_DISTRO/setup.bash), or install its wheels (requirements/ros-kilted.txt)'
            if missing
            else ''
        )
    distribution = _DISTRIBUTIONS.get(module, module.replace('_', '-'))
    requirement = _requirement(distribution)
    found = 'none' if missing else _version(distribution)
    if not requirement and not missing:
        return ''
    isolated = sys.prefix != sys.base_prefix
    remedy = (
        f"python -m pip install '{requirement or distribution}'"
        if isolated
        else 'activate the virtual environment of the workspace; see docs/installation.md'
    )
    return f'expected the Python package {requirement or distribution}; found {found} in {sys.prefix}; {remedy}'


def _requirement(distribution: str) -> str:
    """Return the required versions of a distribution, such as ``mujoco<5,>=3.3.6``."""
    try:
        lines = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return ''
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        if match and match['name'].lower().replace('_', '-') == distribution.lower():
            return f'{match["name"]}{match["versions"].strip()}'
    return ''


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return 'an unknown version'


def main() -> int:
    """Run the executable named by the first argument: ``python -m vdd_ros.entry policy_node --ros-args ...``."""
    del sys.argv[0]
    return run(sys.argv[0])


if __name__ == '__main__':
    sys.exit(main())
