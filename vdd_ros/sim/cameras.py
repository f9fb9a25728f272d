"""Images of a contract in simulation without ROS: taken at the camera rates, rendered when they are needed."""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.data.decode.pictures import raw_image
from vdd_ros.data.decode.resample import choose
from vdd_ros.sim.camera import disturbed
from vdd_ros.sim.disturbances import LIGHT, Channel, Disturbances, SensorDisturbances, generator_of
from vdd_ros.sim.renderer import Renderer, Size, save_compiled
from vdd_ros.sim.scene import Camera
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import snapshot

_ENDINGS = ('image_raw', 'image_raw/compressed', 'depth/image_raw')
_KEPT = NANOSECONDS
"""Time for which images are kept, in addition to latency and delay [ns]."""


@dataclass(frozen=True)
class _View:
    """What a feature sees."""

    feature: TopicFeature
    name: str
    """Name of the camera in the scene file."""
    camera: str
    """Name of the camera in the model."""
    size: Size
    period: int
    """Time between two images [ns]."""


class CameraRenderer:
    """Renders the images of a contract for all simulations of a scene in one process.

    The object holds OpenGL contexts: use it only in the thread that created it.
    """

    def __init__(self, simulation: Simulation, cameras: Mapping[str, Camera], contract: Contract) -> None:
        """Prepare rendering for the cameras of a scene file, for simulations of the same scene as ``simulation``.

        Raises
        ------
        ConfigurationError
            An image of the contract matches no camera of the scene file.
        SimulationError
            No OpenGL context is available.

        """
        self.views = tuple(_view(feature, cameras) for feature in contract.images)
        for view in self.views:
            simulation.check('camera', view.camera)
        with tempfile.TemporaryDirectory(prefix='vdd_ros_cameras_') as folder:
            file = Path(folder) / 'scene.mjb'
            save_compiled(simulation, file)
            self._renderer = Renderer(file, {(view.size, _is_deep(view)) for view in self.views})
        self._taken: np.ndarray | None = None

    def draw(self, view: _View, vector: np.ndarray) -> np.ndarray:
        """Render a snapshot: shape (height, width, 3), uint8, or for depth (height, width), float32 [m]."""
        if vector is not self._taken:
            self._renderer.take(vector)
            self._taken = vector
        deep = _is_deep(view)
        picture, depth = self._renderer.draw(view.camera, view.size, deep=deep)
        return depth if deep else picture

    def close(self) -> None:
        """Release the OpenGL contexts."""
        self._renderer.close()


class Shot:
    """An image of a simulated camera that is rendered when its pixels are needed; see `policy.observation.Pixels`."""

    def __init__(
        self,
        renderer: CameraRenderer,
        view: _View,
        vector: np.ndarray,
        disturbances: SensorDisturbances,
        noise: np.random.Generator,
    ) -> None:
        """Store a snapshot of the scene; disturbances are applied when the image is rendered."""
        self._renderer, self._view, self._vector = renderer, view, vector
        self._disturbances, self._noise = disturbances, noise
        self._pixels: np.ndarray | None = None

    def array(self) -> np.ndarray:
        """Return the pixels as a flat array, in the form of a decoded message of the camera."""
        if self._pixels is None:
            self._pixels = _decoded(self._disturbed(self._renderer.draw(self._view, self._vector)), self._view)
            self._vector = np.zeros(0)
        return self._pixels

    def _disturbed(self, picture: np.ndarray) -> np.ndarray:
        disturbances = self._disturbances
        intensity, distance = (*disturbances.noise, 0.0, 0.0)[:2]
        if not _is_deep(self._view):
            light = {name: getattr(disturbances, name) for name in LIGHT}
            return disturbed(picture, self._noise, deviation=intensity, **light)
        if distance:
            picture = picture + self._noise.normal(scale=distance, size=picture.shape).astype(np.float32)
        return picture


@dataclass
class _Track:
    """The images of one view that have arrived."""

    view: _View
    channel: Channel[tuple[int, Shot]]
    disturbances: SensorDisturbances
    noise: np.random.Generator
    due: int
    stamps: list[int]
    shots: list[Shot]


