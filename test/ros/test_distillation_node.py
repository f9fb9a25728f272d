"""The distillation node over real DDS: what an operator sees."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from vdd_ros.nodes import qos
from vdd_ros.policy.policy import DistilledPolicy

SETTINGS = """
threads: 1
teacher: {trunk: {width: 16, depth: 1}}
teacher_training: {iterations: %d, batch: 32}
student: {experts: 2, trunk: {width: 16, depth: 1}}
distillation: {iterations: %d, batch: 32}
"""


class Operator:
    """Listens to the diagnostics and may cancel."""

    def __init__(self, graph) -> None:
        """Take part in the test's graph."""
        node = graph.node('operator')
        self._graph = graph
        self.received: list[dict[str, str]] = []
        self._cancel = node.create_client(Trigger, 'distillation_node/cancel')
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DIAGNOSTICS)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        if status.name == 'distillation_node':
            self.received.append({item.key: item.value for item in status.values} | {'message': status.message})

    def cancel(self) -> bool:
        """Call the service; return whether it agreed."""
        self._graph.until(self._cancel.service_is_ready)
        future = self._cancel.call_async(Trigger.Request())
        self._graph.until(future.done)
        return future.result().success


def test_bags_become_a_student_with_progress(graph, tmp_path, bag):
    operator = Operator(graph)
    settings = tmp_path / 'settings.yaml'
    settings.write_text(SETTINGS % (200, 100))
    output = tmp_path / 'run'
    node = graph.start('distillation_node', False, bags=f'[{bag}]', output=output, config=settings)
    graph.until(lambda: not node.alive, patience=180.0)
    assert node.wait() == 0, node.text
    assert f'wrote {output}/student' in node.text
    assert DistilledPolicy.load(output / 'student').contract.name == 'avoiding_cartesian'
    graph.until(lambda: operator.received and operator.received[-1]['message'] == f'wrote {output}/student')
    reported = [
        received for received in operator.received if received.get('step', '').startswith(('teacher', 'student'))
    ]
    assert any(received['seconds_left'] for received in reported)


def test_a_cancelled_job_ends_without_an_artifact_and_can_be_taken_up_again(graph, tmp_path, bag):
    operator = Operator(graph)
    settings = tmp_path / 'settings.yaml'
    settings.write_text(SETTINGS % (40_000, 10))
    output = tmp_path / 'run'
    node = graph.start('distillation_node', False, bags=f'[{bag}]', output=output, config=settings)
    graph.until(lambda: operator.received and operator.received[-1].get('step') == 'teacher', patience=180.0)
    assert operator.cancel()
    assert node.wait() == 0
    assert 'cancelled' in node.text
    assert [path.name for path in output.iterdir()] == ['teacher.run']


@pytest.mark.parametrize(
    ('parameters', 'complaint'),
    [
        ({'bags': '[/nowhere]', 'output': 'run'}, 'expected a rosbag2 at /nowhere'),
        ({'bags': '[/nowhere]'}, 'expected output for distillation_node; found none; set the parameter output'),
        ({'output': 'run'}, 'expected bags for distillation_node; found none; set the parameter bags'),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_and_leaves_nothing(graph, tmp_path, parameters, complaint):
    if 'output' in parameters:
        parameters = parameters | {'output': tmp_path / 'out' / 'run'}
    node = graph.start('distillation_node', False, **parameters)
    assert node.wait() == 2
    assert complaint in node.text
    assert 'Traceback' not in node.text
    assert not (tmp_path / 'out').exists()
