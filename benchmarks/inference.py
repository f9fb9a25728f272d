"""Measure the duration of policy calls on one thread: `python -m benchmarks.inference`.

The default student is compared with its teacher, and a transformer student with its eager execution in torch. The
networks are untrained: latency does not depend on the weights. All are called in turn in one process, so that other
load of the machine affects all of them equally.

    teacher, eager          the torch module, once per noise level, as in published code
    teacher, same runtime   the same number of calls in the runtime of the student
    student                 one call by the planner of the policy node: network, coherence with the current chunk,
                            expert selection
    student, with OOD scores    the same with the scores of out-of-distribution monitoring
    student, whole plan     all work of the policy node for one plan, including inverse kinematics and motion
    transformer, eager      a student of 6 layers, width 240, 12 heads, 6 tokens, 4 experts, 9 actions as a torch module
    transformer             the same student exported to ONNX
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import Progress

from benchmarks.harness import Bar, finish
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.export import export_student, export_teacher
from vdd_ros.learning.jobs import shape_of
from vdd_ros.learning.learning_settings import LearningSettings, load_settings, preset
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.policy.artifact import (
    Artifact,
    Calibration,
    DataRecord,
    Manifest,
    load_artifact,
    normalizer_entries,
    save_artifact,
)
from vdd_ros.policy.density import fit_density
from vdd_ros.policy.normalization import Normalizer, Normalizers
from vdd_ros.policy.runtime import Network
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.latency import PLAN, STUDENT, WATCHED, Latency, compare, measure

TRANSFORMER = StudentSettings(experts=4, trunk=TrunkSettings(kind='transformer', width=240, depth=6, heads=12))
SHAPE = PolicyShape(observation_horizon=6, observation_size=30, action_size=9)
_WINDOWS = 12_000
"""Number of windows that suffices for the maximum number of density centres."""
_UNDEMANDING = Calibration(
    levels=(0.0, 1.0),
    quantiles={name: {'train': (-1e9, 1e9)} for name in ('density', 'gating_confidence', 'likelihood')},
    windows={'train': _WINDOWS},
)
_CALM = 0.001
"""Step of the untrained student [m], which keeps the arm within reach."""
_ROUNDS = {'rounds': 40, 'calls': 20}
_QUICK = {'rounds': 2, 'calls': 5}


def untrained(
    kind: str,
    contract: Contract,
    settings: LearningSettings,
    path: Path,
    scale: float = 1.0,
    *,
    calibrated: bool = False,
) -> Artifact:
    """Save and load a teacher or a student of a contract, with the networks of the settings.

    ``scale`` is the size of its actions in the units of the contract. A ``calibrated`` student has a density of the
    size of a trained one, and no observation is out of distribution.
    """
    shape = shape_of(contract)
    normalizers = Normalizers(
        Normalizer(np.zeros(contract.observation_size), np.ones(contract.observation_size)),
        Normalizer(np.zeros(contract.action_size), np.full(contract.action_size, scale)),
    )
    if kind == 'teacher':
        module, own = Teacher(settings.teacher, shape), settings.teacher
        training = {'sigmas': module.sigmas().tolist(), 'sigma_data': module.denoiser.sigma_data}
        encoder, network = export_teacher(module, normalizers)
    else:
        module, own = Student(settings.student, shape, torch.Generator().manual_seed(0)), settings.student
        training, encoder, network = {}, None, export_student(module, normalizers)
    manifest = Manifest(
        kind=kind,
        contract=contract,
        contract_hash=contract.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        **normalizer_entries(normalizers),
        network=own.model_dump(mode='json'),
        training=training,
        metrics={},
        calibration=_UNDEMANDING if calibrated else None,
    )
    density = None
    if calibrated:
        generator = np.random.default_rng(0)
        density = fit_density(
            generator.normal(size=(_WINDOWS, shape.observation_horizon, shape.observation_size)), generator
        ).arrays
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    save_artifact(path, manifest, weights, network, density, encoder=encoder)
    return load_artifact(path, kind=kind)


def measure_transformer(progress: Callable[[int, int], None], **budget: int) -> tuple[dict[str, Latency], float, int]:
    """Return the latencies, the maximum output difference, and the number of parameters of the transformer."""
    student = Student(TRANSFORMER, SHAPE, torch.Generator().manual_seed(0)).eval()
    one = Normalizers(
        Normalizer(np.zeros(SHAPE.observation_size), np.ones(SHAPE.observation_size)),
        Normalizer(np.zeros(SHAPE.action_size), np.ones(SHAPE.action_size)),
    )
    network = Network(export_student(student, one))
    generator = np.random.default_rng(0)
    window = generator.standard_normal((1, SHAPE.observation_horizon, SHAPE.observation_size), dtype=np.float32)

    def eager() -> np.ndarray:
        with torch.no_grad():
            return student(torch.from_numpy(window)).mean.numpy()

    def exported() -> np.ndarray:
        return network({'observation': window})[1]

    difference = float(np.abs(eager() - exported().reshape(eager().shape)).max())
    answers = {'transformer, eager': eager, 'transformer': exported}
    return measure(answers, progress, **budget), difference, sum(value.numel() for value in student.parameters())


def main(quick: bool = False, check: bool = False) -> int:
    """Measure the duration of policy calls on one thread.

    Parameters
    ----------
    quick
        A few calls, which only test the program.
    check
        Exit with 1 if a bar does not hold.

    """
    torch.set_num_threads(1)
    budget = _QUICK if quick else _ROUNDS
    contract = load_contract('avoiding_cartesian')
    settings = load_settings(preset(contract))
    with tempfile.TemporaryDirectory() as folder, Progress() as bars:
        teacher = untrained('teacher', contract, settings, Path(folder, 'teacher'))
        student = untrained('student', contract, settings, Path(folder, 'student'), _CALM, calibrated=True)
        first, second = bars.add_task('default'), bars.add_task('transformer')
        found = compare(
            teacher,
            student,
            lambda done, total: bars.update(first, completed=done, total=total),
            start=load_task('avoiding').simulation(contract.robot.joints).position,
            **budget,
        )
        large, difference, size = measure_transformer(
            lambda done, total: bars.update(second, completed=done, total=total), **budget
        )
    names = {
        'teacher_eager': 'teacher, eager',
        'teacher_same_runtime': 'teacher, same runtime',
        STUDENT: 'student',
        WATCHED: 'student, with OOD scores',
        PLAN: 'student, whole plan',
    }
    latencies = {names[name]: latency for name, latency in found.items()} | large
    return finish('inference', rows_of(latencies, size), bars_of(latencies, difference), check=check)


def rows_of(latencies: dict[str, Latency], transformer_parameters: int) -> list[dict[str, Any]]:
    """Return a row for each policy."""
    return [
        {
            'policy': name,
            'p50 [us]': latency.p50,
            'p99 [us]': latency.p99,
            **({'parameters': transformer_parameters} if name.startswith('transformer') else {}),
        }
        for name, latency in latencies.items()
    ]


def bars_of(latencies: dict[str, Latency], difference: float) -> list[Bar]:
    """Return the bars."""
    p50 = {name: latency.p50 for name, latency in latencies.items()}
    return [
        Bar('student, p50 [us]', p50['student'], 60, at_most=True),
        Bar('student, p99 [us]', latencies['student'].p99, 200, at_most=True),
        Bar('faster than its 16-call teacher in eager torch', p50['teacher, eager'] / p50['student'], 100),
        Bar('faster than its teacher in the same runtime', p50['teacher, same runtime'] / p50['student'], 14),
        Bar('transformer, faster than itself in eager torch', p50['transformer, eager'] / p50['transformer'], 4),
        Bar('transformer, greatest difference of the answers', difference, 1e-5, at_most=True),
    ]


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
