"""Camera images of a bag at chosen times, and where points of the robot appear in them.

The intrinsics are read from the topic `camera_info` in the namespace of the image topic. The pose of the camera frame
is read from the transforms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.features import Image
from vdd_ros.data.bag.bag import Bag, TopicInfo
from vdd_ros.data.decode import pictures, rotation
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.pinhole import DISTORTIONS, Pinhole
from vdd_ros.data.decode.sensor_decoders import stamp_of
from vdd_ros.data.decode.serialized import Layout, Messages, Undecodable, walk

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_INFO, _TRANSFORMS = 'sensor_msgs/msg/CameraInfo', 'tf2_msgs/msg/TFMessage'
_WIDEST = 640
"""Maximum width of an image [pixels]."""
_HERE = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class View:
    """A camera image with the model and the pose of the camera."""

    image: np.ndarray
    """Shape (height, width, 3), uint8 RGB."""
    pinhole: Pinhole
    """From the optical frame to the pixels of the image."""
    pose: np.ndarray
    """Pose of the optical frame in the frame of the robot model, shape (7,): position [m] and quaternion x y z w."""

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points in the frame of the robot model, shape (point, 3) [m], to columns and rows, shape (point, 2).

        NaN for points behind the camera.
        """
        turned = np.broadcast_to(_HERE[:, 3:], (len(points), 4))
        inverse = np.broadcast_to(rotation.invert(self.pose[None]), (len(points), 7))
        return self.pinhole.pixels(rotation.compose(inverse, np.concatenate([points, turned], axis=1))[:, :3])


def cameras_of(topics: Mapping[str, TopicInfo]) -> dict[str, str]:
    """Return the topics of intrinsics (CameraInfo), by image topic; image topics without intrinsics are left out."""
    found = {}
    for name, info in topics.items():
        beside = name.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
        if info.type in _IMAGES and beside in topics and topics[beside].type == _INFO:
            found[name] = beside
    return found


def read_views(
    path: str | Path, frame: str, stamps: Sequence[int], camera: str = '', preferred: Sequence[str] = ()
) -> tuple[View, ...]:
    """Return the last image of a camera before each of some times.

    Parameters
    ----------
    path
        The bag.
    frame
        Name of the frame of the robot model in the transforms.
    stamps
        Times [ns]. For times before the first image, the first image is returned.
    camera
        Image topic. Default: the first image topic with intrinsics; topics in ``preferred`` (names in a contract) come
        before others.

    Raises
    ------
    BagError
        The bag has no such camera, no image, no transforms from the frame of the robot model to that of the camera, or
        the distortion model of the intrinsics is not supported.

    """
    with Bag(path, ConversionReport()) as bag:
        known = cameras_of(bag.topics)
        topic = _chosen(bag, known, camera, preferred)
        transforms = [name for name, info in bag.topics.items() if info.type == _TRANSFORMS]
        reader = _Reader(bag, topic, known[topic], transforms, stamps)
        for block in bag.blocks({topic, known[topic], *transforms}):
            reader.take(block)
        return reader.views(frame)


def _chosen(bag: Bag, known: Mapping[str, str], camera: str, preferred: Sequence[str]) -> str:
    wanted = [name for name in known if not camera or name.lstrip('/') == camera.lstrip('/')]
    if not wanted:
        raise BagError(
            expected=f'{camera or "an image topic"} with camera_info beside it in {bag.path}',
            found=', '.join(sorted(bag.topics)) or 'no topics',
            remedy='record camera_info, /tf and /tf_static, too (parameter `topics` of the recorder)',
        )
    return min(wanted, key=lambda name: name.lstrip('/') not in [each.lstrip('/') for each in preferred])


