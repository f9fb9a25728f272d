"""Encoders and trunks of teacher and student: from an observation window to features."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings


@dataclass(frozen=True)
class ImageShape:
    """Shape of one image of an observation, derived from the contract."""

    name: str
    height: int
    """Rows [pixels]."""
    width: int
    """Columns [pixels]."""
    channels: int
    depth: bool = False
    """Whether the pixel values are distances [mm]."""
    points: bool = False
    """Whether the image is a set of points [mm]: ``height`` points, one column, and 3 channels x, y and z."""


@dataclass(frozen=True)
class PolicyShape:
    """The input and output sizes of a policy, given by the contract."""

    observation_horizon: int
    """Number of time steps in a window."""
    observation_size: int
    """Number of values in the observation of one time step."""
    action_size: int
    """Number of values in a flattened action chunk: prediction horizon x action size."""
    steps: int = 1
    """Number of steps in a chunk, for networks over steps."""
    images: tuple[ImageShape, ...] = ()
    """Images of each time step, in addition to the observation vector."""

    def encoded(self, features: int) -> PolicyShape:
        """Return the input shape of the trunk: image features are appended to the observation."""
        return replace(self, observation_size=self.observation_size + features, images=())


class TrunkSettings(Settings):
    """The network that maps a window to features."""

    kind: Literal['mlp', 'residual', 'transformer', 'unet', 'chunk_transformer'] = 'mlp'
    """`mlp`: plain layers; `residual`: residual layers; `transformer`: causal over time steps. Only for teachers, over
    the steps of a chunk: `unet`, convolutions (Chi et al. 2023), and `chunk_transformer` (Peebles and Xie 2023)."""
    width: int = Field(256, ge=1)
    """Features per layer; for `unet` at the highest resolution, doubled at each lower one."""
    depth: int = Field(3, ge=1)
    """Number of hidden layers, blocks, or resolutions of a `unet`."""
    heads: int = Field(4, ge=1)
    """Attention heads of a transformer; must divide the width."""
    kernel: int = Field(5, ge=1)
    """Kernel size of the convolutions of a `unet`; odd."""
    window: Literal['absolute', 'difference'] = 'absolute'
    """`absolute`: time steps unchanged. `difference`: the last time step unchanged, older ones relative to the last."""
    difference_scale: float = Field(10.0, gt=0)
    """Factor on the differences, since motion within a window is small."""

    @model_validator(mode='after')
    def _heads_divide_width(self) -> TrunkSettings:
        if self.kind in ('transformer', 'chunk_transformer') and self.width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {self.width}')
        return self

    @model_validator(mode='after')
    def _kernel_has_a_middle(self) -> TrunkSettings:
        if self.kernel % 2 == 0:
            raise ValueError(f'a kernel size of {self.kernel} is not odd')
        return self

    @property
    def denoises_chunks(self) -> bool:
        """Whether the network works on the steps of a chunk, which is only possible for teachers."""
        return self.kind in ('unet', 'chunk_transformer')


def reduced(like: Tensor, enabled: bool) -> torch.autocast:
    """Return a context in which layers compute in bfloat16 on the device of a tensor; weights and sums stay float32."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=enabled)


_SILU_GAIN = 1.6765
"""Factor that preserves unit variance through a SiLU: inverse root of its mean squared output for normal input."""


