"""Cameras of the bridge: snapshots are rendered in a separate process, and physics need not wait for it."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rclpy.node import Node

from vdd_ros.common.errors import SimulationError
from vdd_ros.sim import scene
from vdd_ros.sim.disturbances import LIGHT, Channel, SensorDisturbances, generator_of
from vdd_ros.sim.frames import WORLD_FRAME
from vdd_ros.sim.renderer import save_compiled
from vdd_ros.sim.sensors import Schedule, check_rate
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import snapshot

REQUEST = struct.Struct('<iqQ')
"""Index of the camera, stamp [ns] and seed for noise; followed by the state vector of the snapshot."""
READY, DRAWN, FAILED = b'r', b'd', b'f'
_PATIENCE = 60.0
WIDEST = 2**20
"""Maximum size of a message between the two processes [byte]."""


def optical_frame(name: str) -> str:
    """Return the name of a camera's optical frame: z along the line of sight, x to the right (REP-103)."""
    return f'{name}_optical_frame'


class Cameras:
    """Takes a snapshot of the scene whenever an image is due; dropped if the previous image is still being rendered."""

    def __init__(
        self,
        node: Node,
        simulation: Simulation,
        cameras: Mapping[str, scene.Camera],
        disturbances: Mapping[str, SensorDisturbances],
        state_rate: float,
        *,
        wait: bool,
        stamped: Callable[[int], int],
    ) -> None:
        """Start the rendering process, and wait until it is ready.

        Parameters
        ----------
        node
            The node, whose namespace and remappings apply to the topics.
        simulation
            The scene.
        cameras, disturbances
            The cameras, and the disturbances of their images in transport, by camera name.
        state_rate
            Rate of joint states [Hz]; images can only be taken at the times of joint states.
        wait
            Whether the simulation waits until each image is published; then no image is dropped.
        stamped
            Maps simulation time [ns] to the stamp of published messages [ns].

        Raises
        ------
        ModelError
            The scene has no such camera.
        ConfigurationError
            The rate of a camera is above that of joint states.
        SimulationError
            This machine cannot render images.

        """
        self._simulation = simulation
        self._cameras = dict(cameras)
        self._disturbances = {name: disturbances.get(name, SensorDisturbances()) for name in cameras}
        self._schedules = {name: Schedule(camera.rate) for name, camera in cameras.items()}
        self._wait, self._stamped = wait, stamped
        self._busy: set[str] = set()
        self.drawn = dict.fromkeys(cameras, 0)
        """Number of published images, by camera."""
        self.dropped = dict.fromkeys(cameras, 0)
        """Number of dropped images, which were due while the previous image was still being rendered, by camera."""
        self._process: subprocess.Popen | None = None
        for name, camera in cameras.items():
            simulation.check('camera', camera.camera or name)
            check_rate(name, camera.rate, state_rate)
        self.begin(np.random.SeedSequence(0))
        if cameras:
            self._start(node)

    def begin(self, seed: np.random.SeedSequence) -> None:
        """Start an episode: drop images in transport, and use a seed for the random numbers of the episode."""
        self._channels: dict[str, Channel[tuple[int, int, bytes]]] = {
            name: Channel(disturbances, generator_of(seed, name)) for name, disturbances in self._disturbances.items()
        }
        self._seeds = {name: generator_of(seed, f'{name} noise') for name in self._cameras}
        for schedule in self._schedules.values():
            schedule.begin(self._simulation.stamp)

    def look(self) -> None:
        """Take the snapshots that are due now, and request the rendering of snapshots whose transport delay has passed.

        Raises
        ------
        SimulationError
            The rendering process has ended.

        """
        if self._process is None:
            return
        now = self._simulation.stamp
        due = [name for name, schedule in self._schedules.items() if schedule.is_due(now)]
        if due:
            vector = snapshot(self._simulation).tobytes()
            for name in due:
                self._channels[name].send(now, (now, int(self._seeds[name].integers(2**63)), vector))
        self._listen(wait=False)
        for number, (name, channel) in enumerate(self._channels.items()):
            for stamp, seed, vector in channel.receive(now):
                if name in self._busy:
                    self.dropped[name] += 1
                    continue
                self._busy.add(name)
                try:
                    self._socket.send(REQUEST.pack(number, self._stamped(stamp), seed) + vector)
                except OSError as error:
                    raise self._ended() from error
        if self._wait:
            while self._busy:
                self._listen(wait=True)

    def close(self) -> None:
        """End the rendering process."""
        if self._process is not None:
            self._socket.close()
            self._process.wait()
            self._process = None

    def _start(self, node: Node) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='vdd_ros_cameras_')
        model = Path(self._folder.name, 'scene.mjb')
        save_compiled(self._simulation, model)
        descriptions = [
            {
                **camera.model_dump(mode='json'),
                'camera': camera.camera or name,
                'noise': self._disturbances[name].noise,
                **{key: getattr(self._disturbances[name], key) for key in LIGHT},
                'frame': optical_frame(name),
                'world': WORLD_FRAME,
                'topics': {topic: node.resolve_topic_name(f'{name}/{topic}') for topic in _TOPICS},
            }
            for name, camera in self._cameras.items()
        ]
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WIDEST)
        arguments = [str(theirs.fileno()), str(model), json.dumps(descriptions)]
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'vdd_ros.nodes.bridge.camera_process', *arguments],
            pass_fds=[theirs.fileno()],
            # One thread of software rendering: the other cores are for physics and policy.
            env={**os.environ, 'LP_NUM_THREADS': os.environ.get('LP_NUM_THREADS', '1')},
        )
        theirs.close()
        try:
            self._listen(wait=True)
        except SimulationError:
            self.close()
            raise
        finally:
            self._folder.cleanup()  # read by now, and nothing is left over if this process is killed

    def _listen(self, *, wait: bool) -> None:
        """Take in the messages of the other process; ``wait`` for one message at least."""
        names = list(self._cameras)
        if wait and not select.select([self._socket], [], [], _PATIENCE)[0]:
            raise self._ended(f'silence for {_PATIENCE:g} s')
        while True:
            try:
                received = self._socket.recv(WIDEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._ended() from error
            if received[:1] == DRAWN:
                name = names[received[1]]
                self._busy.discard(name)
                self.drawn[name] += 1
            elif received[:1] == FAILED:
                expected, found, remedy = json.loads(received[1:])
                raise SimulationError(expected=expected, found=found, remedy=remedy)
            elif not received:
                raise self._ended()

    def _ended(self, found: str = 'its end') -> SimulationError:
        return SimulationError(expected='a process that draws what the cameras see', found=found, remedy='read its log')


_TOPICS = (
    'image_raw',
    'image_raw/compressed',
    'camera_info',
    'depth/image_raw',
    'depth/image_raw/compressedDepth',
    'depth/camera_info',
    'points',
    'pose',
)
