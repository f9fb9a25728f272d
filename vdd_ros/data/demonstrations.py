"""Load demonstrations: read bags, select episodes, cut windows."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vdd_ros.common.errors import BagError, TrainingError
from vdd_ros.common.progress import Progress, silent
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag import fingerprint, located
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.data.store import fingerprint_of, is_store, load_store
from vdd_ros.data.windows import Demonstrations

LEAST_EPISODES = 5
"""Minimum number of demonstrations for training."""
_WORTH_A_PROCESS = 64 << 20

MakeKinematics = Callable[[], ToolPoint]
"""Creates the kinematics of a contract. It is called once per process, because an instance cannot be shared."""


def load_bag(
    bag: str | Path, contract: Contract, kinematics: MakeKinematics | None = None
) -> tuple[tuple[Episode, ...], ConversionReport]:
    """Read one bag; return its episodes and the conversion report.

    Parameters
    ----------
    bag, contract
        The bag, and the contract that defines observations and actions.
    kinematics
        Creates the kinematics for features in tool space:
        ``functools.partial(vdd_ros.robot.kinematics.Kinematics.from_contract, contract)``.

    Raises
    ------
    BagError
        See `convert`.

    """
    (found,) = converted([bag], contract, kinematics, silent)
    return found.episodes, found.report


def load_demonstrations(
    bags: Sequence[str | Path],
    contract: Contract,
    kinematics: MakeKinematics | None = None,
    progress: Progress = silent,
    *,
    held_out: float = 0.1,
    seed: int = 0,
) -> Demonstrations:
    """Read bags, drop the episodes marked as failed, and cut the others into windows.

    Parameters
    ----------
    bags
        Recordings in any format of `vdd_ros.data.bag.bag.Bag`, or stores of `vdd convert`.
    contract, kinematics
        The contract, and the factory of the kinematics for features in tool space.
    progress
        Called with the number of bags read.
    held_out
        Share of the demonstrations held out for evaluation.
    seed
        Seed of the random selection of held-out demonstrations.

    Raises
    ------
    BagError
        No bag is given; otherwise see `convert`.
    TrainingError
        Too few episodes remain.

    """
    if not bags:
        raise BagError(expected='at least one bag', found='none', remedy='give the bags to train on')
    report = ConversionReport()
    prints: list[str] = []
    # The parts of each demonstration, by what was read, the bag that a store has it of, and index.
    episodes: dict[tuple[str, str, int], list[Episode]] = {}
    for bag, found in zip(bags, converted(bags, contract, kinematics, progress)):
        report.merge(found.report)
        prints.append(fingerprint_of(bag) if is_store(bag) else fingerprint(bag))
        failed = sorted({item.index for item in found.episodes if item.success is False})
        report.add('episode', found.bag, 'failed', len(failed), f'episode {failed[0]}' if failed else '')
        for item in found.episodes:
            if item.success is not False:
                episodes.setdefault((prints[-1], item.bag, item.index), []).append(item)
    progress('read', len(bags), len(bags), {'episodes': len(episodes)})
    if len(episodes) < LEAST_EPISODES:
        reasons = '; '.join(str(entry) for entry in report.entries if entry.kind != 'note')
        raise TrainingError(
            expected=f'at least {LEAST_EPISODES} successful demonstrations',
            found=f'{len(episodes)} in {", ".join(map(str, bags))}' + f' ({reasons[:300]})' * bool(reasons),
            remedy='record more demonstrations',
        )
    return Demonstrations.divided(
        [*episodes.values()], contract, held_out=held_out, seed=seed, bags=_named(bags, prints), report=report
    )


def _named(bags: Sequence[str | Path], prints: Sequence[str]) -> dict[str, str]:
    """Return the fingerprint of each bag by its name, or by its path if bags of different content share a name."""
    names = [Path(bag).name for bag in bags]
    known = dict(zip(names, prints))
    shared = {name for name, content in zip(names, prints) if known[name] != content}
    return {str(bag) if name in shared else name: content for bag, name, content in zip(bags, names, prints)}


@dataclass(frozen=True)
class Converted:
    """The demonstrations of one bag, and the report of used and dropped data."""

    bag: str
    episodes: tuple[Episode, ...]
    report: ConversionReport


def converted(
    bags: Sequence[str | Path],
    contract: Contract,
    kinematics: MakeKinematics | None,
    progress: Progress,
    *,
    workers: int | None = None,
) -> Iterator[Converted]:
    """Convert bags in order, in several processes if that saves time.

    Parameters
    ----------
    bags, contract, kinematics, progress
        As for `load_demonstrations`.
    workers
        Number of processes. Default: the number of cores or of large bags, whichever is lower.

    Raises
    ------
    BagError
        See `convert`; raised for the first bag that cannot be converted.

    """
    if workers is None:
        large = sum(not is_store(bag) and _size(located(Path(bag))) > _WORTH_A_PROCESS for bag in bags)
        workers = min(large, len(os.sched_getaffinity(0)))
    if workers < 2:
        made = _made(contract, kinematics)
        for number, bag in enumerate(bags):
            yield _convert(bag, contract, made, partial(_report_share, progress, len(bags), number))
        return
    standard()  # parsed once before the fork, instead of once in each process
    with ProcessPoolExecutor(workers, _context(), initializer=_prepare, initargs=(contract, kinematics)) as pool:
        for number, found in enumerate(pool.map(_convert_prepared, bags)):
            progress('read', number + 1, len(bags), {})
            yield found


def _context() -> multiprocessing.context.BaseContext:
    """Fork if this process has no other threads (torch starts hidden ones); a fork with threads may deadlock."""
    alone = threading.active_count() == 1 and 'torch' not in sys.modules and 'rclpy' not in sys.modules
    return multiprocessing.get_context('fork' if alone and sys.platform == 'linux' else 'spawn')


_prepared: dict[str, Any] = {}
"""State of a pool process: `contract` and `kinematics`."""


def _made(contract: Contract, kinematics: MakeKinematics | None) -> ToolPoint | None:
    """Return the kinematics of a contract; None where no feature needs any, and the contract names no model."""
    return None if kinematics is None or not (contract.robot.model or contract.needs_model) else kinematics()


def _prepare(contract: Contract, kinematics: MakeKinematics | None) -> None:
    _prepared.update(contract=contract, kinematics=_made(contract, kinematics))


def _convert_prepared(bag: str | Path) -> Converted:
    return _convert(bag, **_prepared)


def _convert(
    bag: str | Path, contract: Contract, kinematics: ToolPoint | None, progress: Callable[[float], None] | None = None
) -> Converted:
    report = ConversionReport()
    if is_store(bag):
        return Converted(Path(bag).name, load_store(bag, contract), report)
    episodes = tuple(convert(bag, contract, kinematics, report, progress))
    return Converted(Path(bag).name, episodes, report)


def _size(path: Path) -> int:
    files = path.rglob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _report_share(progress: Progress, total: int, begin: float, share: float) -> None:
    progress('read', begin + share, total, {})
