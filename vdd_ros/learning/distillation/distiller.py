"""The distiller: descends the losses of experts and gating, and moves or retires experts that nobody needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.learning.diffusion.noise import stratified
from vdd_ros.learning.distillation.labels import LabelSettings
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.objective import (
    Score,
    convolved_expert_loss,
    coverage_loss,
    drawn_expert_loss,
    gating_loss,
    paper_expert_loss,
)
from vdd_ros.learning.distillation.rounds import Rounds, RoundSettings
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.training import Descent, DescentSettings, WindowSource


class DistillerSettings(Settings):
    """How a student is distilled."""

    objective: Literal['drawn', 'convolved', 'paper'] = 'drawn'
    """`convolved`: student and teacher are compared at equal noise, without bias, expert by expert. `drawn`: the same
    with experts drawn from the gating. `paper`: as published."""
    divergence: float = Field(1.0, ge=0)
    """Weight of that divergence from the teacher; 0 leaves it out."""
    imitation: float = Field(0.0, ge=0)
    """Weight of the negative log-likelihood of actions that the teacher draws at `labels`; 0 leaves it out."""
    labels: LabelSettings = LabelSettings()
    """Windows that the teacher labels."""
    simulation: RoundSettings = RoundSettings()
    """How often policies act in a simulator, if there is one, and the teacher labels what they came to."""
    noise: NoiseLevels = NoiseLevels()
    """Noise levels at which student and teacher are compared."""
    noise_weight: float = Field(0.0, ge=0)
    """The divergence at noise sigma weighs sigma to this power; not for `paper`."""
    coverage: float = Field(0.3, ge=0)
    """Weight of the negative log-likelihood of the demonstrated actions in the experts' loss."""
    coverage_decay: Literal['constant', 'linear'] = 'linear'
    """Whether that weight falls to zero while distilling: modes are found early, and what the likelihood adds later is
    its noise."""
    batch: int = Field(512, ge=1)
    """Windows in a step."""
    samples: int = Field(4, ge=1)
    """Samples for each window; of each expert, unless these are `drawn`."""
    expert_steps: int = Field(1, ge=1)
    """Steps of the experts for each step of a gating with a trunk of its own."""
    iterations: int = Field(4000, ge=1)
    """Steps in all."""
    descent: DescentSettings = DescentSettings(learning_rate=5e-4)
    """How experts and gating descend."""
    unused_below: float = Field(0.01, ge=0, lt=1)
    """An expert whose gating nowhere reaches this is unused; 0 leaves all experts alone."""
    review_every: int = Field(200, ge=1)
    """Iterations between two looks for unused experts."""
    move_until: float = Field(0.5, ge=0, le=1)
    """In this first share of the iterations an unused expert is moved to where demonstrations are least likely under
    the student; later it is retired."""


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
"""The published scheme; its student has `gating_trunk: own` and a floor of 1e-4."""

_REVIEWED_WINDOWS = 4096
_MISSED_SHARE = 0.02
_MOVED_ODDS = 0.1


