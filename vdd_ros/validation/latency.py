"""How long policies take: for one answer, in turn in one process on one thread; and for a whole plan, on its arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.control.control_output import Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.policy.routing import ACTION_NOISE_SCALE, Routing
from vdd_ros.robot.kinematics import Kinematics

_WARMUP = 10
"""Plans that do not count: nothing is in the caches yet."""
_STRETCH = 40
"""Policy periods for which an arm moves on, before it begins anew."""


@dataclass(frozen=True)
class Latency:
    """What one answer takes."""

    p50: float
    """Median duration [us]."""
    p99: float
    """The 99th percentile of the duration [us]."""
    processor: float
    """Mean processor time, over all threads [us]."""


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
    processor: dict[str, int] = dict.fromkeys(answers, 0)
    for count in range(rounds):
        progress(count + 1, rounds)
        for name, answer in answers.items():
            for _ in range(warmup):
                answer()
            spent = time.process_time_ns()
            for _ in range(calls):
                begin = time.perf_counter_ns()
                answer()
                times[name].append(time.perf_counter_ns() - begin)
            processor[name] += time.process_time_ns() - spent
    return {
        name: Latency(*(float(q) / 1000 for q in np.percentile(value, (50, 99))), processor[name] / 1000 / len(value))
        for name, value in times.items()
    }


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


def plan_durations(
    student: Artifact, deployment: Deployment, position: np.ndarray, *, plans: int = 300
) -> tuple[float, ...]:
    """Measure whole plans as the policy node makes them beside its commands [s], sorted as they came.

    A plan is more than an answer: what the policy sees, its answer, inverse kinematics of every step, and the motion
    through all of them. They are made by the control loop itself, for an arm that follows from ``position``, shape
    (joint,) [rad], and begins anew there every now and then, or wherever the loop stops it.
    """
    contract = student.manifest.contract
    policy, kinematics = DistilledPolicy(student), Kinematics.from_contract(contract)
    period = deployment.control_period(contract, simulated=False)
    loop = deployment.build_loop(contract, policy, kinematics, period=period, generator=np.random.default_rng(0))
    durations: list[float] = []
    now, position = 0, np.array(position, dtype=np.float64)
    while len(durations) < plans + _WARMUP:
        loop.start(now, position)
        end = now + _STRETCH * contract.period
        while now < end and not isinstance(loop.decide(now), Stop):
            if loop.wants_plan:
                begin = time.perf_counter()
                loop.plan()
                durations.append(time.perf_counter() - begin)
            now += period
            loop.observe(now, loop.commanded)
        now += period
    return tuple(durations[_WARMUP : _WARMUP + plans])


def _node_answer(
    policy: DistilledPolicy, window: np.ndarray, generator: np.random.Generator
) -> Callable[[], np.ndarray]:
    routing = Routing()

    def answer() -> np.ndarray:
        experts = policy.experts(window)
        expert = routing.choose(experts.log_gating[0], generator.random())
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

    from vdd_ros.learning.jobs import restored_teacher

    teacher = restored_teacher(artifact)
    normalized = artifact.manifest.normalizers.observation.normalize(window)
    observation = torch.as_tensor(normalized, dtype=torch.float32)
    draws = teacher.noise_draws()

    def answer() -> object:
        threads = torch.get_num_threads()
        if threads != 1:
            torch.set_num_threads(1)
        with torch.no_grad():
            return teacher.sample(observation, torch.randn(draws, 1, teacher.shape.action_size)).numpy()

    return answer
