"""How long a policy takes to answer one observation: policies in turn, in one process, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.policy.routing import ACTION_NOISE_SCALE, Routing


@dataclass(frozen=True)
class Latency:
    """Quantiles of the time for one answer [us]."""

    p50: float
    p99: float


def measure(
    answers: Mapping[str, Callable[[], object]],
    progress: Callable[[int, int], None],
    *,
    rounds: int = 40,
    calls: int = 20,
    warmup: int = 5,
) -> dict[str, Latency]:
    """Call the answers in turn, so that whatever else the machine does meets all of them alike.

    In a turn an answer is called ``warmup`` times, which do not count, and then ``calls`` times: on the robot it does
    not find the caches full of another policy.
    """
    times: dict[str, list[int]] = {name: [] for name in answers}
    for count in range(rounds):
        progress(count + 1, rounds)
        for name, answer in answers.items():
            for _ in range(warmup):
                answer()
            for _ in range(calls):
                begin = time.perf_counter_ns()
                answer()
                times[name].append(time.perf_counter_ns() - begin)
    return {name: Latency(*(float(q) / 1000 for q in np.percentile(value, (50, 99)))) for name, value in times.items()}


def compare(
    teacher: Artifact | None,
    student: Artifact | None,
    progress: Callable[[int, int], None],
    *,
    rounds: int = 40,
    calls: int = 20,
) -> dict[str, Latency]:
    """Measure ``teacher_eager``, ``teacher_same_runtime`` and ``student`` on the same observation and one thread.

    The eager teacher is called as published code calls it: the torch module, once for each noise level. In the
    student's runtime it is the same network through onnxruntime, called as often. The student answers as the control
    loop asks it: network, choice of the expert, its deviation, and the scores of what it has seen if it is calibrated.
    What is not given is not measured.
    """
    generator = np.random.default_rng(0)
    answers: dict[str, Callable[[], object]] = {}
    if teacher is not None:
        window, slow = _window(teacher), TeacherPolicy(teacher)
        answers['teacher_eager'] = _eager(teacher, window)
        answers['teacher_same_runtime'] = lambda: slow.plan(window, generator)
    if student is not None:
        seen, fast = _window(student), DistilledPolicy(student)
        answers['student'] = _node_answer(fast, seen, generator)
    return measure(answers, progress, rounds=rounds, calls=calls)


def _node_answer(
    policy: DistilledPolicy, window: np.ndarray, generator: np.random.Generator
) -> Callable[[], np.ndarray]:
    routing = Routing()

    def answer() -> np.ndarray:
        experts = policy.experts(window)
        expert = routing.at(window[0]).choose(experts.log_gating[0], generator.random())
        action = experts.mean[0].astype(np.float64)[expert] + ACTION_NOISE_SCALE * policy.deviation(
            experts, expert, generator
        )
        if policy.calibration is not None:
            policy.signals(window, experts)
            policy.likelihood(experts, action[0])
        return action

    return answer


def _window(artifact: Artifact) -> np.ndarray:
    """Return the mean of what is observed, shape (1, observation_horizon, observation)."""
    horizon = artifact.manifest.contract.observation_horizon
    return np.repeat(np.array(artifact.manifest.observation_offset)[None, None], horizon, axis=1)


def _eager(artifact: Artifact, window: np.ndarray) -> Callable[[], object]:
    import torch

    from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
    from vdd_ros.learning.networks import PolicyShape

    contract, manifest = artifact.manifest.contract, artifact.manifest
    size = contract.prediction_horizon * contract.action_size
    shape = PolicyShape(contract.observation_horizon, contract.observation_size, size)
    teacher = Teacher(TeacherSettings.parse(manifest.network), shape)
    teacher.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})
    normalized = manifest.normalizers.observation.normalize(window)
    observation = torch.as_tensor(normalized, dtype=torch.float32)
    draws = teacher.noise_draws()

    def answer() -> object:
        threads = torch.get_num_threads()
        if threads != 1:
            torch.set_num_threads(1)
        with torch.no_grad():
            return teacher.sample(observation, torch.randn(draws, 1, size)).numpy()

    return answer
