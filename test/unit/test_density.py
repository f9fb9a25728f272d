"""The density over demonstrated windows: near is familiar, far is not, and what never varied does not cry wolf."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.policy.density import ObservationDensity, fit_density


def ring(count: int, generator: np.random.Generator, radius: float = 1.4) -> np.ndarray:
    """Return windows of two stamps on a ring; the second entry follows the first."""
    angle = generator.uniform(0, 2 * np.pi, count)
    newest = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    older = radius * np.stack([np.cos(angle - 0.1), np.sin(angle - 0.1)], axis=-1)
    return np.stack([older, newest], axis=1) + generator.normal(scale=0.02, size=(count, 2, 2))


@pytest.fixture(scope='module')
def fitted() -> ObservationDensity:
    """Fitted to a ring."""
    return fit_density(ring(4000, np.random.default_rng(0)), np.random.default_rng(1))


def test_unseen_windows_of_the_same_kind_are_as_familiar_as_those_it_was_fitted_to(fitted):
    seen = fitted.log_density(ring(4000, np.random.default_rng(0)))
    unseen = fitted.log_density(ring(4000, np.random.default_rng(2)))
    threshold = np.quantile(seen, 0.05)
    # Five standard errors of the difference of two shares of .05 among 4000: 5 sqrt(2 * .05 * .95 / 4000).
    assert (unseen < threshold).mean() == pytest.approx(0.05, abs=0.0244)


@pytest.mark.parametrize('radius', [0.0, 1.1, 1.7, 20.0])
def test_windows_off_the_ring_are_unfamiliar(fitted, radius):
    seen = fitted.log_density(ring(4000, np.random.default_rng(0)))
    off = fitted.log_density(ring(200, np.random.default_rng(3), radius))
    assert np.isfinite(off).all()
    assert (off < np.quantile(seen, 0.01)).mean() > 0.99


def test_motion_in_the_wrong_direction_on_the_ring_is_out_of_distribution(fitted):
    windows = ring(4000, np.random.default_rng(0))
    threshold = np.quantile(fitted.log_density(windows), 0.01)
    assert (fitted.log_density(windows[:, ::-1]) < threshold).mean() > 0.9


def test_noise_of_the_normalisers_least_unit_on_what_never_varied_is_no_novelty():
    random = np.random.default_rng(0)
    windows = np.concatenate([ring(4000, random), np.zeros((4000, 2, 1))], axis=-1)
    fitted = fit_density(windows, np.random.default_rng(1))
    noisy = windows + random.normal(scale=0.2, size=windows.shape) * [0, 0, 1]
    threshold = np.quantile(fitted.log_density(windows), 0.001)
    assert (fitted.log_density(noisy) < threshold).mean() < 0.01


def test_it_survives_conversion_to_arrays(fitted):
    again = ObservationDensity.from_arrays(
        {name: value.copy() for name, value in fitted.arrays.items()}, len(fitted.whitening)
    )
    windows = ring(10, np.random.default_rng(4))
    np.testing.assert_array_equal(again.log_density(windows), fitted.log_density(windows))


def test_few_windows_make_few_centres():
    fitted = fit_density(ring(7, np.random.default_rng(0)), np.random.default_rng(1))
    assert len(fitted.centre) <= 7
    assert np.isfinite(fitted.log_density(ring(7, np.random.default_rng(2)))).all()


def test_a_density_of_scaled_windows_is_one_of_unscaled_windows():
    generator = np.random.default_rng(0)
    window, offset, scale = ring(500, generator), np.array([1.0, -2.0, 0.0, 3.0]), np.array([0.1, 2.0, 1.0, 5.0])
    fitted = fit_density((window.reshape(-1, 4) - offset).reshape(-1, 2, 2) / scale.reshape(2, 2), generator)
    unscaled = fitted.of_unscaled(offset, scale)
    expected = fitted.log_density((window.reshape(-1, 4) - offset).reshape(-1, 2, 2) / scale.reshape(2, 2))
    np.testing.assert_allclose(unscaled.log_density(window), expected)
