"""The command line as a person uses it: processes, exit codes, and what is left on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bystander import Bystander, bystander

from vdd_ros.commands.cli import main

QUICK = """
teacher: {trunk: {kind: mlp, width: 32, depth: 2, window: difference}, calls: 4}
teacher_training: {iterations: 60, batch: 64}
student: {experts: 4, trunk: {kind: mlp, width: 32, depth: 2, window: difference}}
distillation: {iterations: 40, batch: 64}
"""
PATIENCE = 180
_started: list[subprocess.Popen] = []


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Start `vdd`."""
    # A job in the background ignores SIGINT, and so would whatever it starts; here a person is at the terminal.
    command = ['env', '--default-signal=INT', sys.executable, '-m', 'vdd_ros.commands.cli', *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _started.append(process)
    return process


def vdd(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run `vdd` to its end."""
    process = start(folder, *words)
    out, error = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(words, process.returncode, out, error)


@pytest.fixture
def vdd_here(capsys, monkeypatch) -> Callable[..., subprocess.CompletedProcess]:
    """`vdd` within this process: for what ends before any other process starts, without seconds of imports."""

    def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
        monkeypatch.chdir(folder)
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            code = main(list(words))
        except SystemExit as end:  # of --help
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, before)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


@pytest.fixture(scope='module')
def real_arm() -> Iterator[Bystander]:
    """An arm on the ROS domain of the person whose terminal all commands are given in."""
    with bystander() as arm:
        yield arm
        for process in _started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)


@pytest.fixture(autouse=True)
def no_command_of_a_simulation_reaches_the_arm(real_arm):
    """Hold for every command of this file, whatever it simulates."""
    yield
    assert not real_arm.commands and not real_arm.others


def descendants(identity: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == identity:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def until(condition, what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f'waited in vain for {what}'
        time.sleep(0.02)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, real_arm) -> Path:
    """A folder in which a small demo has run to its end."""
    folder = tmp_path_factory.mktemp('demo')
    (folder / 'quick.yaml').write_text(QUICK)
    words = ['--episodes', '8', '--rollouts', '3', '--ros-episodes', '1', '--settings', 'quick.yaml']
    done = vdd(folder, 'demo', '--output', 'run', *words)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_demo_leaves_artifacts_and_a_report_with_all_figures(finished):
    report = json.loads((finished / 'run' / 'report.json').read_text())
    for name in ('teacher', 'student'):
        assert 0 <= report[name]['success'] <= 1 and 0 <= report[name]['entropy'] <= 1
        assert 0 < report[name]['latency_us']['p50'] <= report[name]['latency_us']['p99']
    assert report['teacher']['latency_same_runtime_us']['p50'] > 0
    assert report['student']['plan_us']['p50'] > report['student']['latency_us']['p50']  # a plan asks for an answer
    assert [item['name'] for item in report['scenarios']][:2] == ['nominal', 'noisy_sensors']
    assert report['gate']['passes'] is False and 'nominal: episodes is 3' in report['gate']['text']
    assert report['ros']['episodes'] == 1 and 0 <= report['ros']['success'] <= 1
    assert report['speedup'] > 0
    assert {'install', 'record', 'teacher', 'distill', 'validate', 'total'} <= report['seconds'].keys()
    assert report['data']['episodes'] == 8
    page = (finished / 'run' / 'report.html').read_text()
    assert page.count('<img') == 4 and 'Paths and modes' in page
    names = {item.name for item in (finished / 'run').iterdir() if not item.name.startswith('.')}
    assert {'demonstrations', 'teacher', 'student', 'report.html', 'report.json', 'paths.png'} <= names
    assert not list((finished / 'run').glob('*.run/checkpoint*'))


def test_an_occupied_folder_is_refused_and_left_alone(finished, vdd_here):
    before = sorted(item.name for item in (finished / 'run').iterdir())
    for run, words in (
        (vdd, ['demo', '--output', 'run']),
        (vdd_here, ['record', '--output', 'run/demonstrations']),
        (vdd_here, ['train-teacher', 'run/demonstrations', '--output', 'run/teacher']),
        (vdd_here, ['validate', '--student', 'run/student', '--teacher', 'run/teacher', '--output', 'run']),
    ):
        done = run(finished, *words)
        assert done.returncode == 2
        assert done.stderr.startswith('error: expected a free place') and done.stderr.count('\n') == 1
    assert sorted(item.name for item in (finished / 'run').iterdir()) == before


@pytest.mark.parametrize(
    ('words', 'reported'),
    [
        (['train-teacher', 'nowhere', '--output', 't'], 'expected a rosbag2 at nowhere; found nothing there'),
        (['train-teacher', '--output', 't'], 'expected at least one bag'),
        (['train-teacher', 'run/demonstrations', '--output', 't', '--contract', 'other.yaml'], 'one topic elsewhere'),
        (['train-teacher', 'run/demonstrations', '--output', 't', '--settings', 'wrong.yaml'], 'known settings'),
        (['distill', 'run/demonstrations', '--teacher', 'run/student', '--output', 't'], 'found a student'),
        (['distill', 'run/demonstrations', '--teacher', 'nowhere', '--output', 't'], 'expected an artifact at nowhere'),
        (['validate', '--student', 'nowhere', '--teacher', 'run/teacher', '--output', 't'], 'an artifact at nowhere'),
        (
            ['validate', '--student', 'run/student', '--teacher', 'run/teacher', '--output', 't', '--task', 'x'],
            'expected a task: one of avoiding',
        ),
        (['record', '--output', 't', '--contract', 'nowhere.yaml'], 'expected a contract file'),
    ],
)
def test_what_is_wrong_is_given_in_one_line_with_exit_code_2_and_leaves_nothing(finished, vdd_here, words, reported):
    contract = (Path(__file__).parents[2] / 'config' / 'contracts' / 'avoiding_cartesian.yaml').read_text()
    (finished / 'other.yaml').write_text(contract.replace('joint_states: joint_states', 'joint_states: elsewhere'))
    (finished / 'wrong.yaml').write_text('iteratoins: 5')
    done = vdd_here(finished, *words)
    assert done.returncode == 2, done.stderr
    assert reported in done.stderr and done.stderr.count('\n') == 1
    assert not list(finished.glob('t*')) and not list(finished.glob('.t*'))


def test_a_recorded_episode_is_played_on_the_robot_of_its_task(finished):
    played = vdd(finished, 'replay', 'run/demonstrations', '--episode', '1', '--simulate')
    assert played.returncode == 0, played.stderr
    printed = ' '.join(played.stdout.split())  # lines are broken to the width of the terminal
    assert 'the robot of the task avoiding' in printed and '100% of' in printed and 'outcome: success' in printed


def test_the_joint_contract_runs_by_the_same_commands(finished):
    (finished / 'joint.yaml').write_text(QUICK)
    common = ['run/demonstrations', '--settings', 'joint.yaml']
    made = vdd(finished, 'train-teacher', '--output', 'jt', '--contract', 'avoiding_joint', *common)
    assert made.returncode == 0, made.stderr
    made = vdd(finished, 'distill', '--teacher', 'jt', '--output', 'js', *common)
    assert made.returncode == 0, made.stderr
    words = ['--student', 'js', '--teacher', 'jt', '--output', 'jr', '--scenarios', 'nominal', '--episodes', '2']
    words += ['--deployed-episodes', '2', '--ros-episodes', '1']
    made = vdd(finished, 'validate', *words)
    assert made.returncode == 0, made.stderr
    assert json.loads((finished / 'jr' / 'report.json').read_text())['contract']['name'] == 'avoiding_joint'


def test_ctrl_c_while_training_leaves_a_checkpoint_that_the_same_command_resumes(finished, tmp_path):
    shutil.copytree(finished / 'run' / 'demonstrations', tmp_path / 'bag')
    (tmp_path / 'long.yaml').write_text(QUICK.replace('iterations: 60', 'iterations: 1000000'))
    (tmp_path / 'short.yaml').write_text(QUICK)
    words = ['train-teacher', 'bag', '--output', 'teacher', '--settings']
    process = start(tmp_path, *words, 'long.yaml')
    checkpoint = tmp_path / 'teacher.run' / 'checkpoint.safetensors'
    until(checkpoint.exists, 'a checkpoint')
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and 'Traceback' not in error
    assert [item.name for item in tmp_path.glob('*teacher*')] == ['teacher.run']
    # It has more iterations behind it than the shorter training wants: resuming has nothing left to do.
    resumed = vdd(tmp_path, *words, 'short.yaml', '--resume')
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / 'teacher' / 'manifest.json').exists() and not checkpoint.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_a_recording_that_is_ended(tmp_path, number):
    process = start(tmp_path, 'record', '--output', 'bag', '--episodes', '100000')
    log = tmp_path / 'bag.logs' / 'demonstrator.log'
    until(lambda: log.exists() and re.search('successes=[1-9]', log.read_text()), 'the first demonstrations')
    children = descendants(process.pid)
    assert len(children) >= 3
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert 'Traceback' not in error
    until(lambda: not any(_runs(child) for child in children), 'the end of the nodes')
    if number != signal.SIGKILL:
        # What was recorded until then is a valid bag, under its name and nowhere else.
        assert (tmp_path / 'bag' / 'metadata.yaml').exists()
        assert sorted(item.name for item in tmp_path.iterdir()) == ['bag', 'bag.logs']


def _runs(identity: int) -> bool:
    try:
        os.kill(identity, 0)
        return (Path('/proc') / str(identity) / 'stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_every_command_explains_itself(tmp_path, vdd_here):
    for words in ([], ['record'], ['train-teacher'], ['distill'], ['validate'], ['demo']):
        done = vdd_here(tmp_path, *words, '--help')
        assert done.returncode == 0
        assert 'usage: vdd' in done.stdout
