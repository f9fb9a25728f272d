"""Learning by several processes: as by one, whoever fails."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from learn_together import SETTINGS, demonstrations, learn

from benchmarks.bag_making import write_arm
from vdd_ros.commands.cli import main
from vdd_ros.common.errors import ConfigurationError
from vdd_ros.learning.augmentation import AugmentationSettings, AugmentedWindows, fit_normalizers
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.ranks import Ranks, Sharing
from vdd_ros.learning.runs import checkpoint_path, read_runs
from vdd_ros.learning.training import DescentSettings, SingleLoss, Windows
from vdd_ros.policy.artifact import load_artifact

HERE = Path(__file__).parent
PATIENCE = 60
"""How long ranks may outlive one that failed, and all else may take [s]."""
CLOSE = 1e-5


def test_the_numbers_of_a_row_depend_neither_on_ranks_nor_on_parts():
    def drawn(ranks: int, parts: int) -> list[torch.Tensor]:
        found = []
        for rank in range(ranks):
            draws = Draws(torch.Generator().manual_seed(0), rank=rank, ranks=ranks, parts=parts)
            rows = 12 // ranks // parts
            for _ in draws.parts():
                normal, inner = draws.normal(rows, 2), draws.normal(3, rows, rows=1).T
                found.append((draws.integers(50, rows), normal, inner, draws.uniform(rows), draws.stratified(rows)))
        return [torch.cat(part) for part in zip(*found)]

    whole = drawn(1, 1)
    for ranks, parts in ((2, 1), (1, 3), (3, 2)):
        for part, other in zip(whole, drawn(ranks, parts)):
            assert torch.equal(part, other), (ranks, parts)
    assert len(set(whole[1].flatten().tolist())) == 24


def test_the_windows_of_a_batch_are_shared_out_without_overlap_or_loss():
    data = demonstrations()
    arrays, settings = data.train, AugmentationSettings()
    windows = AugmentedWindows(arrays, data.contract, fit_normalizers(arrays, data.contract, settings), settings)
    whole = windows.draw(32, torch.Generator().manual_seed(3))
    shares = [windows.draw(8, Draws(torch.Generator().manual_seed(3), rank=rank, ranks=4)) for rank in range(4)]
    for part, of_ranks in zip(whole, zip(*shares)):
        torch.testing.assert_close(torch.cat(of_ranks), part, rtol=1e-6, atol=1e-6)  # products round by shape


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused():
    windows = Windows(torch.zeros(5, 1, 1), torch.zeros(5, 1))
    options = {'batch': 32, 'descent': DescentSettings(), 'sharing': Sharing(parts=3)}
    with pytest.raises(ConfigurationError, match='found 32 windows; choose a multiple of 3'):
        SingleLoss(torch.nn.Linear(1, 1), lambda observation, action, draws: action.mean(), windows, **options)


def test_one_process_alone_asks_nobody():
    alone = Ranks()
    assert (alone.leads, alone.first(lambda: 5), alone.any(True), alone.any(False)) == (True, 5, True, False)
    assert alone.mean({'a': torch.tensor(0.5)}) == {'a': 0.5}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """What one process learned, and what two did whose rows were computed in two parts."""
    pytest.importorskip('lightning_fabric', reason='learning on several devices needs the extra `distributed`')
    one, two = (tmp_path_factory.mktemp(name) for name in ('one', 'two'))
    words = [
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        '2',
        str(HERE / 'learn_together.py'),
        str(two),
    ]
    done = subprocess.run([sys.executable, '-m', *words], capture_output=True, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stderr
    learn(one, SETTINGS.changed(('accumulation=1',)))
    return one, two


@pytest.mark.parametrize('name', ['teacher', 'student'])
def test_two_processes_learn_what_one_does_up_to_rounding(folders, name):
    one, two = (load_artifact(folder / name) for folder in folders)
    assert one.manifest.history.keys() == two.manifest.history.keys()
    assert one.manifest.history['iteration'][-1] == 200
    for curve, values in one.manifest.history.items():
        assert two.manifest.history[curve] == pytest.approx(values, rel=CLOSE), curve
    assert one.weights.keys() == two.weights.keys()
    for part, values in one.weights.items():
        np.testing.assert_allclose(two.weights[part], values, rtol=1e-3, atol=1e-4, err_msg=part)


def test_two_processes_keep_the_experts_and_the_weights_that_one_does(folders):
    one, two = (load_artifact(folder / 'student').manifest for folder in folders)
    assert one.metrics['experts'] == two.metrics['experts']
    assert one.training['kept_at'] == two.training['kept_at']


def test_one_of_two_processes_simulates_and_writes(folders):
    for folder in folders:
        assert (folder / 'visits').read_text().split() == ['0', '1']
    one, two = (sorted(file.name for file in folder.rglob('*') if 'tfevents' not in file.name) for folder in folders)
    assert one == two
    for folder, count in zip(folders, (1, 2)):
        runs = read_runs([folder])
        assert [(run['step'], run['status'], run['devices']) for run in runs] == [
            (step, 'finished', count) for step in ('teacher', 'student')
        ]
        assert all(len([*run['path'].glob('*tfevents*')]) == 1 for run in runs)


def words(bag: Path, output: Path, updates: int) -> list[str]:
    changes = (
        *('device=cpu', 'threads=1', 'teacher.trunk.width=16', 'teacher.trunk.depth=1'),
        *(f'teacher_training.iterations={updates}', 'teacher_training.batch=32'),
    )
    chosen = [word for change in changes for word in ('--set', change)]
    return ['train-teacher', str(bag), '--contract', 'avoiding_joint', '--output', str(output), *chosen]


def until(condition) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 3 * PATIENCE
        time.sleep(0.05)


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f'/proc/{process}/task/{process}/children').read_text().split()]


def test_when_one_rank_is_killed_all_end_with_one_line_and_any_number_of_devices_resumes(tmp_path, capsys):
    pytest.importorskip('lightning_fabric', reason='learning on several devices needs the extra `distributed`')
    bag, _ = write_arm(tmp_path / 'bag', 200_000, states=100, commands=100)
    command = [sys.executable, '-m', 'vdd_ros.commands.cli', *words(bag, tmp_path / 'teacher', 1_000_000)]
    process = subprocess.Popen([*command, '--devices', '2'], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    checkpoint = checkpoint_path(tmp_path / 'teacher')
    until(lambda: checkpoint.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert error.count('\n') == 1 and error.startswith('error: expected every rank to learn to the end; found rank 1')
    assert 'SIGKILL' in error and '--resume' in error
    assert not any(Path(f'/proc/{rank}').exists() for rank in ranks)
    assert not (tmp_path / 'teacher').exists()

    # It has more updates behind it than the shorter training asks for: resuming has nothing left to learn.
    assert main([*words(bag, tmp_path / 'teacher', 60), '--resume']) == 0
    assert load_artifact(tmp_path / 'teacher').manifest.kind == 'teacher' and not checkpoint.exists()


def test_a_rank_that_is_ended_while_it_reports_its_own_error_reports_that_error(tmp_path):
    report = tmp_path / 'error.json'
    os.mkfifo(report)
    pipe = os.open(report, os.O_RDWR | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b' ' * select.PIPE_BUF)  # whoever writes more has to wait
    command = [sys.executable, '-m', 'vdd_ros.commands.cli', *words(tmp_path / 'nowhere', tmp_path / 'teacher', 10)]
    environment = {'TORCHELASTIC_RUN_ID': 'vdd', 'TORCHELASTIC_ERROR_FILE': str(report), 'WORLD_SIZE': '2'}
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)
    until(lambda: process.poll() is not None or _holds(process.pid, report))
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    written = b''
    while process.poll() is None:
        with suppress(BlockingIOError):
            written += os.read(pipe, 1 << 16)
    with suppress(BlockingIOError):
        while part := os.read(pipe, 1 << 16):
            written += part
    os.close(pipe)
    assert process.returncode == 2 and 'Traceback' not in process.stderr.read()
    assert 'nowhere' in json.loads(written)['message']['message']


def _holds(process: int, path: Path) -> bool:
    """Return whether a process has opened a file."""
    with suppress(OSError):  # it has just ended, or closed one
        return any(entry.resolve() == path for entry in Path(f'/proc/{process}/fd').iterdir())
    return False


@pytest.mark.parametrize(
    ('more', 'told'),
    [
        (['--devices', '0'], 'at least one device and one node'),
        (['--nodes', '2'], 'MASTER_ADDR'),
    ],
)
def test_devices_that_cannot_be_are_refused_in_one_line(tmp_path, capsys, monkeypatch, more, told):
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    assert main([*words(tmp_path / 'nowhere', tmp_path / 'teacher', 10), *more]) == 2
    error = capsys.readouterr().err
    assert told in ' '.join(error.split()) and error.count('error:') == 1
