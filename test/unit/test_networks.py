"""Encoders and trunks."""

from __future__ import annotations

import typing

import pytest
import torch
from oracles import seeded

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.learning import chunk_networks, evaluation, networks, selection, training
from vdd_ros.learning.baselines import consistency, em, one_step
from vdd_ros.learning.chunk_networks import build_chunk_network
from vdd_ros.learning.diffusion import denoiser, loss, noise, samplers, teacher
from vdd_ros.learning.distillation import distiller, labels, noise_levels, objective, rounds
from vdd_ros.learning.mixture import covariance, gaussian_mixture, student
from vdd_ros.learning.networks import NoiseEmbedding, PolicyShape, TrunkSettings, WindowEncoder, build_trunk

KINDS = ['mlp', 'residual', 'transformer']
SHAPE = PolicyShape(observation_horizon=4, observation_size=3, action_size=2)
MODULES = [
    networks,
    chunk_networks,
    evaluation,
    selection,
    labels,
    rounds,
    training,
    consistency,
    em,
    one_step,
    denoiser,
    loss,
    noise,
    samplers,
    teacher,
    distiller,
    noise_levels,
    objective,
    covariance,
    gaussian_mixture,
    student,
]


def trunk(kind: str, query_size: int = 0):
    """Build a small trunk in double precision."""
    torch.manual_seed(0)
    return build_trunk(TrunkSettings(kind=kind, width=24, depth=2, heads=3), SHAPE, query_size).double()


