"""Images of windows on a device: each distinct image is stored once, and varied at each draw or encoded beforehand."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdd_ros.data.decode.frames import RowWindows
from vdd_ros.data.windows import WindowArrays
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.networks import ImageShape
from vdd_ros.learning.observation import AnyWindows, SeenWindows
from vdd_ros.learning.vision import VisionEncoder, VisionSettings, jittered, see
from vdd_ros.policy.normalization import Normalizer
from vdd_ros.policy.observation import AnyObservation, images_of, vector_of

_BATCH = 256
_COPIES = 8
"""Number of random crops of every image for which features are computed."""


def _room(device: torch.device | None) -> int:
    """Return how many bytes of images a device may hold."""
    if device is not None and device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] // 2
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 4


class _Stream:
    """The images of one camera: in the memory of the device, or where they are mapped if they are too many for it."""

    def __init__(self, windows: RowWindows, shape: ImageShape, device: torch.device | None, room: int | None) -> None:
        (frames,) = windows.rows.parts
        number: dict[int, int] = {}
        rows = [frames.rows[place] for place in range(len(frames))]
        distinct = []
        for row in rows:
            if id(row) not in number:
                number[id(row)] = len(distinct)
                distinct.append(row)
        self.shape, self._size = shape, (shape.height, shape.width, shape.channels)
        self._rows, self._device = distinct, device
        self.count = len(distinct)
        """Number of distinct images."""
        fits = len(distinct) * distinct[0].nbytes <= (_room(device) if room is None else room)
        self._pixels = torch.as_tensor(self._stacked(range(len(distinct))), device=device) if fits else None
        place = np.array([number[id(row)] for row in rows], dtype=np.int64)
        self.places = torch.as_tensor(place[windows.places], device=device)

    def _stacked(self, places: Sequence[int]) -> np.ndarray:
        held = np.empty((len(places), *self._size), dtype=self._rows[0].dtype)
        for number, place in enumerate(places):
            held[number] = self._rows[place].reshape(self._size)
        return held

    def _taken(self, places: Int[Tensor, 'batch horizon']) -> tuple[Tensor, Tensor]:
        """Return pixels on the device, and which of them are at the places."""
        if self._pixels is not None:
            return self._pixels, places
        wanted, inverse = np.unique(places.cpu().numpy(), return_inverse=True)
        pixels = torch.as_tensor(self._stacked(wanted.tolist()))
        if self._device is not None and self._device.type == 'cuda':
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels, torch.as_tensor(inverse.reshape(places.shape), device=places.device)

    def cropped(
        self, places: Int[Tensor, 'batch horizon'], size: tuple[int, int], offset: Float[Tensor, '2 batch'] | None
    ) -> Tensor:
        """Return crops of the images with indices ``places``, at offsets in [0, 1] of the margin; None: centre."""
        room = self.shape.height - size[0], self.shape.width - size[1]
        device = places.device
        pixels, places = self._taken(places)
        if offset is None:
            starts = [torch.full((len(places),), each // 2, device=device) for each in room]
        else:
            starts = [(share * (each + 1)).long().clamp(max=each) for share, each in zip(offset, room)]
        rows, columns = (start[:, None] + torch.arange(length, device=device) for start, length in zip(starts, size))
        return pixels[places[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


class ImageWindows:
    """A source of the images of training windows, cropped and varied at random."""

    def __init__(
        self,
        images: Mapping[str, RowWindows],
        shapes: tuple[ImageShape, ...],
        settings: VisionSettings,
        device: torch.device | None = None,
        room: int | None = None,
    ) -> None:
        """Copy the images to the memory of a device, if they fit.

        If the images of a camera exceed ``room`` bytes, by default half of the free memory of the device, they are not
        copied. Images are then read for each batch.
        """
        self.settings = settings
        self._streams = [_Stream(images[shape.name], shape, device, room) for shape in shapes]

    def draw(self, index: Int[Tensor, 'batch'], generator: torch.Generator | Draws | None) -> dict[str, Tensor]:
        """Return images of some windows by name, cropped and varied at random; without a generator, central crops."""
        found = {}
        for stream in self._streams:
            places = stream.places[index]
            found[stream.shape.name] = self._varied(stream, places, generator)
        return found

    def _varied(self, stream: _Stream, places: Tensor, generator: torch.Generator | Draws | None) -> Tensor:
        size = self.settings.seen(stream.shape)
        if generator is None:
            return stream.cropped(places, size, None)
        draws = Draws.of(generator)
        offset = draws.uniform(2, len(places), rows=1)
        pixels = stream.cropped(places, size, offset)
        if self.settings.jitter and not stream.shape.depth:
            pixels = jittered(pixels, self.settings.jitter, draws)
        return pixels

    @torch.no_grad()
    def encoded(self, vision: VisionEncoder, generator: torch.Generator | None, copies: int = _COPIES) -> EncodedImages:
        """Compute features of every distinct image for random crops, or without a generator for the central crop."""
        features = []
        for stream in self._streams:
            every = torch.arange(stream.count, device=stream.places.device)[:, None]
            found = []
            for _ in range(copies if generator is not None else 1):
                parts = (self._varied(stream, part, generator) for part in every.split(_BATCH))
                found.append(torch.cat([vision.encode_one(stream.shape.name, part)[:, 0] for part in parts]))
            features.append(torch.stack(found))
        return EncodedImages(features, [stream.places for stream in self._streams])


class EncodedImages:
    """Features of all images, computed by a frozen encoder."""

    def __init__(self, features: list[Float[Tensor, 'copy image feature']], places: list[Tensor]) -> None:
        """Store features; `places` contains the index of the image at each time step of every window."""
        self._features, self._places = features, places

    def draw(
        self, index: Int[Tensor, 'batch'], generator: torch.Generator | Draws | None
    ) -> Float[Tensor, 'batch horizon feature']:
        """Return the features of some windows for a random crop of each image; without a generator the first crop."""
        copies, count = len(self._features[0]), len(index)
        chosen = torch.zeros(count, dtype=torch.long, device=index.device)
        if generator is not None:
            chosen = Draws.of(generator).integers(copies, count)
        found = [each[chosen[:, None], place[index]] for each, place in zip(self._features, self._places)]
        return torch.cat(found, dim=-1)


def windows_on(observation: AnyObservation, normalizer: Normalizer, device: torch.device) -> AnyWindows:
    """Return windows on a device: normalised vectors, shape (batch, observation_horizon, observation), and images."""
    normalized = normalizer.normalize(np.asarray(vector_of(observation)))
    vector = torch.as_tensor(normalized, dtype=torch.float32, device=device)
    images = {name: torch.as_tensor(held, device=device) for name, held in images_of(observation).items()}
    return SeenWindows(vector, images) if images else vector


class Seeing:
    """Converts windows in the units of the contract to inputs of a trunk: normalised, with images as features."""

    def __init__(self, vision: VisionEncoder | None, normalizer: Normalizer, device: torch.device) -> None:
        """Set the image encoder, which is on a device while in use, and the normaliser."""
        self._vision = None if vision is None else copy.deepcopy(vision).to(device).requires_grad_(False)
        self._normalizer, self._device = normalizer, device

    def __getstate__(self) -> dict[str, Any]:
        """Make the object picklable for other processes and computers, where it runs on the CPU."""
        vision = None if self._vision is None else copy.deepcopy(self._vision).cpu()
        return {**vars(self), '_vision': vision, '_device': torch.device('cpu')}

    @torch.no_grad()
    def __call__(self, observation: AnyObservation) -> Float[Tensor, 'batch horizon obs']:
        """Encode windows of shape (batch, observation_horizon, observation) on the device."""
        parts = [observation[first : first + _BATCH] for first in range(0, len(observation), _BATCH)]
        return torch.cat([see(self._vision, windows_on(part, self._normalizer, self._device)) for part in parts])

    @torch.no_grad()
    def all(self, windows: WindowArrays) -> np.ndarray:
        """Encode all windows of demonstrations, every image once; shape (window, horizon, obs), in double precision."""
        vector = self._normalizer.normalize(np.asarray(windows.observation))
        if self._vision is None:
            return vector
        images = ImageWindows(windows.images, self._vision.images, self._vision.settings, self._device)
        every = torch.arange(len(vector), device=self._device)
        features = images.encoded(self._vision, None).draw(every, None)
        return np.concatenate([vector, features.cpu().numpy().astype(np.float64)], axis=-1)
