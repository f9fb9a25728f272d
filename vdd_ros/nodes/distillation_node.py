"""Distil bags into a student on a robot or server: progress on /diagnostics, cancellation by a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, OutputError
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.demonstrations import load_demonstrations
from vdd_ros.learning.jobs import checkpoint_path, distill, train_teacher
from vdd_ros.learning.learning_settings import load_settings, preset
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.parameters import STRINGS, Parameter, declare
from vdd_ros.nodes.process import run
from vdd_ros.policy.artifact import Artifact
from vdd_ros.robot.kinematics import Kinematics

_FAREWELL = 2.0

PARAMETERS = (
    Parameter('bags', STRINGS, 'folders of the training bags', path=True),
    Parameter(
        'output', '', 'folder for the artifacts `teacher` and `student`; complete artifacts are reused', path=True
    ),
    Parameter('contract', 'avoiding_cartesian', 'contract: a file, or the name of a shipped one', path=True),
    Parameter(
        'config',
        '',
        'training settings: a YAML file, or the name of shipped ones; empty: the preset of the contract',
        path=True,
    ),
)


class DistillationNode(Node):
    """Trains the teacher and distils the student in a thread, and publishes the progress."""

    _job: threading.Thread | None = None

    def __init__(self) -> None:
        """Declare and check the parameters, and start the job."""
        super().__init__('distillation_node')
        self._values = declare(self, PARAMETERS)
        for name in ('bags', 'output'):
            if not self._values[name]:
                raise ConfigurationError(
                    expected=f'{name} for distillation_node', found='none', remedy=f'set the parameter {name}'
                )
        if (Path(self._values['output']) / 'student').exists():
            raise OutputError(
                expected=f'no student in {self._values["output"]}', found='one', remedy='choose another output'
            )
        self._contract = load_contract(self._values['contract'])
        self._settings = load_settings(self._values['config'] or preset(self._contract))
        self.failure: Exception | None = None
        self.finished = False
        """Whether the job has ended, by success or by cancellation."""
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._state: dict[str, object] = {'step': 'reading'}
        self._text = 'reading'
        self._step, self._began, self._first = '', time.monotonic(), 0.0
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self.create_service(Trigger, '~/cancel', self._on_cancel)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._job = threading.Thread(target=self._guard, name='distillation')
        self._job.start()

    def destroy_node(self) -> None:
        """Stop training; the checkpoint is kept, and the next run with this output continues from it."""
        if self._job:
            self._cancelled.set()
            self._job.join()
            self._report()
            # Subscribers must receive the final status; pending messages are lost with the process.
            self._diagnostics.wait_for_all_acked(Duration(seconds=_FAREWELL))
            self._job = None
        super().destroy_node()

    def _guard(self) -> None:
        try:
            artifact = self._learn()
        except Exception as error:  # noqa: BLE001 - raised again by the thread that spins
            self.failure = error
            return
        self._log_status('cancelled' if artifact is None else f'wrote {artifact.path}')
        self.finished = True

    def _learn(self) -> Artifact | None:
        values, output = self._values, Path(self._values['output'])
        teacher, student = output / 'teacher', output / 'student'
        demonstrations = load_demonstrations(
            values['bags'],
            self._contract,
            partial(Kinematics.from_contract, self._contract),
            self._progress,
            held_out=self._settings.held_out,
            seed=self._settings.seed,
        )
        how = (self._settings, self._progress)
        stop = self._cancelled.is_set
        if not teacher.exists():
            resume = checkpoint_path(teacher).exists()
            if train_teacher(demonstrations, teacher, *how, resume=resume, cancelled=stop) is None:
                return None
        resume = checkpoint_path(student).exists()
        return distill(demonstrations, teacher, student, *how, resume=resume, cancelled=stop)

    def _progress(self, step: str, done: float, total: float, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._began, self._first = step, now, done
        rate = (done - self._first) / max(now - self._began, 1e-9)
        left = f'{(total - done) / rate:.0f}' if rate > 0 else 'unknown'
        figures = {'done': done, 'total': total, 'per_second': rate, **metrics}
        with self._lock:
            self._text = f'{step}: {done:g} of {total:g}'
            self._state = {'step': step, 'seconds_left': left}
            self._state |= {name: f'{value:.6g}' for name, value in figures.items()}

    def _log_status(self, text: str) -> None:
        with self._lock:
            self._text = text
        self.get_logger().info(text)

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._cancelled.set()
        response.success = True
        response.message = 'stopping; a run with the same parameters continues from the checkpoint'
        return response

    def _report(self) -> None:
        with self._lock:
            text, state = self._text, self._state
        stamp = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.to_diagnostics(stamp, self.get_fully_qualified_name(), text, state))


def main() -> int:
    """Run the node as a process."""
    return run(DistillationNode, attend=lambda node: node.finished)


if __name__ == '__main__':
    raise SystemExit(main())
