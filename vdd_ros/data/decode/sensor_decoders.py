"""Decoders for orientations, transforms, images, point clouds and signals."""

from __future__ import annotations

from functools import partial

import numpy as np

from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.contract.features import Reading, TopicFeature
from vdd_ros.data.decode import pictures, rotation
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import INFINITE, Decoder, Pattern, Refusals, Refuser, ScalarDecoder, gathered
from vdd_ros.data.decode.frames import Picture, joined
from vdd_ros.data.decode.serialized import Definitions, Layout, Messages, Undecodable, walk

_NO_ORIENTATION = 'an orientation is invalid'
_MILLIMETERS = 1000.0
_POINT_FIELDS = {7: 'f4', 8: 'f8'}


class PoseDecoder(ScalarDecoder):
    """Decodes numbers, some of which are orientations."""

    def __init__(self, feature: TopicFeature, definitions: Definitions, ros1: bool) -> None:
        """Request the fields of a feature."""
        super().__init__(
            feature.type,
            definitions,
            feature,
            by_header=feature.stamp == 'header',
            ros1=ros1,
            paths=feature.paths,
        )
        self._six = feature.rotation == '6d'
        self._parts = [(types.is_orientation(field), len(types.expand(field))) for field in feature.read_fields]

    def numbers(self, rows: np.ndarray, pattern: Pattern, refuser: Refuser) -> tuple[np.ndarray, Refusals]:
        """Decode messages of one pattern; invalid quaternions are rejected."""
        values = gathered(rows, pattern)
        good, parts, begin = np.ones(len(rows), dtype=bool), [], 0
        for turned, size in self._parts:
            part = values[:, begin : begin + size]
            begin += size
            if turned:
                part, right = rotation.normalized(part)
                good &= right
                part = rotation.six_dimensional(part) if self._six else part
            parts.append(part)
        return np.concatenate(parts, axis=1), [(~good, _NO_ORIENTATION)]


class LinkDecoder(Decoder):
    """Decodes one link of a frame chain from transforms: position and quaternion x y z w, shape (message, 7)."""

    def __init__(self, feature: TopicFeature, definitions: Definitions, ros1: bool, parent: str, child: str) -> None:
        """Request the pose of a frame in its parent, from either direction."""
        super().__init__(feature.type, definitions, feature, by_header=True, ros1=ros1)
        self._link = (parent, child)

    def pattern(self, layout: Layout) -> Pattern | None:
        """Return the offsets of the link; None if the message does not contain the link."""
        for place in reversed(range(layout.counts['transforms'])):
            path = f'transforms[{place}]'
            frames = tuple(layout.texts[f'{path}.{end}'].lstrip('/') for end in ('header.frame_id', 'child_frame_id'))
            if frames in (self._link, self._link[::-1]):
                pattern = Pattern([*layout.spans.values()], inverted=frames != self._link)
                for field in ('translation.x', 'translation.y', 'translation.z', *(f'rotation.{a}' for a in 'xyzw')):
                    pattern.add(*layout.place(f'{path}.transform.{field}'))
                stamp = f'{path}.header.stamp'
                pattern.stamp = (layout.place(f'{stamp}.sec')[0], layout.place(f'{stamp}.nanosec')[0])
                return pattern
        return None

    def numbers(self, rows: np.ndarray, pattern: Pattern, refuser: Refuser) -> tuple[np.ndarray, Refusals]:
        """Decode messages of one pattern; invalid quaternions are rejected."""
        values = gathered(rows, pattern)
        turned, good = rotation.normalized(values[:, 3:])
        values = np.concatenate([values[:, :3], turned], axis=1)
        return (rotation.invert(values) if pattern.inverted else values), [(~good, _NO_ORIENTATION)]


