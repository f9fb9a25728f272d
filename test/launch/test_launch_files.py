"""Every launch file names only what the package has: nodes, parameters, arguments, files."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
from pathlib import Path
from typing import Iterator

import fake_launch
import pytest
import yaml

from vdd_ros.entry import EXECUTABLES

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / 'launch').glob('*.launch.py'))


def describe(name: str) -> fake_launch.LaunchDescription:
    """Run a launch file against the fake."""
    with fake_launch.installed():
        return runpy.run_path(str(ROOT / 'launch' / name))['generate_launch_description']()


def of_kind(name: str, kind: type) -> list:
    """Return the entities of a kind in a launch file."""
    return [entity for entity in describe(name).entities if isinstance(entity, kind)]


def substitutions(value: object) -> Iterator[object]:
    """Yield everything nested in a value."""
    yield value
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, '__dataclass_fields__'):
        value = [getattr(value, field) for field in value.__dataclass_fields__]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from substitutions(item)


def parameters(executable: str) -> set[str]:
    """Return the names of the parameters that a node declares."""
    module = importlib.import_module(EXECUTABLES[executable])
    return {row.name for row in module.PARAMETERS} | {'use_sim_time'}


def test_every_executable_is_a_node_with_a_main():
    for name, module in EXECUTABLES.items():
        assert callable(importlib.import_module(module).main), name


@pytest.mark.parametrize('name', FILES)
def test_nodes_exist_and_declare_the_parameters_that_are_set(name):
    for node in of_kind(name, fake_launch.Node):
        assert node.package == 'vdd_ros'
        assert node.executable in EXECUTABLES
        assert node.name == node.executable
        for group in node.parameters:
            if isinstance(group, dict):
                assert set(group) <= parameters(node.executable)


@pytest.mark.parametrize('name', FILES)
def test_remappings_start_from_names_that_the_node_uses(name):
    for node in of_kind(name, fake_launch.Node):
        source = Path(importlib.import_module(EXECUTABLES[node.executable]).__file__).read_text(encoding='utf-8')
        for origin, _ in node.remappings:
            assert f"'{origin}'" in source


@pytest.mark.parametrize('name', FILES)
def test_arguments_are_documented_and_used_and_those_used_are_declared(name):
    description = describe(name)
    declared = {argument.name: argument for argument in of_kind(name, fake_launch.DeclareLaunchArgument)}
    actions = [entity for entity in description.entities if not isinstance(entity, fake_launch.DeclareLaunchArgument)]
    used = {
        item.variable_name for item in substitutions(actions) if isinstance(item, fake_launch.LaunchConfiguration)
    }
    assert used == set(declared)
    assert all(argument.description.endswith('.') for argument in declared.values())


@pytest.mark.parametrize('name', FILES)
def test_files_of_the_package_that_are_named_exist(name):
    for item in substitutions(describe(name).entities):
        if isinstance(item, fake_launch.PathJoinSubstitution):
            share, *parts = item.substitutions
            assert share == fake_launch.FindPackageShare('vdd_ros')
            assert (ROOT.joinpath(*parts)).is_file()


@pytest.mark.parametrize('name', FILES)
def test_an_included_file_gets_every_argument_that_it_declares_and_no_other(name):
    """Included files share one scope of arguments: one left out would take the value of the other file's."""
    for include in of_kind(name, fake_launch.IncludeLaunchDescription):
        included = include.launch_description_source.launch_file_path.substitutions[-1]
        declared = {argument.name for argument in of_kind(included, fake_launch.DeclareLaunchArgument)}
        assert set(include.launch_arguments) == declared


@pytest.mark.parametrize(
    'path', sorted([*ROOT.glob('config/*.yaml'), *ROOT.glob('config/robots/*.yaml')]), ids=lambda path: path.name
)
def test_parameter_files_set_only_declared_parameters(path):
    for key, entry in yaml.safe_load(path.read_text(encoding='utf-8')).items():
        if isinstance(entry, dict) and 'ros__parameters' in entry:
            assert set(entry['ros__parameters']) <= parameters(key.split('/')[-1])


@pytest.mark.parametrize('name', FILES)
def test_launch_itself_understands_the_file_where_it_is_installed(name):
    """With a ROS installation it is the real launch that runs the file, else the fake of this folder."""
    if importlib.util.find_spec('launch_ros'):
        description = runpy.run_path(str(ROOT / 'launch' / name))['generate_launch_description']()
    else:
        description = describe(name)
    assert description.entities
