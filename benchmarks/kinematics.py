"""Measure the worst-case duration of inverse kinematics on one thread: `python -m benchmarks.kinematics`.

For the arms of the shipped contracts, four kinds of random poses:

    step          a pose 10 mm away, as for a policy step
    singular      3 mm from a stretched arm, with the joint changes allowed in a policy period
    far           the pose of other random joint positions
    out of reach  3 m away, with random orientation

Each iteration has a fixed cost, and `MAX_ITERATIONS` bounds their number. The maximum time therefore results from
interruptions by the operating system.
"""

from __future__ import annotations

import time

import numpy as np
import tyro

from benchmarks.harness import Bar, finish
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.robot.kinematics import MAX_ITERATIONS, Kinematics

CONTRACTS = ('avoiding_cartesian', 'placing_cartesian')
KINDS = ('step', 'singular', 'far', 'out of reach')


def main(poses: int = 5000, check: bool = False) -> int:
    """Run the measurement.

    Parameters
    ----------
    poses
        Number of poses of each kind.
    check
        Exit with 1 if a bar does not hold.

    """
    rows, bars = [], []
    for name in CONTRACTS:
        contract = load_contract(name)
        kinematics = Kinematics.from_contract(contract)
        allowed = kinematics.step_limits(contract.period / NANOSECONDS)
        for kind in KINDS:
            milliseconds, iterations, turned = _measure(kinematics, allowed, kind, poses)
            row = {
                'contract': name,
                'pose': kind,
                'p50 [ms]': float(np.median(milliseconds)),
                'p99 [ms]': float(np.quantile(milliseconds, 0.99)),
                'max [ms]': float(milliseconds.max()),
                'iterations, max': int(iterations.max()),
                'change / allowed, max': float(turned.max()) if kind == 'singular' else float('nan'),
            }
            rows.append(row)
            bars.append(Bar(f'{name}, {kind}: p99 [ms]', row['p99 [ms]'], 5.0, at_most=True))
            bars.append(Bar(f'{name}, {kind}: iterations', row['iterations, max'], MAX_ITERATIONS, at_most=True))
        turned = rows[1 - len(KINDS)]['change / allowed, max']
        bars.append(Bar(f'{name}, singular: change / allowed', turned, 1 + 1e-9, at_most=True))
    return finish('kinematics', rows, bars, check=check)


def _measure(kinematics: Kinematics, allowed: np.ndarray, kind: str, poses: int) -> tuple[np.ndarray, ...]:
    """Return times [ms], iterations, and the maximum joint change as a share of the allowed one."""
    generator = np.random.default_rng(0)
    bounds = np.maximum(kinematics.lower, -3), np.minimum(kinematics.upper, 3)
    times, iterations, turned = np.empty(poses), np.empty(poses, dtype=int), np.zeros(poses)
    for pose in range(poses):
        start = generator.uniform(*bounds)
        if kind == 'singular':  # as straight as the joint ranges permit
            start[1:] = np.clip(generator.normal(scale=0.02, size=len(start) - 1), bounds[0][1:], bounds[1][1:])
        position, orientation = kinematics.tool_position(start), kinematics.tool_orientation(start)
        if kind == 'far':
            other = generator.uniform(*bounds)
            position, orientation = kinematics.tool_position(other), kinematics.tool_orientation(other)
        else:
            direction = generator.normal(size=3)
            position += (
                {'step': 0.01, 'singular': 0.003, 'out of reach': 3.0}[kind] * direction / np.linalg.norm(direction)
            )
        if kind == 'out of reach':
            orientation = generator.normal(size=4)
            orientation /= np.linalg.norm(orientation)
        began = time.perf_counter()
        solution = kinematics.nearest(position, orientation, start, allowed if kind == 'singular' else None)
        times[pose] = 1e3 * (time.perf_counter() - began)
        iterations[pose] = solution.iterations
        turned[pose] = (np.abs(solution.joints - start) / allowed).max()
    return times, iterations, turned


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
