"""From trained networks to ONNX: normalisation included, so that one call maps measured units to experts."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings

import torch
from torch import Tensor, nn

from vdd_ros.learning.diffusion.denoiser import Denoiser
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.networks import CausalTransformerTrunk, MlpTrunk, PolicyShape
from vdd_ros.policy.normalization import Normalizer, Normalizers

# The exporter takes a size of one for a constant.
_BATCH = 2


def export_student(student: Student, normalizers: Normalizers) -> bytes:
    """Return a model ``observation -> log_gating, mean, spread``.

    Observations, shape (batch, observation_horizon, observation), and means, shape (batch, expert x
    prediction_horizon x action), are in the units of the contract. ``spread``, shape (batch, expert x parameter), is
    what the covariances are made of, as the heads give it: `experts.covariance_of` makes them, for who asks. Retired
    experts are left out. Outputs are flat, since a shape costs as much as a layer of a small network.
    """
    window = torch.zeros(_BATCH, student.shape.observation_horizon, student.shape.observation_size)
    return _export(
        _StudentInUnits(student.compact(), normalizers),
        (window,),
        names=('observation',),
        outputs=('log_gating', 'mean', 'spread'),
        batched=('observation',),
    )


def export_denoiser(denoiser: Denoiser, normalizers: Normalizers, shape: PolicyShape) -> tuple[bytes, bytes]:
    """Return a model ``observation -> context``, called once for a plan, and one ``noisy, sigma, context -> clean``.

    Actions, shape (batch, chunk), are in normalised units, in which noise levels are meant; observations, shape
    (batch, observation_horizon, observation), are in the units of the contract. The context is flat, shape
    (batch, context).
    """
    window = torch.zeros(_BATCH, shape.observation_horizon, shape.observation_size)
    encoder = _EncoderInUnits(denoiser, normalizers)
    with torch.no_grad():
        context = denoiser.encode(window)
        flat = context.flatten(start_dim=1)
    encoding = _export(encoder, (window,), names=('observation',), outputs=('context',), batched=('observation',))
    answering = _export(
        _AnswerOfContext(denoiser, context.shape[1:]),
        (torch.zeros(_BATCH, shape.action_size), torch.tensor(1.0), flat),
        names=('noisy', 'sigma', 'context'),
        outputs=('clean',),
        batched=('noisy', 'context'),
    )
    return encoding, answering


class _Affine(nn.Module):
    """A normaliser as the first step of a network."""

    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        self.register_buffer('offset', torch.as_tensor(normalizer.offset, dtype=torch.float32))
        self.register_buffer('scale', torch.as_tensor(normalizer.scale, dtype=torch.float32))

    def normalize(self, values: Tensor) -> Tensor:
        return (values - self.offset) / self.scale


class _StudentInUnits(nn.Module):
    """A student with as few operations as its answer takes: at batch one, each costs more than its arithmetic.

    What is affine is folded into one layer: the normalisation of observations with an MLP's encoder and first layer,
    all heads with each other and with the denormalisation of actions.
    """

    def __init__(self, student: Student, normalizers: Normalizers) -> None:
        super().__init__()
        settings, shape = student.settings, student.shape
        self.features = _features(student.trunk, shape, normalizers)
        self.own = None if student.gating_trunk is None else _features(student.gating_trunk, shape, normalizers)
        self.gating = student.gating_head if self.own is not None else None
        self.steps, self.experts = shape.action_size // len(normalizers.action.scale), settings.experts
        scale = torch.as_tensor(normalizers.action.scale, dtype=torch.float32).repeat(settings.experts * self.steps)
        offset = torch.as_tensor(normalizers.action.offset, dtype=torch.float32).repeat(settings.experts * self.steps)
        mean = student.mean_head
        parts = [(mean.weight * scale[:, None], mean.bias * scale + offset)]
        # By expert, scales first: one expert's row of the output is one expert's covariance.
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
    """Layers without query, from observations in the units of the contract; the first has all that is affine in it."""

    def __init__(self, trunk: MlpTrunk, shape: PolicyShape, normalizers: Normalizers) -> None:
        super().__init__()
        self.trunk = trunk
        self.first = self._fold(shape, _Affine(normalizers.observation))

    @torch.no_grad()
    def _fold(self, shape: PolicyShape, observation: _Affine) -> nn.Linear:
        # In double precision, since windows differ by little where they stand far from zero.
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
    """Blocks without query, from observations in the units of the contract.

    Tokens of all windows lie in one matrix, (batch x token, width), so that biases are added in the products; the last
    block computes the last token alone, whose features are asked for.
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
    """Return a projection to queries, keys and values whose queries are scaled as attention asks for."""
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
        # The exporter tells its progress on stdout, and warns of what it lacks for networks that are not these.
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: batch} if name in batched else None for name in names),
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    return program.model_proto.SerializeToString()
