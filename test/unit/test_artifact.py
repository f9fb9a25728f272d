"""Artifacts: whole or refused, the same policy after a round trip, and nothing that runs code."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from vdd_ros.common.errors import ArtifactError, OutputError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.export import export_student, export_teacher
from vdd_ros.learning.jobs import restored_teacher
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.policy import artifact as artifacts
from vdd_ros.policy.artifact import Calibration, DataRecord, Manifest, load_artifact, normalizer_entries, save_artifact
from vdd_ros.policy.density import fit_density
from vdd_ros.policy.normalization import Normalizer, Normalizers
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.policy.routing import ACTION_NOISE_SCALE, Routing

CONTRACT = Contract.model_validate(
    {**load_contract('avoiding_cartesian').model_dump(mode='json'), 'prediction_horizon': 3, 'action_horizon': 2}
)
SHAPE = PolicyShape(CONTRACT.observation_horizon, 2, 6, steps=3)
NORMALIZERS = Normalizers(
    Normalizer(np.array([0.5, 0.1]), np.array([0.1, 0.2])), Normalizer(np.array([0.0, 0.01]), np.array([0.005, 0.002]))
)
TRUNK = TrunkSettings(width=16, depth=2, window='difference')


def _manifest(kind: str, network: dict, **training: object) -> Manifest:
    return Manifest(
        kind=kind,
        contract=CONTRACT,
        contract_hash=CONTRACT.hash,
        data=DataRecord(bags={}, episodes=1, windows=1),
        **normalizer_entries(NORMALIZERS),
        network=network,
        training=training,
        metrics={'experts': 4.0},
    )


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """One exported student; what alters it takes a copy."""
    path = tmp_path_factory.mktemp('artifacts') / 'student'
    _student(path)
    return path


@pytest.fixture(scope='module')
def calibrated(student, tmp_path_factory):
    """The same student with a density over demonstrated windows."""
    path = tmp_path_factory.mktemp('artifacts') / 'calibrated'
    artifact = load_artifact(student)
    density = fit_density(np.random.default_rng(0).normal(size=(500, 2, 2)), np.random.default_rng(1)).arrays
    quantiles = {name: {'train': (-9.0, -1.0)} for name in ('density', 'gating_confidence', 'likelihood')}
    calibration = Calibration(levels=(0.0, 1.0), quantiles=quantiles, windows={'train': 500})
    manifest = artifact.manifest.model_copy(update={'calibration': calibration})
    save_artifact(path, manifest, artifact.weights, artifact.network, density)
    return path


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """One exported teacher."""
    path = tmp_path_factory.mktemp('artifacts') / 'teacher'
    _teacher(path)
    return path


@pytest.fixture
def copied(student, tmp_path):
    """A student that a test may spoil."""
    return shutil.copytree(student, tmp_path / 'student')


def _student(path, **change):
    settings = StudentSettings(**{'experts': 4, 'trunk': TRUNK, **change})
    torch.manual_seed(0)
    student = Student(settings, SHAPE, torch.Generator().manual_seed(0))
    weights = {name: value.numpy() for name, value in student.state_dict().items()}
    manifest = _manifest('student', student.settings.model_dump(mode='json'))
    save_artifact(path, manifest, weights, export_student(student, NORMALIZERS))
    return student


def _teacher(path, **change):
    settings = TeacherSettings.parse({'trunk': TRUNK, **change})
    torch.manual_seed(0)
    teacher = Teacher(settings, SHAPE)
    denoiser = teacher.denoiser
    head = denoiser.network.head if settings.trunk.denoises_chunks else denoiser.head
    torch.nn.init.normal_(head.weight, std=0.1)
    weights = {name: value.detach().numpy() for name, value in teacher.state_dict().items()}
    training = {'sigmas': teacher.sigmas().tolist(), 'sigma_data': teacher.denoiser.sigma_data}
    manifest = _manifest('teacher', settings.model_dump(mode='json'), **training)
    encoder, network = export_teacher(teacher, NORMALIZERS)
    save_artifact(path, manifest, weights, network, encoder=encoder)
    return teacher


@pytest.mark.parametrize(
    'change',
    [
        {'covariance': 'diagonal', 'gating': 'uniform'},
        {'covariance': 'full'},
        {'covariance': 'low_rank', 'gating_trunk': 'own'},
        {'trunk': TrunkSettings(kind='transformer', width=16, depth=2, heads=2)},
    ],
    ids=str,
)
def test_the_exported_student_equals_the_trained_one(tmp_path, change):
    student = _student(tmp_path / 'student', **change)
    window = np.random.default_rng(0).normal(0.4, 0.1, (5, 2, 2))
    policy = DistilledPolicy.load(tmp_path / 'student')
    experts = policy.experts(window)
    normalized = torch.as_tensor(NORMALIZERS.observation.normalize(window), dtype=torch.float32)
    with torch.no_grad():
        mixture = student(normalized)
    np.testing.assert_allclose(experts.log_gating, mixture.log_gating, atol=1e-5)
    mean = NORMALIZERS.action.denormalize(mixture.mean.unflatten(-1, (3, 2)).numpy())
    np.testing.assert_allclose(experts.mean, mean, atol=1e-6)
    scale = np.tile(NORMALIZERS.action.scale, 3)
    np.testing.assert_allclose(
        policy.covariance(experts), mixture.covariance.dense().numpy() * scale[:, None] * scale, rtol=1e-3, atol=1e-10
    )


def test_retired_experts_are_not_exported(tmp_path):
    student = Student(StudentSettings(experts=4, trunk=TRUNK), SHAPE, torch.Generator().manual_seed(0))
    student.retire([1, 3])
    manifest = _manifest('student', student.settings.model_dump(mode='json'))
    save_artifact(tmp_path / 'student', manifest, {'x': np.zeros(1)}, export_student(student, NORMALIZERS))
    experts = DistilledPolicy.load(tmp_path / 'student').experts(np.full((1, 2, 2), 0.4))
    assert experts.log_gating.shape == (1, 2)
    np.testing.assert_allclose(np.exp(experts.log_gating).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(
    'change',
    [
        {},
        {'sampler': 'heun', 'calls': 15, 'trunk': {'kind': 'transformer', 'width': 16, 'depth': 2, 'heads': 2}},
        {'process': 'ddpm', 'steps': 8, 'calls': 8, 'trunk': {'kind': 'chunk_transformer', 'width': 16, 'depth': 2}},
        {'process': 'flow', 'trunk': {'kind': 'unet', 'width': 8, 'depth': 2, 'window': 'difference'}},
    ],
    ids=str,
)
def test_the_exported_teacher_samples_what_the_trained_one_samples(tmp_path, change):
    teacher = _teacher(tmp_path / 'teacher', **change)
    window = np.random.default_rng(0).normal(0.4, 0.1, (5, 2, 2))
    policy = TeacherPolicy.load(tmp_path / 'teacher')
    plan = policy.plan(window, np.random.default_rng(7))
    noise = np.random.default_rng(7).standard_normal((5, 6), dtype=np.float32)
    normalized = torch.as_tensor(NORMALIZERS.observation.normalize(window), dtype=torch.float32)
    with torch.no_grad():
        sample = teacher.sample(normalized, torch.as_tensor(noise)[None])
    expected = NORMALIZERS.action.denormalize(sample.numpy().reshape(5, 3, 2))
    np.testing.assert_allclose(plan.action, expected, atol=2e-5)
    assert policy.calls == (15 if change.get('sampler') == 'heun' else len(teacher.sigmas()) - 1)


def test_ancestral_samples_are_drawn_from_the_generator(tmp_path):
    _teacher(tmp_path / 'teacher', sampler='ancestral')
    policy = TeacherPolicy.load(tmp_path / 'teacher')
    window = np.full((2, 2, 2), 0.4)
    first, again, other = (policy.plan(window, np.random.default_rng(seed)).action for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_experts_act_in_proportion_to_the_gating(student):
    policy = DistilledPolicy.load(student, action_noise_scale=0.0)
    window = np.full((8000, 2, 2), 0.4)
    experts = policy.experts(window[:1])
    distance = np.abs(policy.act(window, np.random.default_rng(0))[:, None] - experts.mean).sum(axis=(2, 3))
    assert distance.min(axis=1).max() < 1e-5
    # Five standard errors of a share: 5 sqrt(.25 / 8000).
    shares = np.bincount(distance.argmin(axis=1), minlength=4) / 8000
    np.testing.assert_allclose(shares, np.exp(experts.log_gating[0]), atol=0.028)


def test_a_policy_acts_as_called_by_the_control_loop(student):
    """One way from a window to an action: `act` draws what the planner of the node draws by the same numbers."""
    policy = DistilledPolicy.load(student)
    window = np.random.default_rng(1).normal(0.4, 0.1, (2, 2))
    for seed in range(20):
        experts, generator = policy.experts(window[None]), np.random.default_rng(seed)
        expert = Routing().choose(experts.log_gating[0], generator.random())
        noise = policy.deviation(experts, expert, generator)
        action = policy.act(window, np.random.default_rng(seed))
        np.testing.assert_allclose(action, experts.mean[0, expert] + ACTION_NOISE_SCALE * noise, rtol=1e-9)


@pytest.mark.parametrize('covariance', ['diagonal', 'full', 'low_rank'])
@pytest.mark.parametrize('spread', [0.0, 0.7])
def test_an_expert_acts_within_the_configured_share_of_its_own_covariance(tmp_path, covariance, spread):
    student = Student(
        StudentSettings(experts=1, covariance=covariance, trunk=TRUNK), SHAPE, torch.Generator().manual_seed(0)
    )
    manifest = _manifest('student', student.settings.model_dump(mode='json'))
    save_artifact(tmp_path / 'student', manifest, {'x': np.zeros(1)}, export_student(student, NORMALIZERS))
    policy = DistilledPolicy.load(tmp_path / 'student', action_noise_scale=spread)
    window = np.full((20_000, 2, 2), 0.4)
    experts = policy.experts(window[:1])
    deviation = (policy.act(window, np.random.default_rng(0)) - experts.mean[0, 0]).reshape(len(window), -1)
    covariance = spread**2 * policy.covariance(experts)[0, 0]
    deviations = np.sqrt(np.diag(covariance))
    # Five standard errors: sqrt(1 / n) of a mean, sqrt(2 / n) of a variance at most.
    np.testing.assert_array_less(np.abs(deviation.mean(axis=0)), 0.036 * deviations + 1e-6)
    error = np.abs(np.cov(deviation.T) - covariance)
    np.testing.assert_array_less(error, 0.05 * np.outer(deviations, deviations) + 1e-10)


@pytest.mark.parametrize('name', [artifacts.WEIGHTS, artifacts.NETWORK])
def test_a_flipped_bit_is_noticed(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f'expected {name}.*found other contents'):
        load_artifact(copied)


@pytest.mark.parametrize('name', [artifacts.WEIGHTS, artifacts.NETWORK, artifacts.MANIFEST])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_artifact(copied)


def test_an_artifact_of_another_contract_is_refused(copied):
    with pytest.raises(ArtifactError, match='expected an artifact of contract avoiding_joint'):
        load_artifact(copied, contract=load_contract('avoiding_joint'))


def test_a_contract_altered_in_the_manifest_is_noticed(copied):
    file = copied / artifacts.MANIFEST
    manifest = json.loads(file.read_text())
    manifest['contract']['policy_rate'] = 50.0
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match='the manifest was edited'):
        load_artifact(copied)


def test_a_teacher_is_no_student(teacher):
    with pytest.raises(ArtifactError, match='found a teacher'):
        DistilledPolicy.load(teacher)


def test_an_occupied_place_is_refused_and_nothing_is_left_beside_it(copied):
    artifact = load_artifact(copied)
    with pytest.raises(OutputError):
        save_artifact(copied, artifact.manifest, artifact.weights, artifact.network)
    assert [item.name for item in copied.parent.iterdir()] == ['student']
    assert load_artifact(copied).hash == artifact.hash


def test_a_calibrated_artifact_distinguishes_a_window_like_the_demonstrations_from_one_that_is_not(calibrated):
    policy = DistilledPolicy.load(calibrated)
    near, far = (
        np.full((1, 2, 2), value) * NORMALIZERS.observation.scale + NORMALIZERS.observation.offset
        for value in (0.5, 5.0)
    )
    found = [policy.signals(window, policy.experts(window)) for window in (near, far)]
    assert set(found[0]) == {'density', 'gating_confidence'}
    assert found[0]['density'] > policy.calibration.threshold('density', 0.01) > found[1]['density']
    assert all(-np.log(4) <= signals['gating_confidence'] <= 0 for signals in found)


def test_a_calibration_under_the_signal_names_of_former_versions_is_read(calibrated, tmp_path):
    path = shutil.copytree(calibrated, tmp_path / 'former')
    (path / artifacts.DENSITY).rename(path / 'familiarity.safetensors')
    text = (path / artifacts.MANIFEST).read_text().replace('gating_confidence', 'decidedness')
    (path / artifacts.MANIFEST).write_text(text.replace('density', 'familiarity'))
    former, present = DistilledPolicy.load(path), DistilledPolicy.load(calibrated)
    assert former.calibration == present.calibration
    window = np.ones((1, 2, 2))
    assert former.signals(window, former.experts(window)) == present.signals(window, present.experts(window)) != {}


@pytest.mark.parametrize('loss', ['flipped', 'missing'])
def test_a_damaged_density_is_noticed(calibrated, tmp_path, loss):
    path = shutil.copytree(calibrated, tmp_path / 'calibrated')
    file = path / artifacts.DENSITY
    if loss == 'missing':
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with pytest.raises(ArtifactError, match=artifacts.DENSITY):
        load_artifact(path)


def test_an_artifact_of_before_calibration_loads_and_has_no_signals(student):
    policy = DistilledPolicy.load(student)
    window = np.full((1, 2, 2), 0.4)
    assert policy.calibration is None
    assert policy.signals(window, policy.experts(window)) == {}


@pytest.mark.parametrize('change', [{'covariance': name} for name in ('diagonal', 'full', 'low_rank')], ids=str)
def test_the_likelihood_of_a_step_is_that_of_the_trained_student(tmp_path, change):
    student = _student(tmp_path / 'student', **change)
    policy = DistilledPolicy.load(tmp_path / 'student')
    random = np.random.default_rng(0)
    for window, action in zip(random.normal(0.4, 0.1, (20, 1, 2, 2)), random.normal(0, 0.01, (20, 2))):
        normalized = torch.as_tensor(NORMALIZERS.observation.normalize(window), dtype=torch.float32)
        with torch.no_grad():
            mixture = student(normalized).leading(2)
            expected = mixture.log_prob(torch.as_tensor(NORMALIZERS.action.normalize(action), dtype=torch.float32))
        assert policy.likelihood(policy.experts(window), action) == pytest.approx(float(expected), rel=1e-4, abs=1e-4)


def test_the_hash_of_an_artifact_is_that_of_all_its_bytes(student, teacher, copied):
    assert load_artifact(student).hash == load_artifact(copied).hash
    assert load_artifact(student).hash != load_artifact(teacher).hash


def test_a_deviation_for_the_control_loop_is_spread_as_the_expert_is(student):
    policy, random = DistilledPolicy.load(student, action_noise_scale=0.0), np.random.default_rng(0)
    experts = policy.experts(np.full((1, 2, 2), 0.4))
    drawn = np.array([policy.deviation(experts, 2, random).ravel() for _ in range(20_000)])
    covariance = policy.covariance(experts)[0, 2]
    deviations = np.sqrt(np.diag(covariance))
    # Five standard errors of a variance: 5 sqrt(2 / 20000).
    np.testing.assert_array_less(np.abs(np.cov(drawn.T) - covariance), 0.05 * np.outer(deviations, deviations))


def spoilt(path, change=None, network=None, density=None):
    """Alter an artifact and make its hashes agree, as another version or a person might."""
    manifest = json.loads((path / artifacts.MANIFEST).read_text())
    if network:
        model = onnx.load(str(path / artifacts.NETWORK))
        network(model.graph)
        (path / artifacts.NETWORK).write_bytes(model.SerializeToString())
    if density:
        arrays = load_tensors((path / artifacts.DENSITY).read_bytes())
        density(arrays)
        (path / artifacts.DENSITY).write_bytes(save_tensors(arrays))
    if change:
        change(manifest)
    manifest['files'] = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in manifest['files']}
    (path / artifacts.MANIFEST).write_text(json.dumps(manifest))
    return path


def _rename_input(graph):
    graph.input[0].name = 'window'
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == 'observation':
                node.input[place] = 'window'


def _set(place, value):
    def change(manifest):
        *path, last = place
        for part in path:
            manifest = manifest[part]
        manifest[last] = value

    return change


@pytest.mark.parametrize(
    ('how', 'named'),
    [
        ({'change': _set(['network'], {})}, 'settings of a student .*; found no .covariance'),
        ({'change': _set(['network', 'covariance'], 'round')}, "'round' is no form of covariance"),
        ({'change': _set(['network', 'covariance'], 'diagonal')}, 'expected a network .*spread'),
        ({'change': _set(['network', 'scale_floor'], -1.0)}, 'scale_floor is -1'),
        ({'change': _set(['network', 'scale_floor'], 'low')}, 'settings of a student'),
        ({'change': _set(['observation_offset'], [0.5])}, 'observation_offset and observation_scale have 2 numbers'),
        ({'change': _set(['observation_offset'], [0.5, float('inf')])}, 'observation_offset is finite'),
        ({'change': _set(['observation_scale'], [0.0, 0.1])}, 'observation_scale finite and above 0'),
        ({'change': _set(['action_scale'], [0.005])}, 'action_offset and action_scale have 2 numbers'),
        ({'change': _set(['calibration', 'levels'], [0.0])}, 'finite quantile for each of 1 levels'),
        ({'change': _set(['calibration', 'levels'], [1.0, 0.0])}, 'levels ascend'),
        ({'change': _set(['calibration', 'quantiles', 'density'], {})}, 'quantiles of no part'),
        ({'network': lambda graph: graph.output.pop()}, 'expected a network'),
        ({'network': _rename_input}, r"found one from \{'window'"),
        ({'network': lambda graph: graph.ClearField('node')}, 'a network that runs'),
        ({'density': lambda arrays: arrays.pop('centre')}, 'density .*; found no .centre'),
        ({'density': lambda arrays: arrays.update(whitening=np.eye(3))}, 'for windows of 4 numbers'),
        ({'density': lambda arrays: arrays.update(centre=arrays['centre'] * np.nan)}, 'not finite'),
    ],
)  # fmt: skip
def test_an_artifact_whose_parts_do_not_fit_each_other_is_refused_when_it_is_loaded(calibrated, tmp_path, how, named):
    path = spoilt(shutil.copytree(calibrated, tmp_path / 'spoilt'), **how)
    with pytest.raises(ArtifactError, match=named):
        DistilledPolicy.load(path)


@pytest.mark.parametrize(
    ('how', 'named'),
    [
        ({'change': _set(['training'], {})}, 'settings of a teacher .*; found no .sigmas'),
        ({'change': _set(['training', 'sigmas'], [1.0])}, 'at least two'),
        ({'change': _set(['network', 'sampler'], 'dice')}, "no 'dice'"),
        ({'change': _set(['network', 'action_bound'], None)}, 'settings of a teacher'),
        ({'network': _rename_input}, 'expected a network'),
    ],
)
def test_a_teacher_whose_parts_do_not_fit_each_other_is_refused_when_it_is_loaded(teacher, tmp_path, how, named):
    path = spoilt(shutil.copytree(teacher, tmp_path / 'spoilt'), **how)
    with pytest.raises(ArtifactError, match=named):
        TeacherPolicy.load(path)


def test_a_student_has_the_number_of_experts_it_has(tmp_path):
    student = Student(StudentSettings(experts=4, trunk=TRUNK), SHAPE, torch.Generator().manual_seed(0))
    student.retire([1])
    manifest = _manifest('student', student.settings.model_dump(mode='json'))
    save_artifact(tmp_path / 'student', manifest, {'x': np.zeros(1)}, export_student(student, NORMALIZERS))
    assert DistilledPolicy.load(tmp_path / 'student').expert_count == 3


def test_a_teacher_of_before_windows_were_encoded_once_still_samples(teacher, tmp_path):
    """Its only network sees the window in every call."""

    class Whole(torch.nn.Module):
        """Denoise from the window in units."""

        def __init__(self, denoiser):
            super().__init__()
            self.denoiser = denoiser

        def forward(self, noisy, sigma, observation):
            scale, offset = (torch.as_tensor(part, dtype=torch.float32) for part in units)
            return self.denoiser(noisy, sigma, (observation - offset) / scale)

    units = NORMALIZERS.observation.scale, NORMALIZERS.observation.offset
    artifact = load_artifact(teacher)
    module = restored_teacher(artifact)
    program = torch.onnx.export(
        Whole(module.denoiser),
        (torch.zeros(2, 6), torch.tensor(1.0), torch.zeros(2, 2, 2)),
        input_names=['noisy', 'sigma', 'observation'],
        output_names=['clean'],
        dynamic_shapes=({0: torch.export.Dim('batch')}, None, {0: torch.export.Dim('batch')}),
        dynamo=True,
        verbose=False,
    )
    network = program.model_proto.SerializeToString()
    save_artifact(tmp_path / 'old', artifact.manifest, artifact.weights, network)
    window = np.random.default_rng(0).normal(0.4, 0.1, (5, 2, 2))
    old, new = (TeacherPolicy.load(path).plan(window, np.random.default_rng(1)) for path in (tmp_path / 'old', teacher))
    np.testing.assert_allclose(old.action, new.action, atol=1e-5)
