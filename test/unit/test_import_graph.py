"""The graph of imports: no circles, and libraries only behind their walls (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
    for path in sorted((ROOT / 'vdd_ros').rglob('*.py'))
}
MESSAGES = {
    *('action_msgs', 'builtin_interfaces', 'control_msgs', 'diagnostic_msgs', 'geometry_msgs', 'lifecycle_msgs'),
    *('rcl_interfaces', 'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_msgs', 'trajectory_msgs'),
    *('unique_identifier_msgs', 'visualization_msgs'),
}
ROS = MESSAGES | {'rclpy', 'sensor_msgs_py', 'tf2_ros', 'launch', 'launch_ros'}
MUJOCO = {'mujoco', 'daqp'}
BAGS = {'rosbags', 'mcap', 'mcap_ros2', 'rosbag2_py', 'sqlite3', 'apsw'}
# Libraries, and the folders or modules that alone import them, functions included.
WALLS = {
    'ROS': (ROS, ('nodes',)),
    'MuJoCo': (MUJOCO, ('sim', 'robot')),
    'bags': (BAGS, ('data.bag',)),
    'safetensors': ({'safetensors'}, ('policy.artifact', 'learning.training')),
}
# Folders or modules, and what importing them does not load, directly or through others.
CLOSURES = {
    'control': {'torch', 'pandas', 'rich'} | ROS | MUJOCO | BAGS,
    'policy': {'torch', 'rich'} | ROS | MUJOCO | BAGS,
    'learning': ROS | MUJOCO | BAGS,
    'nodes.policy.policy_node': {'torch'},
    'nodes.replay.replay': {'torch'},
    'nodes.recorder.recorder': {'torch'},
    'nodes.bridge.mujoco_bridge': {'torch'},
    'nodes.demonstrator': {'torch'},
}


def imported(nodes: Iterable[ast.AST], *, functions: bool, types: bool = False) -> Iterator[str]:
    """Yield the dotted names that some code imports; what is imported for types alone is left out, unless ``types``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
            yield from imported(node.body if types else node.orelse, functions=functions)
        elif functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imported(ast.iter_child_nodes(node), functions=functions, types=types)


@cache
def names_in(module: str, *, functions: bool, types: bool = False) -> frozenset[str]:
    """Return the dotted names that a module imports: those within its functions, and those for types alone, or not."""
    code = ast.parse(FILES[module].read_text(encoding='utf-8')).body
    return frozenset(imported(code, functions=functions, types=types))


def graph(*, functions: bool, types: bool = False) -> dict[str, set[str]]:
    """Return which modules of the package every one of them imports."""
    return {module: FILES.keys() & names_in(module, functions=functions, types=types) for module in FILES}


def libraries(module: str, *, functions: bool) -> set[str]:
    """Return the top-level packages that a module imports."""
    return {name.split('.')[0] for name in names_in(module, functions=functions)}


def within(module: str, *places: str) -> bool:
    """Return whether a module is one of some folders or modules of the package, or inside of one."""
    return any(f'{module}.'.startswith(f'vdd_ros.{place}.') for place in places)


def closure(edges: Mapping[str, set[str]], start: Iterable[str]) -> set[str]:
    """Return some modules and all that they import, directly or not."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += edges[module]
    return found


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Return one circle of a graph, or nothing."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle_not_even_in_functions_or_for_types():
    assert circle(graph(functions=True, types=True)) == []


def test_no_folders_import_each_other_in_a_circle():
    folders: dict[str, set[str]] = {}
    for module, others in graph(functions=True, types=True).items():
        # What lies at the top of the package (the API, the executables) is for users: it may import every folder.
        if module.count('.') >= 2 or FILES[module].name == '__init__.py':
            folder = '.'.join(module.split('.')[:2])
            folders.setdefault(folder, set()).update('.'.join(other.split('.')[:2]) for other in others)
    assert (
        circle({folder: others - {folder, 'vdd_ros'} for folder, others in folders.items() if folder != 'vdd_ros'})
        == []
    )


@pytest.mark.parametrize('wall', WALLS)
def test_a_library_is_imported_only_behind_its_wall(wall):
    named, places = WALLS[wall]
    found = {module: libraries(module, functions=True) & named for module in FILES if not within(module, *places)}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize('place', CLOSURES)
def test_importing_a_part_does_not_load_what_it_does_not_need(place):
    start = [module for module in FILES if within(module, place)]
    assert start
    found = {
        module: libraries(module, functions=False) & CLOSURES[place]
        for module in closure(graph(functions=False), start)
    }
    assert {module: names for module, names in found.items() if names} == {}


def test_learning_on_arrays_reaches_neither_bags_nor_simulation_nor_nodes():
    reached = closure(graph(functions=True), [module for module in FILES if within(module, 'learning')])
    foreign = ('nodes', 'sim', 'data.bag', 'validation', 'control', 'robot', 'commands')
    assert {module for module in reached if within(module, *foreign)} == set()


def test_a_circle_would_be_found():
    assert set(circle({'a': {'b'}, 'b': {'c'}, 'c': {'a'}})) == {'a', 'b', 'c'}
