"""Human demonstrations of PushT as a rosbag, as recorded by a robot with a pose tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_writer import BagWriter

HERE = Path(__file__).parent
METRES = 1e-3
"""Size of a pixel of the original [m]."""
PERIOD = 100_000_000
"""Period of the demonstrations [ns]."""
_PAUSE = 2_000_000_000
_TOPICS = {
    '/joint_states': messages.JOINT_STATE,
    '/block_pose': messages.POSE,
    '/agent_controller/commands': messages.NUMBERS,
    '/episode': messages.MARK,
}


def contract(folder: Path) -> Contract:
    """Return the contract with an absolute model path; its file is written into a folder."""
    file = folder / 'contract.yaml'
    text = (HERE / 'contract.yaml').read_text(encoding='utf-8')
    file.write_text(text.replace('model: agent.xml', f'model: {HERE / "agent.xml"}'), encoding='utf-8')
    return load_contract(file)


def write_bag(source: Path, bag: Path, episodes: int | None = None) -> int:
    """Write the demonstrations of an .npz into a bag; return their number.

    Parameters
    ----------
    source
        `state` (step, 5): agent x, y, block x, y [pixel] and angle [rad]; `action` (step, 2): target position
        [pixel]; `episode_ends` (episode,).
    bag
        The bag to write.
    episodes
        Maximum number of episodes.

    """
    with np.load(source) as data:
        states, actions, ends = (data[name].astype(np.float64) for name in ('state', 'action', 'episode_ends'))
    ends = ends.astype(int)[:episodes]
    stamp = _PAUSE
    with BagWriter(bag, _TOPICS) as writer:
        for index, (begin, end) in enumerate(zip([0, *ends[:-1]], ends)):
            writer.write('/episode', stamp, messages.mark(stamp, 'start', index=index))
            for state, action in zip(states[begin:end], actions[begin:end]):
                agent = messages.joint_state(stamp, ['agent_x', 'agent_y'], state[:2] * METRES)
                turn = [0, 0, np.sin(state[4] / 2), np.cos(state[4] / 2)]
                writer.write('/joint_states', stamp, agent)
                writer.write('/block_pose', stamp, messages.pose(stamp, [*state[2:4] * METRES, 0], turn, 'table'))
                writer.write('/agent_controller/commands', stamp, messages.numbers(action * METRES))
                stamp += PERIOD
            labels = {'outcome': 'success', 'language': 'push the T onto its outline'}
            writer.write('/episode', stamp, messages.mark(stamp, 'end', index=index, **labels))
            stamp += _PAUSE
    return len(ends)


def observation(state: np.ndarray) -> np.ndarray:
    """Return the observation of the contract for a state of the game, shape (5,) [pixel, rad]: shape (10,) [m]."""
    cosine, sine = np.cos(state[4]), np.sin(state[4])
    return np.array([*state[:4] * METRES, cosine, sine, 0.0, -sine, cosine, 0.0])