class PictureDecoder(Decoder):
    """Decodes images, compressed or not, and point clouds: one message at a time, at once or on demand."""

    def __init__(
        self,
        feature: TopicFeature,
        definitions: Definitions,
        ros1: bool,
        *,
        deferred: bool = False,
        pixels: bool = False,
    ) -> None:
        """Request the numbers of an image feature.

        Parameters
        ----------
        feature, definitions, ros1
            The feature, and the definitions of its messages.
        deferred
            Whether images are decoded on demand.
        pixels
            Whether images keep their pixels and clouds are whole millimetres, as in `Contract.arrays`.

        """
        super().__init__(feature.type, definitions, feature, by_header=feature.stamp == 'header', ros1=ros1)
        self._feature = feature
        self._deferred, self._pixels = deferred, pixels
        self._proved = False
        self._read = {'Image': self._image, 'CompressedImage': self._compressed, 'PointCloud2': self._cloud}[
            feature.type.rpartition('/')[2]
        ]

    def pattern(self, layout: Layout) -> Pattern:
        """Return the offset of the image bytes; all other fields except the header must be equal."""
        offset, _, count = layout.numbers['data']
        pattern = Pattern([*layout.spans.values()])
        pattern.runs = [(offset, 'u1', count)]
        for path, (begin, code, length) in layout.numbers.items():
            if path != 'data' and not path.startswith('header.'):
                pattern.same.append((begin, begin + np.dtype(code).itemsize * length))
        return pattern

    def numbers(self, rows: np.ndarray, pattern: Pattern, refuser: Refuser) -> tuple[np.ndarray, Refusals]:
        """Decode messages of one pattern; those without a valid image are rejected.

        With deferred decoding, the first image is still decoded immediately. A stream without any valid image is
        therefore reported early.
        """
        values: list[np.ndarray | Picture | None] = []
        refusals: dict[str, np.ndarray] = {}
        for place, row in enumerate(rows):
            if self._deferred and self._proved:
                read = partial(self._picture, row.copy() if len(rows) > 1 else row, pattern)
                values.append(Picture(read, len(row), refuser(place)))
                continue
            try:
                values.append(self._picture(row, pattern))
                self._proved = True
            except Undecodable as error:
                refusals.setdefault(str(error), np.zeros(len(rows), dtype=bool))[place] = True
                values.append(None)
        if self._deferred:
            found = np.empty((len(values), 1), dtype=object)
            for place, read in enumerate(values):
                found[place, 0] = read
        else:
            kind = next((read.dtype for read in values if read is not None), np.float64)
            none = np.zeros(self._feature.size, dtype=kind)
            found = joined([(none if read is None else read)[None] for read in values])
        return found, [(wrong, why) for why, wrong in refusals.items()]

    def _picture(self, row: np.ndarray, pattern: Pattern) -> np.ndarray:
        """Decode a message, shape (byte,)."""
        offset, _, count = pattern.runs[0]
        data = np.ascontiguousarray(row[offset : offset + count])
        values = self.transformed(self._read(data, row, pattern.layout))
        if values.dtype.kind == 'f' and not np.isfinite(values).all():
            raise Undecodable(INFINITE)
        if self._pixels and self._feature.points is not None:
            limits = np.iinfo(np.int16)
            return np.rint(_MILLIMETERS * values).clip(limits.min, limits.max).astype(np.int16)
        return values

    def _image(self, data: np.ndarray, row: np.ndarray, layout: Layout) -> np.ndarray:
        height, width, step, big = (_number(row, layout, path) for path in ('height', 'width', 'step', 'is_bigendian'))
        encoding = layout.texts['encoding']
        wanted = self._feature.image
        return pictures.raw_image(data, height, width, step, encoding, bool(big), wanted, pixels=self._pixels)

    def _compressed(self, data: np.ndarray, row: np.ndarray, layout: Layout) -> np.ndarray:
        form = layout.texts['format']
        return pictures.compressed_image(data.tobytes(), form, self._feature.image, pixels=self._pixels)

    def _cloud(self, data: np.ndarray, row: np.ndarray, layout: Layout) -> np.ndarray:
        names = {layout.texts[f'fields[{place}].name']: place for place in range(layout.counts['fields'])}
        if not {'x', 'y', 'z'} <= set(names):
            raise Undecodable(f'no x, y and z in the fields {", ".join(names)}')
        order = '>' if _number(row, layout, 'is_bigendian') else '<'
        columns = []
        for axis in 'xyz':
            kind = _number(row, layout, f'fields[{names[axis]}].datatype')
            if kind not in _POINT_FIELDS:
                raise Undecodable(f'{axis} has datatype {kind}, which is not a float')
            columns.append((_number(row, layout, f'fields[{names[axis]}].offset'), order + _POINT_FIELDS[kind]))
        height, width, row_step, step = (
            _number(row, layout, path) for path in ('height', 'width', 'row_step', 'point_step')
        )
        return pictures.cloud(data, (height, width), (row_step, step), tuple(columns), self._feature.points)


class SignalReader:
    """Decodes one field, a number or a string, of each message; used for episode signals, outcomes and labels."""

    def __init__(self, type_name: str, definitions: Definitions, path: str, *, by_header: bool, ros1: bool) -> None:
        """Request the value at a path."""
        self._type, self._definitions, self._path = type_name, definitions, path
        self._by_header, self._ros1 = by_header, ros1
        self._numbers: ScalarDecoder | None = None

    def read(self, messages: Messages, report: ConversionReport, topic: str) -> list[tuple[int, int, str | float]]:
        """Return stamp [ns], reception time [ns] and value of each message."""
        if self._numbers is not None:
            found = self._numbers.decode(messages, report, topic)
            return list(zip(found.stamps.tolist(), found.received.tolist(), found.values[:, 0].tolist()))
        values: list[tuple[int, int, str | float]] = []
        for index in range(len(messages)):
            data = messages.data(index)
            try:
                layout = walk(data, self._type, self._definitions, self._ros1)
                if self._path not in layout.texts:
                    layout.place(self._path)
                    # A number, as in thousands of joystick messages: decoded in bulk instead of one by one.
                    self._numbers = self._decoder()
                    return values + self.read(messages.after(index), report, topic)
                received = int(messages.received[index])
                stamp = stamp_of(data, layout) if self._by_header else received
            except Undecodable as error:
                report.add('message', topic, str(error), 1, messages.place(index))
                continue
            values.append((stamp, received, layout.texts[self._path]))
            report.took(topic, 1)
        return values

    def _decoder(self) -> ScalarDecoder:
        return ScalarDecoder(
            *(self._type, self._definitions, Reading()),
            by_header=self._by_header,
            ros1=self._ros1,
            paths=[self._path],
        )


def stamp_of(data: bytes, layout: Layout) -> int:
    """Return the header stamp of a message [ns].

    Raises
    ------
    Undecodable
        There is no header, or its stamp is invalid.

    """
    (begin, seconds), (other, nanoseconds) = (layout.place(f'header.stamp.{part}') for part in ('sec', 'nanosec'))
    second = int(np.frombuffer(data, dtype=seconds, count=1, offset=begin)[0])
    nanosecond = int(np.frombuffer(data, dtype=nanoseconds, count=1, offset=other)[0])
    if second < 0 or nanosecond >= NANOSECONDS:
        raise Undecodable('its stamp is invalid')
    return second * NANOSECONDS + nanosecond


def _number(row: np.ndarray, layout: Layout, path: str) -> int:
    offset, code = layout.place(path)
    return int(row[offset : offset + np.dtype(code).itemsize].view(code)[0])
