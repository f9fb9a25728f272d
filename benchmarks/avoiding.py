"""Train all methods on Avoiding and roll them out in MuJoCo: `python -m benchmarks.avoiding`.

One chain for each contract, teacher and seed: demonstrations in process, a teacher, students and baselines, all with
the network, data and budget of `config/learning.yaml`, `learning_joint.yaml` or `learning_chunked.yaml`:

    teacher N     the diffusion policy with N network calls per action; N = 1 is the one-step teacher
    vdd           the student with the shipped settings
    labels        the student by likelihood of teacher samples at demonstrated and displaced windows
    visited       the same, and at windows that teacher and student visit in simulation
    vdd and labels    the sum of both objectives
    paper         the student with the published objective
    EM            the same mixture by likelihood only, without a teacher
    consistency   a one-call consistency model, distilled from the ODE of the teacher (continuous teachers)

Students and EM act with the same action noise scale (`vdd_ros.policy.routing.ACTION_NOISE_SCALE`).

A complete run takes hours on two cores. Contracts, teachers, seeds and the number of processes can be selected. Every
artifact and every row is stored in `runs/benchmarks/avoiding/` when it is complete. With `--resume` existing results
are reused, including those of other runs.
"""

from __future__ import annotations

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any, Literal

import numpy as np
import tyro
from rich.progress import track

from benchmarks.avoiding_chain import DEMONSTRATIONS, WORK, Chain, kept_rows
from benchmarks.avoiding_picture import draw_picture
from benchmarks.harness import FOLDER, Bar, finish

Method = Literal['teachers', 'vdd', 'labels', 'visited', 'vdd and labels', 'paper', 'EM', 'consistency']
_QUICK = {'teacher_iterations': 5, 'iterations': 5, 'rollouts': 2}


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars that can be evaluated with these rows."""
    found = []

    def mean(contract: str, process: str, method: str, figure: str) -> float:
        chosen = [
            row[figure]
            for row in rows
            if (row['contract'], row['teacher'], row['method']) == (contract, process, method)
        ]
        return float(np.mean(chosen)) if chosen else float('nan')

    asked = {'cartesian': (0.95, 0.90), 'joint': (0.90, 0.85), 'chunked': (0.93, 0.85), 'placing': (0.95, 0.0)}
    for contract, process in dict.fromkeys((row['contract'], row['teacher']) for row in rows):
        success, entropy = asked[contract]
        student = partial(mean, contract, process, 'vdd')
        name = f'{contract}, {process} teacher'
        found.append(Bar(f'{name}: success of the student', student('success'), success))
        found.append(Bar(f'{name}: entropy of the student', student('entropy'), entropy))
        short = mean(contract, process, 'teacher 16', 'success') - student('success')
        found.append(Bar(f'{name}: success under the teacher', short, 0.02, at_most=True))
        if contract == 'cartesian':
            for rival in ('EM', 'teacher 1', *(('consistency',) if process == 'edm' else ())):
                sums = [
                    mean(contract, process, method, 'success') + mean(contract, process, method, 'entropy')
                    for method in ('vdd', rival)
                ]
                found.append(Bar(f'{name}: success + entropy ahead of {rival}', sums[0] - sums[1], 0.0))
    spent = [row['learning_seconds'] for row in rows if row['method'] == 'vdd']
    found.append(Bar('slowest distillation [s]', max(spent), 240.0, at_most=True))
    return found


def main(
    contracts: tuple[Literal['cartesian', 'joint', 'chunked', 'placing'], ...] = ('cartesian', 'joint', 'chunked'),
    teachers: tuple[Literal['edm', 'ddpm'], ...] = ('edm', 'ddpm'),
    methods: tuple[Method, ...] = ('teachers', 'vdd', 'paper', 'EM', 'consistency'),
    seeds: int = 3,
    rollouts: int = 480,
    demonstrations: int = DEMONSTRATIONS,
    processes: int = 1,
    threads: int = 2,
    resume: bool = False,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Train all methods on Avoiding and roll them out.

    Parameters
    ----------
    contracts, teachers, seeds
        The chains to run.
    methods
        The methods, besides the teacher itself.
    rollouts
        Rollouts of each method.
    demonstrations
        Attempts of the demonstrator, of which about 90 % succeed. Rows with another number are not compared.
    processes, threads
        Number of parallel chains, and threads of each.
    resume
        Reuse results in `runs/benchmarks/avoiding/`, and compute missing ones.
    quick
        A small version that only tests the program.
    check
        Exit with 1 if a bar does not hold.

    """
    budget = {'teacher_iterations': None, 'iterations': None, 'rollouts': rollouts}
    if quick:
        contracts, teachers, seeds, demonstrations, threads, budget = contracts[:1], teachers[:1], 1, 12, 1, _QUICK
    # The discrete teacher is only required for the Cartesian task.
    wanted = [
        (contract, process, seed)
        for contract in contracts
        for process in (teachers if contract == 'cartesian' else ('edm',))
        for seed in range(seeds)
    ]
    chains = [
        Chain(*one, demonstrations=demonstrations, threads=threads, methods=methods, accelerator=number, **budget)
        for number, one in enumerate(wanted)
    ]
    if not resume:
        shutil.rmtree(WORK, ignore_errors=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as executor:
        futures = [executor.submit(chain.run) for chain in chains]
        for future in track(as_completed(futures), total=len(futures), description='chains'):
            future.result()
    rows = [row for row in kept_rows() if row['demonstrations'] == demonstrations]
    rows.sort(key=lambda row: (row['contract'], row['teacher'], row['seed']))
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_picture(rows, FOLDER / 'avoiding.png')
    return finish('avoiding', rows, bars(rows), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
