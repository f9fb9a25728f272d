"""Encoders of images (ResNet-18 with group normalisation, and a light network for CPUs) and of point sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.networks import ImageShape, PolicyShape
from vdd_ros.learning.observation import AnyWindows, SeenWindows
from vdd_ros.learning.training import read_tensors

_CHANNELS_OF_A_GROUP = 16
_STAGES = (64, 128, 256, 512)
_LIGHT = ((16, 5), (32, 3), (64, 3), (64, 3))
"""Channels and kernel of each convolution of the light encoder; all but the last halve the size."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet colours; published weights expect images normalised by them."""
_METER = 1000.0
_POINT_WIDTHS = (64, 128, 256)
"""Features of each point after each layer."""
_STATISTICS = 2
"""Number of fixed features of an image, in addition to the learned ones: brightness and contrast."""
_AT_ONCE = 256
"""Number of windows that are encoded at once if the encoder is not trained."""


class VisionSettings(Settings):
    """The image encoder, and the random variation of images in training."""

    encoder: Literal['resnet18', 'light'] = 'resnet18'
    """`resnet18`: ResNet-18 with group normalisation (Chi et al. 2023). `light`: four convolutions, for policies on a
    CPU. Point clouds have a separate encoder (PointNet)."""
    keypoints: int = Field(32, ge=1)
    """Number of keypoints of the spatial softmax (Finn et al. 2016)."""
    features: int = Field(64, ge=1)
    """Number of learned features of an image, in addition to its brightness and contrast."""
    shared: bool = False
    """Whether all images of one kind (number of channels; colour, depth or points) share an encoder."""
    weights: str = ''
    """File with initial weights for `resnet18`: .safetensors, or .pt and .pth that contain only tensors. Names are
    those of torchvision and timm. Empty: random weights."""
    crop: float = Field(0.9, gt=0, le=1)
    """Share of height and width that the encoder receives: a random part in training, the central part in inference."""
    jitter: float = Field(0.2, ge=0, lt=1)
    """Maximum relative change of brightness, contrast and saturation in training."""

    @property
    def restored(self) -> VisionSettings:
        """Settings of an encoder whose state is loaded, so no weight file is needed."""
        return self.model_copy(update={'weights': ''})

    def seen(self, image: ImageShape) -> tuple[int, int]:
        """Return the number of rows and columns of the crop that the encoder receives; all points of a point set."""
        if image.points:
            return image.height, image.width
        return max(1, round(self.crop * image.height)), max(1, round(self.crop * image.width))


class SpatialSoftmax(nn.Module):
    """Expected positions of keypoints: each channel is a distribution over the pixels (Finn et al. 2016)."""

    def __init__(self, channels: int, keypoints: int) -> None:
        """Create the layer for a number of input channels and of keypoints."""
        super().__init__()
        self.score = nn.Conv2d(channels, keypoints, 1)

    def forward(self, maps: Float[Tensor, 'batch channel row column']) -> Float[Tensor, 'batch place']:
        """Return the row and the column of each keypoint, both from -1 to 1: row 0, column 0, row 1, and so on."""
        rows, columns = maps.shape[-2:]
        weight = self.score(maps).flatten(start_dim=2).softmax(dim=-1)
        row, column = (
            torch.linspace(-1.0, 1.0, size, device=maps.device, dtype=maps.dtype) for size in (rows, columns)
        )
        places = torch.stack([row[:, None].expand(rows, columns), column.expand(rows, columns)], dim=-1)
        return (weight @ places.reshape(-1, 2)).flatten(start_dim=1)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation that reads and writes bfloat16 on a GPU, with statistics in float32.

    In mixed precision, torch converts the maps to float32 and back, which takes longer than the normalisation.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not maps.is_cuda or maps.dtype != torch.bfloat16:
            return super().forward(maps)
        weight, bias = (values.to(maps.dtype) for values in (self.weight, self.bias))
        with torch.autocast('cuda', enabled=False):
            return nn.functional.group_norm(maps, self.num_groups, weight, bias, self.eps)


