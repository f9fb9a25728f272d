"""Loading of another artifact while the arm moves: in a separate thread, with checks and warm-up."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

import numpy as np

from vdd_ros.common.errors import ArtifactError, VddError
from vdd_ros.policy.observation import with_gray_images
from vdd_ros.policy.policy import DistilledPolicy

_WARM_UP = 20


def load_alike(path: str, acting: DistilledPolicy, threads: int, provider: str = 'cpu') -> DistilledPolicy:
    """Load a student that may take over from the acting one.

    Raises
    ------
    ArtifactError
        The artifact is absent, damaged, or of another contract, or its outputs are not finite.

    """
    policy = DistilledPolicy.load(path, contract=acting.contract, threads=threads, provider=provider)
    warm_up(policy)
    return policy


def warm_up(policy: DistilledPolicy) -> None:
    """Query a policy several times, because the first calls take longer, and refuse invalid outputs.

    Raises
    ------
    ArtifactError
        An output for the mean of the demonstrated observations is not finite.

    """
    contract = policy.contract
    middle = np.array(policy.artifact.manifest.observation_offset)
    window = with_gray_images(contract, np.repeat(middle[None, None], contract.observation_horizon, axis=1))
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
    """Loads a new artifact in a separate thread while the arm moves, one artifact at a time."""

    def __init__(self, load: Callable[[str], DistilledPolicy]) -> None:
        """Set the loading function, which raises `VddError` for an artifact that may not act."""
        self._load = load
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, path: str, done: Callable[[DistilledPolicy | None, str], None]) -> bool:
        """Start to load, and call ``done`` from another thread with the policy or with the error.

        Return whether loading started; it does not start while another artifact is being loaded.
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
