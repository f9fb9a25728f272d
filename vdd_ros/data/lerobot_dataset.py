"""Reads LeRobot datasets, version 3: tables by pyarrow, videos by ffmpeg."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from vdd_ros.data import lerobot_tables as tables
from vdd_ros.errors import BagError

STATE, ACTION = 'observation.state', 'action'


@dataclass(frozen=True)
class Vector:
    """A feature that is a row of numbers."""

    key: str
    names: tuple[str, ...]
    """Of its numbers."""

    @property
    def topic(self) -> str:
        """Where a bag has it."""
        return self.key.replace('.', '/')

    @property
    def name(self) -> str:
        """What a contract calls it."""
        return self.key.partition('.')[2].replace('.', '_')


class Dataset:
    """A LeRobot dataset on disk."""

    def __init__(self, path: str | Path) -> None:
        """Read what it says of itself.

        Raises
        ------
        BagError
            There is none, it is of another version, or it has no action.

        """
        self.path = Path(path)
        file = self.path / tables.INFO
        try:
            info = json.loads(file.read_text(encoding='utf-8'))
            self.version, self.rate = str(info['codebase_version']), float(info['fps'])
            self.count = int(info['total_episodes'])
            """Episodes."""
            self.features: Mapping[str, Mapping[str, Any]] = info['features']
            self._data_path, self._video_path = info['data_path'], info.get('video_path')
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BagError(
                expected=f'a LeRobot dataset at {self.path}',
                found=f'no {tables.INFO} that can be read ({" ".join(str(error).split())[:80]})',
                remedy='give the folder that holds meta, data and videos',
            ) from error
        if not self.version.startswith('v3.'):
            raise BagError(
                expected=f'a LeRobot dataset of version 3 at {self.path}',
                found=self.version,
                remedy='convert it with the script of LeRobot that goes from v2.1 to v3.0',
            )
        vectors = {key: self._vector(key) for key in self.features if self._is_vector(key)}
        if ACTION not in vectors:
            raise BagError(
                expected=f'a feature {ACTION} of numbers in {self.path}',
                found=', '.join(self.features),
                remedy='there is nothing to learn without one',
            )
        self.action = vectors.pop(ACTION)
        self.vectors = tuple(item for item in vectors.values() if item.key.startswith('observation.'))
        self.images = tuple(key for key, item in self.features.items() if item['dtype'] == 'image')
        self.videos = tuple(key for key, item in self.features.items() if item['dtype'] == 'video')

    def episodes(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Yield what is said of each episode, and its frames by feature, pictures as pixels.

        Raises
        ------
        BagError
            A file is missing, damaged, or short of frames.

        """
        videos = {key: _Video(self, key) for key in self.videos}
        keys = [self.action.key, *(item.key for item in self.vectors), *self.images]
        opened: tuple[Path, Any] | None = None
        try:
            for entry in self._entries():
                path = self.path / self._data_path.format(
                    chunk_index=entry['data/chunk_index'], file_index=entry['data/file_index']
                )
                if opened is None or opened[0] != path:
                    opened = path, pq.read_table(path, columns=['episode_index', *keys])
                number, length = entry['episode_index'], entry['length']
                table = opened[1]
                rows = np.flatnonzero(table['episode_index'].to_numpy() == number)
                if len(rows) != length:
                    raise BagError(
                        expected=f'{length} frames of episode {number} in {path}',
                        found=f'{len(rows)}',
                        remedy='copy the dataset again',
                    )
                chosen = table.slice(int(rows[0]), length)
                frames: dict[str, Any] = {
                    key: [tables.picture(item) for item in chosen[key].to_pylist()]
                    if key in self.images
                    else np.array(chosen[key].to_pylist(), dtype=np.float64).reshape(length, -1)
                    for key in keys
                }
                frames |= {key: video.take(entry) for key, video in videos.items()}
                yield entry, frames
        except (OSError, ArrowInvalid, KeyError) as error:
            raise BagError(
                expected=f'the files that {self.path / tables.EPISODES} tells of',
                found=' '.join(str(error).split())[:160],
                remedy='copy the dataset again, and all of it',
            ) from error

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        files = sorted((self.path / tables.EPISODES).glob('*/*.parquet'))
        if not files:
            raise BagError(
                expected=f'tables in {self.path / tables.EPISODES}', found='none', remedy='copy the dataset again'
            )
        for file in files:
            schema = pq.read_schema(file)
            columns = [name for name in schema.names if not name.startswith('stats/')]
            yield from pq.read_table(file, columns=columns).to_pylist()

    def video_path(self, key: str, entry: Mapping[str, Any]) -> Path:
        """Return the file that holds the pictures of an episode."""
        chunk, file = entry[f'videos/{key}/chunk_index'], entry[f'videos/{key}/file_index']
        return self.path / self._video_path.format(video_key=key, chunk_index=chunk, file_index=file)

    def _is_vector(self, key: str) -> bool:
        feature = self.features[key]
        return feature['dtype'] in ('float32', 'float64') and len(feature['shape']) == 1 and key != 'timestamp'

    def _vector(self, key: str) -> Vector:
        feature = self.features[key]
        names, size = feature.get('names'), feature['shape'][0]
        if isinstance(names, Mapping):
            names = next(iter(names.values()), None)
        if not isinstance(names, list) or len(names) != size or len(set(map(str, names))) != size:
            names = [f'{key.rpartition(".")[2]}_{place}' for place in range(size)]
        return Vector(key, tuple(str(name) for name in names))


class _Video:
    """The pictures of one camera, file after file, episode after episode."""

    def __init__(self, dataset: Dataset, key: str) -> None:
        self._dataset, self._key = dataset, key
        self._path: Path | None = None
        self._frames: Iterator[bytes] = iter(())

    def take(self, entry: Mapping[str, Any]) -> list[np.ndarray]:
        """Return the pictures of an episode: the next so many of its file."""
        path = self._dataset.video_path(self._key, entry)
        if path != self._path:
            self._open(path)
        found = [
            np.frombuffer(frame, dtype=np.uint8).reshape(*self._shape, 3)
            for _, frame in zip(range(entry['length']), self._frames)
        ]
        if len(found) < entry['length']:
            raise BagError(
                expected=f'{entry["length"]} pictures of episode {entry["episode_index"]} in {path}',
                found=f'{len(found)}',
                remedy='copy the dataset again',
            )
        return found

    def _open(self, path: Path) -> None:
        import imageio_ffmpeg

        if not path.exists():
            raise FileNotFoundError(f'no {path}')
        self._path, self._frames = path, imageio_ffmpeg.read_frames(str(path), pix_fmt='rgb24')
        width, height = next(self._frames)['size']
        self._shape = height, width
