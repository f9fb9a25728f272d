"""The Python API on arrays: the examples, each with fewer updates than a person would give it, and what is refused."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ros_messages import MILLISECOND, command, mark, state, write_bag

import vdd_ros
from vdd_ros import Contract, Demonstrations, Episode, FunctionPolicy, load_contract, load_policy, windows_from
from vdd_ros.common.errors import ConfigurationError, ContractError, TrainingError
from vdd_ros.learning.distillation.external import score_in_normalized_units
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.policy.normalization import Normalizer, Normalizers

EXAMPLES = Path(__file__).parents[2] / 'examples'


def example(name: str) -> Callable:
    """Return the main function of an example."""
    return runpy.run_path(str(EXAMPLES / f'{name}.py'))['main']


@pytest.fixture(scope='module')
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Artifacts of the first example, and the figures that it prints."""
    folder = tmp_path_factory.mktemp('example')
    return folder, example('arrays_to_student')(folder, teacher_updates=60, student_updates=60, episodes=40)


def test_arrays_become_a_policy_that_covers_both_modes_around_the_obstacle(learned):
    folder, figures = learned
    assert figures['experts'] >= 2 and np.isfinite(list(figures.values())).all()
    # Before the obstacle: up or down, and forward either way.
    window = np.array([[-0.55, 0.0], [-0.5, 0.0]])
    steps = load_policy(folder / 'student').act(np.tile(window, (500, 1, 1)), np.random.default_rng(0)).sum(axis=1)
    assert (steps[:, 0] > 0).mean() > 0.95
    assert (steps[:, 1] > 0.02).mean() > 0.1 and (steps[:, 1] < -0.02).mean() > 0.1


def test_a_policy_is_loaded_and_acts(learned, capsys):
    chunks = example('load_and_act')(learned[0] / 'student')
    assert chunks.shape == (1000, 4, 2) and chunks.std(axis=0).min() > 0
    assert 'log-density' in capsys.readouterr().out


def test_experts_are_inspected(learned, capsys):
    gating = example('inspect_experts')(learned[0] / 'student', steps=3)
    np.testing.assert_allclose(gating.sum(axis=1), 1, atol=1e-5)
    assert capsys.readouterr().out.count('expert ') == 3 * min(3, gating.shape[1])


def test_a_closed_form_is_a_teacher(tmp_path):
    experts = example('closed_form_teacher')(tmp_path / 'student', updates=150, samples=2000)
    gating, mean = np.exp(experts.log_gating[0]), experts.mean[0, :, 0]
    for mode in ([1, 0.5], [-1, -0.5]):
        near = np.linalg.norm(mean - mode, axis=1) < 0.2
        assert abs(gating[near].sum() - 0.5) < 0.15, mode


def test_em_and_vdd_learn_side_by_side(tmp_path):
    found = example('em_beside_vdd')(tmp_path, teacher_updates=60, updates=60, samples=500)
    assert found.keys() == {'vdd', 'em'}
    for figures in found.values():
        assert np.isfinite(figures['held_out_log_likelihood']) and figures['energy_score'] > 0


def test_the_commands_of_an_own_policy_are_within_the_limits_and_stop_when_it_fails():
    run = runpy.run_path(str(EXAMPLES / 'own_policy_in_control_loop.py'))
    commands, reason = run['main']()
    assert np.abs(np.diff(commands, axis=0)).max() <= 0.005 * (1 + 1e-9) and commands[:, 0].max() > 0.2
    assert 'not finite' in reason
    np.testing.assert_array_equal(commands[-1], commands[-2])


def test_a_bag_becomes_episodes(tmp_path, capsys):
    joints = list(load_contract('avoiding_joint').robot.joints)
    rows = [('/episode', 0, mark(0, 'start'))]
    for stamp in range(0, 2000 * MILLISECOND, 10 * MILLISECOND):
        position = [0.1 * np.sin(stamp / 1e9)] * len(joints)
        rows += [('/joint_states', stamp, state(stamp, joints, position))]
        rows += [('/arm_controller/commands', stamp + 1, command(position))]
    end = 2000 * MILLISECOND
    write_bag(tmp_path / 'bag', [*rows, ('/episode', end, mark(end, 'end', outcome='success'))])
    episodes = example('bag_to_episodes')(tmp_path / 'bag', 'avoiding_joint')
    assert episodes and all(isinstance(episode, Episode) for episode in episodes)
    assert 'windows: observation' in capsys.readouterr().out


def test_every_example_is_short_and_run_here():
    names = {path.stem for path in EXAMPLES.glob('*.py')}
    text = Path(__file__).read_text(encoding='utf-8')
    assert len(names) >= 6 and {name for name in names if name not in text} == set()
    assert {name for name in names if len((EXAMPLES / f'{name}.py').read_text().splitlines()) > 65} == set()


CONTRACT = Contract.of_arrays(3, 2, observation_horizon=2, prediction_horizon=4)


