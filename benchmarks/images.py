"""Measure the conversion of images: speed, memory, correctness. `python -m benchmarks.images`.

One demonstration with two cameras of 640 x 480 pixels, JPEG at 30 Hz and raw at 15 Hz, and joint states at 500 Hz, is
converted to images of 96 x 96, and of 224 x 224, at 20 Hz with `vdd_ros.data.convert`, and with a plain loop: `rosbags`
reads and deserialises, Pillow decodes and reduces, numpy aligns. Each runs in a separate process, in turn, three times;
the minimum time counts. Processor time depends least on other load. The conversion decodes on all cores, the loop on
one. The bag is created in a temporary folder.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image as Pillow
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from benchmarks.bag_making import JOINTS, SECOND, Making
from benchmarks.harness import Bar, finish
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport

HEIGHT, WIDTH = 480, 640
WRIST, FRONT = 'wrist/image_raw/compressed', 'front/image_raw'
SIDES = (96, 224)
"""Rows and columns of the images."""
PEAK = 300
"""Maximum memory for the conversion to the smaller ones [MB]."""


def camera_contract(side: int) -> Contract:
    """Return a contract with seven joints and two square images, at 20 Hz."""
    image = {'image': {'height': side, 'width': side, 'color': 'rgb'}}
    return Contract.model_validate(
        {
            'schema_version': 2,
            'name': 'cameras',
            'policy_rate': 20.0,
            'action_mode': 'absolute',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'observation': [
                {'name': 'measured', 'source': 'measured', 'space': 'joint'},
                {'name': 'wrist', 'topic': WRIST, 'type': 'CompressedImage', **image},
                {'name': 'front', 'topic': FRONT, 'type': 'Image', **image},
            ],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
        }
    )


def write_demonstration(folder: Path, seconds: float) -> Path:
    """Write a bag of one demonstration with two cameras whose images move and are noisy."""
    generator = np.random.default_rng(0)
    coarse = Pillow.fromarray(generator.integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    scene = np.clip(np.asarray(coarse) + generator.normal(0, 6, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    kinds = {'/joint_states': messages.JOINT_STATE, '/arm_controller/commands': messages.NUMBERS}
    kinds |= {'/episode': messages.MARK, f'/{WRIST}': messages.COMPRESSED_IMAGE, f'/{FRONT}': messages.IMAGE}
    events = [(0, 'start', 0), (round(seconds * SECOND), 'end', 0)]
    for what, rate in (('states', 500), ('commands', 20), ('wrist', 30), ('front', 15)):
        events += [(round(number / rate * SECOND) + 1, what, number) for number in range(round(seconds * rate))]
    making = Making(folder, kinds)
    for at, what, number in sorted(events):
        stamp, angles = SECOND + at, np.sin(at / SECOND + np.arange(7))
        if what == 'states':
            making.put('/joint_states', stamp, messages.joint_state(stamp, JOINTS, angles))
        elif what == 'commands':
            making.put('/arm_controller/commands', stamp, messages.numbers(angles + 0.01))
        elif what == 'wrist':
            data = io.BytesIO()
            Pillow.fromarray(np.roll(scene, 3 * number, axis=1)).save(data, 'JPEG', quality=90)
            making.put(f'/{WRIST}', stamp, messages.compressed_image(stamp, data.getvalue(), 'rgb8; jpeg compressed'))
        elif what == 'front':
            making.put(f'/{FRONT}', stamp, messages.image(stamp, np.roll(scene, 3 * number, axis=1)))
        else:
            making.put('/episode', stamp, messages.mark(stamp, what))
    return making.close()


def by_convert(path: Path, side: int) -> dict[str, Any]:
    """Convert a bag; return seconds, ticks and the mean of the images at each tick."""
    report = ConversionReport()
    began, used = time.perf_counter(), time.process_time()
    (episode,) = convert(path, camera_contract(side), None, report)
    taken = {'seconds': time.perf_counter() - began, 'cpu_s': time.process_time() - used}
    if any(entry.kind != 'note' and entry.kind != 'tick' for entry in report.entries):
        raise RuntimeError(f'{path}: {report.entries}')
    means = [row[7:].reshape(2, -1).mean(axis=1).tolist() for row in episode.observation]
    return {**taken, 'ticks': len(episode), 'stamps': episode.stamps.tolist(), 'means': means}


def by_plain_loop(path: Path, side: int) -> dict[str, Any]:
    """Do the same with `rosbags` and Pillow: the newest message of every stream at each tick."""
    began, used = time.perf_counter(), time.process_time()
    stamps: dict[str, list[int]] = {}
    values: dict[str, list[np.ndarray]] = {}
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, received, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            name = connection.topic.lstrip('/')
            if name == 'episode':
                continue
            if name == WRIST:
                image = Pillow.open(io.BytesIO(message.data.tobytes()))
                found = np.asarray(image.resize((side, side), Pillow.Resampling.BOX))
            elif name == FRONT:
                image = Pillow.frombytes('RGB', (message.width, message.height), message.data.tobytes())
                found = np.asarray(image.resize((side, side), Pillow.Resampling.BOX))
            else:
                found = message.position if name == 'joint_states' else message.data
            time_ = message.header.stamp if hasattr(message, 'header') else None
            stamps.setdefault(name, []).append(received if time_ is None else time_.sec * SECOND + time_.nanosec)
            values.setdefault(name, []).append(found)
    ticks = np.arange(stamps['joint_states'][0], stamps['joint_states'][-1], SECOND // 20)
    rows = {name: np.searchsorted(item, ticks, side='right') - 1 for name, item in stamps.items()}
    observed = [np.stack([values[name][row] for row in rows[name]]) for name in ('joint_states', WRIST, FRONT)]
    np.stack([values['arm_controller/commands'][row] for row in rows['arm_controller/commands']])
    taken = {'seconds': time.perf_counter() - began, 'cpu_s': time.process_time() - used}
    means = [[float(image[row].mean()) / 255 for image in observed[1:]] for row in range(len(ticks))]
    return {**taken, 'ticks': len(ticks), 'stamps': ticks.tolist(), 'means': means}


READERS = {'vdd_ros': by_convert, 'rosbags and Pillow': by_plain_loop}


def _alone(reader: str, path: Path, side: int) -> dict[str, Any]:
    """Run one method in a separate process, and add its peak memory [MB]."""
    here = str(Path(__file__).parents[1])
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, [here, os.environ.get('PYTHONPATH')]))}
    command_ = [sys.executable, '-m', 'benchmarks.images', '--reader', reader, '--bag', str(path), '--side', str(side)]
    done = subprocess.run(command_, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def _peak() -> float:
    """Return the peak memory of this program [MB], without that of its parent (which rusage includes)."""
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024


def compare(path: Path, side: int, repeats: int) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Run both methods in turn, use the fastest run of each, and compare the results."""
    found: dict[str, list[dict[str, Any]]] = {reader: [] for reader in READERS}
    for _ in range(repeats):
        for reader, runs in found.items():
            runs.append(_alone(reader, path, side))
    best = {reader: min(runs, key=lambda run: run['cpu_s']) for reader, runs in found.items()}
    rows = [
        {
            'pictures': f'{side} x {side}',
            'reader': reader,
            'seconds': min(item['seconds'] for item in found[reader]),
            'cpu_s': run['cpu_s'],
            'ticks': run['ticks'],
            'peak_MB': max(item['peak'] for item in found[reader]),
        }
        for reader, run in best.items()
    ]
    ours, theirs = (best[reader] for reader in READERS)
    means = {run: dict(zip(best[run]['stamps'], best[run]['means'])) for run in READERS}
    shared = sorted(set(ours['stamps']) & set(theirs['stamps']))
    mine, other = (np.array([means[reader][stamp] for stamp in shared]) for reader in READERS)
    name = f'{side} x {side}'
    return rows, [
        Bar(f'{name}: processor time against the plain loop', ours['cpu_s'] / theirs['cpu_s'], 1.0, at_most=True),
        Bar(f'{name}: time against the plain loop', rows[0]['seconds'] / rows[1]['seconds'], 1.0, at_most=True),
        _memory(name, rows, side),
        Bar(f'{name}: ticks that both have, of those of the plain loop', len(shared) / theirs['ticks'], 0.99),
        Bar(f'{name}: greatest difference of a brightness', float(np.abs(mine - other).max()), 0.005, at_most=True),
    ]


