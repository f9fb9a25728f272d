"""Converted demonstrations on disk: zarr arrays that are memory-mapped, in the layout of diffusion_policy and UMI.

A store is a folder in the format of zarr, version 2:

    .zattrs                    the contract, the bags, and the outcome, labels and source of each episode
    data/observation           (step, observation) float64
    data/action                (step, action) float64
    data/NAME                  (step, height, width, channel) of each image: uint8, or int16 [mm] for depth
    data/stamp                 (step,) int64 [ns]
    meta/episode_ends          (episode,) int64: the step after the last of each episode

The zarr chunks are not compressed, so each can be memory-mapped as a part of an array: a random step is read without
decoding its neighbours, and read data stay in the cache of the file system.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode

_GROUP, _ATTRIBUTES, _ARRAY = '.zgroup', '.zattrs', '.zarray'
_CHUNK = 4 << 20
"""Approximate size of a zarr chunk [byte]."""
_ENDS = 'meta/episode_ends'


class _Array:
    """One array: rows in chunk files, each of which holds whole rows."""

    def __init__(self, folder: Path, shape: tuple[int, ...], kind: np.dtype, chunk: int) -> None:
        self._folder, self.shape, self._kind, self._chunk = folder, shape, kind, chunk
        """The attribute ``shape`` is the shape of one row."""

    @classmethod
    def of(cls, folder: Path, shape: tuple[int, ...], kind: np.dtype) -> _Array:
        """Return a new array with rows of a shape; the chunk size is derived from the size of a row."""
        row = max(1, int(np.prod(shape, dtype=np.int64))) * kind.itemsize
        return cls(folder, shape, kind, max(1, _CHUNK // row))

    @classmethod
    def read(cls, folder: Path) -> tuple[_Array, int]:
        """Return an existing array, and its number of rows."""
        try:
            values = json.loads((folder / _ARRAY).read_text(encoding='utf-8'))
            plain = values['compressor'] is None and values['order'] == 'C' and not values.get('filters')
            (count, *shape), (chunk, *rest) = values['shape'], values['chunks']
        except (OSError, ValueError, KeyError) as error:
            raise BagError(
                expected=f'an array of zarr at {folder}', found=' '.join(str(error).split()), remedy='convert again'
            ) from error
        if not plain or shape != rest:
            raise BagError(
                expected=f'chunks of whole rows, not compressed, at {folder}',
                found='others',
                remedy='write the store with `vdd convert`',
            )
        return cls(folder, tuple(shape), np.dtype(values['dtype']), chunk), count

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows from index ``first`` on; the length of the array changes only with `close`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while len(rows):
            number, begin = divmod(first, self._chunk)
            count = min(len(rows), self._chunk - begin)
            held = self._mapped(number, 'r+')
            held[begin : begin + count] = rows[:count]
            held.flush()
            first, rows = first + count, rows[count:]

    def close(self, count: int) -> None:
        """Set the length of the array to ``count`` rows."""
        values = {
            'zarr_format': 2,
            'shape': [count, *self.shape],
            'chunks': [self._chunk, *self.shape],
            'dtype': self._kind.str,
            'compressor': None,
            'fill_value': 0,
            'order': 'C',
            'filters': None,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        _replace(self._folder / _ARRAY, values)

    def rows(self, count: int) -> Iterator[np.ndarray]:
        """Yield each of the first rows as a view into the mapped file."""
        for number in range(-(-count // self._chunk)):
            held = self._mapped(number, 'r')
            yield from held[: count - number * self._chunk]

    def dense(self, count: int) -> np.ndarray:
        """Return the first rows in memory."""
        parts = [np.array(self._mapped(number, 'r')) for number in range(-(-count // self._chunk))]
        return np.concatenate(parts)[:count] if parts else np.zeros((0, *self.shape), self._kind)

    def _mapped(self, number: int, mode: str) -> np.ndarray:
        file = self._folder / '.'.join(map(str, [number, *(0 for _ in self.shape)]))
        size = self._chunk * max(1, int(np.prod(self.shape, dtype=np.int64))) * self._kind.itemsize
        if mode == 'r+' and not file.exists():
            with file.open('wb') as made:
                made.truncate(size)
        return np.memmap(file, self._kind, mode, shape=(self._chunk, *self.shape))


@dataclass(frozen=True)
class Written:
    """Number of episodes and steps in a store, after a bag was added."""

    episodes: int
    steps: int


class StoreWriter:
    """Appends the episodes of bags; a bag is in the store either completely or not at all.

    After an interruption, a new writer continues: rows after the last complete bag are written again.
    """

    def __init__(self, path: str | Path, contract: Contract) -> None:
        """Create a store, or continue a store of the same contract.

        Raises
        ------
        OutputError
            The path contains something else, another writer uses the store, or the store cannot be written.

        """
        self.path, self._contract = Path(path), contract
        try:
            if self.path.exists() and not is_store(self.path) and any(self.path.iterdir()):
                raise OutputError(
                    expected=f'a store or no folder at {self.path}',
                    found='another folder',
                    remedy='choose another path',
                )
            for folder in (self.path, self.path / 'data', self.path / 'meta'):
                folder.mkdir(parents=True, exist_ok=True)
                _replace(folder / _GROUP, {'zarr_format': 2})
            self._lock = (self.path / '.lock').open('w')
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                expected=f'a store at {self.path} that only this process writes',
                found=error.strerror or str(error),
                remedy='wait for the other writer, or choose another path',
            ) from error
        self._attributes = _attributes(self.path) if (self.path / _ATTRIBUTES).exists() else self._begun()
        if self._attributes['contract_hash'] != contract.hash:
            raise OutputError(
                expected=f'a store of the contract {contract.name} at {self.path}',
                found=f'one of {self._attributes["contract"]["name"]}',
                remedy='write another store for another contract',
            )

    @property
    def bags(self) -> Mapping[str, str]:
        """SHA-256 of the bags that are in the store, by name."""
        return MappingProxyType(self._attributes['bags'])

    @property
    def written(self) -> Written:
        """The content of the store."""
        return Written(len(self._attributes['episodes']), self._attributes['steps'])

    def add(self, name: str, fingerprint: str, episodes: Iterable[Episode]) -> None:
        """Append the episodes of a bag, in order."""
        known, first = list(self._attributes['episodes']), self._attributes['steps']
        ends = [item['end'] for item in known]
        for episode in episodes:
            for key, array in self._arrays().items():
                array.write(first, _values(episode, key, array.shape))
            first += len(episode)
            ends.append(first)
            outcome = {True: 'success', False: 'failure', None: ''}[episode.success]
            about = {'end': first, 'outcome': outcome, 'labels': dict(episode.labels), 'index': episode.index}
            known.append({**about, 'bag': episode.bag or name})
        for array in self._arrays().values():
            array.close(first)
        meta = _Array.of(self.path / _ENDS, (), np.dtype(np.int64))
        meta.write(0, np.array(ends, dtype=np.int64))
        meta.close(len(ends))
        bags = {**self._attributes['bags'], name: fingerprint}
        self._attributes = {**self._attributes, 'episodes': known, 'steps': first, 'bags': bags}
        _replace(self.path / _ATTRIBUTES, self._attributes)

    def close(self) -> None:
        """Release the store for other writers."""
        self._lock.close()

    def _begun(self) -> dict[str, Any]:
        contract = self._contract
        about = {'contract': contract.model_dump(mode='json'), 'contract_hash': contract.hash}
        return {**about, 'bags': {}, 'episodes': [], 'steps': 0}

    def _arrays(self) -> dict[str, _Array]:
        contract, number = self._contract, np.dtype(np.float64)
        rows = {
            'observation': ((contract.observation_size,), number),
            'action': ((contract.action_size,), number),
            'stamp': ((), np.dtype(np.int64)),
        }
        for feature in contract.arrays:
            kind = np.dtype(np.int16 if feature.is_distance else np.uint8)
            rows[feature.name] = (feature.shape, kind)
        return {name: _Array.of(self.path / 'data' / name, *given) for name, given in rows.items()}


def _values(episode: Episode, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key == 'stamp':
        return episode.stamps if len(episode.stamps) else np.zeros(len(episode), dtype=np.int64)
    if key in ('observation', 'action'):
        return np.asarray(getattr(episode, key))
    return np.stack([row.reshape(shape) for row in episode.images[key].rows])


def is_store(path: str | Path) -> bool:
    """Return whether there is a store at a path."""
    return (Path(path) / _GROUP).exists() and (Path(path) / 'data').is_dir()


def fingerprint_of(path: str | Path) -> str:
    """Return the SHA-256 of the record of bags and episodes in a store, which includes the hashes of the bags."""
    return hashlib.sha256(json.dumps(_attributes(Path(path)), sort_keys=True).encode()).hexdigest()


def load_store(path: str | Path, contract: Contract) -> tuple[Episode, ...]:
    """Return the episodes of a store; their images are views into mapped files, which are read on use.

    Raises
    ------
    BagError
        The store is damaged, or has another contract.

    """
    path = Path(path)
    attributes = _attributes(path)
    if attributes['contract_hash'] != contract.hash:
        raise BagError(
            expected=f'a store of the contract {contract.name} at {path}',
            found=f'one of {attributes["contract"]["name"]}, or of another version of it',
            remedy='give the contract that it was converted with, or convert the bags again',
        )
    steps = attributes['steps']
    numbers = {name: _Array.read(path / 'data' / name)[0].dense(steps) for name in ('observation', 'action', 'stamp')}
    images = {}
    for feature in contract.arrays:
        array, count = _Array.read(path / 'data' / feature.name)
        if count < steps or array.shape != feature.shape:
            raise BagError(
                expected=f'{steps} images of shape {feature.shape} at {path / "data" / feature.name}',
                found=f'{count} of shape {array.shape}',
                remedy='convert the bags again',
            )
        images[feature.name] = [row.reshape(-1) for row in array.rows(steps)]
    found, begin = [], 0
    for item in attributes['episodes']:
        part = slice(begin, item['end'])
        begin = item['end']
        shown = {feature.name: Frames(images[feature.name][part], feature.size) for feature in contract.arrays}
        success = {'success': True, 'failure': False}.get(item['outcome'])
        arrays = numbers['observation'][part], numbers['action'][part]
        about = {'labels': item['labels'], 'stamps': numbers['stamp'][part], 'bag': item['bag'], 'index': item['index']}
        found.append(Episode(*arrays, success, images=shown, **about))
    return tuple(found)


def _attributes(path: Path) -> dict[str, Any]:
    try:
        values = json.loads((path / _ATTRIBUTES).read_text(encoding='utf-8'))
        return {key: values[key] for key in ('contract', 'contract_hash', 'bags', 'episodes', 'steps')}
    except (OSError, ValueError, KeyError) as error:
        raise BagError(
            expected=f'a store of demonstrations at {path}',
            found=' '.join(str(error).split())[:160],
            remedy='write it with `vdd convert`',
        ) from error


def _replace(file: Path, values: Any) -> None:
    aside = file.with_name(f'{file.name}.partial')
    aside.write_text(json.dumps(values, indent=1), encoding='utf-8')
    aside.replace(file)
