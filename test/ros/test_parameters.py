"""Parameters of every node: complete when they are dumped, described and set, and nonsense is refused in one line."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter as RclpyParameter
from rclpy.parameter import parameter_value_to_python
from rclpy.validate_topic_name import validate_topic_name

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.deployment import RULE_PARAMETERS, Deployment
from vdd_ros.entry import EXECUTABLES
from vdd_ros.nodes.parameters import INTEGERS, STRINGS, Parameter, declare

ROOT = Path(__file__).parents[2]
NODES = sorted(EXECUTABLES.keys() - {'vdd', 'domain_check'})
OWN = ('use_sim_time', 'start_type_description_service')

numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.sampled_from([0, 1, -1, 0.0, -0.0, 1e300, math.nan, math.inf])
)
nonsense = st.one_of(
    st.booleans(),
    numbers,
    st.text(st.characters(exclude_characters='\x00', exclude_categories=['Cs']), max_size=20),
    st.sampled_from(['~', '', 'fast', 'a b', '1a', 'a/', '../x', '0', 'true', 'nan']),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.floats(), min_size=1, max_size=3),
    st.lists(st.text('ab/~ 1', max_size=5), min_size=1, max_size=3),
)


def table(node: str) -> tuple[Parameter, ...]:
    """Return the parameters of a node by the name of its module."""
    return importlib.import_module(EXECUTABLES[node]).PARAMETERS


def is_name(value: str) -> bool:
    """Tell whether ROS takes a string for a name."""
    try:
        return validate_topic_name(value)
    except Exception:  # noqa: BLE001 whatever rclpy raises of it, it is no name
        return False


def fits(row: Parameter, value: object) -> bool:
    """Tell whether a parameter may have a value, by its table alone."""
    if row.default in (STRINGS, INTEGERS):
        kind = str if row.default == STRINGS else int
        return isinstance(value, list) and all(
            type(each) is kind and (not row.topic or is_name(each)) for each in value
        )
    if type(row.default) is float:
        fine = type(value) in (int, float) and math.isfinite(value)
    else:
        fine = type(value) is type(row.default)
    if fine and row.minimum is not None:
        fine = row.minimum <= value <= row.maximum
    if fine and row.choices:
        fine = value in row.choices
    if fine and row.topic:
        fine = value == row.default == '' or is_name(value)
    return fine


@pytest.fixture(scope='module')
def graph(bag, shared_graph):
    """One graph for all nodes of these tests; the bag was recorded in another one before."""
    return shared_graph


@pytest.mark.parametrize('name', NODES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_is_taken_if_it_has_type_and_range_and_is_refused_in_one_line_else(graph, name, data):
    rows = table(name)
    row = data.draw(st.sampled_from(rows), 'row')
    value = data.draw(nonsense, 'value')
    override = RclpyParameter(row.name, value=value)
    node = Node(name, parameter_overrides=[override], start_parameter_services=False, enable_rosout=False)
    try:
        if fits(row, value):
            taken = declare(node, rows)[row.name]
            assert row.path or (list(taken) == value if row.is_list else taken == value)
            assert type(taken) is (tuple if row.is_list else type(row.default))
        else:
            with pytest.raises(ConfigurationError, match=rf'parameter {row.name} of {name}') as error:
                declare(node, rows)
            assert len(str(error.value).splitlines()) == 1 or isinstance(value, (str, list))
    finally:
        node.destroy_node()


@pytest.mark.parametrize('name', NODES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_set_while_a_node_runs_is_checked_alike_and_a_refusal_keeps_the_old_value(graph, name, data):
    rows = table(name)
    node = Node(name, start_parameter_services=False, enable_rosout=False)
    applied = []
    try:
        values = declare(node, rows, applied.append)
        for row in rows:
            value = data.draw(nonsense, row.name)
            before = node.get_parameter(row.name).value
            (result,) = node.set_parameters([RclpyParameter(row.name, value=value)])
            assert result.successful == (row.dynamic and fits(row, value))
            if result.successful:
                (change,) = applied.pop().items()
                assert change[0] == row.name and type(change[1]) is type(values[row.name])
            else:
                assert result.reason
                assert node.get_parameter(row.name).value == before
            assert not applied
    finally:
        node.destroy_node()


def answered(graph, client, request: object):
    """Return the answer to a request, which is repeated: DDS drops the one for a client that is not discovered yet."""
    futures, asked = [], 0.0

    def is_answered() -> bool:
        nonlocal asked
        if time.monotonic() - asked > 2:
            futures.append(client.call_async(request))
            asked = time.monotonic()
        return any(future.done() for future in futures)

    graph.until(is_answered)
    return next(future for future in futures if future.done()).result()


class Asker:
    """A node and its client in this process."""

    def __init__(self, graph, name: str, **how: object) -> None:
        """Declare the parameters of a node, and ask for them."""
        self.graph = graph
        self.node = Node(name, **how)
        self.values = declare(self.node, table(name))
        graph.add(self.node)
        self._asker = graph.node('asker')
        self._name = name

    def call(self, kind: type, service: str, **request: object):
        """Call one of the services of parameters."""
        client = self._asker.create_client(kind, f'/{self._name}/{service}')
        self.graph.until(client.service_is_ready)
        answer = answered(self.graph, client, kind.Request(**request))
        self._asker.destroy_client(client)
        return answer

    def dump(self) -> dict[str, object]:
        """Return all values by name, asked for at once, as `ros2 param dump` does."""
        names = self.call(ListParameters, 'list_parameters').result.names
        values = self.call(GetParameters, 'get_parameters', names=names).values
        assert len(values) == len(names)
        found = {name: parameter_value_to_python(value) for name, value in zip(names, values)}
        return {name: value for name, value in found.items() if name not in OWN}

    def end(self) -> None:
        """Leave the graph."""
        for node in (self.node, self._asker):
            self.graph.drop(node)


@pytest.mark.parametrize('name', NODES)
def test_all_parameters_are_dumped_described_and_set_and_a_dump_can_be_loaded(graph, name, tmp_path):
    asker = Asker(graph, name)
    rows = {row.name: row for row in table(name)}
    dumped = asker.dump()
    assert set(dumped) == set(rows)
    for key, value in dumped.items():
        assert list(value) == [] if rows[key].is_list else value == rows[key].default, key
    described = asker.call(DescribeParameters, 'describe_parameters', names=[*rows]).descriptors
    for row, found in zip(rows.values(), described):
        assert found.name == row.name and found.description == row.description
        assert found.read_only != row.dynamic
        assert found.type != ParameterType.PARAMETER_NOT_SET
        if row.minimum is not None:
            (bounds,) = found.floating_point_range or found.integer_range
            assert (bounds.from_value, bounds.to_value) == (row.minimum, row.maximum)
        assert all(choice in found.additional_constraints for choice in row.choices)
    same = [ParameterMessage(name=key, value=asker.node.get_parameter(key).get_parameter_value()) for key in rows]
    results = asker.call(SetParameters, 'set_parameters', parameters=same).results
    assert [result.successful for result in results] == [row.dynamic for row in rows.values()]
    asker.end()

    file = tmp_path / 'dump.yaml'
    plain = {key: list(value) if rows[key].is_list else value for key, value in dumped.items()}
    file.write_text(yaml.safe_dump({f'/{name}': {'ros__parameters': plain}}))
    again = Asker(graph, name, cli_args=['--ros-args', '--params-file', str(file)])
    assert again.dump() == dumped and again.values == asker.values
    again.end()


@pytest.fixture(scope='module')
def processes(graph, bag, tmp_path_factory):
    """Every node as a process, each in a namespace of its own, waiting for what it needs."""
    folder = tmp_path_factory.mktemp('nodes')
    needed = {
        'dashboard': {'port': 0},
        'demonstrator': {'timeout': 3600.0},
        'distillation_node': {'bags': f'[{bag}]', 'output': folder / 'learned'},
        'recorder': {'output': folder / 'bag'},
        'validator': {'output': folder / 'outcomes.json', 'timeout': 3600.0},
        'viewer': {'film': folder / 'view.mp4', 'timeout': 3600.0},
    }
    found = {
        name: graph.start(name, use_sim_time=False, names={'__ns': f'/of_{name}'}, **needed.get(name, {}))
        for name in NODES
    }
    yield found
    for process in found.values():
        process.stop()


class Distant(Asker):
    """The client of a node in another process."""

    def __init__(self, graph, name: str) -> None:
        """Ask a node of `processes`."""
        self.graph, self._asker, self._name = graph, graph.node('asker'), f'of_{name}/{name}'

    def end(self) -> None:
        """Take the client out of the graph."""
        self.graph.drop(self._asker)


@pytest.mark.parametrize('name', NODES)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_running_node_answers_for_all_its_parameters_and_keeps_them_when_nonsense_is_set(
    graph, processes, name, data
):
    asker, rows = Distant(graph, name), {row.name: row for row in table(name)}
    dumped = asker.dump()
    assert set(dumped) == set(rows)
    described = asker.call(DescribeParameters, 'describe_parameters', names=[*rows]).descriptors
    assert {each.name: each.description for each in described} == {row.name: row.description for row in rows.values()}
    drawn = {key: data.draw(nonsense, key) for key in rows}
    # No parameter is a list of booleans.
    values = {key: [True] if fits(rows[key], value) else value for key, value in drawn.items()}
    wrong = [RclpyParameter(key, value=value).to_parameter_msg() for key, value in values.items()]
    results = asker.call(SetParameters, 'set_parameters', parameters=wrong).results
    assert not any(result.successful for result in results) and all(result.reason for result in results)
    assert repr(asker.dump()) == repr(dumped)
    assert processes[name].alive, processes[name].text
    asker.end()


def test_a_path_may_begin_with_the_home_of_the_user(graph, monkeypatch):
    monkeypatch.setenv('HOME', '/home/somebody')
    rows = (
        Parameter('file', '', 'a file', path=True),
        Parameter('files', STRINGS, 'files', path=True),
        Parameter('text', '~', 'no file'),
    )
    overrides = [RclpyParameter('file', value='~/bag'), RclpyParameter('files', value=['~/a', '/b'])]
    node = Node('reader', parameter_overrides=overrides, start_parameter_services=False)
    assert dict(declare(node, rows)) == {'file': '/home/somebody/bag', 'files': ('/home/somebody/a', '/b'), 'text': '~'}
    node.destroy_node()


HELP = """
import sys
from vdd_ros.entry import run
for name in sys.argv[1:]:
    for word in ('--help', '-h'):
        sys.argv = [name, word]
        print('code', run(name), end='\\f')
