"""Measures the policy node as an arm meets it: `python -m benchmarks.control`.

An arm in a process of its own says at 1 kHz where it is; the policy node, in another, commands it at 1 kHz while the
default student, by the network of `config/learning.yaml`, plans at 200 Hz. The student's answer is replaced by what was
measured, at the cost of the whole network, so that the first command that reflects a jump of a joint can be told.

    echo        a bare rclpy node that sends each joint state back as a command
    steady      the policy node
    reloading   the same while it loads an artifact every second

Linux only: the processor time is read from /proc.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import tyro
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.control_arm import RATE
from benchmarks.harness import Bar, finish
from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.learning.export import export_student
from vdd_ros.learning.learning_settings import load_settings
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.policy.artifact import Calibration, DataRecord, Manifest, normalizer_entries, save_artifact
from vdd_ros.policy.density import fit_density
from vdd_ros.policy.normalization import Normalizer, Normalizers

PLANNING_RATE = 200.0
_SECONDS, _RELOADING = 60.0, 10.0
_QUICK_SECONDS, _QUICK_RELOADING = 1.0, 1.0
_TICKS = os.sysconf('SC_CLK_TCK')


def contract_at(rate: float) -> Contract:
    """Return the joint contract of Avoiding at a policy rate [Hz], with positions for actions."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    chunk = {'prediction_horizon': 3, 'action_horizon': 1}
    return Contract.model_validate({**values, **chunk, 'policy_rate': rate, 'action_mode': 'absolute'})


def save_mirror(path: Path, contract: Contract) -> None:
    """Save a student with the default network that commands each joint to be where it was measured."""
    settings = load_settings().student
    size = contract.prediction_horizon * contract.action_size
    shape = PolicyShape(contract.observation_horizon, contract.observation_size, size)
    one = Normalizers(
        Normalizer(np.zeros(contract.observation_size), np.ones(contract.observation_size)),
        Normalizer(np.zeros(contract.action_size), np.ones(contract.action_size)),
    )
    student = Student(settings, shape, torch.Generator().manual_seed(0))
    familiarity = fit_density(
        np.random.default_rng(0).normal(size=(20_000, *shape_of(shape))), np.random.default_rng(0)
    )
    lowest = {name: {'train': (-1e9, 0.0)} for name in ('familiarity', 'decidedness', 'likelihood')}
    manifest = Manifest(
        kind='student',
        contract=contract,
        contract_hash=contract.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        **normalizer_entries(one),
        network=settings.model_dump(mode='json'),
        training={},
        metrics={},
        calibration=Calibration(levels=(0.0, 1.0), quantiles=lowest, windows={'train': 1}),
    )
    network = mirrored(export_student(student, one), contract, settings.experts)
    save_artifact(path, manifest, {'nothing': np.zeros(1, dtype=np.float32)}, network, familiarity.arrays)


def shape_of(shape: PolicyShape) -> tuple[int, int]:
    """Return the shape of one window."""
    return shape.observation_horizon, shape.observation_size


def mirrored(network: bytes, contract: Contract, experts: int) -> bytes:
    """Replace the means of an exported student by the newest measured joints, and compute them all the same."""
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
    """Run a module as a process, and end it."""
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
    process: subprocess.Popen, environment: dict[str, str], seconds: float, reloading: float
) -> dict[str, dict[str, float]]:
    """Let the arm meet a process, and return what it saw of it, and the cores that it used, by part of the run."""
    command = [sys.executable, '-m', 'benchmarks.control_arm', str(seconds), str(reloading)]
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


def main(quick: bool = False, check: bool = False, seconds: float | None = None) -> int:
    """Measure the policy node as an arm meets it.

    Parameters
    ----------
    quick
        A few seconds: whether it runs, not how well.
    check
        Exit with 1 if a bar does not hold.
    seconds
        How long to watch; by default 60.

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
        console.print(f'watching an echo for {span:g} s, then the policy node for {span + reloading:g} s')
        with running('benchmarks.control_echo', environment, folder / 'echo.txt') as process:
            found = {'echo': watch(process, environment, span, 0.0)['steady']}
        with running(
            'vdd_ros.nodes.policy.policy_node', environment, folder / 'node.txt', '--ros-args', *asked
        ) as process:
            found |= watch(process, environment, span, reloading)
        if not found['steady']['commands']:
            console.print((folder / 'node.txt').read_text(encoding='utf-8'), markup=False)
    return finish('control', rows_of(found), bars_of(found), check=check)


def rows_of(found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return a row for each part of the run; latencies and gaps between commands in ms."""
    return [{'who': name, **values} for name, values in found.items()]


def bars_of(found: dict[str, dict[str, float]]) -> list[Bar]:
    """Return what is asked for."""
    echo, steady = found['echo'], found['steady']
    periods = 1e3 / PLANNING_RATE + 1e3 / RATE
    return [
        Bar('commands sent, share of those due', steady['commands'] / (RATE * steady['seconds']), 0.999),
        Bar('the same at most', steady['commands'] / (RATE * steady['seconds']), 1.001, at_most=True),
        Bar('latency above the echo, p50 [ms]', steady['latency_p50'] - echo['latency_p50'], periods, at_most=True),
        Bar('latency above the echo, p99 [ms]', steady['latency_p99'] - echo['latency_p99'], periods, at_most=True),
        Bar('cores used', steady['cores'], 0.6, at_most=True),
    ]


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
