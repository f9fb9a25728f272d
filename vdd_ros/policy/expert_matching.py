"""Matching of the experts of two students by their behaviour on the same windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.policy.labels import Labels

_REACH = 0.5
"""Difference of two mean actions, in standard deviations of the demonstrated actions, at which likeness falls to
0.6."""
_MATCHED = 0.15
"""Minimum likeness at which two experts count as the same expert."""
_MOVED = 0.6
"""Likeness below which a matched expert is reported as moved."""


@dataclass(frozen=True)
class Behaviour:
    """Gating and mean actions of the experts of a student on a set of windows."""

    gating: np.ndarray
    """Probabilities, shape (window, expert)."""
    mean: np.ndarray
    """Mean actions in normalised units, shape (window, expert, action)."""

    @property
    def shares(self) -> np.ndarray:
        """Mean probability of each expert, shape (expert,)."""
        return self.gating.mean(axis=0)


@dataclass(frozen=True)
class Matching:
    """Correspondence between the experts of a student before and after further training.

    A number identifies an expert in both students: the experts from before keep theirs, new ones get the next numbers.
    """

    places: tuple[int | None, ...]
    """For each number, the index of the expert in the `Behaviour` afterwards; None if the expert disappeared."""
    likeness: tuple[float, ...]
    """For each number, the likeness before and afterwards, 0 to 1; 0 if the expert appeared or disappeared."""
    shares: tuple[tuple[float, float], ...]
    """For each number, the mean probability of the expert before and afterwards."""
    before: int
    """Number of experts before."""

    @property
    def moved(self) -> list[int]:
        """Numbers of experts that exist before and afterwards, and behave differently afterwards."""
        kept = [expert for expert in range(self.before) if self.places[expert] is not None]
        return [expert for expert in kept if self.likeness[expert] < _MOVED]

    @property
    def appeared(self) -> list[int]:
        """Numbers of experts that exist only afterwards."""
        return list(range(self.before, len(self.places)))

    @property
    def disappeared(self) -> list[int]:
        """Numbers of experts that exist only before; these numbers stay unused."""
        return [expert for expert in range(self.before) if self.places[expert] is None]

    def lines(self, labels: Labels = Labels()) -> list[str]:
        """Return sentences that describe the changes."""
        kept = self.before - len(self.disappeared)
        found = [f'{kept} of {self.before} experts are matched and keep number, name and colour.']
        for expert in self.moved:
            before, after = self.shares[expert]
            found.append(
                f'Expert {labels.text(expert)} moved: likeness {self.likeness[expert]:.2f}, '
                f'share {before:.1%} before, {after:.1%} now.'
            )
        found += [f'Expert {expert} appeared: share {self.shares[expert][1]:.1%}.' for expert in self.appeared]
        for expert in self.disappeared:
            found.append(f'Expert {labels.text(expert)} disappeared: its share was {self.shares[expert][0]:.1%}.')
        return found


def match_experts(before: Behaviour, after: Behaviour) -> Matching:
    """Match the experts of two students over the same windows.

    The assignment maximises the total likeness (Hungarian method). Matched experts keep their number from before; all
    other experts of ``after`` get the next free numbers.

    Parameters
    ----------
    before, after
        Behaviour over the same windows, in the same units.

    """
    likeness = likeness_of(before, after)
    size = max(likeness.shape)
    square = np.zeros((size, size))
    square[: likeness.shape[0], : likeness.shape[1]] = likeness
    partner = assignment(-square)
    count = before.gating.shape[1]
    places: list[int | None] = []
    for expert in range(count):
        other = partner[expert]
        found = other < likeness.shape[1] and likeness[expert, other] >= _MATCHED
        places.append(other if found else None)
    places += [other for other in range(after.gating.shape[1]) if other not in places]
    shares = [
        (
            float(before.shares[expert]) if expert < count else 0.0,
            0.0 if place is None else float(after.shares[place]),
        )
        for expert, place in enumerate(places)
    ]
    alike = [
        float(likeness[expert, place]) if expert < count and place is not None else 0.0
        for expert, place in enumerate(places)
    ]
    return Matching(tuple(places), tuple(alike), tuple(shares), count)


def likeness_of(before: Behaviour, after: Behaviour) -> np.ndarray:
    """Return the likeness of every pair of experts of two students, shape (before, after), 0 to 1.

    The likeness is the overlap of the gating probabilities over the windows, weighted by the similarity of the mean
    actions. Identical experts have 1. Experts that never act in the same windows, or act differently there, have 0.
    """
    result = np.empty((before.gating.shape[1], after.gating.shape[1]))
    for expert in range(result.shape[1]):
        difference = before.mean - after.mean[:, expert, None]
        nearness = np.exp(-np.square(difference).mean(axis=-1) / (2 * _REACH**2))
        overlap = np.sqrt(before.gating * after.gating[:, expert, None])
        result[:, expert] = (overlap * nearness).sum(axis=0)
    most = np.maximum(before.gating.sum(axis=0)[:, None], after.gating.sum(axis=0)[None])
    return result / np.maximum(most, 1e-12)


def assignment(cost: np.ndarray) -> list[int]:
    """Return the column assigned to each row such that the total cost is minimal, by shortest augmenting paths.

    The Hungarian method in the form of Jonker and Volgenant (1987), O(n^3).

    Parameters
    ----------
    cost
        Shape (n, n), finite.

    """
    size = len(cost)
    row_price, column_price = np.zeros(size + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, dtype=int)  # of each column, counted from 1; 0: none
    for row in range(1, size + 1):
        _augment(cost, row, row_of, row_price, column_price)
    columns = [0] * size
    for column in range(1, size + 1):
        columns[row_of[column] - 1] = column - 1
    return columns


def _augment(cost: np.ndarray, row: int, row_of: np.ndarray, row_price: np.ndarray, column_price: np.ndarray) -> None:
    """Assign one more row, along the shortest path to a free column."""
    size = len(cost)
    distance, came_from = np.full(size + 1, np.inf), np.zeros(size + 1, dtype=int)
    done = np.zeros(size + 1, dtype=bool)
    column = 0
    row_of[0] = row
    while row_of[column]:
        done[column] = True
        here = row_of[column]
        reduced = cost[here - 1] - row_price[here] - column_price[1:]
        nearer = ~done[1:] & (reduced < distance[1:])
        distance[1:][nearer] = reduced[nearer]
        came_from[1:][nearer] = column
        open_distance = np.where(done[1:], np.inf, distance[1:])
        following = int(open_distance.argmin()) + 1
        step = open_distance[following - 1]
        row_price[row_of[done]] += step
        column_price[done] -= step
        distance[~done] -= step
        column = following
    while column:
        before = int(came_from[column])
        row_of[column] = row_of[before]
        column = before
