"""Read LeRobot datasets, version 3: tables with pyarrow, videos with PyAV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.lerobot import lerobot_tables as tables
from vdd_ros.data.lerobot.lerobot_films import pictures_at

STATE, ACTION = 'observation.state', 'action'
_NUMBERS = {f'{kind}{bits}' for kind in ('int', 'uint') for bits in (8, 16, 32, 64)}
_NUMBERS |= {'float16', 'float32', 'float64', 'bool'}
_POINTER = b'version https://git-lfs'
_ON_GRID = 2e-4
"""Maximum distance of a single-precision time from a multiple of the period [s] to count as that multiple."""
_EXACT = 1 << 53


@dataclass(frozen=True)
class Vector:
    """A numeric feature; a matrix is flattened row by row."""

    key: str
    names: tuple[str, ...]
    """Names of the values."""
    named: bool
    """Whether the dataset defines these names."""


@dataclass(frozen=True)
class Demonstration:
    """An episode of a dataset: its instructions, times, numeric features and images."""

    number: int
    """Index in the dataset."""
    entry: Mapping[str, Any]
    """Entry in `meta/episodes`, without statistics."""
    tasks: tuple[str, ...]
    """Instructions in order."""
    stamps: np.ndarray
    """Shape (frame,), int64 [ns]: times since the first frame."""
    numbers: Mapping[str, np.ndarray]
    """Values by feature, shape (frame, width)."""
    pictures: Mapping[str, Iterator[np.ndarray]]
    """Iterators over images of shape (height, width, 3) uint8, by feature."""


class Dataset:
    """Reads the episodes of a LeRobot dataset on disk."""

    def __init__(self, path: str | Path, report: ConversionReport | None = None) -> None:
        """Read the metadata, and report unreadable parts.

        Raises
        ------
        BagError
            There is no dataset, its version is not supported, or it has no action.

        """
        self.path = Path(path)
        self.report = ConversionReport() if report is None else report
        file = self.path / tables.INFO
        try:
            info = json.loads(file.read_text(encoding='utf-8'))
            self.version, self.rate = str(info['codebase_version']), float(info['fps'])
            self.count = int(info['total_episodes'])
            """Number of episodes according to the dataset."""
            self.features: Mapping[str, Mapping[str, Any]] = dict(info['features'])
            self._data_path, self._video_path = str(info['data_path']), info.get('video_path')
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BagError(
                expected=f'a LeRobot dataset at {self.path}',
                found=f'no readable {tables.INFO} ({" ".join(str(error).split())[:80]})',
                remedy='give the folder with meta, data and videos',
            ) from error
        if not self.version.startswith('v3.'):
            raise BagError(
                expected=f'a LeRobot dataset of version 3 at {self.path}',
                found=self.version,
                remedy='convert it with the LeRobot script from v2.1 to v3.0',
            )
        if not 0 < self.rate <= 1000:
            raise BagError(
                expected=f'fps above 0 and up to 1000 in {file}', found=f'{self.rate:g}', remedy='correct the file'
            )
        vectors, images, videos = [], [], []
        for key, feature in self.features.items():
            kind = self._kind(key, feature)
            if kind in ('image', 'video'):
                (images if kind == 'image' else videos).append(key)
            elif kind in _NUMBERS and key not in (*tables.INDICES, 'timestamp'):
                vectors.append(self._vector(key, feature))
            elif kind not in _NUMBERS:
                self.report.add('part', key, f'only numbers and images are read, not {kind}')
        by_key = {item.key: item for item in vectors}
        if ACTION not in by_key:
            raise BagError(
                expected=f'a feature {ACTION} of numbers in {self.path}',
                found=', '.join(self.features) or 'no features',
                remedy='a policy needs actions: record them in the dataset',
            )
        self.action = by_key.pop(ACTION)
        self.vectors = tuple(by_key.values())
        """Numeric features other than the action."""
        self.images, self.videos = tuple(images), tuple(videos)
        self.period = round(NANOSECONDS / self.rate)
        """Time between two frames [ns]."""

    def episodes(self) -> Iterator[Demonstration]:
        """Yield the episodes of `meta/episodes` in order. Consume the images of an episode before requesting the next.

        Raises
        ------
        BagError
            A file is missing, damaged, or has too few frames.

        """
        try:
            yield from self._episodes()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise BagError(
                expected=f'the files listed in {self.path / tables.EPISODES}',
                found=' '.join(str(error).split())[:160],
                remedy='copy the complete dataset again',
            ) from error

    def _episodes(self) -> Iterator[Demonstration]:
        entries = list(self._entries())
        if len(entries) != self.count:
            why = f'{tables.INFO} states {self.count} episodes, {tables.EPISODES} lists {len(entries)}'
            self.report.add('note', self.path.name, why)
        words = self._words()
        read: dict[Path, set[int]] = {}
        shown: dict[tuple[str, Path], int] = {}
        table, path = None, None
        for entry in entries:
            number, length = entry['episode_index'], entry['length']
            file = self.path / self._data_path.format(
                chunk_index=entry['data/chunk_index'], file_index=entry['data/file_index']
            )
            if file != path:
                table, path = self._table(file), file
                index = table['episode_index'].to_numpy()
            read.setdefault(file, set()).add(number)
            rows = np.flatnonzero(index == number)
            if len(rows) != length or not length:
                raise BagError(
                    expected=f'{max(length, 1)} frames of episode {number} in {file}',
                    found=f'{len(rows)}',
                    remedy='copy the dataset again',
                )
            yield self._demonstration(entry, table.take(rows), words, shown)
        self._note_unlisted(read)

    def _demonstration(
        self, entry: Mapping[str, Any], table: pa.Table, words: Mapping[int, str], shown: dict[tuple[str, Path], int]
    ) -> Demonstration:
        number, length = entry['episode_index'], len(table)
        if 'frame_index' in table.schema.names:
            table = table.sort_by('frame_index')
        where = f'episode {number}'
        numbers = {item.key: self._values(item, table[item.key], where) for item in (self.action, *self.vectors)}
        times = np.arange(length) / self.rate
        if 'timestamp' in table.schema.names:
            listed = _flat(table['timestamp']).astype(np.float64)
            if len(listed) == length and (np.diff(listed) > 0).all():
                times = listed
            else:
                self.report.add('note', where, 'timestamps are not ascending: the frame rate is used')
        pictures: dict[str, Iterator[np.ndarray]] = {}
        for key in self.images:
            pictures[key] = (self._picture(item) for item in table[key].to_pylist())
        for key in self.videos:
            pictures[key] = self._film(key, entry, times, shown, where)
        tasks: list[str] = []
        if 'task_index' in table.schema.names and words:
            tasks = [words.get(item, f'task {item}') for item in _flat(table['task_index']).astype(int).tolist()]
        listed_tasks = entry.get('tasks')
        tasks += [str(task) for task in ([listed_tasks] if isinstance(listed_tasks, str) else listed_tasks or ())]
        return Demonstration(number, entry, tuple(dict.fromkeys(tasks)), self._stamps(times), numbers, pictures)

    def _stamps(self, times: np.ndarray) -> np.ndarray:
        """Return times [s] as stamps since the first [ns]; times close to a frame at the rate are rounded to it."""
        times = times - times[0]
        frames = np.rint(times * self.rate)
        close = np.abs(times - frames / self.rate) < min(_ON_GRID, 0.2 / self.rate)
        return np.where(close, frames * self.period, np.rint(times * NANOSECONDS)).astype(np.int64)

    def _film(
        self, key: str, entry: Mapping[str, Any], times: np.ndarray, shown: dict[tuple[str, Path], int], where: str
    ) -> Iterator[np.ndarray]:
        """Return the images of an episode, selected by the times of its frames in its part of the video."""
        path = self._checked(self.video_path(key, entry))
        before = shown.get((key, path), 0)
        shown[key, path] = before + len(times)
        begin, end = (entry.get(f'videos/{key}/{name}_timestamp') for name in ('from', 'to'))
        if begin is None:
            self.report.add('note', key, 'no episode times in the video: episodes are assumed to follow each other')
            begin, times = before / self.rate, times - times[0]
        if end is not None and begin + times[-1] > end:  # the video has no pauses, or its times are not per episode
            self.report.add('note', key, 'a video that is shorter than the episode: read frame by frame')
            times = np.arange(len(times)) / self.rate
        return pictures_at(path, begin + times, 0.51 / self.rate, f'{key} of {where}')

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        files = sorted((self.path / tables.EPISODES).glob('*/*.parquet'))
        if not files:
            raise BagError(
                expected=f'tables in {self.path / tables.EPISODES}', found='none', remedy='copy the dataset again'
            )
        for file in files:
            schema = pq.read_schema(self._checked(file))
            columns = [name for name in schema.names if not name.startswith('stats/')]
            yield from pq.read_table(file, columns=columns).to_pylist()

    def _words(self) -> dict[int, str]:
        """Return the instructions by index; empty if the dataset has no task table."""
        file = self.path / tables.TASKS
        if not file.exists():
            return {}
        table = pq.read_table(self._checked(file))
        texts = [name for name in table.schema.names if pa.types.is_string(table.schema.field(name).type)]
        texts += [name for name in table.schema.names if pa.types.is_large_string(table.schema.field(name).type)]
        if not texts or 'task_index' not in table.schema.names:
            return {}
        return dict(zip(table['task_index'].to_pylist(), table[texts[0]].to_pylist()))

    def _table(self, file: Path) -> pa.Table:
        present = set(pq.read_schema(self._checked(file)).names)
        keys = [self.action.key, *(item.key for item in self.vectors), *self.images]
        if missing := [key for key in ('episode_index', *keys) if key not in present]:
            raise BagError(
                expected=f'columns {", ".join(missing)} in {file}', found='none', remedy='copy the dataset again'
            )
        also = [name for name in ('timestamp', 'frame_index', 'task_index') if name in present]
        return pq.read_table(file, columns=['episode_index', *keys, *also])

    def _note_unlisted(self, read: Mapping[Path, set[int]]) -> None:
        """Report episodes and data files that `meta/episodes` does not list, such as discarded takes."""
        for file in sorted((self.path / 'data').glob('*/*.parquet')):
            try:
                index = np.unique(pq.read_table(self._checked(file), columns=['episode_index'])['episode_index'])
            except (pa.ArrowException, BagError) as error:
                self.report.add('part', file.name, f'not listed and not readable: {" ".join(str(error).split())}')
                continue
            others = sorted(set(index.tolist()) - read.get(file, set()))
            place = f'episode {others[0]}' if others else ''
            self.report.add('episode', 'data', f'not listed in {tables.EPISODES}', len(others), place)

    def _values(self, item: Vector, column: pa.ChunkedArray, where: str) -> np.ndarray:
        """Return the values of a feature, shape (frame, width), and report unusual ones."""
        flat = _flat(column)
        if len(flat) != len(column) * len(item.names):
            raise BagError(
                expected=f'{len(item.names)} numbers of {item.key} in each frame of {where}',
                found=f'{len(flat)} in {len(column)} frames',
                remedy='correct the shape in meta/info.json, or copy the dataset again',
            )
        if flat.dtype.kind in 'iu' and len(flat) and max(abs(int(flat.min())), abs(int(flat.max()))) > _EXACT:
            self.report.add('note', item.key, 'integers beyond 2^53 (rounded)')
        values = flat.astype(np.float64).reshape(len(column), -1)
        wrong = ~np.isfinite(values).all(axis=1)
        place = f'{where}, frame {int(wrong.argmax())}' if wrong.any() else ''
        self.report.add('note', item.key, 'frames with numbers that are not finite', int(wrong.sum()), place)
        return values

    def _picture(self, value: Any) -> np.ndarray:
        if isinstance(value, Mapping) and value.get('bytes') is None:
            return tables.picture(self._checked(self.path / str(value.get('path'))).read_bytes())
        return tables.picture(value)

    def _checked(self, path: Path) -> Path:
        """Return the path of an existing file that is not a git-lfs pointer."""
        with path.open('rb') as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise BagError(
                    expected=f'the content of {path}',
                    found='a git-lfs pointer',
                    remedy='run `git lfs pull` in the dataset, or download it with `hf download`',
                )
        return path

    def video_path(self, key: str, entry: Mapping[str, Any]) -> Path:
        """Return the video file of an episode."""
        chunk, file = entry[f'videos/{key}/chunk_index'], entry[f'videos/{key}/file_index']
        pattern = str(self._video_path or tables.VIDEO_PATH)
        return self.path / pattern.format(video_key=key, chunk_index=chunk, file_index=file)

    def _kind(self, key: str, feature: Any) -> str:
        """Return the type of a feature after checking its shape."""
        if not isinstance(feature, Mapping) or not isinstance(feature.get('dtype'), str):
            found = f'{feature}'[:60]
            raise BagError(
                expected=f'a dtype of {key} in {self.path / tables.INFO}', found=found, remedy='correct the file'
            )
        shape = feature.get('shape')
        if feature['dtype'] in _NUMBERS and not (
            isinstance(shape, (list, tuple)) and all(isinstance(size, int) and size > 0 for size in shape)
        ):
            raise BagError(
                expected=f'a shape of {key} in {self.path / tables.INFO}', found=f'{shape}', remedy='correct the file'
            )
        return feature['dtype']

    def _vector(self, key: str, feature: Mapping[str, Any]) -> Vector:
        names, size = feature.get('names'), math.prod(feature['shape'])
        if isinstance(names, Mapping):
            names = next(iter(names.values()), None)
        if not isinstance(names, list) or len(names) != size or len(set(map(str, names))) != size:
            return Vector(key, tuple(f'{key.rpartition(".")[2]}_{place}' for place in range(size)), named=False)
        return Vector(key, tuple(str(name) for name in names), named=True)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    """Return all numbers of a column, flattened; missing values are NaN."""
    values = column.combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    while isinstance(values, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray, pa.ExtensionArray)):
        values = values.storage if isinstance(values, pa.ExtensionArray) else values.flatten()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    return values.to_numpy(zero_copy_only=False)
