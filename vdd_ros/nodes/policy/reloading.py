"""Loading of another artifact while the arm moves: in a separate thread, with checks and warm-up, or not at all."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

import numpy as np

from vdd_ros.common.errors import ArtifactError, VddError
from vdd_ros.policy.policy import DistilledPolicy

_WARM_UP = 20


def load_alike(path: str, acting: DistilledPolicy, threads: int) -> DistilledPolicy:
    """Load a student that may take over from the acting one.

    Raises
    ------
    ArtifactError
        It is absent, damaged, of another contract, or answers with what is not finite.

    """
    policy = DistilledPolicy.load(path, contract=acting.contract, threads=threads)
    warm_up(policy)
    return policy


def warm_up(policy: DistilledPolicy) -> None:
    """Query a policy several times, because the first calls take longer, and refuse one with invalid outputs.

    Raises
    ------
    ArtifactError
        An answer to the middle of the demonstrations is not finite.

    """
    contract = policy.contract
    middle = np.array(policy.artifact.manifest.observation_offset)
    window = np.repeat(middle[None, None], contract.observation_horizon, axis=1)
    for _ in range(_WARM_UP):
        answer = policy.experts(window)
        policy.signals(window, answer)
        policy.likelihood(answer, np.zeros(contract.action_size))
    if not all(np.isfinite(array).all() for array in (answer.log_gating, answer.mean, answer.covariance_parameters)):
        raise ArtifactError(
            expected=f'answers in numbers from {policy.artifact.path}',
            found='NaN or infinity in the middle of the demonstrations',
            remedy='distill it again',
        )


class Reloader:
    """Loads one artifact at a time."""

    def __init__(self, load: Callable[[str], DistilledPolicy]) -> None:
        """Use a function that raises `VddError` for an artifact that may not act."""
        self._load = load
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, path: str, done: Callable[[DistilledPolicy | None, str], None]) -> bool:
        """Start to load, and call ``done`` from another thread with the policy or with the error.

        Returns whether the load started: not while another one is in progress.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._thread = threading.Thread(target=self._run, args=(path, done), name='reloading')
            self._thread.start()
        return True

    def close(self) -> None:
        """Wait for a load in progress."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, path: str, done: Callable[[DistilledPolicy | None, str], None]) -> None:
        try:
            policy = self._load(path)
        except VddError as error:
            done(None, str(error))
        except Exception as error:  # noqa: BLE001 - the caller waits for a response in every case
            done(None, f'{type(error).__name__}: {" ".join(str(error).split())}; {traceback.format_exc()}')
        else:
            done(policy, '')