def fresh_python(code: str) -> str:
    """Return what a new interpreter prints."""
    return subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True, timeout=120).stdout


def test_importing_the_package_loads_nothing_heavy_and_a_policy_loads_no_torch(learned):
    heavy = "('torch', 'rosbags', 'mcap', 'numpy', 'onnxruntime', 'pydantic', 'mujoco', 'rclpy')"
    code = f'import sys, vdd_ros; print([name for name in {heavy} if name in sys.modules])'
    assert fresh_python(code).strip() == '[]'
    used = f'import sys, vdd_ros; vdd_ros.load_policy({str(learned[0] / "student")!r})'
    assert (
        fresh_python(f"{used}; print([n for n in ('torch', 'rosbags', 'mujoco') if n in sys.modules])").strip() == '[]'
    )


def test_every_public_name_is_there_and_documented():
    assert all(getattr(vdd_ros, name) is not None for name in vdd_ros.__all__)
    assert vdd_ros.__all__ == sorted(vdd_ros.__all__) and set(vdd_ros.__all__) <= set(dir(vdd_ros))
    assert (Path(vdd_ros.__file__).parent / 'py.typed').is_file()
    for name in vdd_ros.__all__:
        assert name in vdd_ros.__doc__ or getattr(vdd_ros, name).__doc__, name
    with pytest.raises(AttributeError, match='no_such_name'):
        _ = vdd_ros.no_such_name


def test_log_prob_is_the_density_of_the_mixture_in_the_units_of_the_contract(learned):
    policy, chance = load_policy(learned[0] / 'student'), np.random.default_rng(1)
    window = chance.uniform(-1, 1, (3, 2, 2))
    experts = policy.experts(window)
    covariance = policy.covariance(experts).astype(np.float64)
    for steps in (1, 4):
        size = 2 * steps
        action = experts.mean[:, 0, :steps] + 0.01 * chance.standard_normal((3, steps, 2))
        away = (action[:, None] - experts.mean[:, :, :steps]).reshape(3, -1, size)
        block = covariance[..., :size, :size]
        square = np.einsum('bei,beij,bej->be', away, np.linalg.inv(block), away)
        each = experts.log_gating - 0.5 * (square + np.linalg.slogdet(2 * np.pi * block)[1])
        np.testing.assert_allclose(policy.log_prob(window, action), np.logaddexp.reduce(each, axis=1), rtol=1e-3)
        np.testing.assert_allclose(policy.log_prob(window[0], action[0]), policy.log_prob(window, action)[0], rtol=1e-5)


def test_without_a_generator_a_policy_acts_by_the_mean_of_the_most_probable_expert(learned):
    policy, window = load_policy(learned[0] / 'student'), np.full((2, 2), 0.3)
    experts = policy.experts(window[None])
    np.testing.assert_array_equal(policy.act(window), experts.mean[0, experts.log_gating[0].argmax()])
    assert load_policy(learned[0] / 'teacher').act(window, np.random.default_rng(0)).shape == (4, 2)


@pytest.mark.parametrize(
    ('window', 'found'),
    [
        (np.zeros((2, 3)), r'found shape \(2, 3\)'),
        (np.zeros(4), r'found shape \(4,\)'),
        (np.array([[0, np.nan], [0, 0]]), 'found nan in window 0, step 0, column 1'),
    ],
)
def test_a_window_of_another_shape_or_with_nan_is_refused(learned, window, found):
    with pytest.raises(ContractError, match=found):
        load_policy(learned[0] / 'student').act(window)


def test_actions_of_another_width_have_no_density(learned):
    with pytest.raises(ContractError, match=r'expected actions of shape \(step, 2\) with 1 to 4 steps'):
        load_policy(learned[0] / 'student').log_prob(np.zeros((2, 2)), np.zeros((5, 2)))


@pytest.mark.parametrize(
    ('observation', 'action', 'found'),
    [
        (np.zeros((5, 2, 4)), np.zeros((5, 4, 2)), r'observation of shape \(window, 2, 3\).*found shape \(5, 2, 4\)'),
        (np.zeros((5, 3)), np.zeros((5, 4, 2)), r'found shape \(5, 3\)'),
        (np.zeros((5, 2, 3)), np.zeros((6, 4, 2)), '5 observations and 6 actions'),
        (np.zeros((0, 2, 3)), np.zeros((0, 4, 2)), r'found shape \(0, 2, 3\)'),
        (np.zeros((5, 2, 3)), np.full((5, 4, 2), np.inf), 'found inf in window 0, step 0, column 0'),
    ],
)
def test_windows_that_do_not_follow_the_contract_are_refused(observation, action, found):
    with pytest.raises(TrainingError, match=found):
        windows_from(observation, action, CONTRACT)


