"""The distiller: it optimises experts and gating, and moves or retires unused experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.learning.distillation.labels import LabelSettings
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.objective import (
    Score,
    convolved_expert_loss,
    coverage_loss,
    drawn_expert_loss,
    gating_loss,
    gating_loss_of_joint,
    paper_expert_loss,
)
from vdd_ros.learning.distillation.rounds import Rounds, RoundSettings
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.ranks import WHOLE, Sharing
from vdd_ros.learning.training import Descent, DescentSettings, WindowSource


class DistillerSettings(Settings):
    """Settings of the distillation: weights of the losses, noise levels, updates, and unused experts."""

    objective: Literal['drawn', 'convolved', 'paper'] = 'drawn'
    """`convolved`: compares student and teacher at equal noise, without bias, for each expert. `drawn`: as `convolved`,
    but with experts sampled from the gating. `paper`: as published."""
    divergence: float = Field(1.0, ge=0)
    """Weight of the divergence from the teacher; 0 disables it."""
    imitation: float = Field(0.0, ge=0)
    """Weight of the negative log-likelihood of actions sampled from the teacher at `labels`; 0 disables it."""
    labels: LabelSettings = LabelSettings()
    """Windows labelled by the teacher."""
    simulation: RoundSettings = RoundSettings()
    """Rollouts in a simulator, if one is available; the teacher labels the visited windows."""
    noise: NoiseLevels = NoiseLevels()
    """Noise levels for the comparison of student and teacher."""
    noise_weight: float = Field(0.0, ge=0)
    """The divergence at noise sigma has the weight sigma to this power; not for `paper`."""
    coverage: float = Field(0.3, ge=0)
    """Weight of the negative log-likelihood of demonstrated actions in the loss of the experts."""
    coverage_decay: Literal['constant', 'linear'] = 'linear'
    """Whether the weight `coverage` decreases to zero during distillation. Modes are found early; later the term mainly
    adds noise."""
    batch: int = Field(512, ge=1)
    """Windows per step."""
    samples: int = Field(4, ge=1)
    """Samples per window, for each expert unless they are `drawn`."""
    expert_steps: int = Field(1, ge=1)
    """Steps of the experts per step of a gating with its own trunk."""
    iterations: int = Field(4000, ge=1)
    """Total number of steps."""
    most_passes: float = Field(600.0, gt=0)
    """Maximum number of passes over the demonstrated windows; few windows therefore get fewer steps. More passes are
    useful if the teacher labels other windows."""
    descent: DescentSettings = DescentSettings(learning_rate=5e-4)
    """Optimiser settings of experts and gating."""
    unused_below: float = Field(0.01, ge=0, lt=1)
    """Maximum gating below which an expert is unused; 0 keeps all experts."""
    review_every: int = Field(200, ge=1)
    """Iterations between two checks for unused experts."""
    move_until: float = Field(0.5, ge=0, le=1)
    """In this first share of the iterations an unused expert is moved to the least likely demonstrations under the
    student; later it is retired."""


PAPER = DistillerSettings(
    objective='paper',
    noise=NoiseLevels(kind='uniform', low=0.2, high=0.5),
    coverage=0.0,
    batch=1024,
    samples=2,
    expert_steps=2,
    iterations=20_000,
    descent=DescentSettings(learning_rate=1e-4, warmup=0.0, decay='linear'),
    unused_below=0.0,
)
"""The published method; its student has `gating_trunk: own` and a floor of 1e-4."""

_REVIEWED_WINDOWS = 4096
_MISSED_SHARE = 0.02
_MOVED_ODDS = 0.1


@dataclass(frozen=True)
class _Unused:
    """An unused expert, and its treatment."""

    expert: int
    parent: int | None = None
    """The expert of which it becomes a copy; None retires the unused expert."""
    offset: Tensor | None = None
    """Offset of the mean from that expert, shape (action,)."""


class Distiller:
    """A learner for `training.fit` that distils the score of a teacher into a student.

    A student with a separate gating trunk trains experts and gating alternately with separate optimisers, as published.
    A student with shared features trains both together: the same losses, one network call, one optimiser.
    """

    def __init__(
        self,
        student: Student,
        score: Score,
        windows: WindowSource,
        settings: DistillerSettings,
        labels: WindowSource | None = None,
        rounds: Rounds | None = None,
        sharing: Sharing = WHOLE,
    ) -> None:
        """Distil `score` into `student`, with the observations and demonstrated actions of `windows`.

        `labels` are windows with actions of the teacher, for `imitation`; `rounds` add visited windows.
        """
        self.module = student
        self.settings = settings
        self.sharing = sharing
        self._rows = sharing.rows(settings.batch)
        self._score = score
        self._windows = windows
        self._labels = labels if settings.imitation else None
        self._rounds = rounds
        if student.gating_trunk is None or student.gating_head is None:
            self.descents = {'all': Descent(student.parameters(), settings.descent, sharing=sharing)}
        else:
            gating = [*student.gating_trunk.parameters(), *student.gating_head.parameters()]
            held = {id(parameter) for parameter in gating}
            experts = [parameter for parameter in student.parameters() if id(parameter) not in held]
            first = Descent(experts, settings.descent, sharing=sharing)
            self.descents = {'experts': first, 'gating': Descent(gating, settings.descent, first, sharing)}

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Take one training step; ``progress`` is the completed share of the iterations, in [0, 1)."""
        alternating = 'gating' in self.descents
        metrics: dict[str, Tensor] = {}
        for _ in range(self.settings.expert_steps):
            draws, metrics = self.sharing.draws(generator), {}
            losses = (sum(self._losses(progress, draws, metrics)) / self.sharing.parts for _ in draws.parts())
            metrics['gradient'] = self.descents['experts' if alternating else 'all'].step(losses, progress)
        if alternating:
            self.descents['gating'].step(self._gating_losses(self.sharing.draws(generator)), progress)
        return metrics

    def _gating_losses(self, draws: Draws) -> Iterator[Float[Tensor, '']]:
        """Yield the parts of the loss of a gating with a trunk of its own."""
        for _ in draws.parts():
            observation, action = self._windows.draw(self._rows, draws)
            yield gating_loss(self.module(observation), action) / self.sharing.parts

    def _losses(self, progress: Tensor, draws: Draws, metrics: dict[str, Tensor]) -> Iterator[Float[Tensor, '']]:
        """Yield the weighted terms of the loss, each over a part of a batch, and accumulate their values."""
        settings = self.settings

        def note(name: str, value: Tensor) -> None:
            metrics[name] = metrics.get(name, 0.0) + value.detach() / self.sharing.parts

        if settings.divergence or settings.coverage:
            observation, action = self._windows.draw(self._rows, draws)
            mixture = self.module(observation)
            if settings.divergence:
                yield settings.divergence * self._expert_loss(mixture, observation, progress, draws)
            joint = (mixture if settings.coverage else mixture.detach()).log_joint(action)
            uncovered = -joint.logsumexp(dim=-1).mean()  # the coverage loss
            if settings.coverage:
                fading = 1 - progress if settings.coverage_decay == 'linear' else 1
                yield settings.coverage * fading * uncovered
            if settings.divergence and 'gating' not in self.descents:
                yield gating_loss_of_joint(mixture, joint)  # a likelihood term already trains the gating
            note('log_likelihood', -uncovered)
            if self._labels is None:
                note('gating_entropy', mixture.detach().gating_entropy().mean())
        if self._labels is not None:
            observation, action = self._labels.draw(self._rows, draws)
            mixture = self.module(observation)
            unlike = coverage_loss(mixture, action)
            yield settings.imitation * unlike
            note('label_log_likelihood', -unlike)
            note('gating_entropy', mixture.detach().gating_entropy().mean())
        metrics['experts'] = self.module.alive.sum()

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Move or retire unused experts, and roll out the student, at given intervals; see `Learner.review`."""
        visited = self._rounds is not None and self._rounds.review(self.module, done, iterations)
        return self._review_experts(done, iterations, generator) or visited

    def place_unused(self, generator: torch.Generator) -> None:
        """Move unused experts to the demonstrations that are least likely under the student."""
        self._rearrange_unused(0.0, generator)

    def resumed(self, done: int, iterations: int) -> None:
        """Restore the visited windows."""
        if self._rounds is not None:
            self._rounds.resume(done, iterations)

    def _review_experts(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        settings = self.settings
        if not settings.unused_below or done % settings.review_every:
            return False
        for descent in self.descents.values():
            descent.check()
        alive = int(self.module.alive.sum())
        self._rearrange_unused((done - 1) / iterations, generator)
        return int(self.module.alive.sum()) < alive

    def _rearrange_unused(self, progress: float, generator: torch.Generator) -> None:
        # All draw, so that their generators stay equal, and do what the first finds.
        found = self._unused(progress, generator)
        self._rearrange(self.sharing.ranks.first(lambda: found))

    def _expert_loss(
        self, mixture: GaussianMixture, observation: Tensor, progress: Tensor, draws: Draws
    ) -> Float[Tensor, '']:
        settings, dtype = self.settings, observation.dtype
        sigma = settings.noise.sigma(draws.stratified(len(observation), dtype), progress)
        drawn = settings.objective == 'drawn'
        shape = (settings.samples, *(mixture.log_gating.shape[:1] if drawn else mixture.log_gating.shape))
        noise = draws.normal(*shape, mixture.covariance.noise_size, rows=1, dtype=dtype)
        common = (mixture, self._score, observation, sigma, noise)
        if settings.objective == 'paper':
            return paper_expert_loss(*common)
        perturbation = draws.normal(*shape, mixture.mean.shape[-1], rows=1, dtype=dtype)
        weight = sigma**settings.noise_weight
        if drawn:
            first = torch.arange(settings.samples, device=observation.device)[:, None]
            uniform = (first + draws.uniform(len(observation), dtype=dtype)) / settings.samples
            return drawn_expert_loss(*common, uniform, perturbation, weight)
        return convolved_expert_loss(*common, perturbation, weight)

    @torch.no_grad()
    def _unused(self, progress: float, generator: torch.Generator) -> list[_Unused]:
        """Return the experts without use, and where each is to go; nowhere late in the training."""
        observation, action = self._windows.draw(_REVIEWED_WINDOWS, generator)
        mixture = self.module(observation)
        living = self.module.alive.nonzero()[:, 0]
        unused = living[mixture.log_gating.exp().amax(dim=0) < self.settings.unused_below]
        if progress >= self.settings.move_until:
            return [_Unused(expert) for expert in unused.tolist()]
        joint = mixture.log_joint(action)
        missed = joint.logsumexp(dim=-1).argsort()[: int(_MISSED_SHARE * _REVIEWED_WINDOWS)]
        places = missed[torch.randperm(len(missed), generator=generator, device=missed.device)]
        found = []
        for expert, place in zip(unused.tolist(), places):
            nearest = joint[place].argmax()
            offset = action[place] - mixture.mean[place, nearest]
            found.append(_Unused(expert, int(living[nearest]), offset.cpu()))
        return found

    def _rearrange(self, unused: Sequence[_Unused]) -> None:
        """Move or retire experts."""
        for each in unused:
            if each.parent is not None:
                weight = self.module.mean_head.weight
                self.module.move(each.expert, each.parent, each.offset.to(weight.device), share=_MOVED_ODDS)
        if retired := [each.expert for each in unused if each.parent is None]:
            self.module.retire(retired)
