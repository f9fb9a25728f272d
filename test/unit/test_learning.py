"""From demonstrations in memory to artifacts: what they record, and what stops on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vdd_ros.common.errors import ConfigurationError, TrainingError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.windows import Demonstrations, WindowArrays
from vdd_ros.learning.jobs import distill, em_path, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.runs import CURVES, PICTURE, read_runs, run_path
from vdd_ros.policy.artifact import DataRecord, load_artifact
from vdd_ros.policy.policy import DistilledPolicy

CONTRACT = load_contract('avoiding_cartesian')
TRUNK = {'width': 16, 'depth': 1}
SETTINGS = {
    'threads': 1,
    'teacher': {'trunk': TRUNK},
    'teacher_training': {'iterations': 30, 'batch': 32},
    'student': {'experts': 4, 'trunk': TRUNK, 'covariance': 'low_rank'},
    'distillation': {'iterations': 30, 'batch': 32, 'review_every': 6, 'unused_below': 0.25},
}


def demonstrations(seed: int = 0) -> Demonstrations:
    """Return demonstrations that go left or right; one entry of the observation never changes."""
    random = np.random.default_rng(seed)

    def windows(count: int) -> WindowArrays:
        observation = random.normal(size=(count, CONTRACT.observation_horizon, CONTRACT.observation_size))
        observation[..., 0] = 0.3
        side = random.choice([-1.0, 1.0], size=(count, 1, 1))
        action = np.stack([0.01 * side, np.full_like(side, 0.01)], axis=-1)[..., 0, :]
        action = action + random.normal(scale=1e-3, size=(count, CONTRACT.prediction_horizon, 2))
        return WindowArrays(observation, action, action[:, 0])

    return Demonstrations(CONTRACT, windows(200), windows(50), DataRecord(bags={}, episodes=8, windows=200))


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """A folder with a teacher and its student."""
    folder = tmp_path_factory.mktemp('learned')
    settings = LearningSettings.parse(SETTINGS)
    train_teacher(demonstrations(), folder / 'teacher', settings, silent)
    distill(demonstrations(), folder / 'teacher', folder / 'student', settings, silent, compare='em')
    return folder


def test_a_student_records_its_metrics_without_a_simulator(learned):
    metrics = load_artifact(learned / 'student').manifest.metrics
    experts = int(metrics['experts'])
    usage = [metrics.pop(f'usage_{expert}') for expert in range(experts)]
    assert sum(usage) == pytest.approx(1, abs=1e-5)
    assert set(metrics) == {
        'held_out_log_likelihood',
        'training_log_likelihood',
        'gating_entropy',
        'experts',
        'least_used_expert',
        'calibration_50',
        'calibration_90',
        'energy_score',
        'energy_distance',
        'teacher_energy_score',
        'em_held_out_log_likelihood',
        'em_energy_score',
    }
    assert 0 < metrics['calibration_50'] < metrics['calibration_90'] <= 1
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.parametrize('name', ['teacher', 'student'])
def test_the_folder_of_a_run_holds_what_it_was_given_and_how_it_went(learned, name):
    manifest, run = load_artifact(learned / name).manifest, run_path(learned / name)
    (record,) = read_runs([run])
    assert (record['status'], record['step'], record['name']) == ('finished', name, name)
    assert record['settings'] == LearningSettings.parse(SETTINGS).model_dump(mode='json')
    assert record['contract_hash'] == CONTRACT.hash
    assert record['environment']['versions']['torch'] == torch.__version__
    assert (record['metrics'], record['verdict']) == (manifest.metrics, list(manifest.verdict))
    assert record['curves'] == {curve: list(values) for curve, values in manifest.history.items()}
    assert (run / PICTURE).read_bytes().startswith(b'\x89PNG') and (run / CURVES).exists()
    assert not list(run.glob('*.part')) and not list(run.glob('checkpoint*'))


@pytest.mark.parametrize('name', ['teacher', 'student'])
def test_tensorboard_shows_the_curves_and_figures_that_the_artifact_holds(learned, name):
    manifest = load_artifact(learned / name).manifest
    events = EventAccumulator(str(run_path(learned / name))).Reload()
    for curve, values in manifest.history.items():
        if curve != 'iteration':
            shown = events.Scalars(f'{name}/{curve}')
            assert [item.step for item in shown] == [int(place) for place in manifest.history['iteration']]
            assert [item.value for item in shown] == pytest.approx(values)
    assert len(manifest.history) > 2
    for figure, value in manifest.metrics.items():
        assert [item.value for item in events.Scalars(f'final/{figure}')] == [pytest.approx(value)]


def test_a_student_is_compared_with_em_on_the_same_network(learned):
    manifest, rival = (load_artifact(path).manifest for path in (learned / 'student', em_path(learned / 'student')))
    assert rival.teacher is None and rival.training['method'] == 'EM'
    assert {**rival.network, 'experts': 0} == {**manifest.network, 'experts': 0}
    for figure in ('held_out_log_likelihood', 'energy_score'):
        assert manifest.metrics[f'em_{figure}'] == rival.metrics[figure]
    assert any('EM on the same network' in sentence for sentence in manifest.verdict)


def test_a_dimension_that_never_changes_leaves_a_policy_that_answers_in_numbers(learned):
    policy = DistilledPolicy.load(learned / 'student')
    observation = np.zeros((1, CONTRACT.observation_horizon, CONTRACT.observation_size))
    found = policy.experts(observation)
    assert np.isfinite(found.mean).all() and np.isfinite(policy.covariance(found)).all()


@pytest.mark.parametrize('kind', ['teacher', 'student'])
def test_an_interrupted_training_that_is_resumed_makes_the_very_same_weights(learned, tmp_path, kind):
    def learn(cancelled, resume):
        settings = LearningSettings.parse(SETTINGS)
        how = {'resume': resume, 'cancelled': cancelled}
        if kind == 'teacher':
            return train_teacher(demonstrations(), tmp_path / 'it', settings, silent, **how)
        return distill(demonstrations(), learned / 'teacher', tmp_path / 'it', settings, silent, **how)

    requested = []
    assert learn(lambda: requested.append(None) or len(requested) == 13, False) is None
    assert [item.name for item in tmp_path.iterdir()] == ['it.run']
    (stopped,) = read_runs([tmp_path])
    assert stopped['status'] == 'stopped' and stopped['seconds'] > 0
    artifact, whole = learn(lambda: False, True), load_artifact(learned / kind)
    assert read_runs([tmp_path])[0]['seconds'] > stopped['seconds']  # of both parts
    assert artifact.manifest.history == whole.manifest.history
    resumed, whole = artifact.weights, whole.weights
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value)


class Table:
    """A simulator in which every policy slides on by what it plans."""

    def __init__(self):
        self.visits: list[int] = []

    def visit(self, policy, episodes, seed):
        """Slide from random places."""
        self.visits.append(seed)
        generator = np.random.default_rng(seed)
        window = generator.normal(size=(episodes, CONTRACT.observation_horizon, CONTRACT.observation_size))
        window[..., 0] = 0.3
        seen = [window]
        for _ in range(2):
            moved = policy.plan(seen[-1], generator).action[:, 0]
            assert np.isfinite(moved).all()
            seen.append(seen[-1] + moved[:, None])
        return np.concatenate(seen)


def test_windows_that_are_visited_in_simulation_are_labelled_and_a_resumed_distillation_continues_bit_for_bit(
    learned, tmp_path
):
    """Stopped before, between and after rounds; no round is simulated twice."""
    rounds = {'simulation': {'rounds': 2, 'episodes': 7}, 'labels': {'per_window': 0.5}}
    patient = {'selection': {'patience': 1}, 'distillation': {**SETTINGS['distillation'], **rounds}}
    settings = LearningSettings.parse({**SETTINGS, **patient})

    def learn(name, table, stop=None, resume=False):
        steps = []
        return distill(
            demonstrations(),
            learned / 'teacher',
            tmp_path / name,
            settings,
            silent,
            simulator=table,
            resume=resume,
            cancelled=lambda: steps.append(None) or len(steps) == stop,
        )

    table = Table()
    whole = learn('whole', table)
    assert table.visits == [0, 1, 2]
    assert whole.manifest.history['label_log_likelihood']
    kept = {file.name for file in run_path(tmp_path / 'whole').glob('labels-*')}
    assert kept == {f'labels-{name}.safetensors' for name in ('displaced', 'visited-0', 'visited-1', 'visited-2')}

    table = Table()
    assert learn('it', table, stop=4) is None
    assert learn('it', table, stop=8, resume=True) is None  # beyond the first round, which is after ten updates
    assert learn('it', table, stop=14, resume=True) is None
    resumed = learn('it', table, resume=True)
    assert table.visits == [0, 1, 2]
    for part, value in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[part], value)


def test_what_is_started_again_keeps_the_run_before(learned, tmp_path):
    settings = LearningSettings.parse(SETTINGS)
    for _ in range(2):
        assert train_teacher(demonstrations(), tmp_path / 'it', settings, silent, cancelled=lambda: True) is None
    assert sorted(item.name for item in tmp_path.iterdir()) == ['it.run', 'it.run.1']


def test_nothing_is_resumed_where_nothing_was_begun(tmp_path):
    with pytest.raises(ConfigurationError, match='without --resume'):
        train_teacher(demonstrations(), tmp_path / 'it', LearningSettings.parse(SETTINGS), silent, resume=True)
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_finite_end_in_an_error_and_leave_nothing(tmp_path):
    broken = demonstrations()
    broken.train.action[7] = np.nan
    with pytest.raises(TrainingError, match='finite values.*drop the episodes'):
        train_teacher(broken, tmp_path / 'teacher', LearningSettings.parse(SETTINGS), silent)
    assert not list(tmp_path.iterdir())


def test_a_student_stores_its_signals_over_the_demonstrations(learned):
    policy, windows = DistilledPolicy.load(learned / 'student'), demonstrations()
    for part, arrays in (('train', windows.train), ('held_out', windows.held_out)):
        found = {'density': [], 'gating_confidence': [], 'likelihood': []}
        for observation, action in zip(arrays.observation, arrays.action[:, 0]):
            experts = policy.experts(observation[None])
            for signal, value in policy.signals(observation[None], experts).items():
                found[signal].append(value)
            found['likelihood'].append(policy.likelihood(experts, action))
        calibration = policy.calibration
        assert calibration.windows[part] == len(arrays.action)
        for signal, values in found.items():
            expected = np.quantile(values, calibration.levels)
            np.testing.assert_allclose(calibration.quantiles[signal][part], expected, rtol=1e-3, atol=1e-3)


def test_thresholds_are_those_of_the_part_that_is_less_in_distribution(learned):
    calibration = DistilledPolicy.load(learned / 'student').calibration
    for signal, parts in calibration.quantiles.items():
        for share in (0.01, 0.5):
            place = calibration.levels.index(share)
            assert calibration.threshold(signal, share) == min(values[place] for values in parts.values())


def test_learning_on_a_gpu_needs_one(tmp_path):
    settings = LearningSettings.parse({**SETTINGS, 'device': 'cuda'})
    if torch.cuda.is_available():
        assert train_teacher(demonstrations(), tmp_path / 'teacher', settings, silent) is not None
    else:
        with pytest.raises(ConfigurationError, match='set device to auto or cpu'):
            train_teacher(demonstrations(), tmp_path / 'teacher', settings, silent)


@pytest.mark.parametrize(
    ('name', 'start'),
    [('learning', 'teacher'), ('learning_joint', 'demonstrations'), ('learning_chunked', 'demonstrations')],
)
def test_shipped_settings_are_found_by_name_and_start_students_where_measured(name, start, tmp_path, monkeypatch):
    """Whatever else is of that name where one works; those begun at a teacher with its features: trunks are equal."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    settings = load_settings(name)
    assert settings.start == start
    assert start != 'teacher' or settings.student.trunk == settings.teacher.trunk
    if name == 'learning':
        assert load_settings() == settings