def test_whole_demonstrations_are_held_out_with_all_their_parts():
    episodes = [
        Episode(np.full((6, 3), float(number)), np.zeros((6, 2)), bag='bag', index=number // 2) for number in range(20)
    ]
    found = Demonstrations.from_episodes(episodes, CONTRACT, held_out=0.3)
    train, held_out = (set((arrays.observation[:, 0, 0] // 2).tolist()) for arrays in (found.train, found.held_out))
    assert len(held_out) == 3 and not train & held_out and train | held_out == set(range(10))
    assert (found.record.episodes, found.record.windows) == (10, 7 * 2 * 6)
    alone = Demonstrations.from_windows(np.zeros((10, 2, 3)), np.zeros((10, 4, 2)), CONTRACT, held_out=0.2)
    assert (len(alone.train), len(alone.held_out)) == (8, 2)


def test_an_external_score_is_called_in_the_units_of_the_contract():
    chance = np.random.default_rng(0)
    normalizers = Normalizers(
        Normalizer(chance.normal(size=3), chance.uniform(1, 2, 3)),
        Normalizer(np.array([5.0, -3.0]), np.array([2.0, 0.5])),
    )
    mean, std = torch.tensor([4.0, -2.0]), torch.tensor([0.7, 0.3])
    window = torch.as_tensor(chance.normal(size=(6, 2, 3)), dtype=torch.float32)
    seen = []

    def gaussian(action: torch.Tensor, noise: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        seen.append(observation)
        return (mean - action) / (std**2 + noise**2)

    score = score_in_normalized_units(gaussian, CONTRACT, normalizers, torch.device('cpu'))
    action = torch.as_tensor(chance.normal(size=(5, 6, 8)), dtype=torch.float32)
    sigma = torch.linspace(0.1, 2, 6)
    found = score(action, sigma, window)
    # The density of x = (a - offset) / scale is a Gaussian, too: of mean (mean - offset) / scale and std / scale.
    offset, scale = (
        torch.as_tensor(v, dtype=torch.float32) for v in (normalizers.action.offset, normalizers.action.scale)
    )
    expected = ((mean - offset) / scale - action.unflatten(-1, (4, 2))) / (
        (std / scale) ** 2 + sigma[:, None, None] ** 2
    )
    torch.testing.assert_close(found, expected.flatten(start_dim=-2))
    torch.testing.assert_close(
        seen[0], torch.as_tensor(normalizers.observation.denormalize(window.numpy()), dtype=torch.float32)
    )
    broken = score_in_normalized_units(lambda *_: torch.zeros(3), CONTRACT, normalizers, torch.device('cpu'))
    with pytest.raises(TrainingError, match='scores of the shape of the actions'):
        broken(action, sigma, window)


def test_a_function_that_returns_another_chunk_is_refused():
    policy = FunctionPolicy(lambda window: np.zeros((3, 2)), CONTRACT)
    with pytest.raises(ContractError, match=r'expected an action chunk of shape \(4, 2\).*found shape \(3, 2\)'):
        policy.experts(np.zeros((1, 2, 3)))


def test_a_contract_of_arrays_is_refused_where_a_robot_is_needed():
    from vdd_ros.common.errors import ModelError
    from vdd_ros.robot.kinematics import Kinematics

    with pytest.raises(ModelError, match='a contract of plain arrays'):
        Kinematics.from_contract(CONTRACT)
    with pytest.raises(ContractError, match='prediction_horizon'):
        Contract.of_arrays(1, 1, prediction_horizon=99)


def test_settings_are_changed_by_their_names():
    settings = LearningSettings().changed(
        ['teacher.trunk.width=512', 'trackers=[wandb]', 'student_augmentation.recovery=1']
    )
    assert (settings.teacher.trunk.width, settings.trackers) == (512, ('wandb',))
    assert settings.student_augmentation.recovery == 1 and settings.student == LearningSettings().student


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        (
            'teacher.trunk.widht=5',
            'found teacher.trunk.widht; did you mean width.* of teacher.trunk: kind, width, depth',
        ),
        ('techer.trunk.width=5', 'found techer; did you mean teacher'),
        ('teacher.trunk.width=-5', r'teacher.trunk.width: .* greater than or equal to 1 \(found -5\)'),
        ('seed.x=5', 'seed is a single value'),
        ('seed', "found 'seed'"),
        ('seed=[', 'expected a value in YAML for seed'),
    ],
)
def test_a_wrong_assignment_is_refused_with_the_known_names(assignment, message):
    with pytest.raises(ConfigurationError, match=message):
        LearningSettings().changed([assignment])


def test_an_error_in_a_settings_file_names_its_line(tmp_path):
    file = tmp_path / 'settings.yaml'
    file.write_text('seed: 1\nteacher:\n  trunk:\n    widht: 3\n', encoding='utf-8')
    with pytest.raises(
        ConfigurationError, match='settings.yaml, line 4; found teacher.trunk.widht.* did you mean width'
    ):
        LearningSettings.read(file)
    file.write_text('seed: 1\nseed: 2\n', encoding='utf-8')
    with pytest.raises(ConfigurationError, match='settings.yaml, line 2; found seed twice'):
        LearningSettings.read(file)
