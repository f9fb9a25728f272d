"""Export demonstrations as a LeRobot dataset, version 3: the features of a contract, for other tools."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vdd_ros.common.errors import OutputError, TrainingError, VddError
from vdd_ros.common.output import claim_output
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.contract.naming import action_names, observation_names
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot import lerobot_tables as tables
from vdd_ros.data.lerobot.lerobot_films import FilmWriter
from vdd_ros.data.lerobot.lerobot_tables import Column, FileLimits

_MILLIMETER = 1e-3
CONTRACT = 'meta/vdd_contract.json'
"""An additional file with the contract that defines the features."""


def export_episodes(
    episodes: Iterable[Episode],
    contract: Contract,
    output: str | Path,
    *,
    video: str | None = None,
    limits: FileLimits | None = None,
) -> int:
    """Write demonstrations as a LeRobot dataset; return their number.

    The values are the observations and actions of the contract at its policy rate, in single precision:
    ``observation.state`` and ``action``. Images are ``observation.images.NAME``, as PNG or, on request, as videos.
    Videos are smaller and, except ``lossless``, lossy. Depth images of a contract of version 3 are
    ``observation.NAME``, flattened row by row [m]. Tasks are the language instructions. Outcome and labels of an
    episode are additional columns of ``meta/episodes``.

    Parameters
    ----------
    episodes
        Episodes of the contract.
    contract
        Defines the features.
    output
        The folder to write; it must not exist.
    video
        One of `lerobot_films.CODECS` for videos: ``h264``, ``av1``, or ``lossless``. By default the tables contain
        images as PNG.
    limits
        Sizes of the files; by default those of LeRobot.

    Raises
    ------
    OutputError
        The output exists or cannot be written, or the images cannot be encoded.
    TrainingError
        There are no episodes.

    """
    output = claim_output(output)
    partial = output.with_name(f'.{output.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    writer = _Writer(partial, contract, video, limits or FileLimits())
    try:
        for episode in episodes:
            writer.add(episode)
        writer.close()
        partial.rename(output)
    except OSError as error:
        raise OutputError(
            expected=f'a place for the dataset at {output}', found=str(error), remedy='choose another path'
        ) from error
    finally:
        writer.abandon()
        shutil.rmtree(partial, ignore_errors=True)
    return writer.count


class _Writer:
    """Writes one dataset, episode by episode."""

    def __init__(self, folder: Path, contract: Contract, video: str | None, limits: FileLimits) -> None:
        self._folder, self._contract, self._limits = folder, contract, limits
        self._all = columns_of(contract, films=video is not None)
        self._columns = tuple(column for column in self._all if not column.is_film)
        self._films: dict[str, FilmWriter] = {}
        for column in self._all:
            if column.is_film:
                pattern = tables.VIDEO_PATH.replace('{video_key}', column.key)
                size = (column.shape[0], column.shape[1])
                self._films[column.key] = FilmWriter(folder, pattern, size, contract.policy_rate, video, limits)
        self._file = (0, 0)
        self._parquet: pq.ParquetWriter | None = None
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._frames = 0

    @property
    def count(self) -> int:
        """Number of episodes written."""
        return len(self._rows)

    def add(self, episode: Episode) -> None:
        """Append an episode."""
        values = frames_of(episode, self._contract)
        task = episode.labels.get('language') or self._contract.name
        number = self._tasks.setdefault(task, len(self._tasks))
        count = len(episode)
        arrays = {column.key: column.arrow(values[column.key]) for column in self._columns}
        arrays |= tables.index_columns(count, self._frames, self.count, number, self._contract.policy_rate)
        self._write(pa.table(arrays))
        outcome = {True: 'success', False: 'failure', None: ''}[episode.success]
        row: dict[str, Any] = {
            'episode_index': self.count,
            'tasks': [task],
            'length': count,
            'data/chunk_index': self._file[0],
            'data/file_index': self._file[1],
            'dataset_from_index': self._frames,
            'dataset_to_index': self._frames + count,
            'meta/episodes/chunk_index': 0,
            'meta/episodes/file_index': 0,
            'outcome': outcome,
            'labels': json.dumps(dict(episode.labels), sort_keys=True),
        }
        for key, film in self._films.items():
            stretch = film.add(values[key])
            row |= {f'videos/{key}/chunk_index': stretch.file[0], f'videos/{key}/file_index': stretch.file[1]}
            row |= {f'videos/{key}/from_timestamp': stretch.begin, f'videos/{key}/to_timestamp': stretch.end}
        for column in self._all:
            found = tables.statistics(values[column.key], is_image=column.is_image)
            row |= {f'stats/{column.key}/{name}': value for name, value in found.items()}
        self._rows.append(row)
        self._frames += count

    def close(self) -> None:
        """Write the metadata of all episodes."""
        if not self._rows:
            raise TrainingError(expected='at least one episode', found='none', remedy='record demonstrations')
        self._parquet.close()
        for film in self._films.values():
            film.close()
        meta = self._folder / tables.EPISODES / f'{tables.FILE.format(chunk_index=0, file_index=0)}.parquet'
        meta.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._rows), meta)
        tables.write_tasks(self._folder / tables.TASKS, list(self._tasks))
        rate = self._contract.policy_rate
        self._write_json(
            tables.INFO,
            {
                'codebase_version': tables.VERSION,
                'robot_type': Path(self._contract.robot.model).stem,
                'total_episodes': self.count,
                'total_frames': self._frames,
                'total_tasks': len(self._tasks),
                'chunks_size': self._limits.files_in_chunk,
                'data_files_size_in_mb': self._limits.data_megabytes,
                'video_files_size_in_mb': self._limits.video_megabytes,
                'fps': int(rate) if rate == int(rate) else rate,
                'splits': {'train': f'0:{self.count}'},
                'data_path': tables.DATA_PATH,
                'video_path': tables.VIDEO_PATH if self._films else None,
                'features': self._described(),
            },
        )
        stats = {}
        for column in self._all:
            start = f'stats/{column.key}/'
            parts = [{key[len(start) :]: row[key] for key in row if key.startswith(start)} for row in self._rows]
            stats[column.key] = tables.joined_statistics(parts)
        self._write_json(tables.STATS, stats)
        self._write_json(CONTRACT, self._contract.model_dump(mode='json'))

    def abandon(self) -> None:
        """Close the files, complete or not."""
        with contextlib.suppress(VddError, OSError):
            if self._parquet is not None:
                self._parquet.close()
        for film in self._films.values():
            film.abandon()

    def _described(self) -> dict[str, Any]:
        found = tables.described_features(self._all)
        for key, film in self._films.items():
            found[key]['info'] = film.describe()
        return found

    def _write(self, table: pa.Table) -> None:
        """Append the frames of an episode as one row group, in a new file if the current one is large."""
        path = self._path()
        if self._parquet is not None and path.stat().st_size > self._limits.data_megabytes * 2**20:
            self._parquet.close()
            self._parquet = None
            self._file = self._limits.following(*self._file)
        if self._parquet is None:
            path = self._path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(path, tables.data_schema(self._columns, table))
        self._parquet.write_table(table)

    def _path(self) -> Path:
        return self._folder / tables.DATA_PATH.format(chunk_index=self._file[0], file_index=self._file[1])

    def _write_json(self, name: str, values: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=4), encoding='utf-8')


def columns_of(contract: Contract, *, films: bool = False) -> tuple[Column, ...]:
    """Return the dataset features for a contract; with ``films``, images are in videos instead of the tables."""
    names = [name for name, kept in zip(observation_names(contract), _is_number(contract)) if kept]
    columns = [Column('observation.state', (len(names),), tuple(names))] if names else []
    for feature in _pictures(contract):
        shape = (feature.image.height, feature.image.width, 3)
        names = ('height', 'width', 'channels')
        columns.append(Column(f'observation.images.{feature.name}', shape, names, is_image=True, is_film=films))
    for feature in _depths(contract):
        names = tuple(f'{feature.name} {place}' for place in range(feature.size))
        columns.append(Column(f'observation.{feature.name}', (len(names),), names))
    columns.append(Column('action', (contract.action_size,), tuple(action_names(contract))))
    return tuple(columns)


def frames_of(episode: Episode, contract: Contract) -> dict[str, np.ndarray]:
    """Return the values of every feature of an episode, each of shape (frame, *shape)."""
    values: dict[str, np.ndarray] = {'action': episode.action}
    if _is_number(contract).any():
        values['observation.state'] = episode.observation[:, _is_number(contract)]
    begin = 0
    for feature in contract.observation:
        width = contract.width(feature)
        if feature in _depths(contract):
            values[f'observation.{feature.name}'] = np.stack(episode.images[feature.name].rows) * _MILLIMETER
        elif feature in contract.images:
            pixels = np.stack(episode.images[feature.name].rows).reshape(len(episode), *feature.image.shape)
            values[f'observation.images.{feature.name}'] = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
        elif feature in _pictures(contract):
            image = feature.image
            pixels = episode.observation[:, begin : begin + width].reshape(len(episode), image.height, image.width, -1)
            pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
            values[f'observation.images.{feature.name}'] = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
        begin += width
    return values


def _pictures(contract: Contract) -> Sequence[TopicFeature]:
    """Return the colour image features. Depth images are stored as numbers."""
    return [item for item in contract.topic_features if item.image is not None and item.image.color != 'depth']


def _depths(contract: Contract) -> Sequence[TopicFeature]:
    """Return depth images and point clouds beside the vector; they become features of numbers [m]."""
    return [item for item in contract.arrays if item.is_distance]


def _is_number(contract: Contract) -> np.ndarray:
    """Return a mask of the observation values that are not part of an image, shape (observation,) bool."""
    parts = [np.full(contract.width(item), item not in _pictures(contract)) for item in contract.observation]
    return np.concatenate(parts)