def test_a_student_is_trained_under_displacements_of_its_own_and_its_teacher_is_not(tmp_path):
    calm = {'displacement': 0.5, 'memory_noise': 0.1}
    both = LearningSettings.parse({**SETTINGS, 'student_augmentation': calm})
    one = LearningSettings.parse({**SETTINGS, 'augmentation': calm})
    shared = LearningSettings.parse(SETTINGS)

    def weights(learn, name, *arguments):
        learn(demonstrations(), *arguments, silent)
        return load_artifact(tmp_path / name).weights

    def same(first, second):
        return all(np.array_equal(first[name], second[name]) for name in first)

    teachers = [
        weights(train_teacher, f'teacher{n}', tmp_path / f'teacher{n}', settings)
        for n, settings in enumerate((shared, both))
    ]
    assert same(*teachers)
    students = [
        weights(distill, f'student{n}', tmp_path / 'teacher0', tmp_path / f'student{n}', settings)
        for n, settings in enumerate((both, one, shared))
    ]
    assert same(students[0], students[1])
    assert not same(students[0], students[2])


def test_settings_of_an_unknown_name_are_refused():
    """The error names the file that was looked for."""
    with pytest.raises(ConfigurationError, match=r'learning_twice\.yaml'):
        load_settings('learning_twice')
