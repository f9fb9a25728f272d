"""Encoders and trunks that teacher and student share: a window of observations in, features out."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings


@dataclass(frozen=True)
class PolicyShape:
    """The sizes that a policy is built for; they follow from the contract."""

    observation_horizon: int
    """Stamps in a window."""
    observation_size: int
    """Numbers in the observation of one stamp."""
    action_size: int
    """Numbers in an action chunk, flattened: prediction horizon x action of one step."""
    steps: int = 1
    """Steps in a chunk, for networks that know of them."""


class TrunkSettings(Settings):
    """Which network turns a window into features."""

    kind: Literal['mlp', 'residual', 'transformer', 'unet', 'chunk_transformer'] = 'mlp'
    """`mlp`: plain layers; `residual`: layers that add to a stream; `transformer`: causal over the stamps. Of teachers
    only, over the steps of a chunk: `unet`, convolutions (Chi et al. 2023), and `chunk_transformer` (Peebles and Xie
    2023)."""
    width: int = Field(256, ge=1)
    """Features in every layer; of a `unet`, at its highest resolution, twice as many at each below."""
    depth: int = Field(3, ge=1)
    """Hidden layers, blocks, or resolutions of a `unet`."""
    heads: int = Field(4, ge=1)
    """Attention heads of a transformer; they divide the width."""
    kernel: int = Field(5, ge=1)
    """Steps that a convolution of a `unet` sees; odd."""
    window: Literal['absolute', 'difference'] = 'absolute'
    """`absolute`: the stamps as they are. `difference`: the newest as it is, older ones relative to it."""
    difference_scale: float = Field(10.0, gt=0)
    """What the differences are multiplied with, since motion within a window is small."""

    @model_validator(mode='after')
    def _heads_divide_width(self) -> TrunkSettings:
        if self.kind in ('transformer', 'chunk_transformer') and self.width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {self.width}')
        return self

    @model_validator(mode='after')
    def _kernel_has_a_middle(self) -> TrunkSettings:
        if self.kernel % 2 == 0:
            raise ValueError(f'a kernel of {self.kernel} steps has no middle')
        return self

    @property
    def denoises_chunks(self) -> bool:
        """Whether it is a network over the steps of a chunk, which only a teacher can have."""
        return self.kind in ('unet', 'chunk_transformer')


def reduced(like: Tensor, enabled: bool) -> torch.autocast:
    """Return a context in which layers compute in bfloat16 where a tensor lies, weights and sums staying in float32."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=enabled)


_SILU_GAIN = 1.6765
"""What keeps unit variance through a SiLU: the inverse root of the mean square of its output for normal input."""


