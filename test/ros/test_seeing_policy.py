"""The policy node with a camera over real DDS: what it sees decides, and a camera that fails is noticed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from arms import HOME, Arm
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.random_student import save_random_student, seeing_settings
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.decode.pictures import compressed_image
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.bridge.image_messages import to_compressed

PERIOD = 50_000_000
SIDE = 48
SCALE = 1e-4
"""Size of an action of one normalised unit [rad]: what the arm moves meanwhile hardly changes the next action."""
STREAM_MAX_AGE = 0.3


def contract() -> Contract:
    """Measured joints and a camera, one action a plan."""
    image = {'height': SIDE, 'width': SIDE, 'color': 'rgb'}
    camera = {'name': 'front', 'topic': 'front/compressed', 'type': 'CompressedImage', 'image': image}
    measured = {'name': 'measured', 'source': 'measured', 'space': 'joint'}
    change = {'schema_version': 3, 'name': 'front_camera', 'policy_rate': 20.0, 'observation': [measured, camera]}
    chunk = {'observation_horizon': 1, 'prediction_horizon': 2, 'action_horizon': 1}
    return Contract.model_validate({**load_contract('avoiding_joint').model_dump(mode='json'), **change, **chunk})


def picture(column: int, brightness: float = 1.0) -> np.ndarray:
    """Return an image of a bright bar before a gray wall, shape (row, column, colour)."""
    found = np.full((2 * SIDE, 2 * SIDE, 3), 90.0)
    found[20:70, column : column + 24] = 230, 60, 30
    return np.clip(brightness * found, 0, 255).astype(np.uint8)


def reduced(image: np.ndarray) -> np.ndarray:
    """Return the pixels that the policy sees of an image, flat."""
    message = to_compressed(Header(), image)
    return compressed_image(bytes(message.data), message.format, contract().observation[1].image, pixels=True)


@pytest.fixture(scope='module')
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student that acts by what it sees, and knows how images usually are."""
    chance, episodes = np.random.default_rng(0), []
    for _ in range(30):
        rows = [reduced(picture(int(chance.integers(0, 72)), chance.uniform(0.9, 1.1))) for _ in range(10)]
        joints = HOME + chance.normal(scale=0.1, size=(10, 7))
        images = {'front': Frames(rows, 3 * SIDE**2)}
        episodes.append(Episode(joints, chance.normal(scale=SCALE, size=(10, 7)), images=images))
    path = tmp_path_factory.mktemp('seeing') / 'student'
    shown = Demonstrations.from_episodes(episodes, contract(), held_out=0.25)
    one = seeing_settings('light').model_copy(update={'experts': 1})
    save_random_student(path, contract(), one, demonstrations=shown, action_scale=SCALE, gain=100.0)
    return path


class Scene:
    """An arm and a camera in simulated time: one tick after another, each with an image if the camera works."""

    def __init__(self, graph, student: Path, **parameters: object) -> None:
        """Start the policy node, and activate it once an image has arrived."""
        given = {'action_noise_scale': 0.0, 'stream_max_age': STREAM_MAX_AGE, **parameters}
        self.process = graph.start('policy_node', artifact=student, **given)
        self.graph, self.arm = graph, Arm(graph)
        node = graph.node('camera')
        self._camera = node.create_publisher(CompressedImage, 'front/compressed', 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DIAGNOSTICS)
        self.values: dict[str, str] = {}
        """The newest diagnostics."""
        self.image: np.ndarray | None = picture(0)
        """What the camera sees; None if it is silent."""
        self._stamp = PERIOD
        assert self.arm.change(Transition.TRANSITION_CONFIGURE)
        self.arm.configured = True
        graph.until(lambda: self._camera.get_subscription_count() == 1)
        graph.until(self._activated)

    def _activated(self) -> bool:
        self._advance()
        return self.arm.change(Transition.TRANSITION_ACTIVATE)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values = {each.key: each.value for each in status.values}

    def _advance(self) -> None:
        self._stamp += PERIOD
        self.arm.tick(self._stamp)
        if self.image is not None:
            message = to_compressed(Header(stamp=messages.to_time(self._stamp)), self.image)
            self._camera.publish(message)
        for _ in range(3):
            self.graph.spin()
        self.arm.say(self._stamp, self.arm.commands[-1] if self.arm.commands else HOME)

    def step(self) -> np.ndarray:
        """Go on by one tick; return by how much the command changed, shape (joint,) [rad]."""
        seen = len(self.arm.commands)
        before = self.arm.commands[-1] if seen else HOME
        self._advance()
        self.graph.until(lambda: len(self.arm.commands) > seen)
        return self.arm.commands[-1] - before

    def settled(self) -> np.ndarray:
        """Go on until three ticks agree; return the change of the command [rad]."""
        found: list[np.ndarray] = []

        def agree() -> bool:
            found.append(self.step())
            return len(found) > 2 and bool(np.abs(np.diff(found[-3:], axis=0)).max() < 0.01 * SCALE)

        self.graph.until(agree)
        return found[-1]


def test_an_image_decides_and_a_silent_camera_is_a_stale_stream(graph, student):
    scene = Scene(graph, student, ood_response='ignore')
    first = scene.settled()
    scene.image = picture(70)
    graph.until(lambda: np.abs(scene.step() - first).max() > 0.1 * SCALE)
    apart = np.abs(scene.settled() - first).max()
    assert apart > 0.1 * SCALE
    scene.image = picture(0)
    graph.until(lambda: np.abs(scene.step() - first).max() < 0.2 * apart)
    assert np.abs(scene.settled() - first).max() < 0.2 * apart
    scene.image = None

    def holding() -> bool:
        scene._advance()
        return 'no front for' in scene.values.get('reason', '')

    graph.until(holding)
    assert scene.values['outcome'] == 'hold'
    assert float(scene.values['age_of_front_s']) > STREAM_MAX_AGE
    last = scene.arm.commands[-1]
    for _ in range(3):
        scene._advance()
    np.testing.assert_array_equal(scene.arm.commands[-1], last)
    scene.image = picture(0)
    graph.until(lambda: scene._advance() or scene.values.get('outcome') == 'command')


def test_a_covered_lens_raises_the_ood_score(graph, student):
    scene = Scene(graph, student, ood_response='watch')

    def seen(level: str) -> bool:
        scene.step()
        return scene.values.get('ood_level') == level and 'density' in scene.values

    scene.image = picture(36)
    graph.until(lambda: seen('fine'))
    usual = float(scene.values['density'])
    scene.image = np.zeros_like(picture(36))
    graph.until(lambda: seen('stop'))
    assert float(scene.values['density']) < usual - 10
