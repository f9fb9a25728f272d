"""The executables of the package: each runs its module, and a Python package that is missing ends it in one line."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable
from importlib import metadata

EXECUTABLES = {
    'vdd': 'vdd_ros.commands.cli',
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
"""The module of each executable, whose ``main`` returns the exit code."""
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
    The exit code of its ``main``, or 2 after one line on standard error if a Python package that it needs is missing
    or of a version that does not suffice.

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
    """Return expected, found and remedy of an import that failed; empty if it is no fault of the installation."""
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
        else 'activate the virtual environment of the workspace; docs/installation.md says how to make one'
    )
    return f'expected the Python package {requirement or distribution}; found {found} in {sys.prefix}; {remedy}'


def _requirement(distribution: str) -> str:
    """Return the versions of a distribution that this package asks for, such as ``mujoco<5,>=3.3.6``."""
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
        return 'one of unknown version'


def main() -> int:
    """Run the executable that the first argument names: ``python -m vdd_ros.entry policy_node --ros-args ...``."""
    del sys.argv[0]
    return run(sys.argv[0])


if __name__ == '__main__':
    sys.exit(main())
