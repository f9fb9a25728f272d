"""A trained policy on disk: a manifest, weights as safetensors and the network as ONNX; nothing that runs code.

The format is defined only in this file. An artifact is a folder:

    manifest.json             kind, contract, training data and metrics, and the SHA-256 of the other files
    weights.safetensors       weights for further training, or for distillation
    network.onnx              network for inference
    encoder.onnx              teachers: the part of the network that is evaluated once per plan
    density.safetensors       calibrated students: density over the windows of the demonstrations
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from vdd_ros.common.errors import ArtifactError
from vdd_ros.common.output import claim_output
from vdd_ros.common.settings import Settings
from vdd_ros.common.version import __version__
from vdd_ros.contract.contract import Contract
from vdd_ros.policy.normalization import Normalizer, Normalizers

MANIFEST, WEIGHTS, NETWORK = 'manifest.json', 'weights.safetensors', 'network.onnx'
DENSITY, ENCODER = 'density.safetensors', 'encoder.onnx'
_FORMER_DENSITY = 'familiarity.safetensors'
_FORMER_SIGNALS = {'familiarity': 'density', 'decidedness': 'gating_confidence'}


class DataRecord(Settings):
    """Origin of the training data of a policy."""

    bags: dict[str, str]
    """SHA-256 of every bag, by its name."""
    episodes: int
    """Number of demonstrations in use."""
    windows: int
    """Number of training windows."""


class Calibration(Settings):
    """Quantiles of the OOD signals of a student over the demonstrations."""

    levels: tuple[float, ...]
    """Levels of the quantiles, ascending."""
    quantiles: dict[str, dict[str, tuple[float, ...]]]
    """Quantiles of each signal on each split (`train`, `held_out`), indexed [signal][split]; one value for each
    level."""
    windows: dict[str, int]
    """Number of windows by split."""
    outliers: tuple[str, ...] = ()
    """Demonstrations that were excluded because they differ from all others."""
    separation: dict[str, float] = {}
    """By signal: share of pairs of a held-out and a displaced window in which the held-out window has the higher
    value."""

    @field_validator('quantiles', 'separation', mode='before')
    @classmethod
    def _rename_signals(cls, values: Any) -> Any:
        """Replace the signal names of versions before 0.2."""
        if not isinstance(values, Mapping):
            return values
        return {_FORMER_SIGNALS.get(name, name): value for name, value in values.items()}

    @model_validator(mode='after')
    def _has_a_quantile_for_each_level(self) -> Calibration:
        levels = np.array(self.levels)
        if not (len(levels) and (np.diff(levels) > 0).all() and levels[0] >= 0 and levels[-1] <= 1):
            raise ValueError('levels ascend from 0 to 1')
        for signal, parts in self.quantiles.items():
            if not parts:
                raise ValueError(f'{signal} has quantiles of no part of the demonstrations')
            for part, values in parts.items():
                if len(values) != len(levels) or not np.isfinite(values).all():
                    raise ValueError(f'{signal} of {part} has a finite quantile for each of {len(levels)} levels')
        return self

    def threshold(self, signal: str, share: float) -> float:
        """Return the quantile of a signal at the level `share`, the lowest of all splits."""
        return min(float(np.interp(share, self.levels, values)) for values in self.quantiles[signal].values())


class Manifest(Settings):
    """Metadata of a policy artifact: contract, data, normalisation, settings, metrics and hashes of the files."""

    format_version: Literal[1] = 1
    kind: Literal['teacher', 'student']
    version: str = __version__
    """Version of vdd_ros that wrote the artifact."""
    created: str = Field(default_factory=lambda: time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()))
    contract: Contract
    contract_hash: str
    data: DataRecord
    observation_offset: tuple[float, ...]
    observation_scale: tuple[float, ...]
    action_offset: tuple[float, ...]
    action_scale: tuple[float, ...]
    network: dict[str, Any]
    """Settings of the network."""
    training: dict[str, Any]
    """Settings of the training."""
    metrics: dict[str, float]
    """Final metrics."""
    history: dict[str, tuple[float, ...]] = {}
    """Metrics during training; `iteration` contains the iterations."""
    verdict: tuple[str, ...] = ()
    """Interpretation of the metrics of a student, in words."""
    calibration: Calibration | None = None
    """Quantiles of the OOD signals of a student; None in older artifacts."""
    teacher: str | None = None
    """Hash of the teacher's artifact, for a student."""
    files: dict[str, str] = {}
    """SHA-256 of the other files."""

    @model_validator(mode='after')
    def _normalizes_what_the_contract_has(self) -> Manifest:
        for name, width in (('observation', self.contract.observation_size), ('action', self.contract.action_size)):
            offset, scale = (np.array(getattr(self, f'{name}_{part}')) for part in ('offset', 'scale'))
            if not offset.shape == scale.shape == (width,):
                raise ValueError(f'{name}_offset and {name}_scale have {width} numbers, as the contract')
            if not (np.isfinite(offset).all() and np.isfinite(scale).all() and (scale > 0).all()):
                raise ValueError(f'{name}_offset is finite, and {name}_scale finite and above 0')
        return self

    @property
    def normalizers(self) -> Normalizers:
        """The normalisers of observation and action."""
        return Normalizers(
            Normalizer(np.array(self.observation_offset), np.array(self.observation_scale)),
            Normalizer(np.array(self.action_offset), np.array(self.action_scale)),
        )


