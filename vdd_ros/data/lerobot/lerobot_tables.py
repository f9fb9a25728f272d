"""The files of a LeRobot dataset, version 3: names, columns and statistics."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from vdd_ros.common.errors import OutputError

VERSION = 'v3.0'
INFO, STATS, TASKS, EPISODES = 'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet', 'meta/episodes'
FILE = 'chunk-{chunk_index:03d}/file-{file_index:03d}'
DATA_PATH = f'data/{FILE}.parquet'
VIDEO_PATH = f'videos/{{video_key}}/{FILE}.mp4'
INDICES = ('frame_index', 'episode_index', 'index', 'task_index')
_QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
_SAMPLED_PICTURES = 100


@dataclass(frozen=True)
class FileLimits:
    """Limits for the division of a dataset into files; the defaults are those of LeRobot."""

    data_megabytes: float = 100
    """Size above which no further episode is appended to a data file [MiB]."""
    video_megabytes: float = 200
    """Size above which no further episode is appended to a video [MiB]."""
    files_in_chunk: int = 1000
    """Number of files in a chunk folder."""

    def __post_init__(self) -> None:
        """Refuse limits that LeRobot does not support."""
        for name, value in asdict(self).items():
            if value <= 0:
                raise OutputError(expected=f'{name} above 0', found=f'{value:g}', remedy='leave it out')

    def following(self, chunk: int, file: int) -> tuple[int, int]:
        """Return chunk and file of the next file."""
        return (chunk + 1, 0) if file + 1 == self.files_in_chunk else (chunk, file + 1)


@dataclass(frozen=True)
class Column:
    """A feature of an exported dataset, as a column of its tables."""

    key: str
    """Name of the feature, such as ``observation.state``."""
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """Names of the values, or of the axes of an image."""
    is_image: bool = False
    is_film: bool = False
    """Whether the images are in videos instead of the tables."""

    def describe(self) -> dict[str, Any]:
        """Return the entry of the feature in `info.json`."""
        kind = 'video' if self.is_film else 'image' if self.is_image else 'float32'
        return {'dtype': kind, 'shape': list(self.shape), 'names': list(self.names)}

    def arrow(self, values: np.ndarray) -> pa.Array:
        """Return the values of an episode, shape (frame, *shape), as a column; images as PNG."""
        if self.is_image:
            rows = [{'bytes': _png(picture), 'path': None} for picture in values]
            return pa.array(rows, pa.struct([('bytes', pa.binary()), ('path', pa.string())]))
        flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
        return flat if self.shape == (1,) else pa.FixedSizeListArray.from_arrays(flat, self.shape[0])

    def stored(self) -> dict[str, Any]:
        """Return the type of the column for the `datasets` library."""
        if self.is_image:
            return {'_type': 'Image'}
        value = {'dtype': 'float32', '_type': 'Value'}
        return value if self.shape == (1,) else {'feature': value, 'length': self.shape[0], '_type': 'Sequence'}


def index_columns(frames: int, first: int, episode: int, task: int, rate: float) -> dict[str, pa.Array]:
    """Return the columns that every dataset has, for one episode."""
    count = np.arange(frames)
    return {
        'timestamp': pa.array((count / rate).astype(np.float32)),
        'frame_index': pa.array(count),
        'episode_index': pa.array(np.full(frames, episode)),
        'index': pa.array(first + count),
        'task_index': pa.array(np.full(frames, task)),
    }


def data_schema(columns: Sequence[Column], table: pa.Table) -> pa.Schema:
    """Return the schema of a data file, with the metadata of the `datasets` library."""
    stored = {column.key: column.stored() for column in columns}
    stored |= {'timestamp': {'dtype': 'float32', '_type': 'Value'}}
    stored |= {name: {'dtype': 'int64', '_type': 'Value'} for name in INDICES}
    return table.schema.with_metadata({'huggingface': json.dumps({'info': {'features': stored}})})


def described_features(columns: Sequence[Column]) -> dict[str, Any]:
    """Return the `info.json` entries of all features."""
    found = {column.key: column.describe() for column in columns}
    found['timestamp'] = {'dtype': 'float32', 'shape': [1], 'names': None}
    return found | {name: {'dtype': 'int64', 'shape': [1], 'names': None} for name in INDICES}


def statistics(values: np.ndarray, *, is_image: bool) -> dict[str, Any]:
    """Return statistics of a feature over frames, shape (frame, *shape); images per channel, in [0, 1]."""
    count, values = len(values), np.asarray(values, dtype=np.float64)
    if is_image:
        values = values[:: max(1, len(values) // _SAMPLED_PICTURES)]
        count, flat = len(values), values.reshape(-1, values.shape[-1]) / 255
    else:
        flat = values.reshape(len(values), -1)
    found = {'min': flat.min(axis=0), 'max': flat.max(axis=0), 'mean': flat.mean(axis=0), 'std': flat.std(axis=0)}
    found |= {name: np.quantile(flat, share, axis=0) for name, share in _QUANTILES.items()}
    shape = (values.shape[-1], 1, 1) if is_image else (-1,)
    return {name: value.reshape(shape).tolist() for name, value in found.items()} | {'count': [count]}


def joined_statistics(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the statistics of a feature over episodes: exact except for quantiles, which are weighted means."""
    weight = np.array([part['count'][0] for part in parts], dtype=np.float64)
    weight /= weight.sum()

    def stacked(name: str) -> np.ndarray:
        return np.stack([np.array(part[name]) for part in parts])

    def averaged(values: np.ndarray) -> np.ndarray:
        return np.tensordot(weight, values, axes=1)

    mean = averaged(stacked('mean'))
    variance = averaged(stacked('std') ** 2 + (stacked('mean') - mean) ** 2)
    found = {'min': stacked('min').min(axis=0), 'max': stacked('max').max(axis=0)}
    found |= {'mean': mean, 'std': np.sqrt(variance)}
    found |= {name: averaged(stacked(name)) for name in _QUANTILES}
    count = sum(part['count'][0] for part in parts)
    return {name: value.tolist() for name, value in found.items()} | {'count': [count]}


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write the task table: a pandas frame with the task text as index."""
    columns = [
        ('task_index', 'int64', 'int64'),
        ('task', 'unicode', 'object'),
    ]
    pandas = {
        'index_columns': ['task'],
        'column_indexes': [],
        'columns': [
            {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': stored, 'metadata': None}
            for name, kind, stored in columns
        ],
        'pandas_version': '2.0.0',
    }
    table = pa.table({'task_index': pa.array(range(len(tasks)), pa.int64()), 'task': pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({'pandas': json.dumps(pandas)}), path)


def picture(value: Any) -> np.ndarray:
    """Return a stored image as pixels, shape (height, width, 3) uint8."""
    data = value['bytes'] if isinstance(value, Mapping) else value
    return np.asarray(Pillow.open(io.BytesIO(data)).convert('RGB'))


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(data, format='PNG')
    return data.getvalue()
