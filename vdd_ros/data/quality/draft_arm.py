"""Find the topics that move an arm in a bag: states, commands, joint order and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vdd_ros.contract.features import UNITS
from vdd_ros.data.quality.survey import ARRAYS, JOINT_STATE, TRAJECTORY, Seen, Survey, Table

COMMANDING = re.compile(r'command|cmd|leader|master|teleop|target|desired|goal|reference', re.IGNORECASE)
"""Name parts of topics for commands or a leading arm."""
GRIPPER = re.compile(r'grip|finger|hand\b|hand_|jaw|claw', re.IGNORECASE)
"""Name parts of grippers and their topics."""

_MOST_RADIANS = 7.0
"""Slightly more than a turn: larger values are not radians."""
_PERCENT = (-2.0, 102.0)
_BYTE = 255.0
_SHIFTS = (0, 100_000_000, 250_000_000)
"""Delay after a command [ns] at which the state is compared with it."""
_RATIOS = (1.0, 180 / np.pi, np.pi / 180, 100.0, 0.01, 1000.0, 0.001)
"""Candidate ratios of command units to state units."""
_MOVES = 1e-6

Limits = Mapping[str, 'tuple[float, float]']
"""Lower and upper limit of each joint of a model [rad, m]."""


@dataclass(frozen=True)
class Commands:
    """The topic that commands the arm, and the order, names and units of its joints, as found for a draft."""

    seen: Seen
    table: Table
    joints: tuple[str, ...]
    """The joints of the arm in the order of the commands, by their names in the states."""
    names: tuple[str, ...]
    """Names of these joints in the commands; empty if commands have no names, or the same names."""
    ratios: tuple[float, ...]
    """Number of command units per state unit."""
    remark: str
    """Remark on the confidence in the joint order; empty if the commands contain joint names."""


@dataclass(frozen=True)
class Arm:
    """The topic with the states of the arm, and the topic with its commands, if any, as found for a draft."""

    seen: Seen
    table: Table
    commands: Commands | None

    @property
    def joints(self) -> tuple[str, ...]:
        """The joints of the contract."""
        if self.commands is not None:
            return self.commands.joints
        return tuple(name for name, known in zip(self.table.names, _finite(self.table)) if known)


def find_arm(found: Survey, limits: Limits) -> Arm | None:
    """Return the arm of a bag, or None if no joint state has a position.

    If the joints of a model are given, only these belong to the arm.
    """
    states = [
        (seen, _of_model(table, limits))
        for seen in found.topics.values()
        if seen.info.type == JOINT_STATE
        for table in seen.tables
        if table.names and _finite(table).any()
    ]
    if not states:
        return None
    arms = []
    for seen, table in states:
        commands = _commands(found, seen, table)
        gripper = bool(GRIPPER.search(seen.info.name)) or all(GRIPPER.search(name) for name in table.names)
        leads = bool(COMMANDING.search(seen.info.name))
        modelled = any(name in limits for name in table.names)
        order = (modelled, not leads, not gripper, commands is not None, table.size, table.count)
        arms.append((order, Arm(seen, table, commands)))
    return max(arms, key=lambda item: item[0])[1]


def _of_model(table: Table, limits: Limits) -> Table:
    """Return the joints of a table that are in the model, or all if none is."""
    places = [place for place, name in enumerate(table.names) if name in limits]
    if not places:
        return table
    return replace(table, names=tuple(table.names[place] for place in places), values=table.values[:, places])


def _finite(table: Table) -> np.ndarray:
    """Return a mask of the values that are known in most messages, shape (number,)."""
    return np.isfinite(table.values).mean(axis=0) > 0.5


def _commands(found: Survey, arm: Seen, states: Table) -> Commands | None:
    candidates = []
    for seen in found.topics.values():
        named = bool(COMMANDING.search(seen.info.name))
        for table in seen.tables:
            if seen is arm or table.count < 2:
                continue
            if seen.info.type in ARRAYS:
                fits = 0 < table.size <= states.size and (table.size > 1 or states.size == 1)
                fits &= named or table.size > 1
                commands = _matched(seen, table, states) if fits else None
            elif seen.info.type == TRAJECTORY:
                commands = _named(seen, table, states)
            else:
                commands = _led(arm, seen, table, states)
            if commands is not None and not (seen.info.type in ARRAYS and GRIPPER.search(seen.info.name)):
                candidates.append(((named, len(commands.joints), table.count), commands))
    return max(candidates, key=lambda item: item[0])[1] if candidates else None


def _named(seen: Seen, table: Table, states: Table) -> Commands | None:
    """Return commands that name the joints of the states."""
    joints = tuple(name for name in table.names if name in states.names)
    if not joints or (all(GRIPPER.search(name) for name in joints) and len(joints) < states.size):
        return None
    return Commands(seen, table, joints, (), tuple(_ratio(table, name, states, name) for name in joints), '')


def _led(arm: Seen, seen: Seen, table: Table, states: Table) -> Commands | None:
    """Return the joint states of a leading arm, recognised by its name or by its lead in time."""
    known = [name for name, finite in zip(states.names, _finite(states)) if finite]
    partners = {name: name for name in known if name in table.names}
    if not partners and table.size == states.size:
        partners = {name: other for name, other in zip(states.names, table.names) if _tail(name) == _tail(other)}
    if len(partners) < max(len(known), 1):
        return None
    called, follows = COMMANDING.search(seen.info.name), COMMANDING.search(arm.info.name)
    if bool(called) == bool(follows) and not (seen.info.name != arm.info.name and _ahead(table, states, partners)):
        return None
    if follows and not called:
        return None
    joints = tuple(partners)
    names = tuple(partners.values())
    ratios = tuple(_ratio(table, other, states, name) for name, other in partners.items())
    return Commands(seen, table, joints, names if names != joints else (), ratios, 'named by the leading arm')


def _tail(name: str) -> str:
    """Return the last part of a joint name, without the name of its arm."""
    return re.split(r'[_/.]', name, maxsplit=1)[-1]


def _ahead(table: Table, states: Table, partners: Mapping[str, str]) -> bool:
    """Return whether positions are ahead in time of others that follow the same trajectory."""
    wanted = table.values[:, [table.names.index(other) for other in partners.values()]]
    measured = states.values[:, [states.names.index(name) for name in partners]]
    if np.ptp(wanted, axis=0).max() < _MOVES:
        return False
    misfit = {}
    for shift in range(-400, 401, 20):
        times = table.received + shift * 1_000_000
        inside = (times >= states.received[0]) & (times <= states.received[-1])
        columns = [np.interp(times[inside], states.received, column) for column in measured.T]
        misfit[shift] = float(np.abs(np.stack(columns, axis=1) - wanted[inside]).mean()) if inside.any() else np.inf
    best = min(misfit, key=misfit.get)
    return best > 0 and misfit[best] < 0.9 * misfit[0]


def _misfit(wanted: np.ndarray, times: np.ndarray, measured: np.ndarray, stamps: np.ndarray) -> np.ndarray:
    """Return the distance between commands and states soon after, for each unit ratio, shape (ratio,)."""
    found = []
    for shift in _SHIFTS:
        place = np.searchsorted(stamps, times + shift, side='right') - 1
        known = (place >= 0) & (times + shift <= stamps[-1])
        if known.sum() < 2:
            continue
        there = measured[place[known]]
        found.append([float(np.nanmean(np.abs(wanted[known] / ratio - there))) for ratio in _RATIOS])
    return np.min(found, axis=0) if found else np.full(len(_RATIOS), np.inf)


def _ratio(table: Table, name: str, states: Table, joint: str) -> float:
    column, place = table.values[:, table.names.index(name)], states.names.index(joint)
    return _best(_misfit(column, table.received, states.values[:, place], states.received))


def _best(cost: np.ndarray) -> float:
    """Return the best ratio; another than 1 must fit much better."""
    best = int(np.argmin(cost))
    return _RATIOS[best] if np.isfinite(cost[best]) and cost[best] < 0.2 * cost[0] else 1.0


def _matched(seen: Seen, table: Table, states: Table) -> Commands | None:
    """Return unnamed commands, each matched to the joint that follows it."""
    known = np.flatnonzero(_finite(states))
    if table.size > len(known):
        return None
    cost = np.full((table.size, states.size), np.inf)
    ratio = np.ones((table.size, states.size))
    for column in range(table.size):
        for joint in known:
            misfits = _misfit(table.values[:, column], table.received, states.values[:, joint], states.received)
            ratio[column, joint] = _best(misfits)
            cost[column, joint] = misfits[_RATIOS.index(ratio[column, joint])]
    if not np.isfinite(cost).any():
        chosen = known[: table.size].tolist()
        remark = 'guessed: the order of the joint states; check that of the controller'
        return _in_order(seen, table, states, chosen, [1.0] * table.size, remark)
    chosen, sure = [-1] * table.size, True
    left = cost.copy()
    for _ in chosen:  # closest pair first
        row, column = np.unravel_index(int(np.argmin(left)), left.shape)
        others = np.delete(left[row], column)
        sure &= not (np.isfinite(others).any() and others.min() < 2 * left[row, column])
        chosen[row] = int(column)
        left[row, :], left[:, column] = np.inf, np.inf
    remark = 'matched to the joint that follows each command most closely' + ('' if sure else '; ambiguous: check it')
    return _in_order(seen, table, states, chosen, [ratio[row, column] for row, column in enumerate(chosen)], remark)


def _in_order(
    seen: Seen, table: Table, states: Table, chosen: Sequence[int], ratios: Sequence[float], remark: str
) -> Commands:
    return Commands(seen, table, tuple(states.names[place] for place in chosen), (), tuple(map(float, ratios)), remark)


@dataclass(frozen=True)
class Unit:
    """The estimated unit of the values of a joint, with the evidence."""

    name: str
    """Name in a contract; empty if the unit is only a factor."""
    factor: float
    """Size of one unit in SI units."""
    why: str
    """The evidence; empty for SI units."""


_SI = Unit('si', 1.0, '')


def unit_of(name: str, values: np.ndarray, others: float, limits: Limits) -> Unit:
    """Return the unit of the values of a joint.

    Parameters
    ----------
    name
        Name of the joint.
    values
        Shape (message,), as transmitted.
    others
        Maximum value of the other joints of the topic.
    limits
        Joint limits of the model, if known. The unit that brings the values within the limits is chosen.

    """
    values = values[np.isfinite(values)]
    if not len(values):
        return _SI
    low, high = float(values.min()), float(values.max())
    if name in limits and np.isfinite(limits[name]).all() and (unit := _within(low, high, limits[name])) is not None:
        return unit
    most, gripper = max(-low, high), bool(GRIPPER.search(name))
    if most <= _MOST_RADIANS:
        in_metres = gripper and most < 0.2
        return Unit('si', 1.0, f'{name} in metres, {low:.2g} to {high:.2g}') if in_metres else _SI
    lone = others <= _MOST_RADIANS and high > 90
    if (gripper or lone) and _PERCENT[0] <= low and high <= _PERCENT[1]:
        return Unit('percent', UNITS['percent'], f'{name} is {low:.0f} to {high:.0f}: percent')
    if gripper and low >= 0 and most <= _BYTE:
        return Unit('', 1 / _BYTE, f'{name} is up to {high:.0f}: 255 is open or closed')
    return Unit('degree', UNITS['degree'], f'up to {most:.0f}: degrees')


def _within(low: float, high: float, limits: tuple[float, float]) -> Unit | None:
    room = 0.02 * (limits[1] - limits[0])
    for name in ('si', 'degree', 'millimeter', 'percent', 'centimeter'):
        factor = UNITS[name]
        if limits[0] - room <= low * factor and high * factor <= limits[1] + room:
            why = f'{low:.3g} to {high:.3g}: {name}, from the limits of the model'
            return _SI if name == 'si' else Unit(name, factor, why)
    return None
