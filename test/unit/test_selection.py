"""Which weights of a training are kept, and what is said of them."""

from __future__ import annotations

import pytest
import torch
from oracles import seeded
from torch import nn

from vdd_ros.learning.selection import Selection, SelectionSettings
from vdd_ros.learning.training import Checkpoint, DescentSettings, Monitoring, SingleLoss, Windows, fit
from vdd_ros.learning.verdict import verdict_of

FINE = {
    'held_out_log_likelihood': 1.0,
    'calibration_50': 0.5,
    'calibration_90': 0.9,
    'energy_score': 1.0,
    'teacher_energy_score': 1.0,
}


def watched(values, **settings) -> tuple[Selection, nn.Linear]:
    """Watch a module whose weight is the iteration, with values of the criterion as given."""
    layer = nn.Linear(1, 1, bias=False)
    given = iter(values)
    selection = Selection(
        layer,
        lambda _: {'held_out_log_likelihood': next(given), 'training_log_likelihood': 9.0},
        len(values),
        criterion='held_out_log_likelihood',
        settings=SelectionSettings(**settings),
    )
    for done in range(1, len(values) + 1):
        nn.init.constant_(layer.weight, float(done))
        selection.watch(layer, None, done, {})
    return selection, layer


@pytest.mark.parametrize(
    ('values', 'kept'),
    [
        ([0, 1, 2, 3], 4),  # the best is the latest
        ([0, 3, 2.9, 2.8, 1, 0], 4),  # the latest that is as good as the best
        ([0, 3, 2.7, 2.6], 2),  # nothing else is
        ([2.9, 2.8, 3, float('nan')], 3),  # no number is no good
    ],
)
def test_the_latest_weights_are_kept_that_are_as_good_as_the_best(values, kept):
    selection, layer = watched(values)
    assert selection.kept_at == kept
    selection.take(layer)
    assert layer.weight.item() == kept
    assert selection.at_kept('held_out_log_likelihood') == values[kept - 1]


def test_without_a_criterion_the_last_weights_are_kept():
    layer = nn.Linear(1, 1)
    selection = Selection(layer, lambda _: {'held_out_loss': 1.0}, 10)
    for done in range(1, 11):
        selection.watch(layer, None, done, {})
    assert selection.kept_at == 10 and not selection.exhausted


def learner() -> SingleLoss:
    """Learn to answer all zeros, which gets worse by the measure of the tests below."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    windows = Windows(torch.randn(50, 1, 2, generator=seeded(1)), torch.zeros(50, 2))
    loss = lambda observation, action, generator: (layer(observation[:, 0]) - action).square().mean()  # noqa: E731
    return SingleLoss(layer, loss, windows, batch=8, descent=DescentSettings(learning_rate=0.1))


def trained(checkpoint=None, stop: int | None = None, resume: bool = False) -> tuple[Selection, int]:
    """Train where the weights get ever smaller, and smaller weights are worse."""
    chosen = learner()
    selection = Selection(
        chosen.module,
        lambda layer: {'size': float(layer.weight.detach().norm())},
        100,
        criterion='size',
        settings=SelectionSettings(tolerance=0.1, patience=0.2),
    )
    steps = []
    done = fit(
        chosen,
        iterations=100,
        generator=seeded(),
        monitoring=Monitoring(watcher=selection, every=1),
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint, resume=resume),
        cancelled=lambda: steps.append(None) or len(steps) == stop,
    )
    return selection, done


def test_learning_ends_early_where_nothing_is_kept_any_more():
    selection, done = trained()
    assert selection.exhausted
    assert done == selection.kept_at + 21


def test_a_resumed_training_keeps_what_it_would_have_kept(tmp_path):
    whole, _ = trained()
    checkpoint = tmp_path / 'checkpoint.safetensors'
    for stop in (3, whole.kept_at + 5 - 3):
        trained(checkpoint, stop=stop, resume=stop != 3)
    again, done = trained(checkpoint, resume=True)
    assert done == whole.kept_at + 21
    assert again.curves == whole.curves
    assert again.kept_at == whole.kept_at
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    whole.take(one)
    again.take(other)
    assert torch.equal(one.weight, other.weight)
    # An exhausted training that is resumed takes no step more.
    assert trained(checkpoint, resume=True)[1] == done


def test_a_student_without_fault_gets_a_verdict_that_names_none():
    (sentence,) = verdict_of(FINE, watched([0, 1, 1])[0])
    assert sentence.startswith('no fault found')


@pytest.mark.parametrize(
    ('change', 'found'),
    [
        ({'calibration_90': 0.32}, 'too narrow: regions for 90 %'),
        ({'calibration_50': 0.7}, 'too wide: regions for 50 %'),
        ({'energy_score': 1.3}, 'worse than its teacher'),
    ],
)
def test_a_fault_is_named_with_a_remedy(change, found):
    (sentence,) = verdict_of({**FINE, **change}, watched([0, 1, 1])[0])
    assert found in sentence and '; use ' in sentence


def test_a_student_that_forgets_what_it_never_saw_overfits():
    (sentence,) = verdict_of(FINE, watched([-60, -54, -70, -98])[0])
    assert sentence.startswith(
        'overfits: held-out log-likelihood was best (-54.0 nat) after 2 updates and -98.0 after 4'
    )
    assert 'the weights of update 2 are used' in sentence


@pytest.mark.parametrize(
    ('likelihood', 'score', 'found'),
    [
        (2.0, 0.9, 'no better than EM'),
        (2.0, 1.1, 'better than EM on the same network in energy score'),
        (0.0, 0.9, 'better than EM on the same network in likelihood'),
        (0.0, 1.1, 'better than EM on the same network in both metrics'),
    ],
)
def test_a_student_is_compared_with_em(likelihood, score, found):
    rival = {'held_out_log_likelihood': likelihood, 'energy_score': score}
    (sentence,) = verdict_of(FINE, watched([0, 1])[0], rival)
    assert sentence.startswith(found)
