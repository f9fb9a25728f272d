"""Demonstrations: bags read, episodes chosen, windows cut."""

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

from vdd_ros.common.errors import BagError, TrainingError
from vdd_ros.common.progress import Progress, silent
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag import fingerprint, located
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations

LEAST_EPISODES = 5
"""Demonstrations without which there is no training."""
_WORTH_A_PROCESS = 64 << 20

MakeKinematics = Callable[[], ToolPoint]
"""Makes the kinematics of a contract: called once in each process, since an instance is bound to its own."""


def load_bag(
    bag: str | Path, contract: Contract, kinematics: MakeKinematics | None = None
) -> tuple[tuple[Episode, ...], ConversionReport]:
    """Read one bag: its episodes, and what was dropped on the way.

    Parameters
    ----------
    bag, contract
        What to read, and how topics become observations and actions.
    kinematics
        Makes the kinematics that features in tool space need:
        ``functools.partial(vdd_ros.robot.kinematics.Kinematics.from_contract, contract)``.

    Raises
    ------
    BagError
        As `convert` says.

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
    """Read bags, keep the episodes that are not marked as failed, and cut them into windows.

    Parameters
    ----------
    bags
        Recordings, as `vdd_ros.data.bag.bag.Bag` reads them.
    contract, kinematics
        What to read, and what makes the kinematics that features in tool space need.
    progress
        Told how many bags are read.
    held_out
        Share of the demonstrations that is kept for judging.
    seed
        Draws which ones.

    Raises
    ------
    BagError
        None is given, and as `convert` says.
    TrainingError
        Too few episodes are left.

    """
    if not bags:
        raise BagError(expected='at least one bag', found='none', remedy='name the bags to learn from')
    report = ConversionReport()
    prints: list[str] = []
    episodes: dict[tuple[str, int], list[Episode]] = {}  # the parts of each demonstration, by bag and index
    for bag, found in zip(bags, converted(bags, contract, kinematics, progress)):
        report.merge(found.report)
        prints.append(fingerprint(bag))
        failed = sorted({item.index for item in found.episodes if item.success is False})
        report.add('episode', found.bag, 'it failed', len(failed), f'episode {failed[0]}' if failed else '')
        for item in found.episodes:
            if item.success is not False:
                episodes.setdefault((prints[-1], item.index), []).append(item)
    progress('read', len(bags), len(bags), {'episodes': len(episodes)})
    if len(episodes) < LEAST_EPISODES:
        reasons = '; '.join(str(loss) for loss in report.entries if loss.kind != 'note')
        raise TrainingError(
            expected=f'at least {LEAST_EPISODES} demonstrations that succeeded',
            found=f'{len(episodes)} in {", ".join(map(str, bags))}' + f' ({reasons[:300]})' * bool(reasons),
            remedy='record more',
        )
    return Demonstrations.divided(
        [*episodes.values()], contract, held_out=held_out, seed=seed, bags=_named(bags, prints), report=report
    )


def _named(bags: Sequence[str | Path], prints: Sequence[str]) -> dict[str, str]:
    """Return the fingerprint of each bag by its name, or by its path where bags of different content share a name."""
    names = [Path(bag).name for bag in bags]
    known = dict(zip(names, prints))
    shared = {name for name, content in zip(names, prints) if known[name] != content}
    return {str(bag) if name in shared else name: content for bag, name, content in zip(bags, names, prints)}


@dataclass(frozen=True)
class Converted:
    """What one bag gave."""

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
    """Convert bags, in their order, several at a time where that is worth the processes.

    Parameters
    ----------
    bags, contract, kinematics, progress
        As for `load_demonstrations`.
    workers
        Processes; left out, as many as there are cores and large bags.

    Raises
    ------
    BagError
        As `convert` says, of the first bag that cannot be converted.

    """
    if workers is None:
        large = sum(_size(located(Path(bag))) > _WORTH_A_PROCESS for bag in bags)
        workers = min(large, len(os.sched_getaffinity(0)))
    if workers < 2:
        made = _made(contract, kinematics)
        for number, bag in enumerate(bags):
            yield _convert(bag, contract, made, partial(_tell, progress, len(bags), number))
        return
    standard()  # parsed before the fork, it need not be parsed in each process
    with ProcessPoolExecutor(workers, _context(), initializer=_prepare, initargs=(contract, kinematics)) as pool:
        for number, found in enumerate(pool.map(_convert_prepared, bags)):
            progress('read', number + 1, len(bags), {})
            yield found


def _context() -> multiprocessing.context.BaseContext:
    """Fork where there is nothing that a fork does not survive: other threads, those that torch hides among them."""
    alone = threading.active_count() == 1 and 'torch' not in sys.modules and 'rclpy' not in sys.modules
    return multiprocessing.get_context('fork' if alone and sys.platform == 'linux' else 'spawn')


_prepared: tuple[Contract, ToolPoint | None] | None = None


def _made(contract: Contract, kinematics: MakeKinematics | None) -> ToolPoint | None:
    """Return the kinematics of a contract; None where no feature needs any, and the contract names no model."""
    return None if kinematics is None or not (contract.robot.model or contract.needs_model) else kinematics()


def _prepare(contract: Contract, kinematics: MakeKinematics | None) -> None:
    global _prepared  # noqa: PLW0603 - of a process of a pool, whose initializer this is
    _prepared = (contract, _made(contract, kinematics))


def _convert_prepared(bag: str | Path) -> Converted:
    return _convert(bag, *_prepared)


def _convert(
    bag: str | Path, contract: Contract, kinematics: ToolPoint | None, progress: Callable[[float], None] | None = None
) -> Converted:
    report = ConversionReport()
    episodes = tuple(convert(bag, contract, kinematics, report, progress))
    return Converted(Path(bag).name, episodes, report)


def _size(path: Path) -> int:
    files = path.rglob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _tell(progress: Progress, total: int, begin: float, share: float) -> None:
    progress('read', begin + share, total, {})
