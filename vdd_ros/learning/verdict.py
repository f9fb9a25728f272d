"""Verdict on the metrics of a distillation, in words, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vdd_ros.learning.selection import Selection

_NARROW = {50: (0.4, 0.6), 90: (0.8, 0.97)}
"""Acceptable shares of held-out actions in regions of a nominal probability [%]."""
_FELL = 1.0
"""Minimum decrease of the held-out log-likelihood from its best value that is reported [nat]."""
_BEHIND = 0.1
"""Relative amount by which the energy score of a student may exceed that of its teacher."""


def verdict_of(
    metrics: Mapping[str, float], selection: Selection, rival: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Describe the quality of a student from its metrics.

    Parameters
    ----------
    metrics
        Metrics of the selected weights: ``held_out_log_likelihood``, ``calibration_50`` and ``calibration_90``,
        ``energy_score``, and ``teacher_energy_score`` if there is a teacher.
    selection
        The selection that observed the training.
    rival
        The same metrics for EM with the same network, if EM was also trained.

    Returns
    -------
    tuple of str
        At least one sentence. Each fault has a remedy.

    """
    found = [*_overfitting(selection), *_regions(metrics), *_teacher(metrics)]
    if rival is not None:
        found += _rival(metrics, rival)
    return tuple(found) or ('no fault found: likelihood and coverage of held-out demonstrations are as expected',)


def odd_ones(outliers: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence that lists outlier demonstrations."""
    if not outliers:
        return ()
    sentence = (
        f'outlier demonstrations: {", ".join(outliers)}; they are excluded from the thresholds of out-of-distribution '
        'monitoring. Review them (vdd inspect --html), and drop mistakes'
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
        f'{last:.1f} after {place}, with {learned:.1f} on training data; the weights of update '
        f'{selection.kept_at} are used. Use more demonstrations, lower coverage, more labels or a narrower trunk'
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
                f'{cause}: regions for {percent} % of the held-out actions contain {100 * share:.0f} %; use {remedy}'
            )
    return found


def _teacher(metrics: Mapping[str, float]) -> list[str]:
    if 'teacher_energy_score' not in metrics:
        return []
    own, teacher = metrics['energy_score'], metrics['teacher_energy_score']
    if own <= (1 + _BEHIND) * teacher:
        return []
    sentence = (
        f'worse than its teacher: energy score {own:.3g} on held-out actions, teacher {teacher:.3g} (lower is better); '
        'use more labels, experts or updates'
    )
    return [sentence]


def _rival(metrics: Mapping[str, float], rival: Mapping[str, float]) -> list[str]:
    own, other = metrics['held_out_log_likelihood'], rival['held_out_log_likelihood']
    score, others = metrics['energy_score'], rival['energy_score']
    figures = f'held-out log-likelihood {own:.2f} and {other:.2f} nat, energy score {score:.3g} and {others:.3g}'
    if own > other or score < others:
        return [f'better than EM on the same network in {_where(own > other, score < others)}: {figures}']
    return [f'no better than EM on the same network: {figures}; compare both in rollouts before distilling longer']


def _where(likelihood: bool, score: bool) -> str:
    return 'both metrics' if likelihood and score else 'likelihood' if likelihood else 'energy score'