class WindowEncoder(nn.Module):
    """A window as the trunk sees it; it has nothing to learn."""

    def __init__(self, settings: TrunkSettings) -> None:
        """Choose absolute stamps or differences to the newest."""
        super().__init__()
        self._relative = settings.window == 'difference'
        self._scale = settings.difference_scale

    def forward(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch horizon obs']:
        """Encode windows whose last stamp is the newest."""
        if not self._relative:
            return observation
        newest = observation[:, -1:]
        return torch.cat([(observation[:, :-1] - newest) * self._scale, newest], dim=1)


class NoiseEmbedding(nn.Module):
    """Smooth features of a noise level: log sigma and sines of it, over octaves that span sigma 1e-3 to 1e3."""

    octaves = 5
    size = 1 + 2 * octaves

    def __init__(self) -> None:
        """Hold the frequencies, which are no part of the state."""
        super().__init__()
        self.register_buffer('frequency', 2.0 ** torch.arange(self.octaves), persistent=False)

    def forward(self, sigma: Float[Tensor, '*sample']) -> Float[Tensor, '*sample feature']:
        """Embed noise levels above zero."""
        level = sigma.log()[..., None] / 4
        phase = level * self.frequency
        return torch.cat([level, phase.sin(), phase.cos()], dim=-1)


class MlpTrunk(nn.Module):
    """Layers over the flattened window and, for a teacher, a query: noisy action and noise level.

    The first layer is split, so that a window is encoded once for many queries.
    """

    def __init__(self, settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> None:
        """Build the layers; `query_size` 0 means that features depend on the window alone."""
        super().__init__()
        inputs = shape.observation_horizon * shape.observation_size
        self.encoder = WindowEncoder(settings)
        self.window = nn.Linear(inputs, settings.width)
        self.query = nn.Linear(query_size, settings.width, bias=False) if query_size else None
        self.layers = nn.ModuleList(nn.Linear(settings.width, settings.width) for _ in range(settings.depth - 1))
        # Half the time of Mish in onnxruntime, at equal quality.
        self.activation = nn.SiLU()
        self._residual = settings.kind == 'residual'
        self._keep_variance(inputs + query_size)

    def _keep_variance(self, inputs: int) -> None:
        # torch's own initialisation shrinks the signal in each layer: measured on a ring of Gaussians, the score of a
        # teacher was then twice as far off after equally many updates.
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
        """Compute features of windows, one for each query about them."""
        context = self.encode(observation)
        return self.activate(context) if self.query is None else self.answer(context, query)

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch context']:
        """Compute what depends on the window alone, once for many queries."""
        return self.window(self.encoder(observation).flatten(start_dim=1))

    def answer(
        self, context: Float[Tensor, 'batch context'], query: Float[Tensor, '*sample batch query']
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute features of queries about encoded windows."""
        return self.activate(context + self.query(query))

    @torch.no_grad()
    def answering(self, query: Float[Tensor, 'query']) -> MlpTrunk:
        """Return a trunk of the window alone that gives this one's features for one and the same query."""
        trunk = copy.deepcopy(self)
        trunk.window.bias += trunk.query(query)
        trunk.query = None
        return trunk

    def activate(self, stream: Float[Tensor, '*batch feature']) -> Float[Tensor, '*batch feature']:
        """Compute features from what the first, affine layer gives."""
        if self._residual:
            for layer in self.layers:
                stream = stream + layer(self.activation(stream))
            return self.activation(stream)
        stream = self.activation(stream)
        for layer in self.layers:
            stream = self.activation(layer(stream))
        return stream


class CausalBlock(nn.Module):
    """Pre-norm attention and feed-forward; the tokens never see a query, the query sees them and itself."""

    def __init__(self, width: int, heads: int) -> None:
        """Build one block."""
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
        """Advance tokens by one block; return them, and the keys and values that queries attend to."""
        asked, key, value = self._split(tokens)
        attended = nn.functional.scaled_dot_product_attention(
            asked.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
        )
        tokens = tokens + self.output(attended.transpose(1, 2).flatten(start_dim=-2))
        seen = torch.stack([key.flatten(start_dim=-2), value.flatten(start_dim=-2)], dim=1)
        return tokens + self.feedforward(tokens), seen

    def attend(
        self, query: Float[Tensor, '*sample batch width'], seen: Float[Tensor, 'batch 2 token width']
    ) -> Float[Tensor, '*sample batch width']:
        """Advance a query, which sees the tokens and itself."""
        asked, own_key, own_value = self._split(query)
        key, value = seen.unflatten(-1, (self.heads, -1)).unbind(dim=1)
        others = torch.einsum('...bhf,bthf->...bht', asked, key)
        itself = (asked * own_key).sum(dim=-1, keepdim=True)
        weight = (torch.cat([others, itself], dim=-1) / math.sqrt(key.shape[-1])).softmax(dim=-1)
        attended = torch.einsum('...bht,bthf->...bhf', weight[..., :-1], value) + weight[..., -1:] * own_value
        query = query + self.output(attended.flatten(start_dim=-2))
        return query + self.feedforward(query)

    def _split(self, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.projection(self.attention_norm(stream)).unflatten(-1, (3, self.heads, -1))
        return parts.unbind(dim=-3)


class CausalTransformerTrunk(nn.Module):
    """One token for each stamp and, for a teacher, one for the query; features are those of the last token.

    A query comes last and attention is causal, so the tokens of a window are computed once for many queries.
    """

    def __init__(self, settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> None:
        """Build the blocks; `query_size` 0 means that features depend on the window alone."""
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
        """Compute features of windows, one for each query about them."""
        if query is not None and query.ndim > 2:
            return self.answer(self.encode(observation), query)
        tokens = self._tokens(observation)
        if query is not None:  # one for each window is one token more: half as many operations
            tokens = torch.cat([tokens, self.query(query)[:, None]], dim=1)
        for block in self.blocks:
            tokens, _ = block.advance(tokens)
        return self.norm(tokens[:, -1])

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch block 2 token width']:
        """Compute the keys and values of the tokens in every block, once for many queries."""
        tokens, context = self._tokens(observation), []
        for block in self.blocks:
            tokens, seen = block.advance(tokens)
            context.append(seen)
        return torch.stack(context, dim=1)

    def answer(
        self, context: Float[Tensor, 'batch block 2 token width'], query: Float[Tensor, '*sample batch query']
    ) -> Float[Tensor, '*sample batch feature']:
        """Compute features of queries about encoded windows."""
        stream = self.query(query)
        for block, seen in zip(self.blocks, context.unbind(dim=1)):
            stream = block.attend(stream, seen)
        return self.norm(stream)

    def _tokens(self, observation: Tensor) -> Float[Tensor, 'batch token width']:
        return self.window(self.encoder(observation)) + self.position


def build_trunk(settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> MlpTrunk | CausalTransformerTrunk:
    """Build the trunk that the settings name; its features have `settings.width` entries.

    Raises
    ------
    ConfigurationError
        The settings name a network over the steps of a chunk, which has no features of a window alone.

    """
    if settings.denoises_chunks:
        raise ConfigurationError(
            expected='a trunk over windows: mlp, residual or transformer',
            found=settings.kind,
            remedy='only teachers can have that; choose another trunk',
        )
    trunk = CausalTransformerTrunk if settings.kind == 'transformer' else MlpTrunk
    return trunk(settings, shape, query_size)
