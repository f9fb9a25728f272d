"""Exports of `vdd dataset export`, read by LeRobot itself. `python -m benchmarks.lerobot_exports --python PATH ...`.

A bag of known numbers and pictures is exported with pictures as PNG, H.264 and AV1: at 20 Hz with even sizes of
pictures, and at 28.6 Hz with odd ones; an episode with several instructions, one that a pause splits, several files.
Each Python that is named and has lerobot reads every frame by `LeRobotDataset`, with every decoder of films that works
there; the dataset reader of this package reads the same. All is compared with what was written into the bag: numbers,
chunks of actions, times and instructions exactly, pictures of PNG exactly, films frame by frame within what a codec
may lose. A Python without lerobot is reported and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.bag_making import JOINTS, SECOND
from benchmarks.harness import Bar, finish
from benchmarks.lerobot_reader import CHUNK
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.lerobot.lerobot import export_episodes
from vdd_ros.data.lerobot.lerobot_dataset import Dataset
from vdd_ros.data.lerobot.lerobot_tables import FileLimits

READER = Path(__file__).with_name('lerobot_reader.py')
FORMS = ('png', 'h264', 'av1')
LOST = 4.0
"""Mean difference of a picture [levels of 255] that a codec may cause."""
_TOPICS = {'/joint_states': messages.JOINT_STATE, '/commands': messages.NUMBERS, '/episode': messages.MARK}
_LENGTHS, _SPLIT = (14, 12, 17), 9
"""Frames of the episodes, and the frame of the last one that a pause of half a second precedes."""
_TASKS = (('lift the cup',), ('lift the cup', 'put it down'), ('wipe the table',))


@dataclass(frozen=True)
class Source:
    """What is written into a bag, and is to be read from every export of it."""

    name: str
    rate: float
    """[Hz]"""
    sizes: Mapping[str, tuple[int, int]]
    """Height and width by camera."""
    version: int
    """Of the contract: since 3, images lie beside the vector of numbers."""

    @property
    def contract(self) -> Contract:
        """Seven joints and all cameras, every tick with values of its own."""
        age = {'align': {'max_age': round(0.5 / self.rate, 6)}}
        cameras = [
            {
                'name': camera,
                'topic': f'{camera}/image_raw',
                'type': 'Image',
                'image': {'height': height, 'width': width, 'color': 'rgb'},
            }
            for camera, (height, width) in self.sizes.items()
        ]
        return Contract.model_validate(
            {
                'schema_version': self.version,
                'name': 'exported',
                'policy_rate': self.rate,
                'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
                'topics': {'joint_states': 'joint_states', 'commands': 'commands', 'episode': 'episode'},
                'measured': age,
                'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}, *cameras],
                'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
                'action_mode': 'absolute',
            }
        )

    @cached_property
    def numbers(self) -> np.ndarray:
        """Positions and commands, shape (frame, 2, joint)."""
        return np.random.default_rng(0).normal(size=(sum(_LENGTHS), 2, len(JOINTS)))

    @cached_property
    def episode(self) -> np.ndarray:
        """The recorded episode of each frame, shape (frame,)."""
        return np.repeat(np.arange(len(_LENGTHS)), _LENGTHS)

    @cached_property
    def part(self) -> np.ndarray:
        """The exported episode of each frame, shape (frame,): the pause divides the last one."""
        last = np.flatnonzero(self.episode == len(_LENGTHS) - 1)
        return self.episode + np.isin(np.arange(len(self.episode)), last[_SPLIT:])

    @cached_property
    def place(self) -> np.ndarray:
        """The frame within the exported episode, shape (frame,)."""
        return np.concatenate([np.arange(count) for count in np.bincount(self.part)])

    @property
    def tasks(self) -> list[str]:
        """The instructions of each frame."""
        return ['; '.join(_TASKS[number]) for number in self.episode]

    def picture(self, camera: str, frame: int) -> np.ndarray:
        """Return a picture that differs from all others: a slope, a brightness and a bar that wander."""
        height, width = self.sizes[camera]
        rows, columns = np.mgrid[:height, :width]
        level = 40 + 150 * (7 * frame % 43) / 43
        pixels = np.stack([level + 40 * rows / height, level + 40 * columns / width, 0 * rows + level], axis=-1)
        begin = frame * width // (2 * len(self.episode))
        pixels[:, begin : begin + width // 4] += 25
        return pixels.astype(np.uint8)

    def write(self, path: Path) -> Path:
        """Write the bag."""
        period = round(SECOND / self.rate)
        topics = _TOPICS | {f'/{camera}/image_raw': messages.IMAGE for camera in self.sizes}
        stamp = 2 * SECOND
        with BagWriter(path, topics) as bag:
            for number, tasks in enumerate(_TASKS):
                bag.write('/episode', stamp, messages.mark(stamp, 'start', index=number))
                frames = np.flatnonzero(self.episode == number).tolist()
                for frame in frames:
                    if self.place[frame] == 0 and frame != frames[0]:
                        stamp += 10 * period
                    bag.write('/joint_states', stamp, messages.joint_state(stamp, JOINTS, self.numbers[frame, 0]))
                    for camera in self.sizes:
                        pixels = self.picture(camera, frame)
                        bag.write(f'/{camera}/image_raw', stamp, messages.image(stamp, pixels))
                    bag.write('/commands', stamp, messages.numbers(self.numbers[frame, 1]))
                    stamp += period
                told = {'index': number, 'language': '; '.join(tasks), 'tasks': json.dumps(tasks)}
                bag.write('/episode', stamp, messages.mark(stamp, 'end', **told))
                stamp += 2 * SECOND
        return path


SOURCES = (
    Source('20 Hz, even sizes', 20.0, {'top': (48, 64), 'wrist': (64, 64)}, 2),
    Source('28.6 Hz, odd sizes', 28.6, {'top': (37, 49)}, 3),
)


def by_vdd_ros(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a dataset by the reader of this package, in the form of `benchmarks.lerobot_reader`."""
    dataset = Dataset(path)
    parts: dict[str, list[np.ndarray]] = {}
    episodes = 0
    for number, item in enumerate(dataset.episodes()):
        last = len(item.stamps) - 1
        chunks = np.minimum(np.arange(last + 1)[:, None] + np.arange(CHUNK), last)
        read: dict[str, np.ndarray] = {
            'observation.state': item.numbers['observation.state'],
            'action': item.numbers['action'][chunks],
            'action_is_pad': np.arange(last + 1)[:, None] + np.arange(CHUNK) > last,
            'timestamp': item.stamps / SECOND,
            'episode_index': np.full(last + 1, number),
            'task': np.repeat('; '.join(item.tasks), last + 1),
        }
        for key, pictures in item.pictures.items():
            read[key] = np.stack([next(pictures).transpose(2, 0, 1) / 255 for _ in item.stamps])
        for key, values in read.items():
            parts.setdefault(key, []).append(values)
        episodes += 1
    stats = json.loads((path / 'meta/stats.json').read_text())
    found = {key: np.concatenate(values) for key, values in parts.items()}
    for key, values in stats.items():
        found |= {f'stats/{key}/{name}': np.array(value) for name, value in values.items()}
    return {'lerobot': 'reader of vdd_ros', 'episodes': episodes, 'fps': dataset.rate}, found


