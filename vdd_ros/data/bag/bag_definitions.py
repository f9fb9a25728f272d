"""Message definitions: those stored in a bag, and those that come with ROS."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from vdd_ros.common.errors import BagError
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.serialized import Definitions, FieldType

SEARCH_PATH = 'VDD_DEFINITIONS'
"""The environment variable that lists folders with packages of message definitions."""
_SEPARATOR = '=' * 80 + '\n'
_PREFIXES = 'AMENT_PREFIX_PATH'
_INCLUDE = re.compile(r'^[ \t]*#.*$', re.MULTILINE)
_MALFORMED = (TypesysError, ValueError, KeyError, IndexError, AssertionError, RecursionError)


@functools.cache
def standard(ros1: bool = False) -> Definitions:
    """Return the definitions of the messages that come with ROS 2 or ROS 1."""
    return _converted(get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE).fielddefs)


@functools.cache
def standard_text(type_name: str) -> str | None:
    """Return the definition of a message that comes with ROS 2 and of its nested types; None for any other type."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    try:
        return typestore.generate_msgdef(type_name, ros_version=2)[0]
    except (TypesysError, KeyError):
        return None


def definitions_of(type_name: str, encoding: str, text: str, report: ConversionReport, *, ros1: bool) -> Definitions:
    """Parse the definition of a type and of its nested types, as stored in a bag.

    Parameters
    ----------
    type_name
        Full name of the type.
    encoding
        `ros2msg`, `ros1msg`, `ros2idl`, or empty if the bag has none.
    text
        The definition, followed by those of other types.
    report
        Receives a note if the definition cannot be parsed. The definition that comes with ROS is then used, if any.
    ros1
        Whether types missing in the text are those of ROS 1.

    """
    if encoding not in ('', 'ros1msg', 'ros2msg', 'ros2idl'):
        return {}
    known = dict(standard(ros1))
    if text.strip():
        try:
            known |= _converted(_parsed(type_name, encoding, text))
        except _MALFORMED as error:
            why = ' '.join(str(error).split())[:80]
            report.add('note', type_name, f'the definition in the bag cannot be parsed ({why}); the one of ROS is used')
    _complete(known, type_name, report)
    return known


def search_in(folders: Sequence[Path]) -> None:
    """Add folders in which missing definitions are searched, in this process and in processes started later.

    A folder may be a package or contain packages at any depth: ``PACKAGE/msg/NAME.msg`` or ``.idl``.

    Raises
    ------
    BagError
        A folder does not exist or has no definition.

    """
    for folder in folders:
        if not _definitions_in(str(folder.absolute())):
            raise BagError(
                expected=f'message definitions (PACKAGE/msg/NAME.msg or .idl) in {folder}',
                found='none' if folder.is_dir() else 'no such folder',
                remedy='give the source or install folder of the package',
            )
    before = os.environ.get(SEARCH_PATH, '').split(os.pathsep)
    found = dict.fromkeys([*(str(folder.absolute()) for folder in folders), *before])
    os.environ[SEARCH_PATH] = os.pathsep.join(filter(None, found))


@functools.cache
def _definitions_in(folder: str) -> dict[str, Path]:
    """Return the definition files in a folder, by type."""
    found: dict[str, Path] = {}
    for file in sorted(Path(folder).rglob('*')):
        kind = file.parent.name
        if file.suffix in ('.msg', '.idl') and kind in ('msg', 'srv', 'action'):
            found.setdefault(f'{file.parent.parent.name}/{kind}/{file.stem}', file)
    return found


def _located(type_name: str) -> Path | None:
    """Return the file of a definition from the added folders or the ROS installation."""
    for folder in filter(None, os.environ.get(SEARCH_PATH, '').split(os.pathsep)):
        if type_name in (found := _definitions_in(folder)):
            return found[type_name]
    for prefix in filter(None, os.environ.get(_PREFIXES, '').split(os.pathsep)):
        for suffix in ('.msg', '.idl'):
            file = Path(prefix, 'share', type_name + suffix)
            if type_name.count('/') == 2 and file.is_file():
                return file
    return None


def _complete(known: dict, type_name: str, report: ConversionReport) -> None:
    """Load missing definitions and those of nested types from files."""
    waiting, seen = [type_name], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in known and (file := _located(name)) is not None:
            try:
                text = file.read_text(encoding='utf-8')
                known |= _converted(_parsed(name, 'ros2idl' if file.suffix == '.idl' else 'ros2msg', text))
            except (*_MALFORMED, OSError) as error:
                report.add('note', name, f'{file} cannot be parsed ({" ".join(str(error).split())[:80]})')
        waiting += [field.base for _, field in known.get(name, ()) if '/' in field.base]


def _parsed(type_name: str, encoding: str, text: str) -> dict:
    """Parse a definition and the other types that follow it, each after a line with its name."""
    text = text.replace('\ufeff', '').replace('\r\n', '\n').replace('\r', '\n')
    found: dict = {}
    if encoding != 'ros2idl':
        return get_types_from_msg(text, type_name)
    for part in text.split(_SEPARATOR):
        head, _, rest = part.partition('\n')
        if head.startswith('MSG: '):
            found |= get_types_from_msg(rest, head.removeprefix('MSG: ').strip())
        else:
            body = _INCLUDE.sub('', rest if head.startswith('IDL: ') else part)
            found |= get_types_from_idl(body) if body.strip() else {}
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
