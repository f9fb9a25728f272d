"""The base of every group of settings: frozen, checked, and read back from an artifact's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vdd_ros.common.errors import ConfigurationError

SettingsType = TypeVar('SettingsType', bound='Settings')


class Settings(BaseModel):
    """Frozen settings with defaults that run; `model_dump(mode='json')` and `parse` are each other's inverse."""

    model_config = ConfigDict(frozen=True, extra='forbid')

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