def by_lerobot(python: Path, path: Path, decoder: str, output: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a dataset by the lerobot of another Python.

    Raises
    ------
    RuntimeError
        It failed.

    """
    environment = os.environ | {'HF_HUB_OFFLINE': '1', 'PYTHONPATH': ''}
    words = [str(python), str(READER), str(path), decoder, str(output)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f'{python} {decoder}: {done.stderr[-2000:]}')
    with np.load(output) as arrays:
        return json.loads(done.stdout.splitlines()[-1]), dict(arrays)


def compared(source: Source, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Compare what was read with what was written into the bag."""
    frames = len(source.episode)
    if len(found['timestamp']) != frames:
        return {'frames': len(found['timestamp']), 'wrong': frames}
    state, action = source.numbers.astype(np.float32).transpose(1, 0, 2)
    last = np.array([np.flatnonzero(source.part == number).max() for number in source.part])
    wanted = np.arange(frames)[:, None] + np.arange(CHUNK)
    right = (found['observation.state'] == state).all(axis=1)
    right &= (found['action'] == action[np.minimum(wanted, last[:, None])]).all(axis=(1, 2))
    right &= (found['action_is_pad'] == (wanted > last[:, None])).all(axis=1)
    right &= np.abs(found['timestamp'] - source.place / source.rate) < 1e-6
    right &= (found['episode_index'] == source.part) & (found['task'] == np.array(source.tasks))
    mean = np.abs(found['stats/action/mean'] - source.numbers[:, 1].mean(axis=0)).max()
    row: dict[str, Any] = {'frames': frames, 'wrong': int((~right).sum()), 'mean_error': float(mean)}
    loss, misplaced = 0.0, 0
    for camera in source.sizes:
        pictures = np.stack([source.picture(camera, frame) for frame in range(frames)]).astype(np.float64)
        read = 255 * found[f'observation.images.{camera}'].transpose(0, 2, 3, 1).astype(np.float64)
        apart = np.array([[np.abs(one - other).mean() for other in pictures] for one in read])
        loss = max(loss, float(np.diag(apart).max()))
        misplaced += int((apart.argmin(axis=1) != np.arange(frames)).sum())
    return row | {'picture_error': loss, 'misplaced': misplaced}


def _bars(row: Mapping[str, Any]) -> Iterator[Bar]:
    name = f'{row["lerobot"]}, {row["decoder"]}, {row["export"]}, {row["source"]}'
    yield Bar(f'{name}: wrong frames', row['wrong'], 0, at_most=True)
    yield Bar(f'{name}: misplaced pictures', row.get('misplaced', np.nan), 0, at_most=True)
    lossless = row['export'] == 'png'
    yield Bar(f'{name}: error of pictures', row.get('picture_error', np.nan), 1e-4 if lossless else LOST, at_most=True)
    yield Bar(f'{name}: error of the mean action', row.get('mean_error', np.nan), 1e-9, at_most=True)


@cache
def _decoders(python: Path) -> tuple[str, ...]:
    """Return the decoders of films of a Python with lerobot; none without lerobot."""
    tried = {'pyav': 'import lerobot', 'torchcodec': 'import lerobot, torchcodec.decoders'}
    environment = os.environ | {'PYTHONPATH': ''}
    done = {
        name: subprocess.run([str(python), '-c', code], capture_output=True, env=environment).returncode
        for name, code in tried.items()
    }
    return tuple(name for name, code in done.items() if code == 0)


def measure(source: Source, folder: Path, pythons: tuple[Path, ...]) -> Iterator[tuple[dict[str, Any], list[Bar]]]:
    """Export a source in every form, and read it by every reader."""
    folder.mkdir()
    bag = source.write(folder / 'bag')
    limits = FileLimits(data_megabytes=0.001, video_megabytes=0.001, files_in_chunk=2)
    for form in FORMS:
        path = folder / form
        video = None if form == 'png' else form
        episodes = convert(bag, source.contract, None, ConversionReport())
        export_episodes(episodes, source.contract, path, video=video, limits=limits)
        readers = [('PyAV', by_vdd_ros(path))]
        for python in pythons:
            for decoder in _decoders(python)[: 1 if form == 'png' else None]:
                readers.append((decoder, by_lerobot(python, path, decoder, folder / 'read.npz')))
        for decoder, (told, found) in readers:
            row = {'source': source.name, **told, 'export': form, 'decoder': decoder, **compared(source, found)}
            yield row, list(_bars(row))


def main(python: tuple[Path, ...] = (), check: bool = False) -> int:
    """Compare exports, as LeRobot reads them, with what was recorded.

    Parameters
    ----------
    python
        Interpreters of environments with lerobot, one for each release; one without it is left out.
    check
        Exit with 1 where a bar does not hold, or where there is no lerobot.

    """
    given = python or (Path(sys.executable),)
    present = tuple(item for item in given if _decoders(item))
    for item in given:
        if item not in present:
            print(f'left out: {item} has no lerobot; name another Python by --python')
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix='vdd_ros_lerobot_') as folder:
        for number, source in enumerate(SOURCES):
            for row, more in measure(source, Path(folder) / str(number), present):
                rows.append(row)
                bars += more
    bars.append(Bar('environments with lerobot', len(present), len(given)))
    return finish('lerobot_exports', rows, bars, check=check, by='source')


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
