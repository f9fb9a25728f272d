"""What makes a folder of files a rosbag2: its `metadata.yaml`, and where a bag grows until it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from vdd_ros.data.mcap_file import McapScan

METADATA = 'metadata.yaml'


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


def write_metadata_of(folder: Path, scans: Sequence[McapScan]) -> None:
    """Write the `metadata.yaml` of MCAP files by what was found in them."""
    topics: dict[str, Topic] = {}
    for found in scans:
        for channel in found.channels.values():
            kind = found.schemas[channel.schema_id].name
            known = topics.get(channel.topic) or Topic(
                channel.topic,
                kind,
                channel.metadata.get('topic_type_hash', ''),
                channel.metadata.get('offered_qos_profiles', ''),
            )
            topics[channel.topic] = replace(known, count=known.count + found.counts[channel.id])
    write_metadata(
        folder, [BagFile(found.path.name, *(found.span or (0, 0)), found.count) for found in scans], [*topics.values()]
    )


def write_metadata(folder: Path, files: Sequence[BagFile], topics: Sequence[Topic]) -> None:
    """Write the `metadata.yaml` of an MCAP bag, aside first, so that a folder with one is a whole bag."""
    spans = [file for file in files if file.count]
    start = min((file.start for file in spans), default=0)
    end = max((file.end for file in spans), default=0)
    information = {
        'version': 8,
        'storage_identifier': 'mcap',
        'relative_file_paths': [file.name for file in files],
        'duration': {'nanoseconds': end - start},
        'starting_time': {'nanoseconds_since_epoch': start},
        'message_count': sum(file.count for file in files),
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': topic.name,
                    'type': topic.type,
                    'serialization_format': 'cdr',
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
    aside = folder / f'.{METADATA}.partial'
    aside.write_text(yaml.safe_dump({'rosbag2_bagfile_information': information}, sort_keys=False), encoding='utf-8')
    aside.replace(folder / METADATA)
