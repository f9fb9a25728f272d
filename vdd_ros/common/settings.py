"""The base of every group of settings: frozen, checked, and read back from an artifact's manifest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vdd_ros.common.errors import ConfigurationError

SettingsType = TypeVar('SettingsType', bound='Settings')


class Settings(BaseModel):
    """Frozen settings with defaults that run; `model_dump(mode='json')` and `parse` are each other's inverse."""

    model_config = ConfigDict(frozen=True, extra='forbid')

    former_names: ClassVar[Mapping[str, str]] = {}
    """The present name of each key that was renamed. Former names are still read, with a `FutureWarning`."""

    @model_validator(mode='before')
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return renamed(values, cls.former_names, cls.__name__) if isinstance(values, Mapping) else values

    @classmethod
    def parse(cls: type[SettingsType], values: Mapping[str, Any]) -> SettingsType:
        """Check plain values, as they come from YAML or JSON.

        Raises
        ------
        ConfigurationError
            A key is unknown (the known ones are listed), or a value is out of range.

        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = '.'.join(str(part) for part in first['loc']) or cls.__name__
            known = ', '.join(sorted(cls.model_fields))
            raise ConfigurationError(
                expected=f'valid {cls.__name__}', found=f'{place}: {first["msg"]}', remedy=f'known settings: {known}'
            ) from error


def renamed(values: Mapping[str, Any], former_names: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return values by their present names, and warn of each former one.

    Parameters
    ----------
    values
        Values by name.
    former_names
        The present name of each former one.
    where
        What the values belong to, for the warning.

    Raises
    ------
    ConfigurationError
        A value is given by both names.

    """
    found = dict(values)
    for former, present in former_names.items():
        if former not in found:
            continue
        if present in found:
            raise ConfigurationError(
                expected=f'one value for {present} of {where}',
                found=f'another for {former}, its former name',
                remedy=f'remove {former}',
            )
        warnings.warn(f'{former} of {where} is now named {present}; rename it', FutureWarning, stacklevel=2)
        found[present] = found.pop(former)
    return found
