import numpy as np

from loev_jax.monitor import pictures


def test_views_lie_side_by_side_with_low_bands_at_the_bottom():
    mels = np.zeros((2, 3, 10, 6), np.float32)
    mels[1, 2, 4, 0] = 5.0  # the second clip's third view, its lowest band
    image = pictures.of_views(mels)
    assert image.shape == (2, 6, 3 * 10 + 2 * 4, 3)
    assert image.dtype == np.uint8
    brightest = np.argwhere(image[1].sum(axis=-1) == image[1, 5, 2 * 14 + 4].sum())
    assert [5, 2 * 14 + 4] in brightest.tolist()
    assert (image[:, :, 10:14] == 255).all()
    assert (image[0, :, :10] == image[0, 0, 0]).all()


def test_a_matrix_keeps_its_place_and_is_large_enough_to_see():
    cosines = np.full((5, 5), -1.0)
    cosines[0, 4] = 1.0
    image = pictures.of_similarities(cosines)
    assert image.shape == (385, 385, 3)
    assert image[:77, -77:].min() > 150
    assert image[77:].max() < 20


def test_flat_views_have_a_picture():
    assert np.isfinite(pictures.of_views(np.full((1, 2, 4, 3), 2.0))).all()
