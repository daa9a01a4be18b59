"""Random crops in other colours."""

import numpy as np
import pytest

from bigr_features.data import load_sample, side_for, views_of
from bigr_features.data.augmentation import augmented


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_the_same_views_wherever_it_stands(images, channels):
    images = images[..., :channels]
    views = views_of(images, side_for(32, "augmented"), "augmented")
    assert views.shape == (6, 10, 32, 32, channels)
    assert views.dtype == np.uint8
    np.testing.assert_array_equal(views[:, :2], views_of(images, 32, "flip"))
    np.testing.assert_array_equal(views_of(images[[4, 1]], 32, "augmented"), views[[4, 1]])
    for one in views:
        assert len(np.unique(one.reshape(10, -1), axis=0)) == 10


def test_no_images_have_no_views():
    assert views_of(np.empty((0, 16, 16, 3), np.uint8), 16, "augmented").shape == (0, 10, 16, 16, 3)


def test_crops_cover_a_fifth_to_all_and_colours_stay_near():
    """A ramp tells where a view was cut: the range of its rows and columns is the part that it covers."""
    rows, columns = np.mgrid[0:64, 0:64]
    ramp = np.stack([rows * 4, columns * 4, np.full_like(rows, 128)], axis=-1).astype(np.uint8)
    views = augmented(ramp, 300).astype(float)
    gray = (np.ptp(views, axis=-1) == 0).all(axis=(1, 2))
    assert 0.1 < gray.mean() < 0.32
    unchanged = views[(views[..., 2].std((1, 2)) < 1e-9) & (views[:, 0, 0, 2] == 128)]  # neither colour nor gray
    assert 20 < len(unchanged) < 100
    covered = np.ptp(unchanged[..., 0], axis=(1, 2)) * np.ptp(unchanged[..., 1], axis=(1, 2)) / 252**2
    assert covered.min() > 0.15
    assert covered.max() > 0.85
    mirrored = (unchanged[:, 32, 0, 1] > unchanged[:, 32, -1, 1]).mean()
    assert 0.25 < mirrored < 0.75


def test_real_images_stay_like_themselves():
    """Closer, by their mean over a coarse grid, to their own picture than to another one's, mostly."""
    pixels = load_sample("fashion_mnist").train_images[:40]
    pixels = pixels.reshape(40, pixels.shape[1], pixels.shape[2], -1)
    views = np.stack([augmented(image, 4) for image in pixels]).astype(float)
    brightness = views.mean((2, 3, 4))
    own = pixels.astype(float).mean((1, 2, 3))
    assert np.corrcoef(brightness.mean(1), own)[0, 1] > 0.7