def _memory(name: str, rows: list[dict[str, Any]], side: int) -> Bar:
    """Return the bar on memory; for larger images relative to the loop, which uses one byte per number."""
    peak, plain = (row['peak_MB'] for row in rows)
    if side == min(SIDES):
        return Bar(f'{name}: peak memory [MB]', peak, PEAK, at_most=True)
    return Bar(f'{name}: peak memory against the plain loop', peak / plain, 1.2, at_most=True)


def main(quick: bool = False, check: bool = False, reader: str = '', bag: Path = Path(), side: int = 96) -> int:
    """Measure the conversion of images.

    Parameters
    ----------
    quick
        A second of a demonstration, which only tests the program and its correctness.
    check
        Exit with 1 if a bar does not hold.
    reader
        Run one method on a bag and print the result; used by the program itself.
    bag
        The bag for this.
    side
        Rows and columns of the images.

    """
    if reader:
        result = READERS[reader](bag, side)
        sys.stdout.write(json.dumps({**result, 'peak': _peak()}))
        return 0
    with tempfile.TemporaryDirectory(prefix='vdd_ros_images_') as folder:
        path = write_demonstration(Path(folder) / 'cameras', 1.0 if quick else 60.0)
        rows, bars = [], []
        for side in SIDES[:1] if quick else SIDES:
            more = compare(path, side, 1 if quick else 3)
            rows, bars = rows + more[0], bars + more[1]
    return finish('images', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
