"""Kill the recorder repeatedly while a robot publishes at 1 kHz: `python -m benchmarks.killed`.

A robot (a process that publishes joint states with the wall time of their publication) and the recorder run over DDS.
The recorder is killed at a random moment, its bag is recovered, and the loss at the end is measured, from the last
message in the bag to the moment of the kill, as well as missing messages in between.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import track
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from benchmarks.harness import Bar, finish
from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.data.bag.recovery import settle

_RATE = 1000
_PATIENCE = 60.0
_ROBOT = f"""
import time
from array import array
import rclpy
from sensor_msgs.msg import JointState
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.pacing import Pacer
rclpy.init()
node = rclpy.create_node('robot')
publisher = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
message = messages.to_joint_state(0, [f'joint{{n}}' for n in range(1, 8)], [0.0] * 7, [0.0] * 7, [0.0] * 7)
number = 0
def tick():
    global number
    message.header.stamp = messages.to_time(time.time_ns())
    message.effort = array('d', [float(number)] * 7)
    publisher.publish(message)
    number += 1
pacer = Pacer(1 / {_RATE}, tick)
pacer.start()
while True:
    time.sleep(1)
    pacer.check()
"""


def measure(kills: int, seconds: tuple[float, float] = (2.0, 4.0), seed: int = 0) -> list[dict[str, Any]]:
    """Kill the recorder several times, each a random time after the bag began to grow; return a row for each kill."""
    chance = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder, private_domain() as domain:
        environment = {**domain_environment(domain), 'ROS_LOG_DIR': folder}
        robot = subprocess.Popen([sys.executable, '-c', _ROBOT], env=environment)
        try:
            for number in track(range(kills), description='kills'):
                rows.append(_kill(Path(folder, f'bag{number}'), chance.uniform(*seconds), environment))
        finally:
            robot.kill()
            robot.wait()
    return rows


def _kill(path: Path, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, '-m', 'vdd_ros.nodes.recorder.recorder', '--ros-args', '-p', f'output:={path}']
    recorder = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        growing = path.parent / f'.{path.name}.partial'
        deadline = time.monotonic() + _PATIENCE
        while not any(file.stat().st_size > 1000 for file in growing.glob('*.mcap')):
            if time.monotonic() > deadline or recorder.poll() is not None:
                raise RuntimeError('the recorder did not begin to record')
            time.sleep(0.01)
        time.sleep(seconds)
        killed = time.time_ns()
    finally:
        recorder.kill()
        recorder.wait()
    found = settle(path)
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        states = [reader.deserialize(data, item.msgtype) for item, _, data in reader.messages()]
    numbers = np.array([state.effort[0] for state in states])
    last = states[-1].header.stamp
    return {
        'recorded_s': found.seconds,
        'messages': found.messages,
        'readable': len(states) == found.messages,
        'lost_at_the_end_s': (killed - last.sec * 1_000_000_000 - last.nanosec) / 1e9,
        'lost_in_between': int(numbers[-1] - numbers[0] + 1 - len(numbers)),
    }


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars: every bag readable, less than a second lost."""
    return [
        Bar('bags readable after kill -9, share', float(np.mean([row['readable'] for row in rows])), 1.0),
        Bar('most lost at the end of one [s]', max(row['lost_at_the_end_s'] for row in rows), 1.0, at_most=True),
        Bar('lost in between, messages of all', sum(row['lost_in_between'] for row in rows), 0, at_most=True),
    ]


def main(kills: int = 20, quick: bool = False, check: bool = False) -> int:
    """Kill the recorder and measure the loss.

    Parameters
    ----------
    kills
        Number of kills.
    quick
        One early kill, which only tests the program.
    check
        Exit with 1 if a bar does not hold.

    """
    rows = measure(1, (0.2, 0.4)) if quick else measure(kills)
    return finish('killed', rows, bars(rows), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
