"""The services and parameters of the policy node in every state: each answers, and what is refused keeps the old."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from arms import ANSWERED, Arm
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from students import save_student

from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.labels import Label, Labels, save_labels

CHUNKS = {'prediction_horizon': 4}


@pytest.fixture(scope='module')
def graph(shared_graph):
    """One graph for all."""
    return shared_graph


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Two students, and one whose manifest is of another version."""
    folder = tmp_path_factory.mktemp('artifacts')
    left = load_artifact(save_student(folder / 'left', [[0.0, 0.001]], change=CHUNKS))
    save_labels(left.path, left.hash, Labels({0: Label(name='leftward', colour='#00ff00')}))
    save_student(folder / 'two', [[0.0, 0.001], [0.0, 0.001]], change=CHUNKS)
    save_student(folder / 'spoilt', [[0.0, 0.001]], change=CHUNKS)
    manifest = json.loads((folder / 'spoilt' / 'manifest.json').read_text())
    (folder / 'spoilt' / 'manifest.json').write_text(json.dumps({**manifest, 'network': {}}))
    return folder


@pytest.fixture(scope='module')
def node(graph, folder):
    """One policy node for all."""
    node = graph.start('policy_node', use_sim_time=False, artifact=folder / 'left', **ANSWERED, control_rate=100)
    yield node
    assert 'Traceback' not in node.text


@pytest.fixture(scope='module')
def arm(graph, node):
    """One arm for all."""
    return Arm(graph)


class Parameters:
    """The parameters of the node, as `ros2 param` reads and sets them."""

    def __init__(self, graph) -> None:
        """Take part in the graph."""
        self._graph, self._node = graph, graph.node('setter')

    def _call(self, kind: type, service: str, request: object, arm: Arm):
        client = self._node.create_client(kind, f'policy_node/{service}')
        self._graph.until(client.service_is_ready)
        future = client.call_async(request)
        self._graph.until(lambda: arm.live() and future.done())
        self._node.destroy_client(client)
        return future.result()

    def set(self, arm: Arm, name: str, value: object):
        """Set one, and return the answer."""
        message = Parameter(name, value=value).to_parameter_msg()
        return self._call(SetParameters, 'set_parameters', SetParameters.Request(parameters=[message]), arm).results[0]

    def get(self, arm: Arm, name: str) -> str:
        """Return a string."""
        request = GetParameters.Request(names=[name])
        return self._call(GetParameters, 'get_parameters', request, arm).values[0].string_value


@pytest.fixture(scope='module')
def parameters(graph):
    """A client for all."""
    return Parameters(graph)


def test_before_it_is_configured_preflight_and_reload_answer_and_mention_the_gate(arm):
    answer = arm.ask('preflight')
    assert not answer.success
    assert 'failure: lifecycle: the node is not configured' in answer.message
    for service in ('explain', 'reload_rules'):
        assert arm.ask(service).message == 'the node is not configured'
    assert 'fine: artifact: ' in answer.message and 'fine: gate: a test overrides it' in answer.message
    answer = arm.ask('reload')
    assert not answer.success and answer.message == 'the node is not configured'


def test_an_artifact_that_is_not_there_is_refused_before_configuration_too(arm, parameters, folder):
    answer = parameters.set(arm, 'artifact', str(folder / 'nowhere'))
    assert not answer.successful and 'expected an artifact at' in answer.reason
    assert parameters.get(arm, 'artifact') == str(folder / 'left')


def test_an_artifact_that_may_not_take_over_is_refused_and_the_parameter_keeps_its_value(arm, parameters, folder):
    arm.activate()
    arm.moves(0.002)
    for name, complaint in (('nowhere', 'expected an artifact at'), ('spoilt', 'settings of a student')):
        answer = parameters.set(arm, 'artifact', str(folder / name))
        assert not answer.successful and complaint in answer.reason and f'{folder / "left"} acts on' in answer.reason
        assert parameters.get(arm, 'artifact') == str(folder / 'left')
    answer = parameters.set(arm, 'artifact', str(folder / 'two'))
    assert answer.successful, answer.reason
    assert parameters.get(arm, 'artifact') == str(folder / 'two')
    arm.moves(0.002)


