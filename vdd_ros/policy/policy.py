"""Trained policies at work: numpy in, action chunks out, by onnxruntime; neither torch nor ROS is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
from vdd_ros.policy.routing import ACTION_NOISE_SCALE
from vdd_ros.policy.runtime import Network

_STEPS = {'euler': samplers.euler, 'heun': samplers.heun, 'ancestral': samplers.ancestral}


class DistilledPolicy:
    """A student for inference: one network call from a window to its experts."""

    def __init__(self, artifact: Artifact, *, threads: int = 1, action_noise_scale: float = ACTION_NOISE_SCALE) -> None:
        """Prepare inference.

        Parameters
        ----------
        artifact
            The student.
        threads
            Of the network; one has the best tail at the size of these.
        action_noise_scale
            Share of an expert's standard deviation that actions are drawn with, see
            `vdd_ros.policy.routing.ACTION_NOISE_SCALE`.

        Raises
        ------
        ArtifactError
            The artifact is no student, or its network cannot be run here.

        """
        _check_kind(artifact, 'student')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, name=str(artifact.path))
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
        window = 1, self.contract.observation_horizon, self.contract.observation_size
        widths = {'log_gating': 1, 'mean': len(self._unit), 'spread': self._noise.parameters}
        outputs = {name: (1, self.expert_count * width) for name, width in widths.items()}
        _check_network(artifact, self._network, {'observation': window}, outputs)
        arrays = artifact.familiarity
        with _complaining_of(artifact, 'a density over the windows of its contract'):
            self._familiarity = (
                None if arrays is None else ObservationDensity.from_arrays(arrays, window[1] * window[2])
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        contract: Contract | None = None,
        threads: int = 1,
        action_noise_scale: float = ACTION_NOISE_SCALE,
    ) -> DistilledPolicy:
        """Read, check and prepare an artifact; errors as those of `load_artifact`."""
        return cls(
            load_artifact(path, kind='student', contract=contract),
            threads=threads,
            action_noise_scale=action_noise_scale,
        )

    def act(self, observation: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Return an action chunk for a window, or one for each window of a batch.

        Parameters
        ----------
        observation
            Shape (observation_horizon, observation) or (batch, observation_horizon, observation), in the units of the
            contract, oldest time step first.
        generator
            Draws the expert from the gating, and the expert's action. Without one, the chunk is the mean of the
            likeliest expert.

        Returns
        -------
        Shape (prediction_horizon, action) or (batch, prediction_horizon, action), in the units of the contract.

        Raises
        ------
        ContractError
            The window has another shape than the contract says, or numbers that are not finite.

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

    def log_prob(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Return the exact log-density of actions, ``log q(a|s)``, in the units of the contract.

        Parameters
        ----------
        observation
            As for `act`.
        action
            Shape (step, action), or (batch, step, action) for a batch: the first steps of chunks, or whole chunks.

        Returns
        -------
        Shape () or (batch,) [nat]. A density: its value depends on the units, and may exceed zero.

        Raises
        ------
        ContractError
            Window or action have another shape than the contract says, or numbers that are not finite.

        """
        windows, alone = _windows(self.contract, observation)
        steps = np.asarray(action, dtype=np.float64)[None] if alone else np.asarray(action, dtype=np.float64)
        horizon, width = self._chunk
        if steps.ndim != 3 or steps.shape[::2] != (len(windows), width) or not 1 <= steps.shape[1] <= horizon:
            raise ContractError(
                expected=f'actions of shape {"(" if alone else "(batch, "}step, {width}) with 1 to {horizon} steps',
                found=f'shape {np.shape(action)} for {len(windows)} windows',
                remedy='give an action for each window, as wide as the contract says',
            )
        scale = self._normalizers.action.scale
        found = log_likelihood(self.experts(windows), self.artifact.manifest.network, scale, steps)
        found = found - steps.shape[1] * np.log(scale).sum()
        return found[0] if alone else found

    def experts(self, observation: np.ndarray) -> Experts:
        """Call the network.

        Parameters
        ----------
        observation
            Shape (batch, observation_horizon, observation), in the units of the contract, oldest stamp first.

        """
        log_gating, mean, spread = self._network({'observation': observation})
        batch, experts = log_gating.shape
        return Experts(log_gating, mean.reshape(batch, experts, *self._chunk), spread.reshape(batch, experts, -1))

    def covariance(self, experts: Experts) -> np.ndarray:
        """Return the covariances of the flattened chunks, shape (batch, expert, chunk, chunk)."""
        return covariance_of(experts.covariance_parameters, self.artifact.manifest.network, self._unit)

    @property
    def calibration(self) -> Calibration | None:
        """Quantiles of `signals` and `likelihood` over the demonstrations; None in older artifacts."""
        return self.artifact.manifest.calibration

    def signals(self, observation: np.ndarray, experts: Experts) -> dict[str, float]:
        """Tell how much the policy is at home in a window; the more, the greater each value.

        Parameters
        ----------
        observation
            Shape (1, observation_horizon, observation).
        experts
            The answer to it.

        Returns
        -------
        dict
            ``familiarity``, how near the window is to those of the demonstrations, and ``decidedness``, minus the
            entropy of the gating [nat]; nothing if the artifact is not calibrated.

        """
        return {name: float(values[0]) for name, values in self.signals_of_each(observation, experts).items()}

    def signals_of_each(self, observation: np.ndarray, experts: Experts) -> dict[str, np.ndarray]:
        """Return the OOD signals of several windows, by name, shape (batch,)."""
        if self._familiarity is None or self.calibration is None:
            return {}
        window = self._normalizers.observation.normalize(observation)
        return {
            'familiarity': self._familiarity.log_density(window),
            'decidedness': -entropy(experts.log_gating).astype(np.float64),
        }

    def likelihood(self, experts: Experts, done: np.ndarray) -> float:
        """Return the exact ``log q(a|s)`` of what was done after a window, in normalised units [nat].

        Parameters
        ----------
        experts
            The answer to the window, of batch one.
        done
            Shape (action,): the action of the one step that followed, whoever commanded it.

        """
        return float(self.likelihood_of_each(experts, done[None])[0])

    def likelihood_of_each(self, experts: Experts, done: np.ndarray) -> np.ndarray:
        """Return the log-likelihood for several windows, shape (batch,), of actions of shape (batch, action)."""
        scale, settings = self._normalizers.action.scale, self.artifact.manifest.network
        return log_likelihood(experts, settings, scale, done[:, None])

    def coherence(self, experts: Experts, actions: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the rest of a chunk under each expert, ``log q(a|s,z)``, shape (expert,) [nat].

        ``experts`` have batch one. ``actions``, shape (step, action), are the rest of the current chunk in the units of
        the contract. Added to the log-gating, the result conditions the mixture exactly on the rest.
        """
        return self.coherence_of_each(experts, actions[None])[0]

    def coherence_of_each(self, experts: Experts, actions: np.ndarray) -> np.ndarray:
        """Return `coherence` for several windows, shape (batch, expert).

        ``actions`` have shape (batch, step, action).
        """
        scale, settings = self._normalizers.action.scale, self.artifact.manifest.network
        return expert_log_likelihood(experts, settings, scale, actions)

    def deviation(self, experts: Experts, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Sample the action noise of an expert (`experts.ActionNoise`) in a window of batch one.

        Shape (prediction_horizon, action).
        """
        drawn = self._noise.of_one(experts.covariance_parameters[0, expert].tolist(), generator)
        return np.array(drawn).reshape(experts.mean.shape[2:])


class TeacherPolicy:
    """A teacher for inference: a window is encoded once, then the network is called for each noise level."""

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        """Prepare inference; errors as those of `DistilledPolicy`."""
        _check_kind(artifact, 'teacher')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, name=str(artifact.path))
        # Older networks receive the window in every call.
        self._encoder = None
        if artifact.encoder is not None:
            self._encoder = Network(artifact.encoder, threads=threads, name=str(artifact.path))
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
        window = 1, self.contract.observation_horizon, self.contract.observation_size
        chunk = 1, self.contract.prediction_horizon * self.contract.action_size
        seen = {'observation': window}
        if self._encoder is not None:
            context = {'context': self._network.inputs.get('context', ())}
            _check_network(artifact, self._encoder, seen, context)
            seen = context
        _check_network(artifact, self._network, {'noisy': chunk, 'sigma': (), **seen}, {'clean': chunk})
        self._normalizer = artifact.manifest.normalizers.action

    @classmethod
    def load(cls, path: str | Path, *, contract: Contract | None = None, threads: int = 1) -> TeacherPolicy:
        """Read, check and prepare an artifact; errors as those of `load_artifact`."""
        return cls(load_artifact(path, kind='teacher', contract=contract), threads=threads)

    def act(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw an action chunk for a window, or one for each window of a batch; see `DistilledPolicy.act`."""
        windows, alone = _windows(self.contract, observation)
        action = self.plan(windows, generator).action
        return action[0] if alone else action

    @property
    def calls(self) -> int:
        """Number of network calls for one action."""
        levels = len(self._sigmas) - 1
        return 2 * levels - 1 if self._step is samplers.heun else levels

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Sample chunks along the noise levels of the teacher's sampler.

        ``observation`` has shape (batch, observation_horizon, observation).
        """
        window = np.ascontiguousarray(observation, dtype=np.float32)
        seen = {'observation': window}
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
    path: str | Path, *, contract: Contract | None = None, threads: int = 1
) -> DistilledPolicy | TeacherPolicy:
    """Read, check and prepare the policy of an artifact: a student or a teacher.

    Parameters
    ----------
    path
        The folder that `distill` or `train_teacher` wrote.
    contract
        The contract that it should be of; by default any.
    threads
        Of the network.

    Raises
    ------
    ArtifactError
        It is absent, damaged, or of another contract, or its network cannot be run here.

    """
    artifact = load_artifact(path, contract=contract)
    kind = DistilledPolicy if artifact.manifest.kind == 'student' else TeacherPolicy
    return kind(artifact, threads=threads)


def _windows(contract: Contract, observation: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return checked windows as a batch, and whether the input was a single window."""
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