class SimulatedCameras:
    """The cameras of one simulation as streams for a control loop (`vdd_ros.control.plan_buffer.Streams`)."""

    def __init__(
        self, renderer: CameraRenderer, simulation: Simulation, disturbances: Disturbances = Disturbances()
    ) -> None:
        """Connect to a simulation; `begin` must be called before the other methods."""
        self._renderer, self._simulation, self._disturbances = renderer, simulation, disturbances
        self._tracks: list[_Track] = []

    def begin(self, seed: int | np.random.SeedSequence = 0) -> None:
        """Begin an episode, right after the reset of the scene; the first images arrive immediately."""
        seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        now, vector = self._simulation.stamp, snapshot(self._simulation)
        self._tracks = []
        for view in self._renderer.views:
            disturbances = self._disturbances.sensors.get(view.name, SensorDisturbances())
            noise = generator_of(seed, f'{view.name} noise')
            channel: Channel[tuple[int, Shot]] = Channel(disturbances, generator_of(seed, view.name))
            track = _Track(view, channel, disturbances, noise, now + view.period, [], [])
            # What was seen before the episode is what is seen at its start.
            align = view.feature.align
            before = now - round((align.latency + align.delay) * NANOSECONDS)
            track.stamps.append(before)
            track.shots.append(self._shot(track, vector))
            self._tracks.append(track)

    def look(self) -> None:
        """Take the images that are due now; call it at least at every policy tick."""
        now, vector = self._simulation.stamp, None
        for track in self._tracks:
            if now >= track.due:
                vector = snapshot(self._simulation) if vector is None else vector
                track.channel.send(now, (now, self._shot(track, vector)))
                track.due += track.view.period * (1 + (now - track.due) // track.view.period)

    def stamp(self, name: str) -> int:
        """Return the stamp of the last image of a feature that has arrived [ns]."""
        track = next(each for each in self._tracks if each.view.feature.name == name)
        self._receive(track)
        return track.stamps[-1]

    def at(self, tick: int) -> CameraSample:
        """Return the images at a tick [ns], not rendered yet, and the names of images that are too old."""
        values, stale = {}, []
        for track in self._tracks:
            self._receive(track)
            feature = track.view.feature
            choice = choose(np.array(track.stamps, dtype=np.int64), np.array([tick]), feature.align)
            if choice.stale[0]:
                stale.append(feature.name)
            else:
                values[feature.name] = track.shots[int(choice.index[0])]
            self._forget(track, tick)
        return CameraSample(values, tuple(stale))

    def _shot(self, track: _Track, vector: np.ndarray) -> Shot:
        return Shot(self._renderer, track.view, vector, track.disturbances, track.noise)

    def _receive(self, track: _Track) -> None:
        for stamp, shot in track.channel.receive(self._simulation.stamp):
            place = bisect.bisect_right(track.stamps, stamp)
            track.stamps.insert(place, stamp)
            track.shots.insert(place, shot)

    @staticmethod
    def _forget(track: _Track, tick: int) -> None:
        align = track.view.feature.align
        oldest = tick - _KEPT - round((align.latency + align.delay) * NANOSECONDS)
        first = max(bisect.bisect_left(track.stamps, oldest) - 1, 0)
        del track.stamps[:first], track.shots[:first]


@dataclass(frozen=True)
class CameraSample:
    """The images at a tick."""

    values: Mapping[str, Shot]
    """Images by feature."""
    stale: tuple[str, ...]
    """Features without a recent image."""


def _view(feature: TopicFeature, cameras: Mapping[str, Camera]) -> _View:
    for ending in _ENDINGS:
        name = feature.topic.strip('/').removesuffix(f'/{ending}')
        if feature.topic.endswith(ending) and name in cameras:
            camera = cameras[name]
            size = camera.width, camera.height
            return _View(feature, name, camera.camera or name, size, round(NANOSECONDS / camera.rate))
    raise ConfigurationError(
        expected=f'a camera of the scene for the image {feature.name}',
        found=f'the topic {feature.topic}, and the cameras {", ".join(cameras) or "none"}',
        remedy='name the topic CAMERA/image_raw, or add the camera to the scene file',
    )


def _is_deep(view: _View) -> bool:
    return view.feature.image.color == 'depth'


def _decoded(picture: np.ndarray, view: _View) -> np.ndarray:
    """Decode a picture as the bridge's message of it is decoded."""
    height, width = picture.shape[:2]
    encoding = '32FC1' if _is_deep(view) else 'rgb8'
    data = np.ascontiguousarray(picture)
    step = data.strides[0]
    return raw_image(data.view(np.uint8).ravel(), height, width, step, encoding, False, view.feature.image, pixels=True)