class WindowEncoder(nn.Module):
    """Returns a window as it is, or its older time steps as scaled differences to the newest; nothing is learned."""

    def __init__(self, settings: TrunkSettings) -> None:
        """Select absolute time steps, or differences to the last time step."""
        super().__init__()
        self._relative = settings.window == 'difference'
        self._scale = settings.difference_scale

    def forward(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch horizon obs']:
        """Encode windows with time steps in ascending order."""
        if not self._relative:
            return observation
        newest = observation[:, -1:]
        return torch.cat([(observation[:, :-1] - newest) * self._scale, newest], dim=1)


class NoiseEmbedding(nn.Module):
    """Smooth features of a noise level: log sigma and its sines, over octaves from sigma 1e-3 to 1e3."""

    octaves = 5
    size = 1 + 2 * octaves

    def __init__(self) -> None:
        """Create the frequencies, which are not part of the state."""
        super().__init__()
        self.register_buffer('frequency', 2.0 ** torch.arange(self.octaves), persistent=False)

    def forward(self, sigma: Float[Tensor, '*sample']) -> Float[Tensor, '*sample feature']:
        """Embed noise levels above zero."""
        level = sigma.log()[..., None] / 4
        phase = level * self.frequency
        return torch.cat([level, phase.sin(), phase.cos()], dim=-1)


class MlpTrunk(nn.Module):
    """Layers over the flattened window and, for a teacher, a query: noisy action and noise level.

    The first layer is split, so each window is encoded once for many queries.
    """

    def __init__(self, settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> None:
        """Create the layers; with `query_size` 0 the features depend on the window only."""
        super().__init__()
        inputs = shape.observation_horizon * shape.observation_size
        self.encoder = WindowEncoder(settings)
        self.window = nn.Linear(inputs, settings.width)
        self.query = nn.Linear(query_size, settings.width, bias=False) if query_size else None
        self.layers = nn.ModuleList(nn.Linear(settings.width, settings.width) for _ in range(settings.depth - 1))
        # Twice as fast as Mish in onnxruntime, at equal quality.
        self.activation = nn.SiLU()
        self._residual = settings.kind == 'residual'
        self._keep_variance(inputs + query_size)

    def _keep_variance(self, inputs: int) -> None:
        # The default initialisation of torch shrinks the signal in each layer. On a ring of Gaussians, the score error
        # of a teacher was twice as large after the same number of updates.
        first = [self.window] if self.query is None else [self.window, self.query]
        for layer in first:
            nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=_SILU_GAIN / math.sqrt(layer.in_features))

    def forward(
        self,
        observation: Float[Tensor, 'batch horizon obs'],
        query: Float[Tensor, '*sample batch query'] | None = None,
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute the features of windows, one for each query."""
        context = self.encode(observation)
        return self.activate(context) if self.query is None else self.answer(context, query)

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch context']:
        """Compute the part that depends on the window only, once for many queries."""
        return self.window(self.encoder(observation).flatten(start_dim=1))

    def answer(
        self, context: Float[Tensor, 'batch context'], query: Float[Tensor, '*sample batch query']
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute the features of queries, given encoded windows."""
        return self.activate(context + self.query(query))

    @torch.no_grad()
    def answering(self, query: Float[Tensor, 'query']) -> MlpTrunk:
        """Return a trunk without query whose features equal those of this one for a fixed query."""
        trunk = copy.deepcopy(self)
        trunk.window.bias += trunk.query(query)
        trunk.query = None
        return trunk

    def activate(self, stream: Float[Tensor, '*batch feature']) -> Float[Tensor, '*batch feature']:
        """Compute features from the output of the first, affine layer."""
        if self._residual:
            for layer in self.layers:
                stream = stream + layer(self.activation(stream))
            return self.activation(stream)
        stream = self.activation(stream)
        for layer in self.layers:
            stream = self.activation(layer(stream))
        return stream


_SHORT = 16
"""Maximum number of tokens whose attention a GPU computes by elementwise products."""


def attention(
    queries: Float[Tensor, 'batch head token feature'],
    key: Float[Tensor, 'batch head token feature'],
    value: Float[Tensor, 'batch head token feature'],
    *,
    causal: bool,
) -> Float[Tensor, 'batch head token feature']:
    """Compute attention among tokens; with ``causal`` a token attends to earlier tokens and itself only.

    The fused kernels of torch compute blocks of 128 tokens. A GPU is many times as fast with a few tokens by
    elementwise products, which `torch.compile` fuses.
    """
    if queries.is_cuda and queries.shape[-2] <= _SHORT:
        return short_attention(queries, key, value, causal=causal)
    return nn.functional.scaled_dot_product_attention(queries, key, value, is_causal=causal)


def short_attention(queries: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Compute `attention` by elementwise products."""
    weight = (queries[..., :, None, :] * key[..., None, :, :]).sum(dim=-1) / math.sqrt(queries.shape[-1])
    if causal:
        later = torch.ones(weight.shape[-2:], dtype=torch.bool, device=weight.device).triu(diagonal=1)
        weight = weight.masked_fill(later, -math.inf)
    return (weight.softmax(dim=-1)[..., None] * value[..., None, :, :]).sum(dim=-2)


class CausalBlock(nn.Module):
    """Pre-norm attention and feed-forward. Tokens do not attend to a query; the query attends to them and itself."""

    def __init__(self, width: int, heads: int) -> None:
        """Create one block."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.heads = heads

    def advance(
        self, tokens: Float[Tensor, 'batch token width']
    ) -> tuple[Float[Tensor, 'batch token width'], Float[Tensor, 'batch 2 token width']]:
        """Advance tokens by one block; return them, and the keys and values for queries."""
        queries, key, value = self._split(tokens)
        attended = attention(queries.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), causal=True)
        tokens = tokens + self.output(attended.transpose(1, 2).flatten(start_dim=-2))
        seen = torch.stack([key.flatten(start_dim=-2), value.flatten(start_dim=-2)], dim=1)
        return tokens + self.feedforward(tokens), seen

    def attend(
        self, query: Float[Tensor, '*sample batch width'], seen: Float[Tensor, 'batch 2 token width']
    ) -> Float[Tensor, '*sample batch width']:
        """Advance a query, which attends to the tokens and itself."""
        queries, own_key, own_value = self._split(query)
        key, value = seen.unflatten(-1, (self.heads, -1)).unbind(dim=1)
        others = torch.einsum('...bhf,bthf->...bht', queries, key)
        itself = (queries * own_key).sum(dim=-1, keepdim=True)
        weight = (torch.cat([others, itself], dim=-1) / math.sqrt(key.shape[-1])).softmax(dim=-1)
        attended = torch.einsum('...bht,bthf->...bhf', weight[..., :-1], value) + weight[..., -1:] * own_value
        query = query + self.output(attended.flatten(start_dim=-2))
        return query + self.feedforward(query)

    def _split(self, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.projection(self.attention_norm(stream)).unflatten(-1, (3, self.heads, -1))
        return parts.unbind(dim=-3)


class CausalTransformerTrunk(nn.Module):
    """One token per time step and, for a teacher, one for the query; features are those of the last token.

    A query comes last and attention is causal, so the tokens of a window are computed once for many queries.
    """

    def __init__(self, settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> None:
        """Create the blocks; with `query_size` 0 the features depend on the window only."""
        super().__init__()
        self.encoder = WindowEncoder(settings)
        self.window = nn.Linear(shape.observation_size, settings.width)
        self.query = nn.Linear(query_size, settings.width) if query_size else None
        self.position = nn.Parameter(0.02 * torch.randn(shape.observation_horizon, settings.width))
        self.blocks = nn.ModuleList(CausalBlock(settings.width, settings.heads) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(settings.width)

    def forward(
        self,
        observation: Float[Tensor, 'batch horizon obs'],
        query: Float[Tensor, '*sample batch query'] | None = None,
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute the features of windows, one for each query."""
        if query is not None and query.ndim > 2:
            return self.answer(self.encode(observation), query)
        tokens = self._tokens(observation)
        if query is not None:  # one query per window is appended as a token: half as many operations
            tokens = torch.cat([tokens, self.query(query)[:, None]], dim=1)
        for block in self.blocks:
            tokens, _ = block.advance(tokens)
        return self.norm(tokens[:, -1])

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch block 2 token width']:
        """Compute keys and values of the tokens in every block, once for many queries."""
        tokens, context = self._tokens(observation), []
        for block in self.blocks:
            tokens, seen = block.advance(tokens)
            context.append(seen)
        return torch.stack(context, dim=1)

    def answer(
        self, context: Float[Tensor, 'batch block 2 token width'], query: Float[Tensor, '*sample batch query']
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute the features of queries, given encoded windows."""
        stream = self.query(query)
        for block, seen in zip(self.blocks, context.unbind(dim=1)):
            stream = block.attend(stream, seen)
        return self.norm(stream)

    def _tokens(self, observation: Tensor) -> Float[Tensor, 'batch token width']:
        return self.window(self.encoder(observation)) + self.position


def build_trunk(settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> MlpTrunk | CausalTransformerTrunk:
    """Create the trunk according to the settings; its features have `settings.width` entries.

    Raises
    ------
    ConfigurationError
        The settings select a network over the steps of a chunk, which has no features of a window alone.

    """
    if settings.denoises_chunks:
        raise ConfigurationError(
            expected='a trunk over windows: mlp, residual or transformer',
            found=settings.kind,
            remedy='this network is for teachers only; choose another trunk',
        )
    trunk = CausalTransformerTrunk if settings.kind == 'transformer' else MlpTrunk
    return trunk(settings, shape, query_size)
