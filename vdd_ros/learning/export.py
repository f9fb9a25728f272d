"""Export trained networks to ONNX, including normalisation: one call maps measured units to experts."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from vdd_ros.learning.diffusion.denoiser import Denoiser
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.networks import CausalTransformerTrunk, MlpTrunk, PolicyShape
from vdd_ros.learning.vision import VisionEncoder
from vdd_ros.policy.normalization import Normalizer, Normalizers

# The exporter treats a size of one as a constant.
_BATCH = 2


def export_student(student: Student, normalizers: Normalizers) -> bytes:
    """Return a model ``observation -> log_gating, mean, spread``.

    Observations, shape (batch, observation_horizon, observation), and means, shape (batch, expert x
    prediction_horizon x action), are in the units of the contract. ``spread``, shape (batch, expert x parameter),
    contains the covariance parameters of the heads, which `experts.covariance_of` converts. Retired experts are
    removed. Outputs are flat, because a reshape costs as much as a layer of a small network.

    With images there is an input ``image_NAME`` for each, shape (batch, observation_horizon, height, width, channel),
    uint8 or int16, and an output ``features``, shape (batch, observation_horizon, feature).
    """
    student, shape = student.compact(), student.shape
    outputs = ('log_gating', 'mean', 'spread')
    if student.vision is None:
        return _of_windows(_StudentInUnits(student, shape, normalizers), shape, outputs)
    inner = _StudentInUnits(student, shape.encoded(student.vision.size), _encoded(normalizers, student.vision.size))
    return _of_windows(_Seeing(student.vision, inner, features=True), shape, (*outputs, 'features'))


def export_teacher(teacher: Teacher, normalizers: Normalizers) -> tuple[bytes, bytes]:
    """Return a model ``observation -> context``, called once per plan, and one ``noisy, sigma, context -> clean``.

    Actions, shape (batch, chunk), and noise levels are in normalised units. Observations, shape (batch,
    observation_horizon, observation), are in the units of the contract. The context is flat, shape
    (batch, context). Images are inputs of the first model, as in `export_student`.
    """
    denoiser, vision, shape = teacher.denoiser, teacher.vision, teacher.shape
    features = 0 if vision is None else vision.size
    encoder: nn.Module = _EncoderInUnits(denoiser, _encoded(normalizers, features))
    with torch.no_grad():
        context = denoiser.encode(torch.zeros(_BATCH, shape.observation_horizon, shape.observation_size + features))
        flat = context.flatten(start_dim=1)
    if vision is not None:
        encoder = _Seeing(vision, encoder)
    encoding = _of_windows(encoder, shape, ('context',))
    answering = _export(
        _AnswerOfContext(denoiser, context.shape[1:]),
        (torch.zeros(_BATCH, shape.action_size), torch.tensor(1.0), flat),
        names=('noisy', 'sigma', 'context'),
        outputs=('clean',),
        batched=('noisy', 'context'),
    )
    return encoding, answering


def _of_windows(module: nn.Module, shape: PolicyShape, outputs: tuple[str, ...]) -> bytes:
    """Export a network whose inputs are windows of numbers and images."""
    window = torch.zeros(_BATCH, shape.observation_horizon, shape.observation_size)
    images = [
        torch.zeros(
            *(_BATCH, shape.observation_horizon, each.height, each.width, each.channels),
            dtype=torch.int16 if each.depth else torch.uint8,
        )
        for each in shape.images
    ]
    names = ('observation', *(f'image_{each.name}' for each in shape.images))
    return _export(module, (window, *images), names=names, outputs=outputs, batched=names)


def _encoded(normalizers: Normalizers, features: int) -> Normalizers:
    """Return the normalisers of observations with features of images among the numbers, which stay as they are."""
    given = normalizers.observation
    offset, scale = np.append(given.offset, np.zeros(features)), np.append(given.scale, np.ones(features))
    return Normalizers(Normalizer(offset, scale), normalizers.action)


class _Seeing(nn.Module):
    """Puts an encoder of images before a network over windows of numbers."""

    def __init__(self, vision: VisionEncoder, inner: nn.Module, *, features: bool = False) -> None:
        super().__init__()
        self.vision, self.inner, self._gives_features = _for_export(vision), inner, features

    def forward(self, observation: Tensor, *images: Tensor) -> tuple[Tensor, ...]:
        named = {shape.name: image for shape, image in zip(self.vision.images, images)}
        features = self.vision.encode(named)
        found = self.inner(torch.cat([observation, features], dim=-1))
        return (*found, features) if self._gives_features else found


_SMALLEST = 2.0**-16
"""Added to the variance by the second operator of `ExportedGroupNorm`; the sum is exactly 1. Some versions of torch
refuse 0."""


class ExportedGroupNorm(nn.Module):
    """A group normalisation by the operators that onnxruntime evaluates fastest, with equal results.

    The exporter would write scale and shift as two operators, and read the shape of the maps in every call.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        """Copy the weights of a trained normalisation."""
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer('mean', torch.zeros(norm.num_channels))
        self.register_buffer('variance', torch.full((norm.num_channels,), 1.0 - _SMALLEST))

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps of shape (batch, channel, row, column)."""
        unit = nn.functional.instance_norm(maps.unflatten(1, (self.groups, -1)).flatten(2), eps=self.eps)
        return nn.functional.batch_norm(
            unit.reshape(-1, *maps.shape[1:]), self.mean, self.variance, self.weight, self.bias, eps=_SMALLEST
        )


def _for_export(vision: VisionEncoder) -> VisionEncoder:
    """Return a copy of an encoder with `ExportedGroupNorm` in place of group normalisation."""
    vision = copy.deepcopy(vision)
    for module in list(vision.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, ExportedGroupNorm(child))
    return vision


class _Affine(nn.Module):
    """A normalizer as the first layer of a network."""

    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        self.register_buffer('offset', torch.as_tensor(normalizer.offset, dtype=torch.float32))
        self.register_buffer('scale', torch.as_tensor(normalizer.scale, dtype=torch.float32))

    def normalize(self, values: Tensor) -> Tensor:
        return (values - self.offset) / self.scale


class _StudentInUnits(nn.Module):
    """A student with a minimum number of operations: at batch size one, the overhead of each exceeds its arithmetic.

    Affine operations are merged into one layer: the normalisation of observations with the encoder and first layer of
    an MLP, and all heads with each other and with the denormalisation of actions.
    """

    def __init__(self, student: Student, shape: PolicyShape, normalizers: Normalizers) -> None:
        super().__init__()
        settings = student.settings
        self.features = _features(student.trunk, shape, normalizers)
        self.own = None if student.gating_trunk is None else _features(student.gating_trunk, shape, normalizers)
        self.gating = student.gating_head if self.own is not None else None
        self.steps, self.experts = shape.action_size // len(normalizers.action.scale), settings.experts
        scale = torch.as_tensor(normalizers.action.scale, dtype=torch.float32).repeat(settings.experts * self.steps)
        offset = torch.as_tensor(normalizers.action.offset, dtype=torch.float32).repeat(settings.experts * self.steps)
        mean = student.mean_head
        parts = [(mean.weight * scale[:, None], mean.bias * scale + offset)]
        # Grouped by expert, scales first: one row of the output is the covariance of one expert.
        spread = [(head.weight, head.bias) for head in (student.scale_head, student.factor_head) if head is not None]
        weights, biases = ([part.unflatten(0, (self.experts, -1)) for part in each] for each in zip(*spread))
        parts.append((torch.cat(weights, dim=1).flatten(end_dim=1), torch.cat(biases, dim=1).flatten()))
        self.sizes = [len(bias) for _, bias in parts]
        if self.own is None:
            head = student.gating_head
            none = (torch.zeros(self.experts, settings.trunk.width), torch.zeros(self.experts))
            parts.append(none if head is None else (head.weight, head.bias))
            self.sizes.append(self.experts)
        self.heads = nn.Linear(settings.trunk.width, sum(self.sizes))
        with torch.no_grad():
            self.heads.weight.copy_(torch.cat([weight for weight, _ in parts]))
            self.heads.bias.copy_(torch.cat([bias for _, bias in parts]))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread, *gating = self.heads(self.features(observation)).split(self.sizes, dim=-1)
        logits = gating[0] if self.own is None else self.gating(self.own(observation))
        return logits.log_softmax(dim=-1), mean, spread


class _MlpFeatures(nn.Module):
    """The layers without query, for observations in the units of the contract; the first includes all affine maps."""

    def __init__(self, trunk: MlpTrunk, shape: PolicyShape, normalizers: Normalizers) -> None:
        super().__init__()
        self.trunk = trunk
        self.first = self._fold(shape, _Affine(normalizers.observation))

    @torch.no_grad()
    def _fold(self, shape: PolicyShape, observation: _Affine) -> nn.Linear:
        # In double precision, since windows far from zero differ by little.
        size = shape.observation_horizon * shape.observation_size
        trunk, observation = copy.deepcopy(self.trunk).double(), observation.double()
        rows = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().unflatten(1, (-1, shape.observation_size))
        value = trunk.window(trunk.encoder(observation.normalize(rows)).flatten(start_dim=1))
        first = nn.Linear(size, value.shape[1])
        first.weight.copy_((value[1:] - value[0]).T)
        first.bias.copy_(value[0])
        return first

    def forward(self, observation: Tensor) -> Tensor:
        return self.trunk.activate(self.first(observation.flatten(start_dim=1)))


class _TransformerFeatures(nn.Module):
    """The blocks without query, for observations in the units of the contract.

    Tokens of all windows are in one matrix, (batch x token, width), so that biases are part of the products. The last
    block computes only the last token, which provides the features.
    """

    def __init__(self, trunk: CausalTransformerTrunk, shape: PolicyShape, normalizers: Normalizers) -> None:
        super().__init__()
        self.trunk = trunk
        self.observation = _Affine(normalizers.observation)
        self.tokens = shape.observation_horizon
        scales = [1 / math.sqrt(block.projection.in_features // block.heads) for block in trunk.blocks]
        self.projections = nn.ModuleList(
            _scaled_query(block.projection, scale) for block, scale in zip(trunk.blocks, scales)
        )
        self.register_buffer('mask', torch.full((self.tokens, self.tokens), -torch.inf).triu(1))

    def forward(self, observation: Tensor) -> Tensor:
        trunk = self.trunk
        stream = trunk.window(trunk.encoder(self.observation.normalize(observation))) + trunk.position
        stream = stream.flatten(end_dim=1)
        for block, projection in zip(trunk.blocks, self.projections):
            last = block is trunk.blocks[-1]
            heads, width = block.heads, stream.shape[-1]
            parts = projection(block.attention_norm(stream)).reshape(-1, self.tokens, 3 * heads, width // heads)
            query, key, value = parts.transpose(1, 2).split(heads, dim=1)
            if last:
                query, stream = query[:, :, -1:], stream.reshape(-1, self.tokens, width)[:, -1]
            weight = query @ key.transpose(-1, -2)
            weight = (weight if last else weight + self.mask).softmax(dim=-1)
            stream = stream + block.output((weight @ value).transpose(1, 2).reshape(-1, width))
            stream = stream + block.feedforward(stream)
        return trunk.norm(stream)


@torch.no_grad()
def _scaled_query(projection: nn.Linear, scale: float) -> nn.Linear:
    """Return a projection to queries, keys and values with the scale of attention included in the queries."""
    scaled = copy.deepcopy(projection)
    for rows in (scaled.weight, scaled.bias):
        rows[: projection.in_features] *= scale
    return scaled


def _features(trunk: MlpTrunk | CausalTransformerTrunk, shape: PolicyShape, normalizers: Normalizers) -> nn.Module:
    kind = _MlpFeatures if isinstance(trunk, MlpTrunk) else _TransformerFeatures
    return kind(trunk, shape, normalizers)


class _EncoderInUnits(nn.Module):
    def __init__(self, denoiser: Denoiser, normalizers: Normalizers) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.observation = _Affine(normalizers.observation)

    def forward(self, observation: Tensor) -> Tensor:
        return self.denoiser.encode(self.observation.normalize(observation)).flatten(start_dim=1)


class _AnswerOfContext(nn.Module):
    def __init__(self, denoiser: Denoiser, context: torch.Size) -> None:
        super().__init__()
        self.denoiser, self._context = denoiser, context

    def forward(self, noisy: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        return self.denoiser.answer(context.reshape(-1, *self._context), noisy, sigma)


def _dynamic(module: nn.Module, shapes: tuple) -> tuple:
    """Return which axes vary, in the structure of the arguments: images are one argument of variable length."""
    return (shapes[0], shapes[1:]) if isinstance(module, _Seeing) else shapes


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    batched: tuple[str, ...],
) -> bytes:
    batch = torch.export.Dim('batch')
    exporter = logging.getLogger('torch.onnx')
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        # The exporter prints progress to stdout, and warns about operators that these networks do not use.
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=_dynamic(module, tuple({0: batch} if name in batched else None for name in names)),
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    return program.model_proto.SerializeToString()
