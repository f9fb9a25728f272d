"""The policy node with two compressed cameras over DDS: commands, plans and processor time beside those without.

An arm and the cameras are in separate processes. The student has the size of the shipped one and random weights. Its
means are replaced by the measured joints, at the cost of the complete network, so that the arm stays where it is.

It is the part `node` of `benchmarks.vision`; `python -m benchmarks.vision_node --seconds 10` runs it alone.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.control import running, save_mirror, watch
from benchmarks.harness import Bar, finish
from benchmarks.random_student import seeing_settings
from benchmarks.vision_conversion import CAMERAS, FRAME_RATE, two_cameras
from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.contract.contract import Contract

COMMAND_RATE = 500.0
"""Commands and joint states [Hz]."""
_ENCODERS = ('light', 'resnet18')
_BLIND = 'without cameras'


def contract_with(cameras: bool) -> Contract:
    """Return a contract that plans at the rate of the cameras, with position actions; with or without the cameras."""
    values = two_cameras().model_dump(mode='json')
    kept = [
        {**feature, 'align': {'method': 'hold', 'max_age': 0.2}} if feature['name'] in CAMERAS else feature
        for feature in values['observation']
        if cameras or feature['name'] not in CAMERAS
    ]
    chunk = {'prediction_horizon': 3, 'action_horizon': 1}
    change = {'observation': kept, 'policy_rate': FRAME_RATE, 'action_mode': 'absolute'}
    return Contract.model_validate({**values, **chunk, **change})


def node(seconds: float) -> list[dict[str, Any]]:
    """Measure the policy node for a time [s] with cameras, by encoder, in turn with one without cameras.

    The node without cameras is measured first and last, half as long each, so that a slow change of the machine affects
    both.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name, private_domain() as domain:
        folder = Path(name)
        environment = {**domain_environment(domain), 'ROS_LOG_DIR': name, 'OMP_NUM_THREADS': '1'}
        save_mirror(folder / _BLIND, contract_with(cameras=False), seeing_settings('light'))
        for encoder in _ENCODERS:
            save_mirror(folder / encoder, contract_with(cameras=True), seeing_settings(encoder))
        for method in (_BLIND, *_ENCODERS, _BLIND):
            cameras = () if method == _BLIND else CAMERAS
            duration = seconds if cameras else seconds / 2
            found = _measured(folder, method.replace(' ', '_'), folder / method, environment, cameras, duration)
            shown = f'two cameras, {method}' if cameras else method
            rows.append({'part': 'node', 'method': shown, **found})
    return rows


def _measured(
    folder: Path, name: str, artifact: Path, environment: dict[str, str], cameras: tuple[str, ...], seconds: float
) -> dict[str, float]:
    parameters = {
        'artifact': artifact,
        'autostart': 'true',
        'control_rate': COMMAND_RATE,
        'action_noise_scale': 0.0,
        'smoothing': 0.0,
        'ood_response': 'watch',
        'startup_timeout': 60.0,
        'override_name': 'benchmarks.vision',
        'override_reason': 'there is no arm',
    }
    asked = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    log, frames = folder / f'{name}.txt', folder / f'{name}_cameras.txt'
    with ExitStack() as stack:
        if cameras:
            rate = str(FRAME_RATE)
            stack.enter_context(running('benchmarks.camera_publisher', environment, frames, rate, *cameras))
        process = stack.enter_context(
            running('vdd_ros.nodes.policy.policy_node', environment, log, '--ros-args', *asked)
        )
        found = watch(process, environment, seconds, 0.0, COMMAND_RATE)['steady']
    if not found['commands']:
        raise RuntimeError(f'the policy node sent no commands; it printed\n{log.read_text(encoding="utf-8")}')
    kept = ('seconds', 'commands', 'lateness_p99', 'latency_p50', 'latency_p99', 'plans_per_second', 'cores')
    row = {key: found[key] for key in kept}
    if cameras:
        sent = [json.loads(line)['sent'] for line in frames.read_text(encoding='utf-8').splitlines()]
        row |= {'images_per_second': float(np.diff(sent).mean()), 'oldest_image_s': found['oldest_stream_s']}
    return row


def node_bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars of the rows of `node`."""
    blind = [row for row in rows if row['method'] == _BLIND]
    without, found = float(np.mean([row['lateness_p99'] for row in blind])), []
    for row in rows:
        if row['method'] == _BLIND:
            continue
        name, share = row['method'], row['commands'] / (COMMAND_RATE * row['seconds'])
        found += [
            Bar(f'{name}: commands sent, share of those due', share, 0.999),
            Bar(f'{name}: the same at most', share, 1.001, at_most=True),
            Bar(f'{name}: lateness over that without, p99', row['lateness_p99'] / without, 1.1, at_most=True),
            Bar(f'{name}: plans per second', row['plans_per_second'], 20.0),
            Bar(f'{name}: cores', row['cores'], 1.5, at_most=True),
        ]
    return found


def main(seconds: float = 60.0, check: bool = False) -> int:
    """Measure the policy node with two cameras.

    Parameters
    ----------
    seconds
        Duration with the cameras of each encoder [s].
    check
        Exit with 1 where a bar does not hold.

    """
    rows = node(seconds)
    return finish('vision_node', rows, node_bars(rows), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