def _norm(channels: int) -> nn.GroupNorm:
    return _GroupNorm(max(1, channels // _CHANNELS_OF_A_GROUP), channels)


class _ResidualBlock(nn.Module):
    """Two convolutions and a shortcut around them; names as in torchvision, so that published weights fit."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _norm(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(maps)).relu()
        return (self.bn2(self.conv2(inner)) + self.downsample(maps)).relu()


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016) with group normalisation, from images to maps of 512 channels at 1/32 of the size.

    Batch normalisation would have running statistics, which contradict averaged weights (Chi et al. 2023).
    """

    channels = _STAGES[-1]
    """Channels of the maps."""

    def __init__(self, channels: int) -> None:
        """Create the network for images with a number of channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _STAGES[0], 7, 2, padding=3, bias=False)
        self.bn1 = _norm(_STAGES[0])
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs = _STAGES[0]
        for number, outputs in enumerate(_STAGES, 1):
            first = _ResidualBlock(inputs, outputs, 1 if number == 1 else 2)
            setattr(self, f'layer{number}', nn.Sequential(first, _ResidualBlock(outputs, outputs, 1)))
            inputs = outputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, image: Float[Tensor, 'batch channel height width']) -> Float[Tensor, 'batch feature row column']:
        """Compute the maps."""
        maps = self.maxpool(self.bn1(self.conv1(image)).relu())
        for number in range(1, len(_STAGES) + 1):
            maps = getattr(self, f'layer{number}')(maps)
        return maps

    def load(self, path: str | Path) -> None:
        """Load published weights with the names of torchvision and timm.

        Scales and shifts of batch normalisation become those of group normalisation. Running statistics and the last,
        linear layer are ignored. For images with one channel, the first convolution is the mean over the colours.

        Raises
        ------
        ConfigurationError
            The file cannot be read, or lacks a weight.

        """
        given = _weights(Path(path))
        state = self.state_dict()
        missing = [name for name in state if name not in given]
        if missing:
            raise ConfigurationError(
                expected=f'weights of a ResNet-18 at {path}',
                found=f'none of the name {missing[0]}',
                remedy='give a file with the names of torchvision or timm',
            )
        taken = {name: given[name] for name in state}
        first = taken['conv1.weight']
        if first.shape[1] != state['conv1.weight'].shape[1]:
            taken['conv1.weight'] = first.mean(dim=1, keepdim=True).expand_as(state['conv1.weight'])
        wrong = [name for name, value in taken.items() if value.shape != state[name].shape]
        if wrong:
            raise ConfigurationError(
                expected=f'{wrong[0]} of shape {tuple(state[wrong[0]].shape)} at {path}',
                found=f'{tuple(taken[wrong[0]].shape)}',
                remedy='give the weights of a ResNet-18',
            )
        self.load_state_dict(taken)


def _weights(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == '.safetensors':
            found = read_tensors(path)
        else:
            found = torch.load(path, map_location='cpu', weights_only=True)
            found = found.get('state_dict', found)
    except Exception as error:  # torch and safetensors raise classes without a common base
        raise ConfigurationError(
            expected=f'a file of weights at {path}',
            found=' '.join(str(error).split())[:160],
            remedy='give a .safetensors file, or a .pt file with tensors alone',
        ) from error
    return {name.removeprefix('module.').removeprefix('backbone.'): value for name, value in found.items()}


class LightEncoder(nn.Sequential):
    """Four convolutions, from images to maps of 64 channels at 1/8 of the size."""

    channels = _LIGHT[-1][0]
    """Channels of the maps."""

    def __init__(self, channels: int) -> None:
        """Create the network for images with a number of channels."""
        layers: list[nn.Module] = []
        for number, (outputs, kernel) in enumerate(_LIGHT):
            stride = 1 if number == len(_LIGHT) - 1 else 2
            layers += [nn.Conv2d(channels, outputs, kernel, stride, padding=kernel // 2), _norm(outputs), nn.SiLU()]
            channels = outputs
        super().__init__(*layers)


class _ImageEncoder(nn.Module):
    """From cropped images to features."""

    def __init__(self, settings: VisionSettings, image: ImageShape) -> None:
        super().__init__()
        kind = ResNet18 if settings.encoder == 'resnet18' else LightEncoder
        self.backbone = kind(image.channels)
        self.keypoints = SpatialSoftmax(kind.channels, settings.keypoints)
        self.features = nn.Linear(2 * settings.keypoints, settings.features)
        if settings.weights:
            if not isinstance(self.backbone, ResNet18):
                raise ConfigurationError(
                    expected='encoder resnet18 with `weights`', found='encoder light', remedy='leave one of them out'
                )
            self.backbone.load(settings.weights)
        offset, scale = _normalization(image, published=bool(settings.weights))
        self.register_buffer('offset', offset)
        self.register_buffer('scale', scale)

    def forward(self, image: Shaped[Tensor, 'batch height width channel']) -> Float[Tensor, 'batch feature']:
        # Channels first: an exported network subtracts and multiplies by plane, which is faster than by pixel.
        planes = image.permute(0, 3, 1, 2).to(torch.float32)
        values = (planes - self.offset[:, None, None]) * self.scale[:, None, None]
        features = self.features(self.keypoints(self.backbone(values)))
        return torch.cat([features.to(torch.float32), _statistics(values)], dim=-1)


def _statistics(values: Float[Tensor, 'batch ...']) -> Float[Tensor, 'batch 2']:
    """Return brightness and contrast of images: a norm in the network hides a covered lens from the features."""
    # As sums: an exporter names what `mean` gives like an output of the student.
    flat = values.flatten(start_dim=1)
    middle = flat.sum(dim=-1, keepdim=True) / flat.shape[-1]
    variance = (flat - middle).square().sum(dim=-1, keepdim=True) / flat.shape[-1]
    return torch.cat([middle, variance.sqrt()], dim=-1)


def _normalization(image: ImageShape, *, published: bool) -> tuple[Tensor, Tensor]:
    """Return what is subtracted from pixels, and what they are then multiplied with."""
    if image.depth:
        return torch.full((image.channels,), _METER), torch.full((image.channels,), 1 / _METER)
    if published and image.channels == len(_MEAN):
        return 255 * torch.tensor(_MEAN), 1 / (255 * torch.tensor(_DEVIATION))
    return torch.full((image.channels,), 127.5), torch.full((image.channels,), 1 / 127.5)


class PointEncoder(nn.Module):
    """Maps point sets to features: layers for each point, then the maximum over all points (PointNet, Qi et al. 2017).

    Sizes are those of 3D Diffusion Policy (Ze et al. 2024). The order of the points does not matter.
    """

    def __init__(self, settings: VisionSettings) -> None:
        """Create the network for points x, y and z."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in _POINT_WIDTHS:
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.features = nn.Linear(inputs, settings.features)

    def forward(self, points: Shaped[Tensor, 'batch point 1 3']) -> Float[Tensor, 'batch feature']:
        """Compute the features of points [mm], and their mean and standard deviation over all axes [m]."""
        values = points.flatten(start_dim=1, end_dim=2).to(torch.float32) / _METER
        features = self.features(self.layers(values).amax(dim=1))
        return torch.cat([features.to(torch.float32), _statistics(values)], dim=-1)


class VisionEncoder(nn.Module):
    """Maps windows with images to windows of vectors, by appending the features of all images."""

    def __init__(self, settings: VisionSettings, images: tuple[ImageShape, ...]) -> None:
        """Create an encoder for every image, or, if `VisionSettings.shared`, one for each kind of image.

        Raises
        ------
        ConfigurationError
            The weights cannot be read.

        """
        super().__init__()
        self.settings, self.images = settings, images
        self.size = (settings.features + _STATISTICS) * len(images)
        """Features of all images of one time step."""
        self.mixed = False
        """Whether the encoder computes in bfloat16."""
        makes = [str((each.channels, each.depth, each.points)) if settings.shared else each.name for each in images]
        self._places = [list(dict.fromkeys(makes)).index(make) for make in makes]
        first = [makes.index(make) for make in dict.fromkeys(makes)]
        # The weights of a file lie in the state afterwards, and are not read again.
        self.encoders = nn.ModuleList(
            PointEncoder(settings) if images[place].points else _ImageEncoder(settings, images[place])
            for place in first
        )

    def forward(self, windows: SeenWindows) -> Float[Tensor, 'batch horizon obs']:
        """Append the image features to the observation vectors."""
        return torch.cat([windows.vector, self.encode(windows.images)], dim=-1)

    def encode(
        self, images: Mapping[str, Shaped[Tensor, 'batch horizon height width channel']]
    ) -> Float[Tensor, 'batch horizon feature']:
        """Compute the features of all images; images that are not cropped yet are cropped centrally."""
        return torch.cat([self.encode_one(image.name, images[image.name]) for image in self.images], dim=-1)

    def encode_one(
        self, name: str, pixels: Shaped[Tensor, 'batch horizon height width channel']
    ) -> Float[Tensor, 'batch horizon feature']:
        """Compute the features of the images with a name."""
        number = next(number for number, image in enumerate(self.images) if image.name == name)
        pixels = central(pixels, self.settings.seen(self.images[number]))
        flat = pixels.flatten(end_dim=1)
        with torch.autocast(flat.device.type, torch.bfloat16, enabled=self.mixed):
            features = self.encoders[self._places[number]](flat)
        return features.to(torch.float32).unflatten(0, pixels.shape[:2])


class SeeingModule(nn.Module):
    """A policy with settings and shape, and with an encoder if its windows have images."""

    def __init__(self, settings: Any, shape: PolicyShape) -> None:
        """Create the encoder; ``settings.vision`` has the settings of the encoder."""
        super().__init__()
        self.settings = settings.model_copy(update={'vision': settings.vision.restored})
        self.shape = shape
        self.vision = VisionEncoder(settings.vision, shape.images) if shape.images else None
        """Encodes the images of a window; None without images."""

    @property
    def encoded_shape(self) -> PolicyShape:
        """The shape of windows whose images are replaced by their features."""
        return self.shape if self.vision is None else self.shape.encoded(self.vision.size)


def central(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the central crop of images, shape (batch, horizon, height, width, channel); cropped images unchanged."""
    row, column = ((have - want) // 2 for have, want in zip(pixels.shape[2:4], size))
    return pixels[:, :, row : row + size[0], column : column + size[1]]


def see(vision: VisionEncoder | None, windows: AnyWindows) -> Float[Tensor, 'batch horizon obs']:
    """Return the input of a trunk for windows; windows that are encoded or have no images are returned unchanged."""
    if isinstance(windows, Tensor):
        return windows
    if torch.is_grad_enabled() or len(windows) <= _AT_ONCE:
        return vision(windows)
    return torch.cat([vision(windows[first : first + _AT_ONCE]) for first in range(0, len(windows), _AT_ONCE)])


def jittered(
    pixels: Shaped[Tensor, 'batch horizon height width 3'], most: float, draws: Draws
) -> Shaped[Tensor, 'batch horizon height width 3']:
    """Vary brightness, contrast and saturation of colours, each by up to 1 +- ``most``, equally over a window."""
    factor = 1 + most * (2 * draws.uniform(3, len(pixels), 1, 1, 1, 1, rows=1) - 1)
    brightness, contrast, saturation = factor
    values = pixels.to(torch.float32)
    gray = values.mean(dim=-1, keepdim=True)
    values = gray + saturation * (values - gray)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    values = brightness * (mean + contrast * (values - mean))
    return values.round().clamp(0, 255).to(torch.uint8)