def normalizer_entries(normalizers: Normalizers) -> dict[str, tuple[float, ...]]:
    """Return the manifest's four entries for the normalisers."""
    return {
        'observation_offset': tuple(normalizers.observation.offset.tolist()),
        'observation_scale': tuple(normalizers.observation.scale.tolist()),
        'action_offset': tuple(normalizers.action.offset.tolist()),
        'action_scale': tuple(normalizers.action.scale.tolist()),
    }


@dataclass(frozen=True)
class Artifact:
    """A policy artifact whose files were read and checked against their hashes."""

    path: Path
    manifest: Manifest
    hash: str
    """SHA-256 of the manifest, which contains the hashes of the other files."""
    _weights: bytes
    network: bytes
    """The ONNX model."""
    _density: bytes | None = None
    encoder: bytes | None = None
    """The ONNX model that encodes a window for `network`; None if `network` receives the window itself."""

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights by name."""
        return load_tensors(self._weights)

    @property
    def density(self) -> dict[str, np.ndarray] | None:
        """The density over demonstrated windows as arrays by name, if the artifact has one."""
        return None if self._density is None else load_tensors(self._density)


def save_artifact(
    path: str | Path,
    manifest: Manifest,
    weights: Mapping[str, np.ndarray],
    network: bytes,
    density: Mapping[str, np.ndarray] | None = None,
    encoder: bytes | None = None,
) -> str:
    """Write an artifact to a temporary folder, rename it to its path, and return its hash.

    Raises
    ------
    OutputError
        The path is occupied or cannot be written.

    """
    path = claim_output(path)
    files = {WEIGHTS: _tensors(weights), NETWORK: network}
    if density is not None:
        files[DENSITY] = _tensors(density)
    if encoder is not None:
        files[ENCODER] = encoder
    manifest = manifest.model_copy(update={'files': {name: _sha256(data) for name, data in files.items()}})
    text = json.dumps(manifest.model_dump(mode='json'), indent=1, sort_keys=True).encode()
    aside = path.with_name(f'.{path.name}.partial')
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name, data in {**files, MANIFEST: text}.items():
        (aside / name).write_bytes(data)
    aside.replace(path)
    return _sha256(text)


def load_artifact(
    path: str | Path, *, kind: Literal['teacher', 'student'] | None = None, contract: Contract | None = None
) -> Artifact:
    """Read an artifact and check every byte of it against its manifest.

    Parameters
    ----------
    path
        The artifact's folder.
    kind
        The kind that the artifact must have; any by default.
    contract
        The contract that the artifact must have been trained for; any by default.

    Raises
    ------
    ArtifactError
        The artifact is absent, damaged, of another kind, or of another contract.

    """
    path = Path(path)
    text, manifest, files = _read(path)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(expected=f'a {kind} at {path}', found=f'a {manifest.kind}', remedy=f'give the {kind}')
    if manifest.contract.hash != manifest.contract_hash:
        raise ArtifactError(
            expected=f'the contract_hash of the contract in {path}/manifest.json',
            found='a different hash (the manifest was edited or is damaged)',
            remedy='restore the artifact, or distill it again',
        )
    if contract is not None and contract.hash != manifest.contract_hash:
        raise ArtifactError(
            expected=f'an artifact of contract {contract.name} ({contract.hash[:12]})',
            found=f'{manifest.contract.name} ({manifest.contract_hash[:12]}) at {path}',
            remedy='give the contract that it was trained for, or train for this one',
        )
    try:
        for name in files.keys() - {NETWORK, ENCODER}:
            load_tensors(files[name])
    except SafetensorError as error:
        raise ArtifactError(expected=f'weights at {path}', found=str(error), remedy='distill it again') from error
    density = files.get(DENSITY, files.get(_FORMER_DENSITY))
    return Artifact(path, manifest, _sha256(text), files[WEIGHTS], files[NETWORK], density, files.get(ENCODER))


def _read(path: Path) -> tuple[bytes, Manifest, dict[str, bytes]]:
    """Return the manifest of an artifact, as text and as values, and its files, whose hashes are checked."""
    try:
        text = (path / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(text)
        optional = {DENSITY, _FORMER_DENSITY, ENCODER} & manifest.files.keys()
        files = {name: (path / name).read_bytes() for name in (WEIGHTS, NETWORK, *optional)}
    except OSError as error:
        raise ArtifactError(
            expected=f'an artifact at {path}',
            found=f'{error.strerror}: {Path(error.filename).name}',
            remedy='give the folder that `vdd distill` or `vdd train-teacher` wrote',
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = '.'.join(str(part) for part in first['loc']) or 'the whole'
        raise ArtifactError(
            expected=f'a manifest of format 1 at {path}',
            found=f'{place}: {first["msg"].removeprefix("Value error, ")}',
            remedy='distill it again',
        ) from error
    for name, data in files.items():
        if manifest.files.get(name) != _sha256(data):
            raise ArtifactError(
                expected=f'{name} as the manifest of {path} has it',
                found='other contents',
                remedy='copy the artifact again; it was damaged or altered',
            )
    return text, manifest, files


def _tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    return save_tensors({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
