"""Measure the policy node from the view of an arm: `python -m benchmarks.control`.

An arm in a separate process publishes its state at 1 kHz. The policy node, in another process, commands it at 1 kHz,
while the default student with the network of `config/learning.yaml` plans at 200 Hz. The output of the student is
replaced by the measurement at the cost of the complete network, so that the response to a joint step can be timed.

    echo        a minimal rclpy node that returns each joint state as a command
    steady      the policy node
    reloading   the policy node while it loads an artifact every second
    dashboard   the same beside `vdd dashboard` with an open page

Linux only: the processor time is read from /proc.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import onnx
import tyro
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.control_arm import RATE
from benchmarks.harness import Bar, finish
from benchmarks.random_student import save_random_student
from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.learning.learning_settings import load_settings
from vdd_ros.learning.mixture.student import StudentSettings

PLANNING_RATE = 200.0
_SECONDS, _RELOADING = 60.0, 10.0
_QUICK_SECONDS, _QUICK_RELOADING = 1.0, 1.0
_PATIENCE = 30.0
_TICKS = os.sysconf('SC_CLK_TCK')


def contract_at(rate: float) -> Contract:
    """Return the joint contract of Avoiding at a policy rate [Hz], with position actions."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    chunk = {'prediction_horizon': 3, 'action_horizon': 1}
    return Contract.model_validate({**values, **chunk, 'policy_rate': rate, 'action_mode': 'absolute'})


def save_mirror(path: Path, contract: Contract, settings: StudentSettings | None = None) -> None:
    """Save a student, by default with the default network, that commands each joint to its measured position."""
    settings = settings or load_settings().student
    save_random_student(path, contract, settings, change=lambda network: mirrored(network, contract, settings.experts))


