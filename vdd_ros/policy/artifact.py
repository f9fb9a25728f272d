"""A trained policy on disk: a manifest, weights as safetensors and the network as ONNX; nothing that runs code.

The only file that knows the format. An artifact is a folder:

    manifest.json             what it is, for which contract, learned from what, and the SHA-256 of the other files
    weights.safetensors       to go on training from, or to distil from
    network.onnx              to infer with
    encoder.onnx              of teachers: what of the network is evaluated once for a plan
    familiarity.safetensors   of calibrated students: a density over the windows of the demonstrations
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
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from vdd_ros import __version__
from vdd_ros.common.errors import ArtifactError
from vdd_ros.common.output import claim_output
from vdd_ros.common.settings import Settings
from vdd_ros.contract.contract import Contract
from vdd_ros.policy.normalization import Normalizer, Normalizers

MANIFEST, WEIGHTS, NETWORK = 'manifest.json', 'weights.safetensors', 'network.onnx'
FAMILIARITY, ENCODER = 'familiarity.safetensors', 'encoder.onnx'


class DataRecord(Settings):
    """What a policy was learned from."""

    bags: dict[str, str]
    """SHA-256 of every bag, by its name."""
    episodes: int
    """Demonstrations that were kept."""
    windows: int
    """Training windows that they make."""


class Calibration(Settings):
    """What a student's signals are over the demonstrations: what is usual, and so what is not."""

    levels: tuple[float, ...]
    """Shares of the windows, ascending."""
    quantiles: dict[str, dict[str, tuple[float, ...]]]
    """By signal and by part of the demonstrations (`train`, `held_out`): what such a share of the windows is below."""
    windows: dict[str, int]
    """How many windows each part has."""
    outliers: tuple[str, ...] = ()
    """Demonstrations that were left out, since they are unlike all others."""
    separation: dict[str, float] = {}
    """How well a signal tells held-out windows from displaced ones: the share of pairs in which it is higher."""

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
        """Return what no more than a `share` of the windows of any part is below."""
        return min(float(np.interp(share, self.levels, values)) for values in self.quantiles[signal].values())


class Manifest(Settings):
    """Everything about a policy but its numbers."""

    format_version: Literal[1] = 1
    kind: Literal['teacher', 'student']
    version: str = __version__
    """Version of vdd_ros that wrote it."""
    created: str = Field(default_factory=lambda: time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()))
    contract: Contract
    contract_hash: str
    data: DataRecord
    observation_offset: tuple[float, ...]
    observation_scale: tuple[float, ...]
    action_offset: tuple[float, ...]
    action_scale: tuple[float, ...]
    network: dict[str, Any]
    """Settings that rebuild the network."""
    training: dict[str, Any]
    """Settings it was trained with."""
    metrics: dict[str, float]
    """What training ended with."""
    history: dict[str, tuple[float, ...]] = {}
    """How the metrics went while training; `iteration` holds the places."""
    verdict: tuple[str, ...] = ()
    """What the metrics of a student mean, in words."""
    calibration: Calibration | None = None
    """What is usual for a student; None in artifacts of before it was measured."""
    teacher: str | None = None
    """Hash of the teacher's artifact, if it is a student."""
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
    """An artifact that was read and checked."""

    path: Path
    manifest: Manifest
    hash: str
    """SHA-256 of the manifest, which holds that of the other files: one hash for the whole."""
    _weights: bytes
    network: bytes
    """The ONNX model."""
    _familiarity: bytes | None = None
    encoder: bytes | None = None
    """The ONNX model from a window to what `network` is given of it; None if that is given the window itself."""

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights by name."""
        return load_tensors(self._weights)

    @property
    def familiarity(self) -> dict[str, np.ndarray] | None:
        """The density over demonstrated windows as arrays by name, if the artifact has one."""
        return None if self._familiarity is None else load_tensors(self._familiarity)


def save_artifact(
    path: str | Path,
    manifest: Manifest,
    weights: Mapping[str, np.ndarray],
    network: bytes,
    familiarity: Mapping[str, np.ndarray] | None = None,
    encoder: bytes | None = None,
) -> str:
    """Write an artifact aside and move it to its place; return its hash.

    Raises
    ------
    OutputError
        The path is occupied or cannot be written.

    """
    path = claim_output(path)
    files = {WEIGHTS: _tensors(weights), NETWORK: network}
    if familiarity is not None:
        files[FAMILIARITY] = _tensors(familiarity)
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
        What it should be.
    contract
        The contract that it should be of.

    Raises
    ------
    ArtifactError
        It is absent, damaged, of another kind, or of another contract.

    """
    path = Path(path)
    try:
        text = (path / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(text)
        optional = {FAMILIARITY, ENCODER} & manifest.files.keys()
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
            remedy='distil it anew',
        ) from error
    for name, data in files.items():
        if manifest.files.get(name) != _sha256(data):
            raise ArtifactError(
                expected=f'{name} as the manifest of {path} has it',
                found='other contents',
                remedy='copy the artifact again; it was damaged or altered',
            )
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(expected=f'a {kind} at {path}', found=f'a {manifest.kind}', remedy=f'give the {kind}')
    if manifest.contract.hash != manifest.contract_hash:
        raise ArtifactError(
            expected=f'the contract of {path} to have its own hash', found='another', remedy='distil it anew'
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
        raise ArtifactError(expected=f'weights at {path}', found=str(error), remedy='distil it anew') from error
    given = files[WEIGHTS], files[NETWORK], files.get(FAMILIARITY), files.get(ENCODER)
    return Artifact(path, manifest, _sha256(text), *given)


def _tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    return save_tensors({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
