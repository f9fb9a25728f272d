"""Networks over the steps of a chunk, for teachers: a temporal U-Net and a transformer.

The inputs are a noisy chunk, its noise level, and an observation window. Window and noise level modulate every block by
scales and shifts (FiLM, Perez et al. 2018) that are affine in their features. The part of the window is the context,
computed once for all network calls of a plan.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdd_ros.learning.networks import NoiseEmbedding, PolicyShape, TrunkSettings, WindowEncoder, attention

_GROUPS = 8


class ChunkNetwork(nn.Module):
    """Base class: features of window and noise level, and the steps of a chunk as a sequence."""

    def __init__(self, settings: TrunkSettings, shape: PolicyShape, modulations: int) -> None:
        """Create the layers; ``modulations`` is the number of modulation values of all blocks."""
        super().__init__()
        width = 2 * settings.width
        self.encoder = WindowEncoder(settings)
        self.window = nn.Sequential(
            nn.Linear(shape.observation_horizon * shape.observation_size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.noise = nn.Sequential(nn.Linear(NoiseEmbedding.size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.by_window = nn.Linear(width, modulations)
        self.by_noise = nn.Linear(width, modulations, bias=False)
        self._steps = shape.steps

    def encode(self, observation: Float[Tensor, 'batch horizon obs']) -> Float[Tensor, 'batch context']:
        """Compute the part of the modulation that depends on the window."""
        return self.by_window(self.window(self.encoder(observation).flatten(start_dim=1)))

    def answer(
        self,
        context: Float[Tensor, 'batch context'],
        chunk: Float[Tensor, '*sample batch action'],
        level: Float[Tensor, '*sample batch level'],
    ) -> Float[Tensor, '*sample batch action']:
        """Evaluate the network for flattened noisy chunks and embedded noise levels, given encoded windows."""
        modulation = (context + self.by_noise(self.noise(level))).flatten(end_dim=-2)
        steps = chunk.unflatten(-1, (self._steps, -1)).flatten(end_dim=-3)
        return self.over_steps(steps, modulation).flatten(start_dim=1).unflatten(0, chunk.shape[:-1])

    def over_steps(
        self, steps: Float[Tensor, 'batch step action'], modulation: Float[Tensor, 'batch modulation']
    ) -> Float[Tensor, 'batch step action']:
        """Evaluate the network for chunks as sequences."""
        raise NotImplementedError


class ChunkConvolution(nn.Conv1d):
    """A convolution over the steps, computed by one matrix product in bfloat16 on a processor.

    There the convolution of torch is slower in bfloat16 than in float32, and matrix products are faster. Everywhere
    else it is the convolution of torch.
    """

    def forward(self, stream: Float[Tensor, 'batch channel step']) -> Float[Tensor, 'batch channel result']:
        """Evaluate the convolution."""
        if stream.device.type != 'cpu' or not torch.is_autocast_enabled('cpu'):
            return super().forward(stream)
        (size,), (stride,), padding = self.kernel_size, self.stride, int(self.padding[0])
        steps = nn.functional.pad(stream.transpose(1, 2), (0, 0, padding, padding))
        results = (steps.shape[1] - size) // stride + 1
        seen = torch.cat([steps[:, first : first + stride * (results - 1) + 1 : stride] for first in range(size)], -1)
        return nn.functional.linear(seen, self.weight.transpose(1, 2).flatten(1), self.bias).transpose(1, 2)


class ConvolutionBlock(nn.Module):
    """Two convolutions over the steps, with FiLM between them and a residual connection (Chi et al. 2023)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        """Create one block."""
        super().__init__()
        groups = next(count for count in range(min(_GROUPS, outputs), 0, -1) if outputs % count == 0)
        self.first = ChunkConvolution(inputs, outputs, kernel, padding=kernel // 2)
        self.first_norm = nn.GroupNorm(groups, outputs)
        self.second = ChunkConvolution(outputs, outputs, kernel, padding=kernel // 2)
        self.second_norm = nn.GroupNorm(groups, outputs)
        self.around = nn.Identity() if inputs == outputs else ChunkConvolution(inputs, outputs, 1)
        self.activation = nn.SiLU()
        self.modulations = 2 * outputs
        """Number of modulation values: a scale and a shift for each channel."""

    def forward(
        self, stream: Float[Tensor, 'batch channel step'], modulation: Float[Tensor, 'batch modulation']
    ) -> Float[Tensor, 'batch channel step']:
        """Evaluate the block."""
        scale, shift = modulation[..., None].chunk(2, dim=1)
        inner = self.activation(self.first_norm(self.first(stream))) * (1 + scale) + shift
        return self.activation(self.second_norm(self.second(inner))) + self.around(stream)


class TemporalUnet(ChunkNetwork):
    """A U-Net of convolutions over the steps of a chunk (Chi et al. 2023, the CNN of Diffusion Policy).

    Two blocks at each resolution, down and up again. Each lower resolution has half the steps and twice the channels. A
    chunk is padded with zeros to a length that can be halved that often.
    """

    def __init__(self, settings: TrunkSettings, shape: PolicyShape) -> None:
        """Create a network with `settings.depth` resolutions."""
        action = shape.action_size // shape.steps
        channels = [settings.width * 2**level for level in range(settings.depth)]
        sizes = list(zip([action, *channels], channels))
        down = [_pair(inputs, outputs, settings.kernel) for inputs, outputs in sizes]
        middle = _pair(channels[-1], channels[-1], settings.kernel)
        up = [_pair(2 * channels[level + 1], channels[level], settings.kernel) for level in range(settings.depth - 1)]
        up.reverse()  # lowest first
        blocks = [block for pair in (*down, middle, *up) for block in pair]
        super().__init__(settings, shape, sum(block.modulations for block in blocks))
        self.down, self.middle, self.up = (
            nn.ModuleList(nn.ModuleList(pair) for pair in pairs) for pairs in (down, [middle], up)
        )
        self.shrink = nn.ModuleList(ChunkConvolution(width, width, 3, stride=2, padding=1) for width in channels[:-1])
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(pair[-1].second.out_channels, pair[-1].second.out_channels, 4, stride=2, padding=1)
            for pair in up
        )
        self.last = nn.Sequential(
            ChunkConvolution(channels[0], channels[0], settings.kernel, padding=settings.kernel // 2),
            nn.GroupNorm(next(count for count in range(_GROUPS, 0, -1) if channels[0] % count == 0), channels[0]),
            nn.SiLU(),
        )
        self.head = _silent(ChunkConvolution(channels[0], action, 1))
        self._sizes = [block.modulations for block in blocks]
        self._padding = -shape.steps % 2 ** (settings.depth - 1)

    def over_steps(self, steps: Tensor, modulation: Tensor) -> Tensor:
        """Apply the blocks down and up through the resolutions."""
        parts = iter(modulation.split(self._sizes, dim=-1))
        stream = nn.functional.pad(steps.transpose(1, 2), (0, self._padding))
        skipped = []
        for level, pair in enumerate(self.down):
            for block in pair:
                stream = block(stream, next(parts))
            skipped.append(stream)
            if level < len(self.shrink):
                stream = self.shrink[level](stream)
        for block in self.middle[0]:
            stream = block(stream, next(parts))
        for pair, grow in zip(self.up, self.grow):
            stream = torch.cat([stream, skipped.pop()], dim=1)
            for block in pair:
                stream = block(stream, next(parts))
            stream = grow(stream)
        stream = self.head(self.last(stream)).transpose(1, 2)
        return stream[:, : self._steps]


class ModulatedBlock(nn.Module):
    """Attention among all steps and feed-forward, each scaled, shifted and gated (adaLN, Peebles and Xie 2023)."""

    def __init__(self, width: int, heads: int) -> None:
        """Create one block."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(
        self, tokens: Float[Tensor, 'batch step width'], modulation: Float[Tensor, 'batch modulation']
    ) -> Float[Tensor, 'batch step width']:
        """Evaluate the block."""
        scale, shift, gate, wide, moved, passed = modulation[:, None].chunk(6, dim=-1)
        parts = self.projection(self.attention_norm(tokens) * (1 + scale) + shift)
        queries, key, value = parts.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(dim=0)
        attended = attention(queries, key, value, causal=False)
        tokens = tokens + gate * self.output(attended.transpose(1, 2).flatten(start_dim=-2))
        return tokens + passed * self.feedforward(self.feedforward_norm(tokens) * (1 + wide) + moved)


class ChunkTransformer(ChunkNetwork):
    """A transformer with a token for each step of a chunk, modulated by window and noise level (DiT)."""

    def __init__(self, settings: TrunkSettings, shape: PolicyShape) -> None:
        """Create `settings.depth` blocks, initialised to the identity."""
        width, action = settings.width, shape.action_size // shape.steps
        super().__init__(settings, shape, (6 * settings.depth + 2) * width)
        self.step = nn.Linear(action, width)
        self.position = nn.Parameter(0.02 * torch.randn(shape.steps, width))
        self.blocks = nn.ModuleList(ModulatedBlock(width, settings.heads) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = _silent(nn.Linear(width, action))
        nn.init.zeros_(self.by_noise.weight)
        nn.init.zeros_(self.by_window.weight)
        nn.init.zeros_(self.by_window.bias)
        self._width = width

    def over_steps(self, steps: Tensor, modulation: Tensor) -> Tensor:
        """Apply the blocks, with attention among all steps."""
        *blocks, last = modulation.split([6 * self._width] * len(self.blocks) + [2 * self._width], dim=-1)
        tokens = self.step(steps) + self.position
        for block, part in zip(self.blocks, blocks):
            tokens = block(tokens, part)
        scale, shift = last[:, None].chunk(2, dim=-1)
        return self.head(self.norm(tokens) * (1 + scale) + shift)


def build_chunk_network(settings: TrunkSettings, shape: PolicyShape) -> ChunkNetwork:
    """Create the network over the steps of a chunk according to the settings."""
    return (TemporalUnet if settings.kind == 'unet' else ChunkTransformer)(settings, shape)


def _pair(inputs: int, outputs: int, kernel: int) -> list[ConvolutionBlock]:
    return [ConvolutionBlock(inputs, outputs, kernel), ConvolutionBlock(outputs, outputs, kernel)]


def _silent(layer: nn.Module) -> nn.Module:
    """Initialise a layer to zero output, so that a network starts at its preconditioning."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
