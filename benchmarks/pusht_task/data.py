"""The human demonstrations of PushT as a rosbag, as a robot with a pose tracker would have recorded them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from vdd_ros.contract import Contract, load_contract
from vdd_ros.data.bag_writer import BagWriter

HERE = Path(__file__).parent
METRES = 1e-3
"""A pixel of the original [m]."""
PERIOD = 100_000_000
"""Of the demonstrations [ns]."""
_PAUSE = 2_000_000_000
_STORE = get_typestore(Stores.ROS2_HUMBLE)
_TOPICS = {
    '/joint_states': 'sensor_msgs/msg/JointState',
    '/block_pose': 'geometry_msgs/msg/PoseStamped',
    '/agent_controller/commands': 'std_msgs/msg/Float64MultiArray',
    '/episode': 'diagnostic_msgs/msg/DiagnosticArray',
}


def contract(folder: Path) -> Contract:
    """Return the contract, with the agent's model where it lies; its file is written into a folder."""
    file = folder / 'contract.yaml'
    text = (HERE / 'contract.yaml').read_text(encoding='utf-8')
    file.write_text(text.replace('model: agent.xml', f'model: {HERE / "agent.xml"}'), encoding='utf-8')
    return load_contract(file)


def write_bag(source: Path, bag: Path, episodes: int | None = None) -> int:
    """Write the demonstrations of an .npz into a bag; return how many.

    Parameters
    ----------
    source
        `state` (step, 5): agent x, y, block x, y [pixel] and angle [rad]; `action` (step, 2): wanted agent position
        [pixel]; `episode_ends` (episode,).
    bag
        The bag to write.
    episodes
        Only the first so many.

    """
    with np.load(source) as data:
        states, actions, ends = (data[name].astype(np.float64) for name in ('state', 'action', 'episode_ends'))
    ends = ends.astype(int)[:episodes]
    stamp = _PAUSE
    with BagWriter(bag, _TOPICS) as writer:

        def write(topic: str, at: int, message: object) -> None:
            writer.write(topic, at, bytes(_STORE.serialize_cdr(message, _TOPICS[topic])))

        for index, (begin, end) in enumerate(zip([0, *ends[:-1]], ends)):
            write('/episode', stamp, _mark(stamp, 'start', index=index))
            for state, action in zip(states[begin:end], actions[begin:end]):
                write('/joint_states', stamp, _joint_state(stamp, state[:2] * METRES))
                write('/block_pose', stamp, _pose(stamp, *state[2:4] * METRES, state[4]))
                write('/agent_controller/commands', stamp, _command(action * METRES))
                stamp += PERIOD
            labels = {'outcome': 'success', 'language': 'push the T onto its outline'}
            write('/episode', stamp, _mark(stamp, 'end', index=index, **labels))
            stamp += _PAUSE
    return len(ends)


def observation(state: np.ndarray) -> np.ndarray:
    """Return what the contract observes of a state of the game, shape (5,) [pixel, rad]: shape (10,) [m]."""
    cosine, sine = np.cos(state[4]), np.sin(state[4])
    return np.array([*state[:4] * METRES, cosine, sine, 0.0, -sine, cosine, 0.0])


def _make(kind: str, *values: Any) -> Any:
    return _STORE.types[kind](*values)


def _header(stamp: int) -> Any:
    time = _make('builtin_interfaces/msg/Time', stamp // 10**9, stamp % 10**9)
    return _make('std_msgs/msg/Header', time, 'table')


def _joint_state(stamp: int, position: np.ndarray) -> Any:
    names, none = ['agent_x', 'agent_y'], np.zeros(0)
    return _make('sensor_msgs/msg/JointState', _header(stamp), names, position, none, none)


def _pose(stamp: int, x: float, y: float, angle: float) -> Any:
    point = _make('geometry_msgs/msg/Point', x, y, 0.0)
    turn = _make('geometry_msgs/msg/Quaternion', 0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2))
    return _make('geometry_msgs/msg/PoseStamped', _header(stamp), _make('geometry_msgs/msg/Pose', point, turn))


def _command(position: np.ndarray) -> Any:
    return _make('std_msgs/msg/Float64MultiArray', _make('std_msgs/msg/MultiArrayLayout', [], 0), position)


def _mark(stamp: int, event: str, **labels: object) -> Any:
    values = [_make('diagnostic_msgs/msg/KeyValue', key, str(value)) for key, value in labels.items()]
    status = _make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)
    return _make('diagnostic_msgs/msg/DiagnosticArray', _header(stamp), [status])
