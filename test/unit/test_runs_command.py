"""Trainings side by side: `vdd runs` lists and compares them, `vdd sweep` makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro
from test_learning import SETTINGS, demonstrations

from vdd_ros.commands.cli import main
from vdd_ros.commands.runs import names_of
from vdd_ros.commands.sweep import Sweep
from vdd_ros.common.errors import ConfigurationError, OutputError, TrainingError
from vdd_ros.common.progress import silent
from vdd_ros.learning.jobs import train_teacher
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.learning.runs import read_runs, run_path
from vdd_ros.learning.sweep import Objective, distributions_of, sweep

QUICK = LearningSettings.parse({**SETTINGS, 'teacher_training': {'iterations': 6, 'batch': 16}})
VARIED = ('teacher_training.descent.learning_rate=0.0001:0.01:log', 'teacher.trunk.width=8,16', 'teacher.calls=2:4')
SCORE = Objective('energy_score', maximise=False)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with two trainings that differ in one setting."""
    folder = tmp_path_factory.mktemp('trained')
    for name, change in (('one', 'seed=0'), ('two', 'seed=1')):
        train_teacher(demonstrations(), folder / name, QUICK.changed([change]), silent)
    return folder


def said(capsys) -> str:
    return ' '.join(capsys.readouterr().out.split())


def test_runs_are_listed_with_their_metrics(trained, capsys):
    assert main(['runs', str(trained)]) == 0
    text = said(capsys)
    for name in ('one', 'two'):
        score = json.loads((trained / f'{name}.run' / 'run.json').read_text())['metrics']['energy_score']
        assert f'{name} teacher finished 6' in text and f'{score:.4g}' in text


def test_runs_are_compared_by_what_they_were_given(trained, tmp_path, capsys):
    picture = tmp_path / 'pictures' / 'curves.png'
    words = ['runs', str(trained), '--compare', '--metrics', 'loss', '--picture', str(picture)]
    assert main(words) == 0
    text = said(capsys)
    assert 'seed 0 1' in text and 'learning_rate' not in text
    assert picture.read_bytes().startswith(b'\x89PNG')
    assert main(['runs', str(trained / 'one.run'), '--compare']) == 0
    assert 'no differences' in said(capsys)


@pytest.mark.parametrize('option', ['--metrics', '--figures'])
def test_the_shown_metrics_are_selected_by_name(trained, capsys, option):
    assert main(['runs', str(trained), option, 'energy_score']) == 0
    text = said(capsys)
    assert 'energy_score' in text and 'held_out_loss' not in text


@pytest.mark.parametrize('option', ['--metric', '--figure'])
def test_a_sweep_accepts_both_names_of_its_metric(option):
    assert tyro.cli(Sweep, args=['bag', '--output', 'sweep', '--vary', 'seed=0:3', option, 'loss']).metric == 'loss'


def test_where_there_are_no_runs_the_answer_is_one_line(tmp_path, trained, capsys):
    for words in ([str(tmp_path)], [str(trained), '--step', 'student']):
        assert main(['runs', *words]) == 2
        assert 'expected the folder of a training' in capsys.readouterr().err


def test_names_of_runs_tell_them_apart():
    paths = [{'path': Path('/a') / name / 'teacher.run'} for name in ('b', 'c')]
    assert names_of(paths) == ['b/teacher', 'c/teacher'] and names_of(paths[:1]) == ['teacher']


@pytest.fixture
def optuna():
    """Optuna, or the reason why not."""
    return pytest.importorskip('optuna', reason='a search for settings needs the extra `sweep`')


def learn(cancelled=lambda: False):
    data = demonstrations()
    return lambda settings, output, resume: train_teacher(
        data, output, settings, silent, resume=resume, cancelled=cancelled
    )


def test_a_sweep_that_is_interrupted_goes_on_with_the_trial_that_was(optuna, tmp_path):
    asked = []
    stop = learn(lambda: asked.append(None) or len(asked) == 9)  # in the second trial
    assert sweep(tmp_path / 'sweep', QUICK, VARIED, 3, SCORE, stop) is None
    before = json.loads((tmp_path / 'sweep' / 'trial-1.run' / 'run.json').read_text())
    assert before['status'] == 'stopped'
    found = sweep(tmp_path / 'sweep', QUICK, VARIED, 3, SCORE, learn(), resume=True)
    assert sorted(outcome.number for outcome in found) == [0, 1, 2]
    assert [outcome.value for outcome in found] == sorted(outcome.value for outcome in found)
    runs = {run['name']: run for run in read_runs([tmp_path])}
    assert {run['status'] for run in runs.values()} == {'finished'} and len(runs) == 3
    assert runs['trial-1']['settings'] == before['settings']
    for outcome in found:
        settings = runs[outcome.path.name]['settings']
        rate = settings['teacher_training']['descent']['learning_rate']
        assert outcome.value == runs[outcome.path.name]['metrics']['energy_score']
        assert rate == pytest.approx(outcome.values['teacher_training.descent.learning_rate']) and 1e-4 <= rate <= 1e-2
        assert settings['teacher']['trunk']['width'] in (8, 16) and settings['teacher']['calls'] in (2, 3, 4)
    assert len({outcome.values['teacher_training.descent.learning_rate'] for outcome in found}) == 3
    # All that was asked for is there: nothing is trained.
    again = sweep(tmp_path / 'sweep', QUICK, VARIED, 3, SCORE, learn(lambda: pytest.fail('trained')), resume=True)
    assert again == found


def test_a_trial_that_fails_is_left_out(optuna, tmp_path):
    train, tried = learn(), []

    def failing(settings, output, resume):
        tried.append(output)
        if len(tried) == 1:
            raise TrainingError(expected='a finite loss', found='nan', remedy='none')
        return train(settings, output, resume)

    found = sweep(tmp_path / 'sweep', QUICK, VARIED, 2, SCORE, failing)
    assert [outcome.number for outcome in found] == [1] and not run_path(tried[0]).exists()


@pytest.mark.parametrize('variation', ['seed', 'seed=1:2:cubic', 'seed=low:high', 'seed=5:1', 'seed='])
def test_variations_that_cannot_be_read_are_refused(optuna, variation):
    with pytest.raises(ConfigurationError, match='expected NAME=LOW:HIGH'):
        distributions_of([variation])


def test_a_sweep_is_neither_begun_twice_nor_resumed_where_there_is_none(optuna, tmp_path):
    with pytest.raises(ConfigurationError, match='a sweep to resume'):
        sweep(tmp_path / 'sweep', QUICK, VARIED, 1, SCORE, learn(), resume=True)
    with pytest.raises(ConfigurationError, match='a metric of teachers'):
        sweep(tmp_path / 'sweep', QUICK, VARIED, 1, Objective('beauty', maximise=True), learn())
    with pytest.raises(OutputError, match='no sweep in'):
        sweep(tmp_path / 'sweep', QUICK, VARIED, 1, SCORE, learn())