def mirrored(network: bytes, contract: Contract, experts: int) -> bytes:
    """Replace the means of an exported student by the newest measured joints, without removing their computation."""
    model = onnx.load_from_string(network)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ['untrained' if name == 'mean' else name for name in node.output]
    joints, newest = len(contract.robot.joints), contract.observation_horizon - 1
    numbers = {
        'nought': np.float32(0),
        'first': np.array([newest, 0], dtype=np.int64),
        'last': np.array([newest + 1, joints], dtype=np.int64),
        'axes': np.array([1, 2], dtype=np.int64),
        'flat': np.array([-1, joints], dtype=np.int64),
        'copies': np.array([1, experts * contract.prediction_horizon], dtype=np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items())
    graph.node.extend(
        [
            helper.make_node('Slice', ['observation', 'first', 'last', 'axes'], ['newest']),
            helper.make_node('Reshape', ['newest', 'flat'], ['measured']),
            helper.make_node('Tile', ['measured', 'copies'], ['copied']),
            helper.make_node('Mul', ['untrained', 'nought'], ['silenced']),
            helper.make_node('Add', ['silenced', 'copied'], ['mean']),
        ]
    )
    (place,) = [index for index, output in enumerate(graph.output) if output.name == 'mean']
    graph.output[place].CopyFrom(_mean_of(experts * contract.prediction_horizon * joints))
    return model.SerializeToString()


def _mean_of(size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info('mean', TensorProto.FLOAT, [None, size])


@contextmanager
def running(module: str, environment: dict[str, str], log: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """Run a module as a process, and stop it."""
    with log.open('w', encoding='utf-8') as file:
        command = [sys.executable, '-m', module, *arguments]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def processor_time(process: subprocess.Popen) -> float:
    """Return the processor time that a process has used so far [s]."""
    fields = Path('/proc', str(process.pid), 'stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def watch(
    process: subprocess.Popen, environment: dict[str, str], seconds: float, reloading: float, rate: float = RATE
) -> dict[str, dict[str, float]]:
    """Connect an arm at a rate [Hz] to a process; return latencies and processor load by part of the run."""
    command = [sys.executable, '-m', 'benchmarks.control_arm', str(seconds), str(reloading), str(rate)]
    found, before = {}, 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as arm:
        for line in arm.stdout:
            told = json.loads(line)
            if 'begin' in told:
                before = processor_time(process)
            else:
                part, cores = told.pop('end'), (processor_time(process) - before) / told['seconds']
                found[part] = {**told, 'cores': cores}
    return found


@contextmanager
def dashboard(environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run the dashboard of the policy node, with a page open that takes all events."""
    with running('vdd_ros.nodes.dashboard.dashboard', environment, log, '--ros-args', '-p', 'port:=0'):
        deadline = time.monotonic() + _PATIENCE
        while not (found := re.search(r'http://\S+', log.read_text(encoding='utf-8'))):
            if time.monotonic() > deadline:
                raise TimeoutError(f'expected an address of the dashboard in {log}')
            time.sleep(0.1)
        reader = threading.Thread(target=_read, args=(f'{found[0]}api/events',))
        reader.start()
        yield
    reader.join()


def _read(address: str) -> None:
    """Take in what a server sends until it ends."""
    with suppress(OSError, HTTPException), urlopen(address) as stream:
        for _ in stream:
            pass


def main(quick: bool = False, check: bool = False, seconds: float | None = None) -> int:
    """Measure the policy node from the view of an arm.

    Parameters
    ----------
    quick
        A few seconds, which only test the program.
    check
        Exit with 1 if a bar does not hold.
    seconds
        Duration of the measurement; by default 60.

    """
    span = seconds or (_QUICK_SECONDS if quick else _SECONDS)
    reloading = _QUICK_RELOADING if quick else _RELOADING
    console = Console()
    with tempfile.TemporaryDirectory() as name, private_domain() as domain:
        folder = Path(name)
        environment = {
            **domain_environment(domain),
            'ROS_LOG_DIR': name,
            'OMP_NUM_THREADS': '1',
        }
        save_mirror(folder / 'student', contract_at(PLANNING_RATE))
        parameters = {
            'artifact': folder / 'student',
            'autostart': 'true',
            'control_rate': RATE,
            'action_noise_scale': 0.0,
            'smoothing': 0.0,
            'ood_response': 'watch',
            'startup_timeout': 60.0,
            'override_name': 'benchmarks.control',
            'override_reason': 'there is no arm',
        }
        asked = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
        console.print(f'watching an echo for {span:g} s, then the policy node for {2 * span + reloading:g} s')
        with running('benchmarks.control_echo', environment, folder / 'echo.txt') as process:
            found = {'echo': watch(process, environment, span, 0.0)['steady']}
        with running(
            'vdd_ros.nodes.policy.policy_node', environment, folder / 'node.txt', '--ros-args', *asked
        ) as process:
            found |= watch(process, environment, span, reloading)
            with dashboard(environment, folder / 'dashboard.txt'):
                found['dashboard'] = watch(process, environment, span, 0.0)['steady']
        if not found['steady']['commands']:
            console.print((folder / 'node.txt').read_text(encoding='utf-8'), markup=False)
    return finish('control', rows_of(found), bars_of(found), check=check)


def rows_of(found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return a row for each part of the run; latencies and command gaps in ms."""
    return [{'who': name, **values} for name, values in found.items()]


def bars_of(found: dict[str, dict[str, float]]) -> list[Bar]:
    """Return the bars."""
    echo, steady, shown = found['echo'], found['steady'], found['dashboard']
    periods = 1e3 / PLANNING_RATE + 1e3 / RATE
    return [
        Bar('commands sent, share of those due', steady['commands'] / (RATE * steady['seconds']), 0.999),
        Bar('the same at most', steady['commands'] / (RATE * steady['seconds']), 1.001, at_most=True),
        Bar('latency above the echo, p50 [ms]', steady['latency_p50'] - echo['latency_p50'], periods, at_most=True),
        Bar('latency above the echo, p99 [ms]', steady['latency_p99'] - echo['latency_p99'], periods, at_most=True),
        Bar('cores used', steady['cores'], 0.6, at_most=True),
        Bar(
            'lateness beside the dashboard over that without, p99',
            shown['lateness_p99'] / steady['lateness_p99'],
            1.1,
            at_most=True,
        ),
    ]


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
