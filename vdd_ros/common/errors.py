"""The errors of vdd_ros: a message says what was expected, what was found, and the remedy."""

import functools


class VddError(Exception):
    """What a user can put right; every command line and node reports it in one line."""

    def __init__(self, *, expected: str, found: str, remedy: str) -> None:
        """Compose the one-line message from its three parts."""
        super().__init__(f'expected {expected}; found {found}; {remedy}')
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        """Let worker processes hand an error to their parent."""
        return functools.partial(type(self), expected=self.expected, found=self.found, remedy=self.remedy), ()


class ContractError(VddError, ValueError):
    """A contract, or something that should follow one, does not."""


class BagError(VddError, ValueError):
    """A bag is absent, unreadable, or lacks what the contract asks for."""


class ArtifactError(VddError, ValueError):
    """An artifact is absent, damaged, or of another contract."""


class ConfigurationError(VddError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class OutputError(VddError, ValueError):
    """An output path is occupied or cannot be written."""


class TrainingError(VddError, RuntimeError):
    """Learning cannot go on: too little data, or a loss that is not finite."""


class ModelError(VddError, ValueError):
    """A robot or scene model is absent, malformed, or lacks an element."""


class ReachError(VddError, ValueError):
    """The tool of an arm cannot be brought to a pose."""


class SimulationError(VddError, RuntimeError):
    """The simulation cannot go on."""


class InterfaceError(VddError, RuntimeError):
    """A peer on the ROS graph is absent, silent, or says what it should not."""


class GateError(VddError, RuntimeError):
    """A policy has not shown in simulation what it must before it may move an arm."""
