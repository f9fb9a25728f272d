"""Every launch file names only what the package has: nodes, parameters, arguments, files."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fake_launch
import pytest
import yaml

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.entry import EXECUTABLES
from vdd_ros.nodes.launching import check_file, end_with

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / 'launch').glob('*.launch.py'))


def describe(name: str) -> fake_launch.LaunchDescription:
    """Run a launch file against the fake."""
    with fake_launch.installed():
        return runpy.run_path(str(ROOT / 'launch' / name))['generate_launch_description']()


def of_kind(name: str, kind: type) -> list:
    """Return the entities of a kind in a launch file."""
    return [entity for entity in flat(describe(name).entities) if isinstance(entity, kind)]


def flat(entities: list) -> Iterator[object]:
    """Yield entities, and those of groups."""
    for entity in entities:
        yield entity
        if isinstance(entity, fake_launch.GroupAction):
            yield from flat(entity.actions)


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
    used = {item.variable_name for item in substitutions(actions) if isinstance(item, fake_launch.LaunchConfiguration)}
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


@pytest.mark.parametrize('name', FILES)
def test_a_launch_ends_with_every_node_that_it_starts_but_a_dashboard(name):
    """The arm is stopped by no display."""
    watched = [each.event_handler.target_action for each in of_kind(name, fake_launch.RegisterEventHandler)]
    assert watched == [node for node in of_kind(name, fake_launch.Node) if node.executable != 'dashboard']


@pytest.mark.parametrize('name', FILES)
def test_a_parameter_file_is_looked_for_before_a_node_starts(name):
    declared = {argument.name for argument in of_kind(name, fake_launch.DeclareLaunchArgument)}
    checks = [tuple(each.args) for each in of_kind(name, fake_launch.OpaqueFunction)]
    assert checks == ([('params_file',)] if 'params_file' in declared else [])


def context(**configurations: str) -> SimpleNamespace:
    """Return what launch hands to its functions, as far as these look at it."""
    return SimpleNamespace(launch_configurations=configurations, is_shutdown=False)


def test_a_parameter_file_that_is_absent_is_named(tmp_path, monkeypatch):
    (tmp_path / 'there.yaml').touch()
    monkeypatch.setenv('HOME', str(tmp_path))
    found = context(params_file='~/there.yaml')
    check_file(found, 'params_file')
    assert found.launch_configurations['params_file'] == str(tmp_path / 'there.yaml')
    with pytest.raises(ConfigurationError, match='nowhere.yaml; found none; set params_file'):
        check_file(context(params_file='nowhere.yaml'), 'params_file')


def test_a_node_that_died_fails_the_launch_and_one_that_is_done_ends_it():
    with fake_launch.installed():
        event = SimpleNamespace(process_name='replay-1', returncode=0)
        (end,) = end_with(event, context())
        assert end.reason == 'replay-1 has finished'
        with pytest.raises(InterfaceError, match='expected replay-1 to run; found exit code 2'):
            end_with(SimpleNamespace(process_name='replay-1', returncode=2), context())
        ending = context()
        ending.is_shutdown = True
        assert end_with(SimpleNamespace(process_name='replay-1', returncode=-2), ending) == []


@pytest.mark.parametrize('name', FILES)
def test_included_files_show_no_argument_that_cannot_be_set(name):
    """What a group does not forward is out of reach from the command line, and launch does not show it."""
    for group in of_kind(name, fake_launch.GroupAction):
        assert not group.forwarding
        declared = [argument.name for argument in of_kind(name, fake_launch.DeclareLaunchArgument)]
        assert list(group.launch_configurations) == declared
    included = [each for each in describe(name).entities if isinstance(each, fake_launch.IncludeLaunchDescription)]
    assert not included
