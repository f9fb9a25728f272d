"""What makes a folder of files a rosbag2: its `metadata.yaml`, and where a bag grows until it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vdd_ros.common.errors import BagError
from vdd_ros.data.bag.file_scan import FileScan

METADATA = 'metadata.yaml'
_KEPT = ('version', 'compression_format', 'compression_mode', 'custom_data', 'ros_distro')


@dataclass(frozen=True)
class Topic:
    """One topic of a bag."""

    name: str
    type: str
    """Such as ``sensor_msgs/msg/JointState``."""
    type_hash: str = ''
    """RIHS01 of the type; empty where it is not known."""
    qos: str = ''
    """Offered quality of service, as YAML; empty where it is not known."""
    count: int = 0
    """Messages."""
    encoding: str = 'cdr'
    """How messages are serialised."""


@dataclass(frozen=True)
class BagFile:
    """One file of a bag."""

    name: str
    start: int
    """Stamp of its first message [ns]."""
    end: int
    """Stamp of its last message [ns]."""
    count: int
    """Messages."""


def partial_path(path: Path) -> Path:
    """Return where a bag grows until it is whole."""
    return path.parent / f'.{path.name}.partial'


def read_metadata(folder: Path) -> dict[str, Any] | None:
    """Return what the `metadata.yaml` of a bag says; None where there is none, or none that can be read."""
    try:
        return parsed_metadata(folder / METADATA)
    except (BagError, OSError):
        return None


def parsed_metadata(file: Path) -> dict[str, Any]:
    """Return what a `metadata.yaml` says.

    Raises
    ------
    BagError
        It says nothing of a bag.
    OSError
        It cannot be read.

    """
    try:
        information = yaml.safe_load(file.read_text(encoding='utf-8'))['rosbag2_bagfile_information']
        names = information.get('relative_file_paths')
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return information
        why = 'it lists no files'
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = ' '.join(str(error).split())[:80]
    raise BagError(expected=f'what describes a bag in {file}', found=why, remedy='remove it: bags are read without it')


def write_metadata_of(folder: Path, scans: Sequence[FileScan], before: Mapping[str, Any] | None = None) -> None:
    """Write the `metadata.yaml` of files by what was found in them; the rest of one from ``before`` is kept."""
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
    """Write the `metadata.yaml` of a bag, aside first, so that a folder with one is a whole bag.

    What an older one said that does not follow from the files, such as custom data, is kept. The files are plain ones.
    """
    spans = [file for file in files if file.count]
    start = min((file.start for file in spans), default=0)
    end = max((file.end for file in spans), default=0)
    information = {
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
    if before is not None:
        by_file = str(before.get('compression_mode') or '').lower() == 'file'
        kept = {key: value for key, value in before.items() if key in _KEPT and not (by_file and 'compression' in key)}
        described = _described(before)
        for item in information['topics_with_message_count']:
            item['topic_metadata'] |= described.get(item['topic_metadata']['name'], {})
        information |= kept
    aside = folder / f'.{METADATA}.partial'
    aside.write_text(yaml.safe_dump({'rosbag2_bagfile_information': information}, sort_keys=False), encoding='utf-8')
    aside.replace(folder / METADATA)


def _described(information: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is said of each topic, by its name."""
    found = {}
    for item in information.get('topics_with_message_count') or []:
        if isinstance(item, dict) and isinstance(item.get('topic_metadata'), dict):
            found[item['topic_metadata'].get('name')] = item['topic_metadata']
    return found
