"""Two cameras with JPEGs of 640 x 480, from a bag to 96 x 96 pixels: the time and the memory that it takes."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport

CAMERAS = ('front', 'wrist')
SIDE = 96
"""Rows and columns after reduction [pixels]."""
FRAME_RATE = 30.0
"""Images of each camera [Hz]."""


def two_cameras() -> Contract:
    """Return a contract of seven joints and two cameras that are reduced to 96 x 96 pixels."""
    image = {'height': SIDE, 'width': SIDE, 'color': 'rgb', 'crop': [0, 0.125, 1, 0.75]}
    values = load_contract('avoiding_joint').model_dump(mode='json')
    shown = [
        {'name': name, 'topic': f'{name}/compressed', 'type': 'sensor_msgs/msg/CompressedImage', 'image': image}
        for name in CAMERAS
    ]
    measured = {'name': 'measured', 'source': 'measured', 'space': 'joint'}
    change = {'schema_version': 3, 'name': 'two_cameras', 'observation': [measured, *shown]}
    return Contract.model_validate({**values, **change, 'observation_horizon': 1})


def jpegs(count: int) -> Iterator[bytes]:
    """Yield so many different JPEG images of 640 x 480 pixels."""
    row, column = np.mgrid[0:480, 0:640]
    for frame in range(count):
        waves = [np.sin(row / size + frame / 9) * np.cos(column / size - frame / 7) for size in (31, 17, 53)]
        picture = (127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)
        data = io.BytesIO()
        Pillow.fromarray(picture).save(data, 'JPEG', quality=85)
        yield data.getvalue()


def conversion(frames: int) -> list[dict[str, Any]]:
    """Measure the conversion of two cameras with JPEGs of 640 x 480, in a process of its own on one core."""
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / 'bag'
        _write_cameras(bag, frames)
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as executor:
            seconds, peak, count = executor.submit(_converted, bag).result()
    return [{'part': 'conversion', 'method': 'two JPEG cameras', 'frames': count, 'cpu_s': seconds, 'peak_MB': peak}]


def _write_cameras(bag: Path, frames: int) -> None:
    topics = {'/joint_states': messages.JOINT_STATE, '/episode': messages.MARK}
    contract = two_cameras()
    topics['/' + contract.topics.commands.lstrip('/')] = messages.NUMBERS
    topics |= {f'/{name}/compressed': messages.COMPRESSED_IMAGE for name in CAMERAS}
    joints, period = contract.robot.joints, round(NANOSECONDS / FRAME_RATE)
    with BagWriter(bag, topics) as writer:
        writer.write('/episode', NANOSECONDS, messages.mark(NANOSECONDS, 'start', index=0))
        for frame, data in enumerate(jpegs(frames)):
            stamp = NANOSECONDS + frame * period
            writer.write('/joint_states', stamp, messages.joint_state(stamp, joints, np.full(len(joints), 0.1)))
            for name in CAMERAS:
                image = messages.compressed_image(stamp, data, 'rgb8; jpeg compressed bgr8')
                writer.write(f'/{name}/compressed', stamp, image)
            command = messages.numbers(np.full(len(joints), 0.1))
            writer.write('/' + contract.topics.commands.lstrip('/'), stamp + 1, command)
        end = NANOSECONDS + frames * period
        writer.write('/episode', end, messages.mark(end, 'end', index=0))


def _converted(bag: Path) -> tuple[float, float, int]:
    """Return the time of the processor [s], the growth of the process [MB], and how many ticks there are."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    count = sum(len(episode) for episode in convert(bag, two_cameras(), None, ConversionReport()))
    return time.process_time() - begin, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, count
