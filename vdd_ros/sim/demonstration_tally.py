"""Successes and failures of scripted demonstrations: when to give up, and why."""

from __future__ import annotations

from collections import Counter

from vdd_ros.common.errors import SimulationError

MAX_FAILURES = 1000
"""Default number of failures after which a recording ends with an error."""
MAX_FIRST_FAILURES = 20
"""Default number of failures without any success after which a recording ends with an error."""
DETECTED = 'the success detector returned failure'
"""Cause: the verdict of the success detector."""
MOTION_ENDED = 'the scripted motion ended without success'
"""Cause: the success detector had no verdict when the motion ended."""


class DemonstrationTally:
    """Counts demonstrations by outcome, and raises an error if the demonstrator fails too often."""

    def __init__(
        self, task: str, max_failures: int = MAX_FAILURES, max_first_failures: int = MAX_FIRST_FAILURES
    ) -> None:
        """Start at zero.

        Parameters
        ----------
        task
            Name of the task, for errors.
        max_failures
            Number of failures after which `fail` raises an error.
        max_first_failures
            Number of failures without any success after which `fail` raises an error.

        """
        self._task, self._max_failures, self._max_first_failures = task, max_failures, max_first_failures
        self._causes: Counter[str] = Counter()
        self.successes = 0
        """Number of successful demonstrations."""

    @property
    def failures(self) -> int:
        """Number of failed demonstrations."""
        return self._causes.total()

    def succeed(self) -> None:
        """Count a successful demonstration."""
        self.successes += 1

    def fail(self, cause: str) -> None:
        """Count a failed demonstration and its cause.

        Raises
        ------
        SimulationError
            There are too many failures; the message lists their causes.

        """
        self._causes[cause] += 1
        if not self.successes and self.failures >= self._max_first_failures:
            expected = f'a successful demonstration of {self._task} within {self._max_first_failures}'
        elif self.failures > self._max_failures:
            expected = f'at most {self._max_failures} failed demonstrations of {self._task}'
        else:
            return
        causes = ', '.join(f'{cause} ({count})' for cause, count in self._causes.most_common())
        raise SimulationError(
            expected=expected,
            found=f'{self.failures} failures and {self.successes} successes: {causes}',
            remedy='correct the demonstrator, the success detector or the start state of the task (the bag has the '
            'failed demonstrations)',
        )
