"""Normalisers: inverses of each other, and safe where the data are degenerate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdd_ros.common.errors import TrainingError
from vdd_ros.policy.normalization import Normalizer


@given(st.integers(0, 2**32 - 1))
def test_denormalize_inverts_normalize(seed):
    values = np.random.default_rng(seed).normal(size=(50, 3)) * [1e-3, 1.0, 1e3]
    normalizer = Normalizer.fit(values)
    np.testing.assert_allclose(normalizer.denormalize(normalizer.normalize(values)), values, rtol=1e-9, atol=1e-9)


def test_normalized_values_have_zero_mean_and_unit_deviation():
    values = np.random.default_rng(0).normal(3.0, 2.0, (200, 2))
    normalized = Normalizer.fit(values).normalize(values)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-12)


def test_a_constant_dimension_stays_finite():
    values = np.stack([np.linspace(0, 1, 20), np.full(20, 7.0)], axis=1)
    assert np.abs(Normalizer.fit(values).normalize(values)).max() < 10


@pytest.mark.parametrize(
    'values', [np.zeros((0, 2)), np.zeros((5, 2)), np.array([[1.0, np.nan]]), np.zeros(3)], ids=str
)
def test_what_cannot_be_normalised_is_refused(values):
    with pytest.raises(TrainingError):
        Normalizer.fit(values)
