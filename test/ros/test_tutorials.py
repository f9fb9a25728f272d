"""Every command of the tutorials runs, as the pages show it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vdd_ros.common.domain import in_domain, private_domain
from vdd_ros.entry import EXECUTABLES

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / 'docs' / 'tutorials').glob('*.md'))
RUN = re.compile(r'^```bash\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)


def shims(folder: Path) -> Path:
    """Return a folder with the executables of this tree."""
    folder.mkdir()
    for name in [*EXECUTABLES, 'python3']:
        module = '' if name == 'python3' else f' -m vdd_ros.entry {name}'
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        file.chmod(0o755)
    return folder


@pytest.mark.parametrize('page', [ROOT / 'README.md', *PAGES], ids=lambda page: page.stem)
def test_a_page_says_how_to_activate_the_environment_before_its_first_vdd_command(page):
    text = page.read_text(encoding='utf-8')
    first = re.search(r'^ *(vdd|python3) ', text, flags=re.MULTILINE)
    assert first is not None and '`. .venv/bin/activate`' in text[: first.start()]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_tutorial_run(page, tmp_path):
    blocks = RUN.findall(page.read_text(encoding='utf-8'))
    assert blocks
    (tmp_path / 'work').mkdir()
    script = tmp_path / 'page.sh'
    # Where a command fails, those in the background end, too: they hold the pipes that are read here.
    script.write_text("set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + '\n'.join(blocks))
    with private_domain() as domain, in_domain(domain):
        environment = {
            **os.environ,
            'PATH': f'{shims(tmp_path / "bin")}:{os.environ["PATH"]}',
            'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}',
            'OMP_NUM_THREADS': '1',
            'VDD_ROS': str(ROOT),
        }
        done = subprocess.run(
            ['bash', str(script)], cwd=tmp_path / 'work', env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    if page.stem == 'bag_to_arm':
        assert len(json.loads((tmp_path / 'work' / 'outcomes.json').read_text())) == 2
    if page.stem == 'your_task':
        driven = json.loads((tmp_path / 'work' / 'my_cell' / 'outcomes.json').read_text())['episodes']
        assert [episode['outcome'] in ('success', 'failure') for episode in driven] == [True, True]
        report = json.loads((tmp_path / 'work' / 'my_cell' / 'student.report' / 'report.json').read_text())
        assert report['gate']['passes'] and report['ros']['episodes'] == 1
        assert 'passed its validation' in done.stdout
    if page.stem == 'forbid_an_expert':
        modes = [line.split() for line in done.stdout.splitlines() if line.strip().startswith('mode left-')]
        assert len(modes) == 12 and all(with_rules == '0' for *_, with_rules in modes)
