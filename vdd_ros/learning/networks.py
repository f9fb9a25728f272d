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


class TrunkSettings(Settings):
    """Which network turns a window into features."""

    kind: Literal['mlp', 'residual', 'transformer'] = 'mlp'
    """`mlp`: plain layers; `residual`: layers that add to a stream; `transformer`: causal over the stamps."""
    width: int = Field(256, ge=1)
    """Features in every layer."""
    depth: int = Field(3, ge=1)
    """Hidden layers or blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads of a transformer; they divide the width."""
    window: Literal['absolute', 'difference'] = 'absolute'
    """`absolute`: the stamps as they are. `difference`: the newest as it is, older ones relative to it."""
    difference_scale: float = Field(10.0, gt=0)
    """What the differences are multiplied with, since motion within a window is small."""

    @model_validator(mode='after')
    def _heads_divide_width(self) -> TrunkSettings:
        if self.kind == 'transformer' and self.width % self.heads:
            raise ValueError(f'{self.heads} heads do not divide a width of {self.width}')
        return self


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

    def forward(self, sigma: Float[Tensor, '*sample']) -> Float[Tensor, '*sample feature']:
        """Embed noise levels above zero."""
        level = sigma.log()[..., None] / 4
        phase = level * (2.0 ** torch.arange(self.octaves, dtype=sigma.dtype, device=sigma.device))
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
        stream = self.window(self.encoder(observation).flatten(start_dim=1))
        if self.query is not None:
            stream = stream + self.query(query)
        return self.activate(stream)

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

    def forward(
        self, tokens: Float[Tensor, 'batch token width'], query: Float[Tensor, '*sample batch width'] | None
    ) -> tuple[Float[Tensor, 'batch token width'], Float[Tensor, '*sample batch width'] | None]:
        """Advance tokens and query by one block."""
        asked, key, value = self._split(tokens)
        attended = nn.functional.scaled_dot_product_attention(
            asked.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
        )
        tokens = tokens + self.output(attended.transpose(1, 2).flatten(start_dim=-2))
        tokens = tokens + self.feedforward(tokens)
        if query is not None:
            query = query + self.output(self._attend(query, key, value))
            query = query + self.feedforward(query)
        return tokens, query

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        asked, own_key, own_value = self._split(query)
        others = torch.einsum('...bhf,bthf->...bht', asked, key)
        itself = (asked * own_key).sum(dim=-1, keepdim=True)
        weight = (torch.cat([others, itself], dim=-1) / math.sqrt(key.shape[-1])).softmax(dim=-1)
        attended = torch.einsum('...bht,bthf->...bhf', weight[..., :-1], value) + weight[..., -1:] * own_value
        return attended.flatten(start_dim=-2)

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
        tokens = self.window(self.encoder(observation)) + self.position
        stream = None if self.query is None else self.query(query)
        for block in self.blocks:
            tokens, stream = block(tokens, stream)
        return self.norm(tokens[:, -1] if stream is None else stream)


def build_trunk(settings: TrunkSettings, shape: PolicyShape, query_size: int = 0) -> MlpTrunk | CausalTransformerTrunk:
    """Build the trunk that the settings name; its features have `settings.width` entries."""
    trunk = CausalTransformerTrunk if settings.kind == 'transformer' else MlpTrunk
    return trunk(settings, shape, query_size)
