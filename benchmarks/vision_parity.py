"""Images by three paths: a bag, topics over DDS and a lossless film of a LeRobot dataset have equal bytes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from benchmarks.bag_making import Row, write_rows
from benchmarks.bag_parity import Parity, over_dds, unequal_bytes
from benchmarks.bags import ros_domain
from benchmarks.harness import Bar
from benchmarks.vision_conversion import jpegs
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot.lerobot import export_episodes
from vdd_ros.data.lerobot.lerobot_import import import_dataset

_JOINTS = ['a', 'b']
_RATE = 20.0
_SHAPES = {'raw': (48, 64), 'png': (37, 49), 'jpeg': (96, 96)}
"""Rows and columns after reduction by camera, which is named by its messages; even and odd ones."""


def contract(*, imported: bool = False) -> Contract:
    """Return a contract of two joints and a camera for each kind of message; of an ``imported`` dataset, all raw."""
    cameras = []
    for name, (height, width) in _SHAPES.items():
        kind = 'Image' if imported or name == 'raw' else 'CompressedImage'
        topic = f'{name}/{"image_raw" if kind == "Image" else "compressed"}'
        image = {'height': height, 'width': width, 'color': 'rgb'}
        cameras.append({'name': name, 'topic': topic, 'type': kind, 'image': image})
    return Contract.model_validate(
        {
            'schema_version': 3,
            'name': 'cameras',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': _JOINTS},
            'topics': {'commands': 'commands'},
            'policy_rate': _RATE,
            'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}, *cameras],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
        }
    )


def rows(ticks: int) -> list[Row]:
    """Return the messages of one episode in the order of reception, with new images of 640 x 480 at every tick."""
    period, found = round(NANOSECONDS / _RATE), []
    found.append(('episode', NANOSECONDS, messages.MARK, messages.mark(NANOSECONDS, 'start', index=0)))
    for tick, jpeg in enumerate(jpegs(ticks)):
        stamp = NANOSECONDS + tick * period
        pixels = np.array(Pillow.open(io.BytesIO(jpeg)))
        png = io.BytesIO()
        Pillow.fromarray(pixels).save(png, 'PNG', compress_level=1)
        sent = {
            'joint_states': (messages.JOINT_STATE, messages.joint_state(stamp, _JOINTS, [0.1 * tick, 1.0])),
            'raw/image_raw': (messages.IMAGE, messages.image(stamp, pixels)),
            'png/compressed': (messages.COMPRESSED_IMAGE, messages.compressed_image(stamp, png.getvalue(), 'png')),
            'jpeg/compressed': (messages.COMPRESSED_IMAGE, messages.compressed_image(stamp, jpeg, 'jpeg')),
        }
        found += [(topic, stamp, kind, data) for topic, (kind, data) in sent.items()]
        found.append(('commands', stamp + 1, messages.NUMBERS, messages.numbers([0.1 * tick + 0.1, 1.0])))
    end = NANOSECONDS + ticks * period
    return [*found, ('episode', end, messages.MARK, messages.mark(end, 'end', index=0))]


def from_bag(folder: Path, given: list[Row]) -> Episode:
    """Write messages into a bag and convert it."""
    (episode,) = convert(write_rows(folder / 'bag', given), contract(), None, ConversionReport())
    return episode


def by_film(folder: Path, episode: Episode) -> Parity:
    """Export an episode with a lossless film, import it, and compare every pixel."""
    export_episodes([episode], contract(), folder / 'dataset', video='lossless')
    bag = import_dataset(folder / 'dataset', folder / 'imported').bag
    (found,) = convert(bag, contract(imported=True), None, ConversionReport())
    unequal = values = 0
    for name, frames in episode.images.items():
        for one, other in zip(found.images[name].rows, frames.rows, strict=True):
            values, unequal = values + other.size, unequal + unequal_bytes(one, other)
    return Parity(len(found), values, unequal)


def parity(folder: Path, ticks: int, node: Any, spin: Callable[[], None]) -> list[dict[str, Any]]:
    """Compare the paths.

    Parameters
    ----------
    folder
        For the bag and the dataset.
    ticks
        Images of each camera.
    node, spin
        A node in simulated time, and what runs callbacks for a moment.

    """
    given = rows(ticks)
    episode = from_bag(folder, given)
    found = {
        'bag and DDS': over_dds(contract(), given, [episode], node, spin),
        'bag and lossless film': by_film(folder, episode),
    }
    return [{'part': 'parity', 'method': name, **vars(item)} for name, item in found.items()]


def measure(ticks: int = 60) -> list[dict[str, Any]]:
    """Compare the paths with a node of its own."""
    with tempfile.TemporaryDirectory() as folder, ros_domain() as (rclpy, executor):
        clock = rclpy.parameter.Parameter('use_sim_time', value=True)
        node = rclpy.create_node('parity', parameter_overrides=[clock])
        executor.add_node(node)
        found = parity(Path(folder), ticks, node, partial(executor.spin_once, timeout_sec=0.02))
        node.destroy_node()
    return found


def parity_bars(found: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars of the rows of `parity`."""
    bars = [Bar(f'{row["method"]}: unequal values', row['unequal'], 0, at_most=True) for row in found]
    return [*bars, Bar('ticks compared', min(row['ticks'] for row in found), 20)]
