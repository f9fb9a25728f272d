"""The walls that hold the house up, kept by looking at every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'vdd_ros'
FILES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob('*.py'))
MESSAGES = {
    'action_msgs',
    'builtin_interfaces',
    'control_msgs',
    'diagnostic_msgs',
    'geometry_msgs',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'tf2_msgs',
    'trajectory_msgs',
    'visualization_msgs',
}
# What may be imported only where; a folder ends in a slash.
WALLS = {
    'ROS': (MESSAGES | {'rclpy', 'sensor_msgs_py', 'tf2_ros', 'launch', 'launch_ros'}, ('vdd_ros/nodes/',)),
    'MuJoCo': ({'mujoco', 'daqp'}, ('vdd_ros/sim/', 'vdd_ros/robot/')),
    'bags': (
        {'rosbags', 'mcap', 'mcap_ros2', 'rosbag2_py', 'sqlite3', 'apsw'},
        ('vdd_ros/data/bag/',),
    ),
    'the file format': ({'safetensors'}, ('vdd_ros/policy/artifact.py', 'vdd_ros/learning/training.py')),
}


def imported(path: Path) -> set[str]:
    """Return the dotted names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} imports relatively'
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def dotted(path: Path) -> str:
    """Return the name by which a file is imported."""
    return '.'.join(path.with_suffix('').parts).removesuffix('.__init__')


def local_closure(path: Path) -> set[Path]:
    """Return a file and every file of the package that it imports when it is imported itself, directly or not."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        names = at_import(file)
        waiting += [other for other in FILES if dotted(other) in names]
    return found


def at_import(path: Path) -> set[str]:
    """Return the names of the modules that importing a file imports: those outside of functions and type checking."""
    names = set()
    waiting = list(ast.parse((ROOT / path).read_text(encoding='utf-8')).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)
    return names


def tops(names: set[str]) -> set[str]:
    """Return the top-level packages of dotted names."""
    return {name.split('.')[0] for name in names}


@pytest.mark.parametrize('wall', WALLS)
def test_a_library_is_imported_only_behind_its_wall(wall):
    libraries, places = WALLS[wall]
    offenders = {
        str(path): sorted(tops(imported(path)) & libraries)
        for path in FILES
        if tops(imported(path)) & libraries and not str(path).startswith(places)
    }
    assert not offenders


def test_control_knows_neither_torch_nor_ros_nor_mujoco_not_even_through_others():
    forbidden = {'torch', 'rclpy', 'mujoco', 'rosbags'} | MESSAGES
    offenders = {
        str(other): sorted(tops(at_import(other)) & forbidden)
        for path in FILES
        if str(path).startswith('vdd_ros/control/')
        for other in local_closure(path)
        if tops(at_import(other)) & forbidden
    }
    assert not offenders


@pytest.mark.parametrize(
    'node', ['bridge/mujoco_bridge', 'recorder/recorder', 'replay/replay', 'demonstrator', 'policy/policy_node']
)
def test_a_node_that_runs_on_a_robot_does_not_import_torch(node):
    closure = local_closure(Path('vdd_ros', 'nodes', f'{node}.py'))
    assert not {str(path) for path in closure if 'torch' in tops(at_import(path))}


def test_the_learning_core_knows_neither_ros_nor_simulation():
    core = ('learning', 'data', 'policy', 'contract', 'control', 'common', 'robot')
    offenders = {
        str(path): sorted(names)
        for path in FILES
        if path.parts[1] in core
        and (names := {name for name in imported(path) if name.startswith(('vdd_ros.nodes', 'vdd_ros.sim'))})
    }
    assert not offenders
