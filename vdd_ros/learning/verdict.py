"""What the figures of a distillation mean, in words, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vdd_ros.learning.selection import Selection

_NARROW = {50: (0.4, 0.6), 90: (0.8, 0.97)}
"""Which share of the held-out actions regions of that many percent may hold."""
_FELL = 1.0
"""A fall of the held-out log-likelihood [nat] below its best that is worth a word."""
_BEHIND = 0.1
"""Share by which the energy score of a student may exceed that of its teacher."""


def verdict_of(
    metrics: Mapping[str, float], selection: Selection, rival: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Judge a student by its figures.

    Parameters
    ----------
    metrics
        Those of the kept weights: ``held_out_log_likelihood``, ``calibration_50`` and ``calibration_90``,
        ``energy_score``, and ``teacher_energy_score`` where there is a teacher.
    selection
        What watched it learn.
    rival
        The same figures of EM on the same network, if it was trained beside.

    Returns
    -------
    tuple of str
        At least one sentence. Each that names a fault names a remedy.

    """
    found = [*_overfitting(selection), *_regions(metrics), *_teacher(metrics)]
    if rival is not None:
        found += _rival(metrics, rival)
    return tuple(found) or (
        'no fault found: held-out demonstrations are as likely, and as well covered, as they should be',
    )


def odd_ones(outliers: Sequence[str]) -> tuple[str, ...]:
    """Name the demonstrations that are unlike all others."""
    if not outliers:
        return ()
    sentence = (
        f'unlike all other demonstrations: {", ".join(outliers)}; thresholds of out-of-distribution detection leave '
        'them out. Look at them (vdd view), and drop them where they are mistakes'
    )
    return (sentence,)


def _overfitting(selection: Selection) -> list[str]:
    curve = selection.curves['held_out_log_likelihood']
    last, place = curve[-1], int(selection.curves['iteration'][-1])
    if not selection.best - last > _FELL:
        return []
    learned = selection.curves['training_log_likelihood'][-1]
    sentence = (
        f'overfits: held-out log-likelihood was best ({selection.best:.1f} nat) after {selection.best_at} updates and '
        f'{last:.1f} after {place}, with {learned:.1f} on what it learns from; the weights of update '
        f'{selection.kept_at} are kept. More demonstrations help, or a lower coverage, more labels or a narrower trunk'
    )
    return [sentence]


def _regions(metrics: Mapping[str, float]) -> list[str]:
    found = []
    for percent, (least, most) in _NARROW.items():
        share = metrics[f'calibration_{percent}']
        if not least <= share <= most:
            narrow = share < least
            cause = 'too narrow' if narrow else 'too wide'
            remedy = 'more demonstrations or more labels' if narrow else 'more updates or a lower scale_floor'
            found.append(
                f'{cause}: regions that should hold {percent} % of the held-out actions hold {100 * share:.0f} %; '
                f'{remedy} help'
            )
    return found


def _teacher(metrics: Mapping[str, float]) -> list[str]:
    if 'teacher_energy_score' not in metrics:
        return []
    own, teacher = metrics['energy_score'], metrics['teacher_energy_score']
    if own <= (1 + _BEHIND) * teacher:
        return []
    sentence = (
        f'behind its teacher: energy score {own:.3g} on held-out actions, its teacher {teacher:.3g} (less is better); '
        'more labels, experts or updates help'
    )
    return [sentence]


def _rival(metrics: Mapping[str, float], rival: Mapping[str, float]) -> list[str]:
    own, other = metrics['held_out_log_likelihood'], rival['held_out_log_likelihood']
    score, others = metrics['energy_score'], rival['energy_score']
    figures = f'held-out log-likelihood {own:.2f} and {other:.2f} nat, energy score {score:.3g} and {others:.3g}'
    if own > other or score < others:
        return [f'better than EM on the same network in {_where(own > other, score < others)}: {figures}']
    return [f'no better than EM on the same network: {figures}; judge both by rollouts before distilling any longer']


def _where(likelihood: bool, score: bool) -> str:
    return 'both figures' if likelihood and score else 'likelihood' if likelihood else 'energy score'
