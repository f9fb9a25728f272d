"""The student: one network call maps an observation window to a Gaussian mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.learning.mixture.covariance import Covariance, DiagonalCovariance, FullCovariance
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.mixture.low_rank import LowRankCovariance
from vdd_ros.learning.networks import PolicyShape, TrunkSettings, build_trunk, reduced
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.vision import SeeingModule, VisionSettings, see

_CLOSED = -60.0
"""Logit of an expert that never acts; logits of other experts are of the order of ten."""
_FULL = 16
"""Maximum number of action values for which covariances are full by default."""


class StudentSettings(Settings):
    """Architecture of a student. Lengths are in normalised action units."""

    former_names: ClassVar[Mapping[str, str]] = {'spread': 'mean_init_std'}

    trunk: TrunkSettings = TrunkSettings()
    """The network."""
    encoder: Literal['teacher', 'finetuned', 'own'] = 'teacher'
    """Image encoder. `teacher`: the frozen encoder of the teacher, whose features are computed once. `finetuned`: a
    trainable copy of the teacher's encoder. `own`: a newly initialised encoder, see `vision`."""
    vision: VisionSettings = VisionSettings(encoder='light')
    """Settings of an `own` encoder; otherwise those of the teacher apply."""
    experts: int = Field(16, ge=1)
    """Number of experts. Choose somewhat more than the number of modes; unused experts can be retired."""
    covariance: Literal['auto', 'diagonal', 'full', 'low_rank'] = 'auto'
    """Form of the covariances. `auto`: `full` for up to 16 action values, otherwise `diagonal`. A `full` covariance of
    many values becomes nearly singular. For action chunks with correlated steps, `low_rank`."""
    rank: int = Field(4, ge=1)
    """Shared directions of a `low_rank` covariance."""
    gating: Literal['learned', 'uniform'] = 'learned'
    """Whether the probabilities of the experts depend on the observation."""
    gating_trunk: Literal['shared', 'own'] = 'shared'
    """`shared`: gating and experts use the same features. `own`: the gating has its own network (the paper)."""
    mean_init_std: float = Field(1.5, ge=0)
    """Initial standard deviation of the expert means, unless they are placed (`distillation.start`)."""
    initial_scale: float = Field(0.5, gt=0)
    """Initial standard deviation of each expert, unless they are placed."""
    scale_floor: float = Field(0.01, gt=0)
    """Minimum standard deviation (diagonal of the Cholesky factor)."""
    widening: float = Field(1.0, gt=0)
    """Factor on all standard deviations, fitted to held-out demonstrations after training."""


