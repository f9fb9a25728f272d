"""Message definitions: those that a bag carries, and those of ROS itself."""

from __future__ import annotations

import functools

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from vdd_ros.data.account import Account
from vdd_ros.data.serialized import Definitions, FieldType

_SEPARATOR = '=' * 80 + '\n'


@functools.cache
def standard(ros1: bool = False) -> Definitions:
    """Return the definitions of the messages that come with ROS 2, or with ROS 1."""
    return _converted(get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE).fielddefs)


@functools.cache
def standard_text(type_name: str) -> str | None:
    """Return the definition of a message that comes with ROS 2, and of those within it; None for any other."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    try:
        return typestore.generate_msgdef(type_name, ros_version=2)[0]
    except (TypesysError, KeyError):
        return None


def definitions_of(type_name: str, encoding: str, text: str, account: Account, *, ros1: bool) -> Definitions:
    """Parse the definition of a type, and those within it, as a bag has them.

    Parameters
    ----------
    type_name
        Full name of the type.
    encoding
        `ros2msg`, `ros1msg`, `ros2idl`, or empty where the bag has none.
    text
        The definition, with those of other types after it.
    account
        Where to note that it cannot be read; that of ROS itself then stands in, if there is one.
    ros1
        Whether types that are not in the text are those of ROS 1.

    """
    if not text.strip():
        return standard(ros1)
    try:
        return {**standard(ros1), **_converted(_parsed(type_name, encoding, text))}
    except (TypesysError, ValueError, KeyError, IndexError, AssertionError, RecursionError) as error:
        why = f'its definition in the bag cannot be read ({" ".join(str(error).split())[:80]}); that of ROS is taken'
        account.add('note', type_name, why)
        return standard(ros1)


def _parsed(type_name: str, encoding: str, text: str) -> dict:
    if encoding != 'ros2idl':
        return get_types_from_msg(text, type_name)
    parts = [part.partition('\n')[2] if part.startswith('IDL: ') else part for part in text.split(_SEPARATOR)]
    found = {}
    for part in parts:
        if part.strip():
            found |= get_types_from_idl(part)
    return found


def _converted(types: dict) -> Definitions:
    return {name: tuple((field, _type(kind)) for field, kind in fields) for name, (_, fields) in types.items()}


def _type(kind: tuple) -> FieldType:
    node, content = kind
    if node == Nodetype.BASE:
        return FieldType(content[0])
    if node == Nodetype.NAME:
        return FieldType(content)
    return FieldType(_type(content[0]).base, content[1] if node == Nodetype.ARRAY else 0)
