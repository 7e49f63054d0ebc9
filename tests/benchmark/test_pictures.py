"""The documents' pictures: of the size that they say, and the domains close to the truth."""

import matplotlib.image
import pytest

from loev_jax.benchmark import pictures


@pytest.mark.slow
def test_pictures_are_drawn_and_both_domains_come_near_the_truth(tmp_path):
    found = pictures.run(tmp_path, quick=True)
    assert set(found) == {"analysis", "waveform"}
    assert min(found.values()) > 0.9
    for name in ("domains.png", "augmentations.png"):
        drawn = matplotlib.image.imread(tmp_path / name)
        assert drawn.shape[0] > 100
        # A picture of log-mels is neither blank nor a single colour.
        assert drawn[..., :3].std() > 0.05