@pytest.mark.parametrize('kind', KINDS)
def test_a_window_encoded_once_for_many_queries_gives_what_each_query_gives_alone(kind):
    network = trunk(kind, query_size=5)
    observation = torch.randn(6, 4, 3, generator=seeded(), dtype=torch.float64)
    query = torch.randn(2, 3, 6, 5, generator=seeded(1), dtype=torch.float64)
    together = network(observation, query)
    assert together.shape == (2, 3, 6, 24)
    for first in range(2):
        for second in range(3):
            alone = network(observation, query[first, second])
            torch.testing.assert_close(together[first, second], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('kind', KINDS)
def test_every_stamp_and_the_query_reach_the_features(kind):
    network = trunk(kind, query_size=5)
    observation = torch.randn(1, 4, 3, generator=seeded(), dtype=torch.float64, requires_grad=True)
    query = torch.randn(1, 5, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    network(observation, query).square().sum().backward()
    assert (observation.grad.abs().sum(dim=-1) > 0).all()
    assert (query.grad != 0).all()


def test_a_token_of_the_transformer_sees_no_later_stamp():
    block = trunk('transformer').blocks[0]
    tokens = torch.randn(1, 4, 24, generator=seeded(), dtype=torch.float64, requires_grad=True)
    block.advance(tokens)[0][:, 1].sum().backward()
    reached = tokens.grad[0].abs().sum(dim=-1) > 0
    assert reached.tolist() == [True, True, False, False]


def test_a_query_attends_as_a_last_token_would():
    block = trunk('transformer').blocks[0]
    tokens = torch.randn(2, 5, 24, generator=seeded(), dtype=torch.float64)
    advanced, seen = block.advance(tokens[:, :4])
    query = block.attend(tokens[:, 4], seen)
    expected, _ = block.advance(tokens)
    torch.testing.assert_close(torch.cat([advanced, query[:, None]], dim=1), expected, rtol=1e-10, atol=1e-10)


def test_differences_leave_the_newest_stamp_and_give_how_far_the_older_ones_are_from_it():
    window = torch.tensor([[[1.0, 2.0], [4.0, 8.0]]])
    encoded = WindowEncoder(TrunkSettings(window='difference', difference_scale=10.0))(window)
    assert encoded.tolist() == [[[-30.0, -60.0], [4.0, 8.0]]]
    assert torch.equal(WindowEncoder(TrunkSettings())(window), window)


@pytest.mark.parametrize('kind', ['mlp', 'residual'])
def test_an_untrained_trunk_keeps_the_signal_alive_through_its_depth(kind):
    torch.manual_seed(0)
    network = build_trunk(TrunkSettings(kind=kind, width=256, depth=4), SHAPE)
    spread = network(torch.randn(512, 4, 3, generator=seeded())).std(dim=0).mean()
    assert 0.3 < spread < 6


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigurationError, match='5 heads do not divide a width of 24'):
        TrunkSettings.parse({'kind': 'transformer', 'width': 24, 'heads': 5})


@pytest.mark.parametrize('module', MODULES, ids=lambda module: module.__name__)
def test_shape_annotations_are_ones_that_jaxtyping_understands(module):
    for value in vars(module).values():
        if getattr(value, '__module__', None) != module.__name__:
            continue
        members = vars(value).values() if isinstance(value, type) else [value]
        for member in members:
            if callable(member) and getattr(member, '__module__', None) == module.__name__:
                typing.get_type_hints(member, vars(module))


CHUNKS = {
    'unet': TrunkSettings(kind='unet', width=8, depth=3, kernel=3),
    'unet of one resolution': TrunkSettings(kind='unet', width=8, depth=1),
    'chunk_transformer': TrunkSettings(kind='chunk_transformer', width=12, depth=2, heads=3),
}
STEPS = PolicyShape(observation_horizon=4, observation_size=3, action_size=10, steps=5)


def over_chunks(name: str):
    """Build a small network over chunks, in double precision, all of whose weights have a say."""
    torch.manual_seed(0)
    network = build_chunk_network(CHUNKS[name], STEPS).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize('name', CHUNKS)
def test_a_network_over_chunks_answers_many_queries_about_one_window_as_each_alone(name):
    network = over_chunks(name)
    options = {'dtype': torch.float64}
    context = network.encode(torch.randn(6, 4, 3, generator=seeded(), **options))
    chunk = torch.randn(2, 6, 10, generator=seeded(1), **options)
    level = torch.randn(2, 6, NoiseEmbedding.size, generator=seeded(2), **options)
    together = network.answer(context, chunk, level)
    assert together.shape == chunk.shape
    for sample in range(2):
        alone = network.answer(context, chunk[sample], level[sample])
        torch.testing.assert_close(together[sample], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', CHUNKS)
def test_window_noise_level_and_every_step_reach_the_answer_of_a_network_over_chunks(name):
    network = over_chunks(name)
    options = {'dtype': torch.float64, 'requires_grad': True}
    window = torch.randn(1, 4, 3, generator=seeded(), **options)
    chunk = torch.randn(1, 10, generator=seeded(1), **options)
    level = torch.randn(1, NoiseEmbedding.size, generator=seeded(2), **options)
    network.answer(network.encode(window), chunk, level).square().sum().backward()
    for part in (window, chunk, level):
        assert (part.grad != 0).all()


def test_a_student_cannot_have_a_network_over_chunks():
    with pytest.raises(ConfigurationError, match='for teachers only'):
        build_trunk(CHUNKS['unet'], STEPS)


def test_a_kernel_without_a_middle_is_refused():
    with pytest.raises(ConfigurationError, match='a kernel size of 4 is not odd'):
        TrunkSettings.parse({'kind': 'unet', 'kernel': 4})


@pytest.mark.parametrize('kind', KINDS)
def test_a_trunk_answers_about_an_encoded_window_as_about_the_window(kind):
    network = trunk(kind, query_size=5)
    observation = torch.randn(6, 4, 3, generator=seeded(), dtype=torch.float64)
    query = torch.randn(6, 5, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(network.answer(network.encode(observation), query), network(observation, query))


@pytest.mark.parametrize(('kernel', 'stride', 'steps'), [(1, 1, 5), (3, 2, 16), (3, 2, 7), (5, 1, 12)])
def test_convolution_in_bfloat16_equals_that_in_float32_within_rounding(kernel: int, stride: int, steps: int) -> None:
    """On a processor it is a matrix product; its gradients are those of a convolution as well."""
    torch.manual_seed(0)
    convolution = chunk_networks.ChunkConvolution(6, 10, kernel, stride=stride, padding=kernel // 2)
    found = {}
    for mixed in (False, True):
        stream = torch.linspace(-1, 1, 4 * 6 * steps).reshape(4, 6, steps).requires_grad_()
        convolution.zero_grad()
        with networks.reduced(stream, mixed):
            result = convolution(stream)
        result.float().square().sum().backward()
        found[mixed] = result, stream.grad, convolution.weight.grad, convolution.bias.grad
    assert found[True][0].dtype == torch.bfloat16
    for reduced, exact in zip(found[True], found[False]):
        torch.testing.assert_close(reduced.float(), exact, rtol=0.03, atol=0.03 * float(exact.abs().max()))


@pytest.mark.parametrize('causal', [False, True])
def test_attention_of_few_tokens_equals_that_of_torch(causal: bool) -> None:
    """With values and gradients; a GPU computes it by elementwise products."""
    given = [
        torch.randn(3, 2, 7, 5, generator=seeded(seed), dtype=torch.float64, requires_grad=True) for seed in range(3)
    ]
    weight = torch.randn(3, 2, 7, 5, generator=seeded(3), dtype=torch.float64)
    short = networks.short_attention(*given, causal=causal)
    found = torch.autograd.grad((weight * short).sum(), given)
    expected = torch.nn.functional.scaled_dot_product_attention(*given, is_causal=causal)
    torch.testing.assert_close(short, expected)
    torch.testing.assert_close(found, torch.autograd.grad((weight * expected).sum(), given))
