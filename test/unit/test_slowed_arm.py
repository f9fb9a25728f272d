"""OOD monitoring of a slowed arm: the measured position is closer to the commands than in the demonstrations."""

from __future__ import annotations

import numpy as np
import pytest
from loops import EXACT, MILLISECOND, AnsweringPolicy, started_loop, two_joint_contract

from benchmarks.constant_student import save_student
from vdd_ros.control.control_output import Command, Stop
from vdd_ros.control.execution import Execution
from vdd_ros.control.ood import OodRules, thresholds
from vdd_ros.control.policy_interface import DELAYS, PolicyInterface
from vdd_ros.policy.artifact import Calibration, load_artifact, save_artifact
from vdd_ros.policy.density import ObservationDensity, fit_density
from vdd_ros.policy.policy import DistilledPolicy

_WINDOWS = {'observation_horizon': 2, 'observation_stride': 2}
_STEP = [0.01, 0.005]
_DELAY = 60
"""Delay of the arm behind its commands [ms]."""


def _interface(sources: tuple[str, ...] = ('measured', 'commanded')) -> PolicyInterface:
    observation = [{'name': source, 'source': source, 'space': 'joint'} for source in sources]
    return PolicyInterface(two_joint_contract(observation=observation, **_WINDOWS), None)


def _observe(interface: PolicyInterface, commands: np.ndarray, delay: float, speed: float, error: np.ndarray) -> None:
    """Observe an arm that follows the line through the commands of all ticks after a delay [s], with a constant error.

    In the time of the plan, the delay is ``speed * delay``.
    """
    interface.anchor(commands[0])
    times, period = np.arange(len(commands)), interface.contract.period / 1e9
    for tick, command in enumerate(commands):
        place = tick - speed * delay / period
        measured = np.array([np.interp(place, times, joint) for joint in commands.T]) + error
        interface.sent(command)
        interface.note(measured, speed=speed)


@pytest.mark.parametrize('ticks', [4, 30])
@pytest.mark.parametrize('number', [0, 3, 8])
def test_the_window_of_a_slowed_arm_at_full_speed_is_the_one_of_an_arm_with_the_same_delay(ticks, number):
    commands = np.cumsum(np.random.default_rng(0).normal(size=(ticks, 2)), axis=0)
    error, interface = np.array([0.1, -0.2]), _interface()
    _observe(interface, commands, DELAYS[number], 1.0, error)
    assert interface.windows_at_full_speed() is None
    window = interface.window()
    _observe(interface, commands, DELAYS[number], 0.25, error)
    windows = interface.windows_at_full_speed()
    assert windows.shape == (len(DELAYS), *window.shape)
    np.testing.assert_allclose(windows[number], window, atol=1e-12)
    np.testing.assert_allclose(windows[0], interface.window(), atol=1e-12)
    others = np.abs(windows - window).max(axis=(1, 2)) > 1e-3
    assert others[np.arange(len(DELAYS)) != number].all()


@pytest.mark.parametrize('sources', [('measured',), ('commanded',)])
def test_without_measured_and_commanded_positions_the_window_is_independent_of_the_speed(sources):
    interface = _interface(sources)
    _observe(interface, np.arange(20.0)[:, None] * [0.01, 0.02], 0.1, 0.25, np.zeros(2))
    assert interface.windows_at_full_speed() is None


def _run(policy: object, start: float, speed: float, ood_rules: OodRules | None = None, fault: str = '') -> list:
    """Return the outcomes for an arm that follows its commands after a delay, with a fault in the last part."""
    execution = Execution(**{**vars(EXACT), 'speed': speed})
    loop = started_loop(policy, start, rules={'execution': execution, 'ood_rules': ood_rules}, **_WINDOWS)
    sent, outcomes = [np.full(2, start)] * (_DELAY + 1), []
    count = round(1500 / speed)
    for tick in range(count):
        measured, late = sent[-_DELAY - 1], tick > 0.6 * count
        if late and fault == 'stands':
            measured = sent[round(0.6 * count)]
        elif late and fault == 'displaced':
            measured = measured + [0.0, 0.1]
        loop.observe(tick * MILLISECOND, measured)
        outcomes.append(loop.advance(tick * MILLISECOND))
        sent.append(loop.commanded)
    return outcomes


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """A student of constant steps, calibrated on motions of an arm with a delay at full speed."""
    folder = tmp_path_factory.mktemp('slowed')
    demonstrated = AnsweringPolicy(lambda call, seen: [_STEP])
    for start in np.linspace(-0.7, 0.3, 20):
        _run(demonstrated, start, 1.0)
    windows = np.stack(demonstrated.windows)
    offset, scale = windows.mean(axis=(0, 1)), windows.std(axis=(0, 1))
    density = fit_density((windows - offset) / scale, np.random.default_rng(0))
    artifact = load_artifact(_saved(folder / 'uncalibrated'))
    calibration = _calibration(density, (windows - offset) / scale)
    change = {'calibration': calibration, 'observation_offset': tuple(offset), 'observation_scale': tuple(scale)}
    manifest = artifact.manifest.model_copy(update=change)
    save_artifact(folder / 'student', manifest, artifact.weights, artifact.network, density.arrays)
    return DistilledPolicy.load(folder / 'student')


def _saved(path):
    contract = two_joint_contract(**_WINDOWS).model_dump(mode='json')
    return save_student(path, [_STEP], 'avoiding_joint', change=contract)


def _calibration(density: ObservationDensity, windows: np.ndarray) -> Calibration:
    levels = (0.0, 0.01, 0.5, 1.0)
    quantiles = {'density': {'train': tuple(np.quantile(density.log_density(windows), levels).tolist())}}
    return Calibration(levels=levels, quantiles=quantiles, windows={'train': len(windows)})


@pytest.mark.parametrize('speed', [1.0, 0.5, 0.25, 0.1])
def test_a_slowed_arm_is_in_distribution(student, speed):
    outcomes = _run(student, -0.4, speed, OodRules(thresholds(student.calibration)))
    assert isinstance(outcomes[-1], Command) and {outcome.reason for outcome in outcomes[100:]} == {''}
    np.testing.assert_allclose(outcomes[-1].velocity, np.array(_STEP) * 50 * speed, rtol=1e-3)


@pytest.mark.parametrize('speed', [1.0, 0.25])
@pytest.mark.parametrize('fault', ['stands', 'displaced'])
def test_a_slowed_arm_that_is_not_where_it_is_commanded_is_stopped(student, speed, fault):
    outcomes = _run(student, -0.4, speed, OodRules(thresholds(student.calibration)), fault)
    assert isinstance(outcomes[-1], Stop) and outcomes[-1].reason.startswith('out of distribution, stop')