def test_rules_that_an_artifact_cannot_follow_keep_it_from_taking_over(arm, parameters, folder, graph):
    rules = folder / 'rules.yaml'
    rules.write_text('rules: [{pin: 1}]')
    assert parameters.set(arm, 'rules', str(rules)).successful
    answer = parameters.set(arm, 'artifact', str(folder / 'left'))
    assert not answer.successful and 'found a rule on 1' in answer.reason
    rules.write_text('rules: [{pin: 2}]')
    answer = parameters.set(arm, 'rules', str(rules))
    assert not answer.successful and 'experts from 0 to 1, which the student has' in answer.reason
    assert parameters.set(arm, 'rules', '').successful
    assert parameters.set(arm, 'artifact', str(folder / 'left')).successful


def test_named_rules_are_explained_read_again_and_set_by_other_nodes_while_the_arm_moves(
    arm, parameters, folder, graph, node
):
    graph.until(lambda: 'experts: 0 (leftward) #00ff00' in node.text)
    alone = 'expert 0 (leftward) acts, probability 1.000; rules: none; without rules: the same, probability 1.000'
    graph.until(lambda: arm.ask('explain').message == alone)
    assert parameters.set(arm, 'artifact', str(folder / 'two')).successful
    rules, text = folder / 'routing.yaml', 'rules: [{name: one, forbid: [1]}, {name: cans, when: WHEN, stop: true}]'
    rules.write_text(f'parameters: {{task: boxes}}\n{text}'.replace('WHEN', '\'parameter.task == "cans"\''))
    assert parameters.set(arm, 'rules', str(rules)).successful
    graph.until(lambda: 'rules: one (forbids 1), cans (stops)' in node.text)
    explained = 'expert 0 acts, probability 1.000; rules: one (forbids 1); without rules: '
    graph.until(lambda: arm.ask('explain').message.startswith(explained))
    for value, complaint in ((3, 'Wrong parameter type'), ('cans', '')):
        answer = parameters.set(arm, 'rule_parameters.task', value)
        assert answer.successful == (not complaint) and complaint in answer.reason
    graph.until(lambda: arm.live() and 'holding: stopped by the rule cans; ~/resume goes on' in node.text)
    assert arm.ask('explain').message.startswith('stopped by the rule cans; rules: one (forbids 1), cans (stops)')
    # A file that is wrong changes nothing; one that is mended is read again, and the parameter keeps its value.
    written = rules.read_text()
    rules.write_text(written.replace('[1]', '[7]'))
    answer = arm.ask('reload_rules')
    assert not answer.success and 'a rule on 7 (one, ' in answer.message and 'stay active' in answer.message
    rules.write_text(written.replace('stop: true', 'speed: 0.5'))
    assert arm.ask('reload_rules').message == f'2 rules of {rules}'
    graph.until(lambda: 'rules: one (forbids 1), cans (speed x 0.5)' in node.text)
    assert parameters.get(arm, 'rule_parameters.task') == 'cans'
    arm.resume()
    arm.moves(0.002)
    assert '; rules: one (forbids 1), cans (speed x 0.5); ' in arm.ask('explain').message
    assert parameters.set(arm, 'rules', '').successful
    assert not parameters.set(arm, 'rule_parameters.task', 'boxes').successful
    assert parameters.set(arm, 'artifact', str(folder / 'left')).successful


def test_a_stop_names_the_service_that_ends_it(graph, node, arm):
    assert arm.ask('stop').success
    graph.until(lambda: arm.live() and 'holding: stop was asked for; ~/resume goes on' in node.text)
    arm.resume()
    arm.moves(0.002)


def test_the_gate_stands_in_the_preflight_of_a_configured_node(graph, arm):
    graph.until(lambda: arm.live() and 'fine: gate: ' in arm.ask('preflight').message)


def test_reload_cleanup_and_configuration_may_come_in_any_order(graph, node, arm):
    names = {
        'configure': Transition.TRANSITION_CONFIGURE,
        'activate': Transition.TRANSITION_ACTIVATE,
        'deactivate': Transition.TRANSITION_DEACTIVATE,
        'cleanup': Transition.TRANSITION_CLEANUP,
    }
    for order in itertools.permutations(['reload', 'deactivate', 'cleanup', 'configure'], 4):
        for step in order:
            if step == 'reload':
                assert arm.ask('reload').message
            else:
                arm.live()
                arm.change(names[step])
    assert node.alive and 'Traceback' not in node.text


def test_a_node_that_is_shut_down_while_it_loads_ends_in_order(graph, node, arm):
    arm.change(Transition.TRANSITION_CONFIGURE)
    client = graph.node('hasty')
    service = client.create_client(Trigger, 'policy_node/reload')
    graph.until(service.service_is_ready)
    service.call_async(Trigger.Request())
    assert node.stop() == 0