class Distiller:
    """A learner for `training.fit` that turns a teacher's score into a student.

    A student whose gating has a trunk of its own learns experts and gating in turn, each with its own optimiser, as
    published. One with shared features learns both at once: the same losses, one network call, one optimiser.
    """

    def __init__(
        self,
        student: Student,
        score: Score,
        windows: WindowSource,
        settings: DistillerSettings,
        labels: WindowSource | None = None,
        rounds: Rounds | None = None,
    ) -> None:
        """Distil `score` into `student` over the observations and the demonstrated actions of `windows`.

        `labels` are windows with actions of the teacher, for `imitation`; `rounds` add those that the student visits.
        """
        self.module = student
        self.settings = settings
        self._score = score
        self._windows = windows
        self._labels = labels if settings.imitation else None
        self._rounds = rounds
        if student.gating_trunk is None or student.gating_head is None:
            self.descents = {'all': Descent(student.parameters(), settings.descent)}
        else:
            gating = [*student.gating_trunk.parameters(), *student.gating_head.parameters()]
            held = {id(parameter) for parameter in gating}
            experts = [parameter for parameter in student.parameters() if id(parameter) not in held]
            first = Descent(experts, settings.descent)
            self.descents = {'experts': first, 'gating': Descent(gating, settings.descent, first)}

    def step(self, progress: Float[Tensor, ''], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Learn once at a share of the iterations."""
        settings = self.settings
        alternating = 'gating' in self.descents
        metrics: dict[str, Tensor] = {}
        for _ in range(settings.expert_steps):
            losses = self._losses(progress, generator, metrics)
            metrics['gradient'] = self.descents['experts' if alternating else 'all'].step(sum(losses), progress)
        if alternating:
            observation, action = self._windows.draw(settings.batch, generator)
            self.descents['gating'].step(gating_loss(self.module(observation), action), progress)
        return metrics

    def _losses(
        self, progress: Tensor, generator: torch.Generator, metrics: dict[str, Tensor]
    ) -> Iterator[Float[Tensor, '']]:
        """Yield the weighted terms of the loss, each over a batch, and note what they are worth."""
        settings = self.settings
        if settings.divergence or settings.coverage:
            observation, action = self._windows.draw(settings.batch, generator)
            mixture = self.module(observation)
            if settings.divergence:
                yield settings.divergence * self._expert_loss(mixture, observation, progress, generator)
            uncovered = coverage_loss(mixture if settings.coverage else mixture.detach(), action)
            if settings.coverage:
                fading = 1 - progress if settings.coverage_decay == 'linear' else 1
                yield settings.coverage * fading * uncovered
            if settings.divergence and 'gating' not in self.descents:
                yield gating_loss(mixture, action)  # a likelihood teaches the gating by itself
            metrics['log_likelihood'] = -uncovered.detach()
            metrics['gating_entropy'] = mixture.detach().gating_entropy().mean()
        if self._labels is not None:
            observation, action = self._labels.draw(settings.batch, generator)
            mixture = self.module(observation)
            unlike = coverage_loss(mixture, action)
            yield settings.imitation * unlike
            metrics['label_log_likelihood'] = -unlike.detach()
            metrics['gating_entropy'] = mixture.detach().gating_entropy().mean()
        metrics['experts'] = self.module.alive.sum()

    def review(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        """Move or retire unused experts, and let the student act, every so many steps; return what `fit` asks."""
        visited = self._rounds is not None and self._rounds.review(self.module, done, iterations)
        return self._review_experts(done, iterations, generator) or visited

    def resumed(self, done: int, iterations: int) -> None:
        """Take up the windows that were visited."""
        if self._rounds is not None:
            self._rounds.resume(done, iterations)

    def _review_experts(self, done: int, iterations: int, generator: torch.Generator) -> bool:
        settings = self.settings
        if not settings.unused_below or done % settings.review_every:
            return False
        for descent in self.descents.values():
            descent.check()
        alive = int(self.module.alive.sum())
        self._review((done - 1) / iterations, generator)
        return int(self.module.alive.sum()) < alive

    def _expert_loss(
        self, mixture: GaussianMixture, observation: Tensor, progress: Tensor, generator: torch.Generator
    ) -> Float[Tensor, '']:
        settings = self.settings
        options = {'generator': generator, 'dtype': observation.dtype, 'device': observation.device}
        sigma = settings.noise.sigma(stratified(len(observation), generator, dtype=observation.dtype), progress)
        drawn = settings.objective == 'drawn'
        shape = (settings.samples, *(mixture.log_gating.shape[:1] if drawn else mixture.log_gating.shape))
        noise = torch.randn(*shape, mixture.covariance.noise_size, **options)
        common = (mixture, self._score, observation, sigma, noise)
        if settings.objective == 'paper':
            return paper_expert_loss(*common)
        perturbation = torch.randn(*shape, mixture.mean.shape[-1], **options)
        weight = sigma**settings.noise_weight
        if drawn:
            first = torch.arange(settings.samples, device=observation.device)[:, None]
            uniform = (first + torch.rand(len(observation), **options)) / settings.samples
            return drawn_expert_loss(*common, uniform, perturbation, weight)
        return convolved_expert_loss(*common, perturbation, weight)

    @torch.no_grad()
    def _review(self, progress: float, generator: torch.Generator) -> None:
        observation, action = self._windows.draw(_REVIEWED_WINDOWS, generator)
        mixture = self.module(observation)
        living = self.module.alive.nonzero()[:, 0]
        unused = living[mixture.log_gating.exp().amax(dim=0) < self.settings.unused_below]
        if progress >= self.settings.move_until:
            self.module.retire(unused.tolist())
            return
        joint = mixture.log_joint(action)
        missed = joint.logsumexp(dim=-1).argsort()[: int(_MISSED_SHARE * _REVIEWED_WINDOWS)]
        places = missed[torch.randperm(len(missed), generator=generator, device=missed.device)]
        for expert, place in zip(unused.tolist(), places):
            nearest = joint[place].argmax()
            offset = action[place] - mixture.mean[place, nearest]
            self.module.move(expert, int(living[nearest]), offset, share=_MOVED_ODDS)
