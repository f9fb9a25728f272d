"""The errors of vdd_ros: a message gives the expected value, the found value, and the remedy."""

import contextlib
import functools
from collections.abc import Iterator


class VddError(Exception):
    """An error that a user can correct, such as a wrong setting; commands and nodes report its message in one line."""

    def __init__(self, *, expected: str, found: str, remedy: str) -> None:
        """Compose the one-line message from its three parts."""
        super().__init__(f'expected {expected}; found {found}; {remedy}')
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        """Make the error picklable, for worker processes."""
        return functools.partial(type(self), expected=self.expected, found=self.found, remedy=self.remedy), ()


@contextlib.contextmanager
def remedied(kind: type[VddError], *, expected: str, remedy: str) -> Iterator[None]:
    """Convert an `OSError` to an error of class ``kind``, whose message gives the reason of the `OSError` as found.

    Raises
    ------
    VddError
        An `OSError` was raised inside the context.

    """
    try:
        yield
    except OSError as error:
        raise kind(expected=expected, found=error.strerror or str(error), remedy=remedy) from error


class ContractError(VddError, ValueError):
    """A contract is invalid, or data do not match it."""


class BagError(VddError, ValueError):
    """A bag is missing or unreadable, or lacks topics of the contract."""


class ArtifactError(VddError, ValueError):
    """An artifact is missing, damaged, or belongs to another contract."""


class ConfigurationError(VddError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class OutputError(VddError, ValueError):
    """An output path exists or cannot be written."""


class TrainingError(VddError, RuntimeError):
    """Training cannot continue: too little data, or a loss that is not finite."""


class ModelError(VddError, ValueError):
    """A robot or scene model is missing or malformed, or lacks an element."""


class ReachError(VddError, ValueError):
    """A tool pose cannot be reached."""


class SimulationError(VddError, RuntimeError):
    """The simulation cannot continue."""


class InterfaceError(VddError, RuntimeError):
    """A peer on the ROS graph is missing, does not respond, or sends invalid data."""


class GateError(VddError, RuntimeError):
    """A policy has not passed the validation required to command an arm."""
