"""What every test run needs: ROS logs aside, this python's packages, no examples that fail for their time, workers.

With ``-n N`` (pytest-xdist; `make test` does so) the tests that measure real time, which have the mark `realtime`, run
one after the other in the first worker. All others run file by file, in the workers that are free. The system gives
these workers only what processor time the first one leaves.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

REALTIME = 'realtime'
FIRST = 'gw0'
"""The worker of the tests that measure real time."""
APART = ('test_tutorials.py',)
"""Files whose tests share nothing and take long: they are given out one by one."""
LONGEST = ('test_tutorials.py', 'test_command_line.py', 'test_benchmarks.py', 'test_learning.py', 'test_python_api.py')
"""Files that take longest, which begin first."""

RUN = Path(os.environ.get('VDD_ROS_TEST_RUN') or tempfile.mkdtemp(prefix='vdd_ros_test_'))
"""A folder of this run, also of its workers."""
os.environ['VDD_ROS_TEST_RUN'] = str(RUN)
os.environ.setdefault('ROS_LOG_DIR', str(RUN))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)  # hundreds of processes would compile the package
_prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
if sys.prefix not in _prefixes:
    os.environ['AMENT_PREFIX_PATH'] = os.pathsep.join(filter(None, [*_prefixes, sys.prefix]))

settings.register_profile('vdd_ros', deadline=None)
settings.load_profile('vdd_ros')

if os.environ.get('PYTEST_XDIST_WORKER', FIRST) != FIRST:
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # another system, or one that does not permit it
        os.nice(10)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse two test modules of one name: pytest imports them by their names, and ends the run of all tests."""
    files = defaultdict(list)
    for file in Path(__file__).parent.rglob('test_*.py'):
        files[file.name].append(str(file.relative_to(config.rootpath)))
    if twins := [' and '.join(sorted(each)) for each in files.values() if len(each) > 1]:
        raise pytest.UsageError(f'expected test modules with different names; found {", ".join(twins)}; rename one')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In workers, put the longest files first, and write down which tests measure real time: the scheduler reads it."""
    if addressed := [item.nodeid for item in items if ' at 0x' in item.nodeid]:
        raise pytest.UsageError(f'expected names of tests that every worker gives; found {addressed[0]}; set ids')
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return
    if os.environ['PYTEST_XDIST_WORKER'] == FIRST:
        names = [item.nodeid for item in items if item.get_closest_marker(REALTIME)]
        RUN.joinpath(REALTIME).write_text('\n'.join(names), encoding='utf-8')
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give the tests that measure real time to the first worker in one piece, and all others file by file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        @functools.cached_property
        def _realtime(self) -> set[str]:
            return set(RUN.joinpath(REALTIME).read_text(encoding='utf-8').splitlines())

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition('::')[0]
            return REALTIME if nodeid in self._realtime else nodeid if file.endswith(APART) else file

        def _assign_work_unit(self, node: object) -> None:
            if REALTIME in self.workqueue:
                self.workqueue.move_to_end(REALTIME, last=node.gateway.id != FIRST)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return Scheduling(config, log)