class _Reader:
    """Collects what the views of one camera need, block by block."""

    def __init__(self, bag: Bag, topic: str, info: str, transforms: Sequence[str], stamps: Sequence[int]) -> None:
        self._bag, self._topic, self._info, self._transforms = bag, topic, info, transforms
        self._stamps = tuple(stamps)
        self._definitions = {name: bag.definitions(name) for name in (topic, info, *transforms)}
        self._images: list[tuple[int, bytes, Layout] | None] = [None] * len(stamps)
        self._pinhole: tuple[Pinhole, int, int, str] | None = None
        self._links = _Links()

    def take(self, block: Mapping[str, Messages]) -> None:
        """Process a block of messages."""
        for topic, messages in block.items():
            for index in range(len(messages)):
                data = messages.data(index)
                try:
                    self._message(topic, data, self._walked(topic, data))
                except Undecodable:
                    continue  # one of many; without any, there is no view

    def _walked(self, topic: str, data: bytes) -> Layout:
        info = self._bag.topics[topic]
        return walk(data, info.type, self._definitions[topic], info.ros1)

    def _message(self, topic: str, data: bytes, layout: Layout) -> None:
        if topic in self._transforms:
            self._links.add(data, layout, static=topic.endswith('_static'))
        elif topic == self._topic:
            stamp = stamp_of(data, layout)
            for place, wanted in enumerate(self._stamps):
                held = self._images[place]
                if held is None or _fitness(stamp, wanted) > _fitness(held[0], wanted):
                    self._images[place] = stamp, data, layout
        elif self._pinhole is None:
            self._pinhole = self._intrinsics(data, layout)

    def _intrinsics(self, data: bytes, layout: Layout) -> tuple[Pinhole, int, int, str]:
        """Return the camera model, width and height of its images [pixels], and the name of its frame."""
        width, height = (int(_numbers(data, layout, name)[0]) for name in ('width', 'height'))
        model = layout.texts['distortion_model']
        if 'rect' in self._topic:
            matrix, distortion = _numbers(data, layout, 'p').reshape(3, 4), ()
        else:
            matrix, distortion = _numbers(data, layout, 'k').reshape(3, 3), tuple(_numbers(data, layout, 'd').tolist())
            if any(distortion) and model not in DISTORTIONS:
                raise BagError(
                    expected=f'a distortion model {" or ".join(filter(None, DISTORTIONS))} on {self._info}',
                    found=repr(model),
                    remedy='record the rectified image (image_rect)',
                )
        focal, centre = (matrix[0, 0], matrix[1, 1]), (matrix[0, 2], matrix[1, 2])
        if not (width and height and min(focal) > 0):
            raise BagError(
                expected=f'a calibrated camera on {self._info}',
                found=f'{width} x {height} pixels, focal lengths {focal[0]:g} and {focal[1]:g}',
                remedy='calibrate the camera (camera_calibration) and record again',
            )
        pinhole = Pinhole(tuple(map(float, focal)), tuple(map(float, centre)), distortion)
        return pinhole, width, height, layout.texts['header.frame_id'].lstrip('/')

    def views(self, frame: str) -> tuple[View, ...]:
        """Return the views at the wanted times."""
        if self._pinhole is None or not self._images or self._images[0] is None:
            raise BagError(
                expected=f'images on {self._topic} and intrinsics on {self._info} in {self._bag.path}',
                found='no readable message on one of them',
                remedy='check the recording with `vdd inspect`',
            )
        pinhole, width, height, optical = self._pinhole
        scale = min(1.0, _WIDEST / width)
        size = Image(height=max(1, round(scale * height)), width=max(1, round(scale * width)), color='rgb')
        found = []
        scaled = pinhole.scaled(size.width / width, size.height / height)
        for stamp, data, layout in filter(None, self._images):
            pose = self._links.between(frame, optical, stamp)
            found.append(View(_picture(data, layout, size, self._topic), scaled, pose))
        return tuple(found)


