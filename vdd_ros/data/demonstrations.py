"""Demonstrations: bags read, episodes chosen, windows cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vdd_ros.artifact import DataRecord
from vdd_ros.contract import Contract
from vdd_ros.data.bag import fingerprint, read_recording
from vdd_ros.data.dataset import WindowArrays, episodes_of, windows_of
from vdd_ros.data.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.errors import BagError, TrainingError
from vdd_ros.progress import Progress

_LEAST_EPISODES = 5


@dataclass(frozen=True)
class Demonstrations:
    """What is learned from."""

    contract: Contract
    train: WindowArrays
    held_out: WindowArrays
    """Windows of whole episodes that no update sees."""
    record: DataRecord


def load_demonstrations(
    bags: Sequence[str | Path],
    contract: Contract,
    kinematics: ToolPoint | None,
    progress: Progress,
    *,
    held_out: float = 0.1,
    seed: int = 0,
) -> Demonstrations:
    """Read bags, keep the episodes that are not marked as failed, and cut them into windows.

    Parameters
    ----------
    bags
        Folders of rosbag2 recordings.
    contract, kinematics
        What to read, and the kinematics that features in tool space need.
    progress
        Told how many bags are read.
    held_out
        Share of the episodes that is kept for judging.
    seed
        Draws which ones.

    Raises
    ------
    BagError
        None is given, and as `read_recording` and `episodes_of` say.
    TrainingError
        Too few episodes are left.

    """
    if not bags:
        raise BagError(expected='at least one bag', found='none', remedy='name the bags to learn from')
    episodes: list[Episode] = []
    for number, bag in enumerate(bags):
        read = partial(_tell, progress, len(bags), number)
        cut = partial(_tell, progress, len(bags), number + 0.5)
        found = episodes_of(read_recording(bag, contract, read), contract, kinematics, cut)
        episodes += [item for item in found if item.success is not False]
    progress('read', len(bags), len(bags), {'episodes': len(episodes)})
    if len(episodes) < _LEAST_EPISODES:
        raise TrainingError(
            expected=f'at least {_LEAST_EPISODES} demonstrations that succeeded',
            found=f'{len(episodes)} in {", ".join(map(str, bags))}',
            remedy='record more',
        )
    order = np.random.default_rng(seed).permutation(len(episodes))
    kept_back = min(round(held_out * len(episodes)), len(episodes) - 1)
    train = windows_of([episodes[index] for index in order[kept_back:]], contract)
    judge = windows_of([episodes[index] for index in order[: max(kept_back, 1)]], contract)
    record = DataRecord(
        bags={Path(bag).name: fingerprint(bag) for bag in bags},
        episodes=len(episodes),
        windows=len(train.action),
    )
    return Demonstrations(contract, train, judge, record)


def _tell(progress: Progress, total: int, begin: float, share: float) -> None:
    progress('read', begin + 0.5 * share, total, {})
