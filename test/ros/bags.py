"""Reading and writing of bags in tests; reading is independent of the package's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag.bag_writer import BagWriter


def read(path: Path) -> list[tuple[str, int, object]]:
    """Read a whole bag: topic, stamp and message."""
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        return [(c.topic, stamp, reader.deserialize(data, c.msgtype)) for c, stamp, data in reader.messages()]


def save_episode(path: Path, joints: list[str], commands: np.ndarray, period: int) -> Path:
    """Write a bag of one episode: commands, shape (command, joint) [rad], every ``period`` [ns], and an arm on them."""
    topics = {'/joint_states': bag_messages.JOINT_STATE, '/arm_controller/commands': bag_messages.NUMBERS}
    with BagWriter(path, {**topics, '/episode': bag_messages.MARK}) as writer:
        writer.write('/episode', 1, bag_messages.mark(1, 'start', index=0))
        for tick, command in enumerate(commands):
            stamp = 1 + tick * period
            writer.write('/joint_states', stamp, bag_messages.joint_state(stamp, joints, command))
            writer.write('/arm_controller/commands', stamp, bag_messages.numbers(command))
        end = 1 + len(commands) * period
        writer.write('/episode', end, bag_messages.mark(end, 'end', index=0))
    return path