class _Links:
    """The transforms of a bag."""

    def __init__(self) -> None:
        self._moving: dict[tuple[str, str], list[tuple[int, np.ndarray]]] = {}
        self._static: dict[tuple[str, str], np.ndarray] = {}

    def add(self, data: bytes, layout: Layout, *, static: bool) -> None:
        """Add the transforms of a message."""
        for place in range(layout.counts['transforms']):
            path = f'transforms[{place}]'
            link = tuple(layout.texts[f'{path}.{end}'].lstrip('/') for end in ('header.frame_id', 'child_frame_id'))
            names = [f'translation.{axis}' for axis in 'xyz'] + [f'rotation.{axis}' for axis in 'xyzw']
            pose = np.concatenate([_numbers(data, layout, f'{path}.transform.{name}') for name in names])
            turned, good = rotation.normalized(pose[None, 3:])
            pose = np.concatenate([pose[:3], turned[0]])
            if not good.all() or not np.isfinite(pose).all():
                continue
            if static:
                self._static[link] = pose
                continue
            second, nanosecond = (_numbers(data, layout, f'{path}.header.stamp.{part}') for part in ('sec', 'nanosec'))
            self._moving.setdefault(link, []).append((int(second[0]) * 1_000_000_000 + int(nanosecond[0]), pose))

    def between(self, base: str, frame: str, stamp: int) -> np.ndarray:
        """Return the pose of ``frame`` in ``base`` at a time [ns], shape (7,), from the last transforms by then."""
        pose = _HERE
        chain = self._chain(base, frame)
        for parent, child in pairwise(chain):
            link = (parent, child)
            inside = self._at(link, stamp) if link in self._known else rotation.invert(self._at(link[::-1], stamp))
            pose = rotation.compose(pose, inside)
        return pose[0]

    @property
    def _known(self) -> set[tuple[str, str]]:
        return {*self._moving, *self._static}

    def _at(self, link: tuple[str, str], stamp: int) -> np.ndarray:
        moving = self._moving.get(link)
        if moving is None:
            return self._static[link][None]
        before = [each for each in moving if each[0] <= stamp]
        return (max if before else min)(before or moving, key=lambda each: each[0])[1][None]

    def _chain(self, base: str, frame: str) -> list[str]:
        """Return the frames from one to another, both included."""
        beside: dict[str, list[str]] = {}
        for parent, child in sorted(self._known):
            beside.setdefault(parent, []).append(child)
            beside.setdefault(child, []).append(parent)
        came_from, waiting = {base: ''}, [base]
        for here in waiting:
            for other in beside.get(here, ()):
                if other not in came_from:
                    came_from[other] = here
                    waiting.append(other)
        if frame not in came_from:
            raise BagError(
                expected=f'transforms between {base}, the frame of the robot model, and {frame}, that of the camera',
                found=f'transforms of {", ".join(sorted(beside)) or "no frame"}',
                remedy='record /tf and /tf_static, or name the frame of the robot model (--frame)',
            )
        chain = [frame]
        while chain[-1] != base:
            chain.append(came_from[chain[-1]])
        return chain[::-1]


def _fitness(stamp: int, wanted: int) -> tuple[bool, int]:
    """Return a key that is greatest for the newest stamp up to a time, else for the first one after it."""
    return stamp <= wanted, stamp if stamp <= wanted else -stamp


def _picture(data: bytes, layout: Layout, size: Image, topic: str) -> np.ndarray:
    offset, _, count = layout.numbers['data']
    content = np.frombuffer(data, dtype=np.uint8, count=count, offset=offset)
    try:
        if 'format' in layout.texts:
            values = pictures.compressed_image(content.tobytes(), layout.texts['format'], size, pixels=True)
        else:
            height, width, step, big = (
                int(_numbers(data, layout, name)[0]) for name in ('height', 'width', 'step', 'is_bigendian')
            )
            encoding = layout.texts['encoding']
            values = pictures.raw_image(content, height, width, step, encoding, bool(big), size, pixels=True)
    except Undecodable as error:
        raise BagError(
            expected=f'colour images on {topic}', found=str(error), remedy='choose another camera (--camera)'
        ) from error
    return values.reshape(size.shape)


def _numbers(data: bytes, layout: Layout, path: str) -> np.ndarray:
    """Return a number or a run of numbers of a message as float64."""
    name = path if path in layout.numbers else path.upper()  # ROS 1 has K, D and P
    if name not in layout.numbers:
        raise Undecodable(f'no {path}')
    offset, code, count = layout.numbers[name]
    return np.frombuffer(data, dtype=code, count=count, offset=offset).astype(np.float64)
