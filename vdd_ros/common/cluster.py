"""Distribution of jobs to the workers of a Ray cluster; results are returned in the order of the jobs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from vdd_ros.common.errors import ConfigurationError, VddError

Job = TypeVar('Job')
Result = TypeVar('Result')


class _Worker:
    """One of the processes of the cluster."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._work = make()

    def do(self, job: Any) -> Any:
        """Do one job."""
        return self._work(job)


def map_on_cluster(
    address: str,
    make: Callable[[], Callable[[Job], Result]],
    jobs: Sequence[Job],
    done: Callable[[Job], None] = lambda job: None,
) -> list[Result]:
    """Do jobs on a Ray cluster, one at a time on each of its processors.

    Parameters
    ----------
    address
        Address of the cluster: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the cluster of this computer.
    make
        Creates the function that does a job; called once in each worker. Workers must have the same packages installed
        as this process.
    jobs
        The jobs; jobs and results must be picklable.
    done
        Called with each completed job.

    Returns
    -------
    The results, in the order of the jobs.

    Raises
    ------
    ConfigurationError
        Ray is missing, there is no cluster, or it has no processor.
    VddError
        The error of a failed job.

    """
    with _connected(address) as ray:
        processors = int(ray.cluster_resources().get('CPU', 0))
        if not processors:
            raise ConfigurationError(
                expected=f'processors in the Ray cluster at {address}',
                found='none',
                remedy='ray start --address=HOST:PORT --num-cpus=N on a computer that is to work',
            )
        remote = ray.remote(num_cpus=1)(_Worker)
        workers = [remote.remote(make) for _ in range(min(processors, len(jobs)))]
        results: dict[int, Result] = {}
        waiting = iter(enumerate(jobs))
        try:
            at_work = {worker.do.remote(job): (worker, at) for worker, (at, job) in zip(workers, waiting)}
            while at_work:
                (ended, *_), _ = ray.wait([*at_work], num_returns=1)
                worker, at = at_work.pop(ended)
                results[at] = _result(ray, ended)
                done(jobs[at])
                for later, job in itertools.islice(waiting, 1):
                    at_work[worker.do.remote(job)] = (worker, later)
        finally:
            for worker in workers:
                ray.kill(worker)
    return [results[at] for at in range(len(jobs))]


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """Yield Ray, connected to a cluster until the context is left."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            expected='Ray, to share work out to other computers',
            found='it is not installed',
            remedy="python -m pip install 'vdd_ros[ray]'",
        ) from error
    # One thread for each worker, as for local ones.
    environment = {'env_vars': {'OMP_NUM_THREADS': '1'}}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            expected=f'a Ray cluster at {address}',
            found=' '.join(str(error).split())[:200],
            remedy='ray start --head --port=6379 on one computer, ray start --address=HOST:6379 on the others',
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _result(ray: ModuleType, reference: Any) -> Any:
    """Wait for a result; the error of a job is raised as it was."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VddError):
            raise error.cause from error
        raise
    except ray.exceptions.RayActorError as error:
        raise ConfigurationError(
            expected='workers of the Ray cluster with the packages of this process',
            found=' '.join(str(error).split())[:300],
            remedy='install the same version of vdd_ros on every computer of the cluster',
        ) from error