class Student(SeeingModule):
    """``q(a|s)``: experts whose means, covariances and gating are networks of the observation.

    An expert can be retired: it is removed from the mixture, and the gating of the other experts is renormalised
    exactly. `compact` then returns a smaller student without the parameters of retired experts.
    """

    settings: StudentSettings
    alive: Tensor

    def __init__(self, settings: StudentSettings, shape: PolicyShape, generator: torch.Generator) -> None:
        """Create an untrained student; `generator` draws the means of the experts."""
        if settings.covariance == 'auto':
            form = 'full' if shape.action_size <= _FULL else 'diagonal'
            settings = settings.model_copy(update={'covariance': form})
        super().__init__(settings, shape)
        if self.vision is not None:
            self.vision.requires_grad_(settings.encoder != 'teacher')
        experts, size, width = settings.experts, shape.action_size, settings.trunk.width
        shape = self.encoded_shape
        self.trunk = build_trunk(settings.trunk, shape)
        self.mean_head = nn.Linear(width, experts * size)
        self.scale_head = nn.Linear(width, experts * size)
        self.factor_head = nn.Linear(width, experts * self._factor_size) if self._factor_size else None
        learned = settings.gating == 'learned'
        self.gating_head = nn.Linear(width, experts) if learned else None
        self.gating_trunk = build_trunk(settings.trunk, shape) if learned and settings.gating_trunk == 'own' else None
        self.register_buffer('alive', torch.ones(experts, dtype=torch.bool))
        # On the device of the module, because a step may be a captured graph; not part of the state.
        self.register_buffer('_lower', torch.tril_indices(size, size, offset=-1), persistent=False)
        self._living: Tensor | None = None
        self.mixed = False
        """Whether the trunk computes in bfloat16; experts, covariances and gating stay in float32."""
        self.register_load_state_dict_post_hook(lambda module, _: module._note_living())
        self._start(generator)

    def _start(self, generator: torch.Generator) -> None:
        settings = self.settings
        heads = [self.mean_head, self.scale_head, self.factor_head, self.gating_head]
        with torch.no_grad():
            for head in filter(None, heads):
                head.weight.mul_(0.1)
                head.bias.zero_()
            self.mean_head.bias.normal_(std=settings.mean_init_std, generator=generator)
            excess = max(settings.initial_scale - settings.scale_floor, settings.scale_floor)
            self.scale_head.bias.fill_(math.log(math.expm1(excess)))

    @property
    def _factor_size(self) -> int:
        size = self.shape.action_size
        return {'diagonal': 0, 'full': size * (size - 1) // 2, 'low_rank': size * self.settings.rank}[
            self.settings.covariance
        ]

    def see(self, observation: AnyWindows) -> Float[Tensor, 'batch horizon obs']:
        """Encode the images of windows; windows that are already encoded are returned unchanged."""
        return see(self.vision, observation)

    def forward(self, observation: AnyWindows) -> GaussianMixture:
        """Compute the mixture of the active experts for each window."""
        mixture = self.every_expert(observation)
        return mixture if self._living is None else mixture.select(self._living.to(mixture.mean.device))

    def acting(self, observation: AnyWindows) -> GaussianMixture:
        """Compute the mixture with the covariances of a deployed student (`vdd_ros.policy.experts.ActionNoise`)."""
        mixture = self.every_expert(observation, acting=True)
        return mixture if self._living is None else mixture.select(self._living.to(mixture.mean.device))

    def every_expert(self, observation: AnyWindows, *, acting: bool = False) -> GaussianMixture:
        """Compute the mixture of all experts including retired ones, with a graph that does not depend on values."""
        observation = self.see(observation)
        with reduced(observation, self.mixed):
            features = self.trunk(observation)
        features = features.to(observation.dtype)
        experts = self.settings.experts
        mean = self.mean_head(features).unflatten(-1, (experts, -1))
        above, floor = softplus(self.scale_head(features)).unflatten(-1, (experts, -1)), self.settings.scale_floor
        widening = 1.0 if acting else self.settings.widening
        scale = (above * (above + 2 * floor)).sqrt() if acting else (above + floor) * widening
        if self.gating_head is None:
            logits = mean.new_zeros(mean.shape[:-1])
        else:
            logits = self.gating_head(features if self.gating_trunk is None else self.gating_trunk(observation))
        return GaussianMixture(logits.log_softmax(dim=-1), mean, self._covariance(features, scale, widening))

    def _covariance(self, features: Tensor, scale: Float[Tensor, 'batch expert action'], widening: float) -> Covariance:
        if self.settings.covariance == 'diagonal':
            return DiagonalCovariance(scale)
        if self.settings.covariance == 'low_rank':
            factor = self.factor_head(features).unflatten(-1, (self.settings.experts, self.shape.action_size, -1))
            return LowRankCovariance(scale, factor * widening)
        cholesky = torch.diag_embed(scale)
        if self.factor_head is not None:
            row, column = self._lower
            below = self.factor_head(features).unflatten(-1, (self.settings.experts, -1))
            cholesky[..., row, column] = below * widening
        return FullCovariance(cholesky)

    def retire(self, experts: Sequence[int]) -> None:
        """Remove experts from the mixture.

        Raises
        ------
        ConfigurationError
            No expert would remain.

        """
        alive = self.alive.clone()
        alive[list(experts)] = False
        if not alive.any():
            raise ConfigurationError(
                expected='at least one active expert', found='retirement of all', remedy='keep one'
            )
        self.alive.copy_(alive)
        self._note_living()

    def _note_living(self) -> None:
        """Cache the active experts on the host, so that calls do not wait for the device."""
        self._living = None if self.alive.all() else self.alive.nonzero()[:, 0]

    @torch.no_grad()
    def move(self, expert: int, parent: int, offset: Float[Tensor, 'action'], share: float) -> None:
        """Replace `expert` by a copy of `parent`, moved by `offset`, with `share` times its odds in the gating."""
        for head in filter(None, [self.mean_head, self.scale_head, self.factor_head, self.gating_head]):
            for rows in (head.weight, head.bias):
                by_expert = rows.view(self.settings.experts, -1)
                by_expert[expert] = by_expert[parent]
        self.mean_head.bias.view(self.settings.experts, -1)[expert] += offset
        if self.gating_head is not None:
            self.gating_head.bias[expert] += math.log(share)

    @torch.no_grad()
    def adopt(self, trunk: nn.Module, head: nn.Linear) -> None:
        """Copy the weights of a trunk of the same architecture, and make `head` the mean of every expert."""
        self.trunk.load_state_dict(trunk.state_dict())
        self.mean_head.weight.copy_(head.weight.repeat(self.settings.experts, 1))
        self.mean_head.bias.copy_(head.bias.repeat(self.settings.experts))

    @torch.no_grad()
    def place(
        self,
        offset: Float[Tensor, 'expert action'],
        scale: Float[Tensor, 'expert action'],
        share: Float[Tensor, 'expert'],
    ) -> None:
        """Centre the expert means at their average, move each by `offset`, and set standard deviations and gating."""
        means, scales = (head.bias.view(self.settings.experts, -1) for head in (self.mean_head, self.scale_head))
        means.copy_(means.mean(dim=0) + offset)
        scales.copy_((scale - self.settings.scale_floor).clamp(min=self.settings.scale_floor).expm1().log())
        if self.gating_head is not None:
            self.gating_head.bias.copy_(share.log())

    def widen(self, factor: float) -> None:
        """Multiply all standard deviations by a factor."""
        self.settings = self.settings.model_copy(update={'widening': factor * self.settings.widening})

    def compact(self) -> Student:
        """Return a student with the active experts only and the same density."""
        return self.arranged(self.alive.nonzero()[:, 0].tolist())

    def extended(self, count: int) -> Student:
        """Return a student with `count` additional active experts of negligible probability."""
        return self.arranged([*range(self.settings.experts), *[None] * count])

    def arranged(self, places: Sequence[int | None]) -> Student:
        """Return a student that has this student's experts with the given indices, in that order.

        None adds an expert with a probability below 1e-12, which requires a learned gating.
        """
        given = torch.tensor([0 if place is None else place for place in places])
        closed = torch.tensor([place is None for place in places])
        settings = self.settings.model_copy(update={'experts': len(places)})
        other = Student(settings, self.shape, torch.Generator().manual_seed(0)).to(self.mean_head.weight)
        state = self.state_dict()
        for name in ('mean_head', 'scale_head', 'factor_head', 'gating_head'):
            for part in (f'{name}.weight', f'{name}.bias'):
                if part in state:
                    by_expert = state[part].unflatten(0, (self.settings.experts, -1))[given]
                    if name == 'gating_head':
                        by_expert[closed] = _CLOSED if part.endswith('bias') else 0.0
                    state[part] = by_expert.flatten(end_dim=1)
        state['alive'] = self.alive[given] | closed.to(self.alive.device)
        other.load_state_dict(state)
        return other
