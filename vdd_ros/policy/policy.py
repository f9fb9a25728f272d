"""Inference of trained policies with onnxruntime: numpy in, action chunks out; neither torch nor ROS is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import ArtifactError, ContractError
from vdd_ros.contract.contract import Contract
from vdd_ros.policy import samplers
from vdd_ros.policy.artifact import Artifact, Calibration, load_artifact
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.density import ObservationDensity
from vdd_ros.policy.experts import (
    ActionNoise,
    Experts,
    choose,
    covariance_of,
    entropy,
    expert_log_likelihood,
    log_likelihood,
)
from vdd_ros.policy.labels import Labels, load_labels
from vdd_ros.policy.observation import AnyObservation, Observation, images_of, vector_of
from vdd_ros.policy.routing import ACTION_NOISE_SCALE
from vdd_ros.policy.runtime import Network

_STEPS = {'euler': samplers.euler, 'heun': samplers.heun, 'ancestral': samplers.ancestral}


class DistilledPolicy:
    """A student for inference: one network call from a window to its experts."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int = 1,
        provider: str = 'cpu',
        action_noise_scale: float = ACTION_NOISE_SCALE,
    ) -> None:
        """Prepare inference.

        Parameters
        ----------
        artifact
            The student.
        threads
            Threads for one network call; one has the lowest tail latency for networks of this size.
        provider
            Execution provider of the network, see `vdd_ros.policy.runtime.PROVIDERS`.
        action_noise_scale
            Factor on an expert's standard deviation when actions are sampled, see
            `vdd_ros.policy.routing.ACTION_NOISE_SCALE`.

        Raises
        ------
        ArtifactError
            The artifact is not a student, or its network cannot be run on this machine.
        ConfigurationError
            The provider is not available.

        """
        _check_kind(artifact, 'student')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, provider=provider, name=str(artifact.path))
        self._action_noise_scale = action_noise_scale
        self._chunk = self.contract.prediction_horizon, self.contract.action_size
        self._normalizers = artifact.manifest.normalizers
        self._unit = np.tile(self._normalizers.action.scale, self.contract.prediction_horizon)
        with _complaining_of(artifact, 'settings of a student'):
            self._noise = ActionNoise(artifact.manifest.network, self._unit)
        self.expert_count = self._network.outputs.get('log_gating', (1, 1))[-1]
        """Number of experts."""
        self.labels: Labels = load_labels(artifact.path, artifact.hash, self.expert_count)
        """Names and colours of the experts at the time of loading."""
        horizon, numbers = self.contract.observation_horizon, self.contract.observation_size
        widths = {'log_gating': 1, 'mean': len(self._unit), 'spread': self._noise.parameters}
        outputs: dict[str, tuple[int, ...]] = {name: (1, self.expert_count * width) for name, width in widths.items()}
        features = 0
        if self.contract.arrays:
            features = self._network.outputs.get('features', (1, horizon, 0))[-1]
            outputs['features'] = (1, horizon, features)
        _check_network(artifact, self._network, _inputs(self.contract), outputs)
        arrays = artifact.density
        with _complaining_of(artifact, 'a density over the windows of its contract'):
            self._density = (
                None if arrays is None else ObservationDensity.from_arrays(arrays, horizon * (numbers + features))
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        contract: Contract | None = None,
        threads: int = 1,
        provider: str = 'cpu',
        action_noise_scale: float = ACTION_NOISE_SCALE,
    ) -> DistilledPolicy:
        """Read, check and prepare an artifact; raises the errors of `load_artifact` and of the constructor."""
        return cls(
            load_artifact(path, kind='student', contract=contract),
            threads=threads,
            provider=provider,
            action_noise_scale=action_noise_scale,
        )

    def act(self, observation: AnyObservation, generator: np.random.Generator | None = None) -> np.ndarray:
        """Return an action chunk for a window, or one for each window of a batch.

        Parameters
        ----------
        observation
            Shape (observation_horizon, observation) or (batch, observation_horizon, observation), in the units of the
            contract, oldest time step first. With images an `Observation`.
        generator
            Random numbers for the expert, drawn from the gating, and for the expert's action. Without a generator, the
            chunk is the mean of the likeliest expert.

        Returns
        -------
        Shape (prediction_horizon, action) or (batch, prediction_horizon, action), in the units of the contract.

        Raises
        ------
        ContractError
            The shape of the window differs from that of the contract, or a value is not finite.

        """
        windows, alone = _windows(self.contract, observation)
        experts, rows = self.experts(windows), np.arange(len(windows))
        if generator is None:
            chosen = experts.log_gating.argmax(axis=-1)
        else:
            chosen = choose(experts.log_gating, generator.random(len(windows)))
        action = experts.mean[rows, chosen].astype(np.float64)
        if generator is not None and self._action_noise_scale:
            noise = self._noise.of_each(experts.covariance_parameters[rows, chosen], generator)
            action += self._action_noise_scale * noise.reshape(action.shape)
        return action[0] if alone else action

    def log_prob(self, observation: AnyObservation, action: np.ndarray) -> np.ndarray:
        """Return the exact log-density of actions, ``log q(a|s)``, in the units of the contract.

        Parameters
        ----------
        observation
            As for `act`.
        action
            Shape (step, action), or (batch, step, action) for a batch: the first steps of chunks, or whole chunks.

        Returns
        -------
        Shape () or (batch,) [nat]. A log-density depends on the units and can be positive.

        Raises
        ------
        ContractError
            The shape of window or action differs from that of the contract, or a value is not finite.

        """
        windows, alone = _windows(self.contract, observation)
        steps = np.asarray(action, dtype=np.float64)[None] if alone else np.asarray(action, dtype=np.float64)
        horizon, width = self._chunk
        if steps.ndim != 3 or steps.shape[::2] != (len(windows), width) or not 1 <= steps.shape[1] <= horizon:
            raise ContractError(
                expected=f'actions of shape {"(" if alone else "(batch, "}step, {width}) with 1 to {horizon} steps',
                found=f'shape {np.shape(action)} for {len(windows)} windows',
                remedy='give an action for each window, as wide as in the contract',
            )
        scale = self._normalizers.action.scale
        found = log_likelihood(self.experts(windows), self.artifact.manifest.network, scale, steps)
        found = found - steps.shape[1] * np.log(scale).sum()
        return found[0] if alone else found

    def experts(self, observation: AnyObservation) -> Experts:
        """Evaluate the network for a batch of windows.

        Parameters
        ----------
        observation
            Shape (batch, observation_horizon, observation), in the units of the contract, oldest time step first. With
            images an `Observation`.

        """
        log_gating, mean, spread, *features = self._network(_given(observation))
        batch, experts = log_gating.shape
        means, parameters = mean.reshape(batch, experts, *self._chunk), spread.reshape(batch, experts, -1)
        return Experts(log_gating, means, parameters, *features)

    def covariance(self, experts: Experts) -> np.ndarray:
        """Return the covariances of the flattened chunks, shape (batch, expert, chunk, chunk)."""
        return covariance_of(experts.covariance_parameters, self.artifact.manifest.network, self._unit)

    @property
    def calibration(self) -> Calibration | None:
        """Quantiles of `signals` and `likelihood` over the demonstrations; None in older artifacts."""
        return self.artifact.manifest.calibration

    def signals(
        self, observation: AnyObservation, experts: Experts, at_full_speed: np.ndarray | None = None
    ) -> dict[str, float]:
        """Return the OOD signals of one window; higher values are closer to the demonstrations.

        Parameters
        ----------
        observation
            Shape (1, observation_horizon, observation).
        experts
            The mixture of the student for `observation`.
        at_full_speed
            What the window of a slowed arm may be at full speed, shape (window, observation_horizon, observation);
            None if the arm is not slowed.

        Returns
        -------
        dict
            ``density``, the log-density of the window under the `ObservationDensity` of the demonstrations, and
            ``gating_confidence``, the negative entropy of the gating [nat]; empty if the artifact is not calibrated.

        """
        return {
            name: float(values[0])
            for name, values in self.signals_of_each(observation, experts, [at_full_speed]).items()
        }

    def signals_of_each(
        self, observation: AnyObservation, experts: Experts, at_full_speed: Sequence[np.ndarray | None] = ()
    ) -> dict[str, np.ndarray]:
        """Return the OOD signals of several windows, by name, shape (batch,).

        With images, the density is evaluated at the observation vector and the image features of the encoder. For a
        slowed arm (``at_full_speed``, see `signals`; empty if no arm is slowed), the density is the highest one of the
        window and of the windows at full speed.
        """
        if self._density is None or self.calibration is None:
            return {}
        density = self._density_of(vector_of(observation), experts.features)
        for row, windows in enumerate(at_full_speed):
            if windows is not None:
                features = None if experts.features is None else experts.features[[row] * len(windows)]
                density[row] = max(density[row], self._density_of(windows, features).max())
        return {'density': density, 'gating_confidence': -entropy(experts.log_gating).astype(np.float64)}

    def _density_of(self, window: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        """Return the log-density of windows in the units of the contract, and of their image features."""
        window = self._normalizers.observation.normalize(window)
        return self._density.log_density(window if features is None else np.concatenate([window, features], axis=-1))

    def likelihood(self, experts: Experts, done: np.ndarray) -> float:
        """Return the exact ``log q(a|s)`` of the step executed after a window, in normalised units [nat].

        Parameters
        ----------
        experts
            The mixture of the student for the window, batch size 1.
        done
            Shape (action,): the action of the step after the window, from the policy or another source.

        """
        return float(self.likelihood_of_each(experts, done[None])[0])

    def likelihood_of_each(self, experts: Experts, done: np.ndarray) -> np.ndarray:
        """Return the log-likelihood for several windows, shape (batch,), of actions of shape (batch, action)."""
        scale, settings = self._normalizers.action.scale, self.artifact.manifest.network
        return log_likelihood(experts, settings, scale, done[:, None])

    def coherence(self, experts: Experts, actions: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the remaining chunk under each expert, ``log q(a|s,z)``, shape (expert,) [nat].

        ``experts`` are those of one window. ``actions``, shape (step, action), are the remaining steps of the current
        chunk in the units of the contract. Log-gating plus result is the posterior of the experts given these actions,
        up to a constant.
        """
        return self.coherence_of_each(experts, actions[None])[0]

    def coherence_of_each(self, experts: Experts, actions: np.ndarray) -> np.ndarray:
        """Return `coherence` for several windows, shape (batch, expert).

        ``actions`` have shape (batch, step, action).
        """
        scale, settings = self._normalizers.action.scale, self.artifact.manifest.network
        return expert_log_likelihood(experts, settings, scale, actions)

    def deviation(self, experts: Experts, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Sample the action noise of an expert (`vdd_ros.policy.experts.ActionNoise`) for one window.

        The result has shape (prediction_horizon, action), in the units of the contract.
        """
        drawn = self._noise.of_one(experts.covariance_parameters[0, expert].tolist(), generator)
        return np.array(drawn).reshape(experts.mean.shape[2:])


class TeacherPolicy:
    """A teacher for inference: each window is encoded once, then the network is called for each noise level."""

    def __init__(self, artifact: Artifact, *, threads: int = 1, provider: str = 'cpu') -> None:
        """Prepare inference; raises the errors of the constructor of `DistilledPolicy`."""
        _check_kind(artifact, 'teacher')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, provider=provider, name=str(artifact.path))
        # Older networks receive the window in every call.
        self._encoder = None
        if artifact.encoder is not None:
            self._encoder = Network(artifact.encoder, threads=threads, provider=provider, name=str(artifact.path))
        training = artifact.manifest.training
        with _complaining_of(artifact, 'settings of a teacher'):
            self._sigmas = np.array(training['sigmas'], dtype=np.float32)
            self._sigma_data = np.float32(training['sigma_data'])
            self._bound = np.float32(artifact.manifest.network['action_bound'])
            self._step = _STEPS[artifact.manifest.network['sampler']]
            if not (self._sigmas.ndim == 1 and len(self._sigmas) > 1 and np.isfinite(self._sigmas).all()):
                raise ValueError('noise levels are at least two finite numbers')
            if not (0 < self._sigma_data < np.inf and self._bound > 0):
                raise ValueError('sigma_data and action_bound are above 0')
        chunk = 1, self.contract.prediction_horizon * self.contract.action_size
        seen = _inputs(self.contract)
        if self._encoder is not None:
            context = {'context': self._network.inputs.get('context', ())}
            _check_network(artifact, self._encoder, seen, context)
            seen = context
        _check_network(artifact, self._network, {'noisy': chunk, 'sigma': (), **seen}, {'clean': chunk})
        self._normalizer = artifact.manifest.normalizers.action

    @classmethod
    def load(
        cls, path: str | Path, *, contract: Contract | None = None, threads: int = 1, provider: str = 'cpu'
    ) -> TeacherPolicy:
        """Read, check and prepare an artifact; raises the errors of `load_artifact` and of the constructor."""
        return cls(load_artifact(path, kind='teacher', contract=contract), threads=threads, provider=provider)

    def act(self, observation: AnyObservation, generator: np.random.Generator) -> np.ndarray:
        """Draw an action chunk for a window, or one for each window of a batch; see `DistilledPolicy.act`."""
        windows, alone = _windows(self.contract, observation)
        action = self.plan(windows, generator).action
        return action[0] if alone else action

    @property
    def calls(self) -> int:
        """Number of forward passes of the denoising network for one action chunk."""
        levels = len(self._sigmas) - 1
        return 2 * levels - 1 if self._step is samplers.heun else levels

    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        """Sample chunks along the noise levels of the teacher's sampler.

        ``observation`` has shape (batch, observation_horizon, observation); with images it is an `Observation`.
        """
        seen = _given(observation)
        window = seen['observation'] = np.ascontiguousarray(seen['observation'], dtype=np.float32)
        if self._encoder is not None:
            seen = {'context': self._encoder(seen)[0]}
        contract = self.contract
        shape = (len(window), contract.prediction_horizon * contract.action_size)
        state = generator.standard_normal(shape, dtype=np.float32) * np.hypot(self._sigmas[0], self._sigma_data)

        def denoise(noisy: np.ndarray, sigma: np.float32) -> np.ndarray:
            clean = self._network({'noisy': noisy, 'sigma': sigma, **seen})[0]
            return np.clip(clean, -self._bound, self._bound)

        for sigma, lower in pairwise(self._sigmas):
            drawn = self._step is samplers.ancestral
            unit = (generator.standard_normal(shape, dtype=np.float32),) if drawn else ()
            state = self._step(denoise, state, sigma, lower, *unit)
        chunk = state.reshape(len(window), contract.prediction_horizon, contract.action_size)
        return Plan(self._normalizer.denormalize(chunk.astype(np.float64)), np.full(len(window), -1))


def load_policy(
    path: str | Path, *, contract: Contract | None = None, threads: int = 1, provider: str = 'cpu'
) -> DistilledPolicy | TeacherPolicy:
    """Read, check and prepare the policy of an artifact: a student or a teacher.

    Parameters
    ----------
    path
        The folder that `distill` or `train_teacher` wrote.
    contract
        The contract that the policy must have been trained for; any by default.
    threads, provider
        Number of threads and execution provider of the network (`vdd_ros.policy.runtime.PROVIDERS`).

    Raises
    ------
    ArtifactError
        The artifact is absent, damaged, or of another contract, or its network cannot be run on this machine.
    ConfigurationError
        The provider is not available.

    """
    artifact = load_artifact(path, contract=contract)
    kind = DistilledPolicy if artifact.manifest.kind == 'student' else TeacherPolicy
    return kind(artifact, threads=threads, provider=provider)


def _inputs(contract: Contract) -> dict[str, tuple[int, ...]]:
    """Return the inputs of a network over windows, by name, with their shapes at batch one."""
    horizon = contract.observation_horizon
    images = {f'image_{item.name}': (1, horizon, *item.shape) for item in contract.arrays}
    return {'observation': (1, horizon, contract.observation_size), **images}


def _given(observation: AnyObservation) -> dict[str, np.ndarray]:
    """Return the inputs of a network by name."""
    images = {f'image_{name}': image for name, image in images_of(observation).items()}
    return {'observation': vector_of(observation), **images}


def _windows(contract: Contract, observation: AnyObservation) -> tuple[AnyObservation, bool]:
    """Return checked windows as a batch, and whether the input was a single window."""
    windows, alone = _vectors(contract, vector_of(observation))
    wanted = {item.name: (*windows.shape[:2], *item.shape) for item in contract.arrays}
    images = {name: image[None] if alone else image for name, image in images_of(observation).items()}
    found = {name: image.shape for name, image in images.items()}
    if found != wanted:
        raise ContractError(
            expected=f'images of the shapes {wanted} of {contract.name}',
            found=f'{found}',
            remedy='give an `Observation` of the numbers and all images of the contract',
        )
    return (Observation(windows, images) if images else windows), alone


def _vectors(contract: Contract, observation: np.ndarray) -> tuple[np.ndarray, bool]:
    windows = np.asarray(observation, dtype=np.float32)
    alone = windows.ndim == 2
    if alone:
        windows = windows[None]
    shape = contract.observation_horizon, contract.observation_size
    if windows.ndim != 3 or windows.shape[1:] != shape or not len(windows):
        raise ContractError(
            expected=f'windows of shape {shape} or (batch, {shape[0]}, {shape[1]}) of {contract.name}',
            found=f'shape {np.shape(observation)}',
            remedy='stack the newest observations, oldest first',
        )
    if not np.isfinite(windows).all():
        place = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(windows)))
        raise ContractError(
            expected='finite numbers in every window',
            found=f'{windows[place]} in window {place[0]}, step {place[1]}, column {place[2]}',
            remedy='drop what was not measured',
        )
    return windows, alone


@contextlib.contextmanager
def _complaining_of(artifact: Artifact, expected: str) -> Iterator[None]:
    """Convert errors about missing or malformed entries of an artifact to `ArtifactError`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        found = f'no {error}' if isinstance(error, KeyError) else ' '.join(str(error).split())
        raise ArtifactError(
            expected=f'{expected} at {artifact.path}', found=found, remedy='distill it again with this version'
        ) from error


def _check_network(
    artifact: Artifact, network: Network, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]
) -> None:
    """Refuse a network whose inputs and outputs (shapes by name at batch one) do not match its contract."""
    if network.inputs != inputs or list(network.outputs.items()) != list(outputs.items()):
        raise ArtifactError(
            expected=f'a network at {artifact.path} from {inputs} to {outputs}',
            found=f'one from {network.inputs} to {network.outputs}',
            remedy='distill it again',
        )


def _check_kind(artifact: Artifact, kind: str) -> None:
    if artifact.manifest.kind != kind:
        raise ArtifactError(
            expected=f'a {kind} at {artifact.path}', found=f'a {artifact.manifest.kind}', remedy=f'give the {kind}'
        )
