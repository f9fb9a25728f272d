"""The `metadata.yaml` of a rosbag2, and the temporary folder in which a bag grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.data.bag.file_scan import FileScan

METADATA = 'metadata.yaml'
_KEPT = ('version', 'compression_format', 'compression_mode', 'custom_data', 'ros_distro')
_QOS_AS_LIST = 9
"""The first version of the file with quality of service as a list instead of a text."""


@dataclass(frozen=True)
class Topic:
    """The entry of a topic in the `metadata.yaml` of a bag."""

    name: str
    type: str
    """Message type, such as ``sensor_msgs/msg/JointState``."""
    type_hash: str = ''
    """RIHS01 hash of the type; empty if unknown."""
    qos: str = ''
    """Offered quality of service as YAML; empty if unknown."""
    count: int = 0
    """Number of messages."""
    encoding: str = 'cdr'
    """Serialisation format."""


@dataclass(frozen=True)
class BagFile:
    """The entry of a file in the `metadata.yaml` of a bag: name, times and number of messages."""

    name: str
    start: int
    """Stamp of the first message [ns]."""
    end: int
    """Stamp of the last message [ns]."""
    count: int
    """Number of messages."""


def partial_path(path: Path) -> Path:
    """Return the temporary folder in which a bag grows."""
    return path.parent / f'.{path.name}.partial'


def claim_bag(path: Path) -> Path:
    """Check that a path has neither a bag nor an unfinished bag, and return the temporary folder for a new bag.

    Raises
    ------
    OutputError
        There is a bag, or an unfinished one.

    """
    partial = partial_path(path)
    for occupied in (path, partial):
        if occupied.exists():
            raise OutputError(
                expected=f'a free place for the bag at {path}',
                found=f'{occupied} already there',
                remedy='choose another path or remove it',
            )
    return partial


def read_metadata(folder: Path) -> dict[str, Any] | None:
    """Return the content of a bag's `metadata.yaml`; None if it is missing or cannot be read."""
    try:
        return parsed_metadata(folder / METADATA)
    except (BagError, OSError):
        return None


def parsed_metadata(file: Path) -> dict[str, Any]:
    """Return the content of a `metadata.yaml`.

    Raises
    ------
    BagError
        The file does not describe a bag.
    OSError
        The file cannot be read.

    """
    try:
        information = yaml.safe_load(file.read_text(encoding='utf-8'))['rosbag2_bagfile_information']
        names = information.get('relative_file_paths')
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return information
        why = 'it lists no files'
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = ' '.join(str(error).split())[:80]
    raise BagError(expected=f'bag metadata in {file}', found=why, remedy='remove it: bags are read without it')


def write_metadata_of(folder: Path, scans: Sequence[FileScan], before: Mapping[str, Any] | None = None) -> None:
    """Write the `metadata.yaml` from scans of the files; other entries of ``before`` are kept."""
    topics: dict[str, Topic] = {}
    for found in scans:
        for number, channel in found.channels.items():
            schema, words = found.schemas.get(channel.schema), dict(channel.metadata)
            known = topics.get(channel.topic) or Topic(
                channel.topic,
                schema.name if schema is not None else '',
                words.get('topic_type_hash', ''),
                words.get('offered_qos_profiles', ''),
                encoding=channel.encoding,
            )
            topics[channel.topic] = replace(known, count=known.count + found.counts[number])
    files = [BagFile(found.path.name, *(found.span or (0, 0)), found.count) for found in scans]
    write_metadata(folder, files, [*topics.values()], before)


def write_metadata(
    folder: Path, files: Sequence[BagFile], topics: Sequence[Topic], before: Mapping[str, Any] | None = None
) -> None:
    """Write the `metadata.yaml` of a bag atomically: a folder with this file is a complete bag.

    Entries of an older file that do not follow from the files, such as custom data, are kept. The files are plain.
    """
    information = _information(files, topics)
    if before is not None:
        information |= _kept(before)
        described = _described(before)
        for item in information['topics_with_message_count']:
            topic = item['topic_metadata']
            if information['version'] >= _QOS_AS_LIST:
                topic['offered_qos_profiles'] = _listed(topic['offered_qos_profiles'])
            topic |= described.get(topic['name'], {})
    aside = folder / f'.{METADATA}.partial'
    aside.write_text(yaml.safe_dump({'rosbag2_bagfile_information': information}, sort_keys=False), encoding='utf-8')
    aside.replace(folder / METADATA)


def _information(files: Sequence[BagFile], topics: Sequence[Topic]) -> dict[str, Any]:
    """Return the entries that follow from the files of a bag."""
    spans = [file for file in files if file.count]
    start = min((file.start for file in spans), default=0)
    end = max((file.end for file in spans), default=0)
    return {
        'version': 8,
        'storage_identifier': 'sqlite3' if any(file.name.endswith('.db3') for file in files) else 'mcap',
        'relative_file_paths': [file.name for file in files],
        'duration': {'nanoseconds': end - start},
        'starting_time': {'nanoseconds_since_epoch': start},
        'message_count': sum(file.count for file in files),
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': topic.name,
                    'type': topic.type,
                    'serialization_format': topic.encoding,
                    'offered_qos_profiles': topic.qos,
                    'type_description_hash': topic.type_hash,
                },
                'message_count': topic.count,
            }
            for topic in topics
        ],
        'compression_format': '',
        'compression_mode': '',
        'files': [
            {
                'path': file.name,
                'starting_time': {'nanoseconds_since_epoch': file.start},
                'duration': {'nanoseconds': file.end - file.start},
                'message_count': file.count,
            }
            for file in files
        ],
        'custom_data': None,
        'ros_distro': 'rosbags',
    }


def _kept(information: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are kept. Other readers refuse null in place of a text."""
    by_file = str(information.get('compression_mode') or '').lower() == 'file'
    kept = {key: information[key] for key in _KEPT if information.get(key) is not None}
    if not isinstance(kept.get('version', 0), int):
        del kept['version']
    return {key: value for key, value in kept.items() if not (by_file and 'compression' in key)}


def _listed(qos: str) -> list[Any]:
    """Return quality of service of a channel, which is YAML, as a list; empty if it is none."""
    try:
        found = yaml.safe_load(qos)
    except yaml.YAMLError:
        return []
    return found if isinstance(found, list) else []


def _described(information: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metadata of each topic by its name."""
    found = {}
    for item in information.get('topics_with_message_count') or []:
        if isinstance(item, dict) and isinstance(item.get('topic_metadata'), dict):
            known = {key: value for key, value in item['topic_metadata'].items() if value is not None}
            found[known.get('name')] = known
    return found
