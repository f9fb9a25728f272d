"""Measure the conversion of rosbags: speed, memory, correctness. `python -m benchmarks.bags`.

Speed and memory are those of `vdd_ros.data.convert`, from a bag on disk to aligned observations and actions, compared
with a loop that deserialises the same bag with the `rosbags` library. The bags are created in a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.progress import track
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from benchmarks import bag_faults, bag_parity, killed
from benchmarks.bag_making import (
    COMMAND,
    JOINT_STATE,
    JOINTS,
    MARK,
    STORE,
    rich_contract,
    rich_rows,
    write_arm,
    write_rows,
)
from benchmarks.harness import Bar, finish
from vdd_ros.common.domain import in_domain, private_domain
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.demonstrations import converted
from vdd_ros.data.episode import Episode

MEGABYTE = 1 << 20
_MEMORY = """
import json, resource, sys
from benchmarks.bags import arm_contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.convert import convert
report = ConversionReport()
ticks = sum(len(episode) for episode in convert(sys.argv[1], arm_contract(), None, report))
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, ticks, len(report.entries)]))
"""

Rows = list[dict[str, Any]]


def arm_contract() -> Contract:
    """Return a contract with seven joints, measured and commanded, at 50 Hz."""
    return Contract.model_validate(
        {
            'schema_version': 2,
            'name': 'arm',
            'policy_rate': 50.0,
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'measured': {'align': {'max_age': 0.1}},
            'observation': [
                {'name': 'measured', 'source': 'measured', 'space': 'joint'},
                {'name': 'commanded', 'source': 'commanded', 'space': 'joint'},
            ],
            'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
        }
    )


def speed(folder: Path, size: int, repeats: int) -> tuple[Rows, list[Bar]]:
    """Convert a bag in several storages on one core; the plain one also with a loop over `rosbags`."""
    bags = {'mcap plain': write_arm(folder / 'plain', size)}
    bags['mcap zstd'] = write_arm(folder / 'zstd', size // 8, compression='zstd')
    bags['mcap lz4'] = write_arm(folder / 'lz4', size // 8, compression='lz4')
    bags['mcap unchunked'] = write_arm(folder / 'unchunked', size // 4, chunk=0)
    for name, mode in (('sqlite3', CompressionMode.NONE), ('sqlite3 by message', CompressionMode.MESSAGE)):
        bags[name] = _sqlite(folder / name.replace(' ', '_'), bags['mcap unchunked'][0], mode)
    rows: Rows = []
    for name, (path, count) in bags.items():
        seconds = min(_timed(path, count) for _ in range(repeats))
        rows.append(_row('speed', name, messages=count, seconds=seconds, value=count / seconds, unit='messages/s'))
    path, count = bags['mcap plain']
    began = time.perf_counter()
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, _, data in reader.messages():
            reader.deserialize(data, connection.msgtype)
    seconds = time.perf_counter() - began
    loop = count / seconds
    rows.append(_row('speed', 'rosbags, deserialised', messages=count, seconds=seconds, value=loop, unit='messages/s'))
    plain = rows[0]['value']
    return rows, [
        Bar('plain MCAP to aligned arrays, one core [messages/s]', plain, 150_000),
        Bar('the same against a loop over rosbags', plain / loop, 3.0),
    ]


def _timed(path: Path, count: int) -> float:
    report = ConversionReport()
    began = time.perf_counter()
    ticks = sum(len(episode) for episode in convert(path, arm_contract(), None, report))
    seconds = time.perf_counter() - began
    read = sum(number for topic, number in report.read.items() if topic != '/episode')
    if read != count or report.entries or not ticks:
        raise RuntimeError(f'{path}: {read} of {count} messages read, {report.entries}')
    return seconds


def _sqlite(folder: Path, source: Path, mode: CompressionMode) -> tuple[Path, int]:
    """Copy the content of a bag to sqlite3."""
    count = 0
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3)
    if mode != CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, Bag(source) as bag:
        kinds = {'/joint_states': JOINT_STATE, '/arm_controller/commands': COMMAND, '/episode': MARK}
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()}
        for block in bag.blocks(bag.topics):
            for topic, messages in block.items():
                for index in range(len(messages)):
                    writer.write(connections[topic], int(messages.received[index]), messages.data(index))
                    count += topic != '/episode'
    return folder, count


def memory(folder: Path, small: int, large: int) -> tuple[Rows, list[Bar]]:
    """Convert a small and a large bag in separate processes, and compare their peak memory."""
    rows: Rows = []
    for size in (small, large):
        path, count = write_arm(folder / f'of{size}', size)
        done = subprocess.run(
            [sys.executable, '-c', _MEMORY, str(path)], capture_output=True, text=True, check=True, env=_environment()
        )
        peak, ticks, entries = json.loads(done.stdout)
        if entries:
            raise RuntimeError(f'{path}: {entries} losses')
        name = f'{size / MEGABYTE:.0f} MB'
        rows.append(_row('memory', name, messages=count, ticks=ticks, value=peak, unit='MB peak'))
        for file in path.iterdir():
            file.unlink()
    ratio = rows[1]['value'] / rows[0]['value']
    return rows, [Bar('peak memory, large bag against small one', ratio, 1.15, at_most=True)]


def _environment() -> dict[str, str]:
    here = str(Path(__file__).parents[1])
    return os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, [here, os.environ.get('PYTHONPATH')]))}


def cores(folder: Path, size: int, count: int) -> tuple[Rows, list[Bar]]:
    """Convert many bags with one process and with two."""
    first, messages = write_arm(folder / 'bag0', size)
    bags = [first]
    for number in range(1, count):
        (folder / f'bag{number}').symlink_to(first)
        bags.append(folder / f'bag{number}')
    rows: Rows = []
    for workers in (1, 2):
        began = time.perf_counter()
        found = list(converted(bags, arm_contract(), None, silent, workers=workers))
        seconds = time.perf_counter() - began
        if any(item.report.entries for item in found) or len(found) != count:
            raise RuntimeError('something was lost')
        speed_ = messages * count / seconds
        rows.append(_row('cores', f'{workers} for {count} bags', seconds=seconds, value=speed_, unit='messages/s'))
    return rows, [Bar('two cores against one, many bags', rows[1]['value'] / rows[0]['value'], 1.8)]


def parity(folder: Path, seconds: float) -> tuple[Rows, list[Bar]]:
    """Replay a recording with every kind of feature: in process, over DDS, and to the policy node."""
    rows_in = rich_rows(seconds, episodes=1)
    path = write_rows(folder / 'rich', rows_in)

    def episodes(contract: Contract) -> list[Episode]:
        return list(convert(path, contract, None, ConversionReport()))

    contract = rich_contract()
    found = {'in process': bag_parity.in_process(contract, rows_in, episodes(contract))}
    contract = rich_contract(without=('tool',))  # tf2_msgs has no wheels
    with ros_domain() as (rclpy, executor):
        clock = rclpy.parameter.Parameter('use_sim_time', value=True)
        node = rclpy.create_node('parity', parameter_overrides=[clock])
        executor.add_node(node)
        spin = partial(executor.spin_once, timeout_sec=0.02)
        found['over DDS'] = bag_parity.over_dds(contract, rows_in, episodes(contract), node, spin)
    from benchmarks import bag_policy_node

    contract = bag_policy_node.arm_contract()
    with ros_domain(*bag_policy_node.arguments(folder, contract)) as (rclpy, executor):
        node, player = bag_policy_node.PolicyNode(), rclpy.create_node('player')
        executor.add_node(node)
        executor.add_node(player)
        spin = partial(executor.spin_once, timeout_sec=0.02)
        (episode,) = episodes(contract)
        found['policy node in the shadow'] = bag_policy_node.compare(node, player, spin, rows_in, episode)
        node.destroy_node()
    rows = [
        _row('parity', name, ticks=item.ticks, value=item.unequal, unit=f'of {item.values} unequal')
        for name, item in found.items()
    ]
    bars = [Bar(f'values that differ live and offline, {row["what"]}', row['value'], 0, at_most=True) for row in rows]
    return rows, [*bars, Bar('ticks compared', min(row['ticks'] for row in rows), 30)]


@contextmanager
def ros_domain(*words: str) -> Iterator[tuple[Any, Any]]:
    """Initialise ROS in a private domain, with arguments for its nodes."""
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    import rclpy
    import rclpy.parameter
    from rclpy.executors import SingleThreadedExecutor

    with private_domain() as domain, in_domain(domain):
        rclpy.init(args=['--ros-args', *words] if words else None)
        try:
            yield rclpy, SingleThreadedExecutor()
        finally:
            rclpy.try_shutdown()


def faults(count: int) -> tuple[Rows, list[Bar]]:
    """Convert damaged bags, and check the conversion reports."""
    found = list(track(bag_faults.bags(range(count)), total=count, description='faults'))
    outcomes = Counter(item.outcome for item in found)
    rows = [_row('faults', outcome, value=number, unit='bags') for outcome, number in outcomes.items()]
    rows += [
        _row('faults', f'{item.storage}, {item.fault}, seed {item.seed}', value=item.outcome, unit=item.detail[:200])
        for item in found
        if not item.good
    ]
    slowest = max(item.seconds for item in found)
    return rows, [
        Bar(f'of {count} bags with faults: accounted for, or refused by name', sum(item.good for item in found), count),
        Bar('slowest of them [s]', slowest, 5.0, at_most=True),
    ]


def kills(quick: bool) -> tuple[Rows, list[Bar]]:
    """Kill the recorder, and measure the loss."""
    found = killed.measure(2, (0.2, 0.4)) if quick else killed.measure(20)
    rows = [
        _row('kill -9', f'{number + 1}', messages=item['messages'], value=item['lost_at_the_end_s'], unit='s lost')
        for number, item in enumerate(found)
    ]
    return rows, killed.bars(found)


def _row(part: str, what: str, **values: Any) -> dict[str, Any]:
    return {'part': part, 'what': what, **values}


PARTS = ('speed', 'memory', 'cores', 'parity', 'faults', 'kills')


def main(parts: tuple[str, ...] = PARTS, quick: bool = False, check: bool = False) -> int:
    """Measure the conversion of bags.

    Parameters
    ----------
    parts
        Parts to run: speed, memory, cores, parity, faults and kills.
    quick
        Small bags, which only test the program and its correctness.
    check
        Exit with 1 if a bar does not hold.

    """
    size = (1 if quick else 100) * MEGABYTE
    measures = {
        'speed': lambda folder: speed(folder, size, 1 if quick else 3),
        'memory': lambda folder: memory(folder, size, 3 * size if quick else 2048 * MEGABYTE),
        'cores': lambda folder: cores(folder, size, 3 if quick else 80),
        'parity': lambda folder: parity(folder, 3.0 if quick else 20.0),
        'faults': lambda folder: faults(30 if quick else 1000),
        'kills': lambda folder: kills(quick),
    }
    rows: Rows = []
    bars: list[Bar] = []
    for part in parts:
        with tempfile.TemporaryDirectory(prefix='vdd_ros_bags_') as folder:
            found, judged = measures[part](Path(folder))
        rows += found
        bars += judged
    return finish('bags', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
