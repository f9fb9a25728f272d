"""Placing with pan and trays at random poses: a camera at the wrist and one in front show where they are."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from vdd_ros.sim.scene import Camera, SceneSettings
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.pace import require_seen
from vdd_ros.sim.tasks.placing.demonstrator import PlacingDemonstrator
from vdd_ros.sim.tasks.placing.layout import HANDLES, PAN, PAN_REST, TRAY_Y, TRAYS
from vdd_ros.sim.tasks.placing.success_detector import PlacingSuccessDetector
from vdd_ros.sim.tasks.placing.task import Placing
from vdd_ros.sim.tasks.task import Verdict

PAN_SHIFT, PAN_YAW = 0.035, 0.15
"""Maximum shift of the pan along x and y [m], and maximum rotation [rad], which is small since the hand cannot
rotate."""
TRAYS_SHIFT, TRAY_SHIFT = 0.03, 0.03
"""Maximum common shift of the trays along x, and maximum shift of each tray along y [m]."""
_SIZE, _RATE = 96, 20.0


class PlacingSeen(Placing):
    """The Placing task with random poses of pan and trays. The poses of an episode depend only on its number."""

    name = 'placing_seen'
    contract = 'placing_seen'
    demonstrated_from = 1_000_000
    settings = SceneSettings(
        cameras={name: Camera(width=_SIZE, height=_SIZE, rate=_RATE) for name in ('wrist', 'front')}
    )

    @property
    def scenarios_beside(self) -> Path:
        """The file of this task; the ``scenarios.yaml`` in its folder has disturbances of the cameras."""
        return Path(__file__)

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Make the trays movable, so every episode can place them, and add the cameras."""
        for name in TRAYS:
            spec.body(f'tray_{name}').mocap = True
        hand, tool = np.array([0.085, 0.0, 0.06]), np.array([0.0, 0.0, 0.18])
        spec.body('hand').add_camera(
            name='wrist', pos=hand, quat=_towards(tool - hand, np.array([-1.0, 0, 0])), fovy=75
        )
        front, table = np.array([1.2, 0.03, 0.75]), np.array([0.5, 0.03, 0.0])
        up = np.array([0.0, 0.0, 1.0])
        spec.worldbody.add_camera(name='front', pos=front, quat=_towards(table - front, up), fovy=56)
        # Without a GPU, shadows are nine tenths of the time that an image takes.
        spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 0, 2

    def reset(self, simulation: Simulation, episode: int = 0) -> None:
        """Reset a scene to the start of an episode, with pan and trays at the poses of this episode."""
        super().reset(simulation, episode)
        model, data = simulation.model, simulation.data
        pan, trays = poses(episode)
        start = model.joint('pan').qposadr[0]
        data.qpos[start : start + 7] = *pan[:2], PAN_REST, np.cos(pan[2] / 2), 0.0, 0.0, np.sin(pan[2] / 2)
        for name, place in trays.items():
            data.mocap_pos[model.body(f'tray_{name}').mocapid[0], :2] = place
        mujoco.mj_forward(model, data)

    def new_success_detector(self) -> PlacingSuccessDetector:
        """Return a success detector for one episode."""
        return _SeeingDetector(self.tool, *self.gripper)

    def new_demonstrator(self, generator: np.random.Generator) -> PlacingDemonstrator:
        """Return a demonstrator that reads the poses of pan and trays, and uses all modes equally often."""
        return _SeeingDemonstrator(generator)


def poses(episode: int) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Return x, y [m] and rotation [rad] of the pan, shape (3,), and x, y [m] of each tray, in an episode."""
    generator = np.random.default_rng([episode, 21])
    pan = np.array([*PAN, 0.0]) + generator.uniform(-1, 1, 3) * (PAN_SHIFT, PAN_SHIFT, PAN_YAW)
    shift = generator.uniform(-TRAYS_SHIFT, TRAYS_SHIFT)
    trays = {name: (x + shift, TRAY_Y + generator.uniform(-TRAY_SHIFT, TRAY_SHIFT)) for name, x in TRAYS.items()}
    return pan, trays


def _towards(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the quaternion w x y z of a camera that looks along a direction, with the image upright along ``up``."""
    back = -direction / np.linalg.norm(direction)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return quaternion


def _places(simulation: Simulation) -> dict[str, tuple[float, float]]:
    found = {name: simulation.body_position(f'tray_{name}') for name in TRAYS}
    return {name: (float(place[0]), float(place[1])) for name, place in found.items()}


class _SeeingDetector(PlacingSuccessDetector):
    _seen = False

    def judge(self, simulation: Simulation) -> Verdict:
        """Read the positions of the trays, which do not move within an episode, and update the state."""
        if not self._seen:
            self.places, self._seen = _places(simulation), True
        return super().judge(simulation)


class _SeeingDemonstrator(PlacingDemonstrator):
    _looked = False

    def look(self, simulation: Simulation) -> None:
        """Read the poses of pan and trays."""
        pan = simulation.body_position('pan')[:2]
        along = simulation.data.body('pan').xmat.reshape(3, 3)[:2, 1]
        self.handles = {name: pan + y * along for name, y in HANDLES.items()}
        self.places, self._looked = _places(simulation), True

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next mode and plan its moves.

        Raises
        ------
        ConfigurationError
            `look` was not called.

        """
        require_seen(self._looked, 'pan and trays are')
        super().begin(hand)


TASK = PlacingSeen