sys.argv = [name]
print('code', run(name))
"""


def test_help_lists_all_parameters_and_starts_nothing():
    # With a domain that is no number, ROS cannot be initialised: at the end a node is started, which shows that.
    environment = os.environ | {'ROS_DOMAIN_ID': 'none'}
    done = subprocess.run(
        [sys.executable, '-c', HELP, *NODES], env=environment, capture_output=True, text=True, check=True
    )
    *pages, started = done.stdout.split('\f')
    assert started.strip() == 'code 2' and 'ROS_DOMAIN_ID is not' in done.stderr
    assert len(pages) == 2 * len(NODES)
    for name, first, second in zip(NODES, pages[::2], pages[1::2]):
        assert first == second and first.startswith(f'usage: {name} ') and first.endswith('code 0')
        assert all(f'\n  {row.name}: ' in first and row.description in first for row in table(name))


def test_a_running_bridge_refuses_what_would_stop_it_and_continues(graph):
    bridge = graph.start('mujoco_bridge', use_sim_time=False, mode='realtime')
    node = graph.node('pester')
    client = node.create_client(SetParameters, 'mujoco_bridge/set_parameters')
    graph.until(client.service_is_ready)

    def put(name: str, value: object):
        parameter = RclpyParameter(name, value=value).to_parameter_msg()
        return answered(graph, client, SetParameters.Request(parameters=[parameter])).results[0]

    for name, value in (
        ('speed', 0),
        ('speed', 'fast'),
        ('speed', 1000),
        ('speed', -1.0),
        ('step_count', 0),
        ('seed', -1),
        ('keyframe', 'nowhere'),
        ('mode', 'fast'),
    ):
        answer = put(name, value)
        assert (not answer.successful and name in answer.reason) or 'nowhere' in answer.reason, (name, value)
    for name, value in (('speed', 2), ('speed', 0.5), ('step_count', 3), ('seed', 7)):
        assert put(name, value).successful
    assert bridge.alive
    assert bridge.stop() == 0


def test_a_value_that_may_be_set_cannot_be_taken_away(graph):
    node = Node('keeper', start_parameter_services=False)
    declare(node, (Parameter('speed', 1.0, 'speed', minimum=0.1, maximum=2.0, dynamic=True),))
    (result,) = node.set_parameters([RclpyParameter('speed', RclpyParameter.Type.NOT_SET)])
    assert not result.successful and 'found no value' in result.reason
    assert node.get_parameter('speed').value == 1.0
    node.destroy_node()


def test_wrong_parameters_end_every_node_in_one_line_with_exit_code_2(tmp_path):
    wrong = [(name, ['--ros-args', '-p', 'nonsense:=1'], 'found nonsense') for name in NODES]
    wrong += [
        ('viewer', ['--ros-args', '-p', 'width:=fast'], 'expected an integer from 16 to 4096 for parameter width'),
        ('viewer', ['--ros-args', '-p', 'bridge:=a b'], 'a string, a valid ROS name for parameter bridge'),
        ('viewer', ['--ros-args', '-p', 'use_sim_time:=maybe'], 'use_sim_time'),
        ('viewer', ['--ros-args', '--params-file', 'nowhere.yaml'], 'nowhere.yaml'),
        ('viewer', ['--ros-args', '-p', 'width:=17'], 'expected an even width'),
        ('validator', [], 'expected a free path'),
        ('recorder', [], 'expected a folder for the bag'),
        ('distillation_node', [], 'expected bags'),
        ('viewer', ['width:=2'], 'expected only arguments after --ros-args; found width:=2'),
    ]
    environment = os.environ | {'ROS_LOG_DIR': str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, '-m', 'vdd_ros.entry', name, *words], stderr=subprocess.PIPE, text=True, env=environment
        )
        for name, words, _ in wrong
    ]
    for process, (name, words, complaint) in zip(processes, wrong):
        printed = [line for line in process.communicate()[1].splitlines() if '[rcl]' not in line]
        assert (process.returncode, len(printed)) == (2, 1), (name, words, printed)
        assert complaint in printed[0]


def test_a_parameter_is_read_by_its_former_name_unless_it_has_a_value_by_both(graph):
    rows = (Parameter('operating_mode', 'full', 'a mode', choices=('slow', 'full'), former_name='stage'),)
    former, present = RclpyParameter('stage', value='slow'), RclpyParameter('operating_mode', value='full')
    node = Node('renamed', parameter_overrides=[former], start_parameter_services=False)
    assert dict(declare(node, rows)) == {'operating_mode': 'slow'} and not node.has_parameter('stage')
    node.destroy_node()
    node = Node('renamed', parameter_overrides=[former, present], start_parameter_services=False)
    with pytest.raises(ConfigurationError, match='remove stage'):
        declare(node, rows)
    node.destroy_node()


def test_parameters_of_a_deployment_come_from_its_model_and_both_refuse_the_same_values():
    rows = {row.name: row for row in table('policy_node')}
    fields = Deployment.model_fields
    assert set(fields) - set(rows) == {RULE_PARAMETERS}
    for name in set(fields) & set(rows):
        row, field = rows[name], fields[name]
        assert row.description == field.description and (row.is_list or row.default == field.default)
        if row.minimum is None:
            continue
        for value in (row.minimum, row.maximum):
            assert getattr(Deployment.parse({name: value}), name) == row.checked(value, 'node') == value
        for value in (row.minimum - 0.5, row.maximum + 0.5):
            with pytest.raises(ConfigurationError, match=name):
                row.checked(value, 'node')
            with pytest.raises(ConfigurationError, match=name):
                Deployment.parse({name: value})
