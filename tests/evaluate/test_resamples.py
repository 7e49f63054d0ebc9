import numpy as np
import pytest

from loev_jax.evaluate import figures, resamples

CLIPS = np.arange(60)


def test_what_is_added_is_read_again_beside_what_was_there(tmp_path):
    rng = np.random.default_rng(0)
    acc, r2, other = (figures.mean(rng.random(60), CLIPS) for _ in range(3))
    path = tmp_path / resamples.FILE.format(step=7)
    assert resamples.read(path) == {}
    resamples.add(path, {"encoder/tempo": {"tempo_acc1": acc}, "encoder": {"tempo_acc1": other}})
    resamples.add(path, {"encoder/tempo": {"rock|live/map": r2}, "empty": {}})
    assert [one.name for one in tmp_path.iterdir()] == ["7_resamples.npz"]
    found = resamples.read(path)
    assert {space: list(one) for space, one in found.items()} == {
        "encoder/tempo": ["tempo_acc1", "rock|live/map"],
        "encoder": ["tempo_acc1"],
    }
    kept = found["encoder/tempo"]["tempo_acc1"]
    assert kept.value == float(acc)
    np.testing.assert_allclose(kept.resampled, acc.resampled, rtol=1e-6)
    np.testing.assert_allclose(figures.ends(kept.resampled), acc.interval, rtol=1e-6)
    assert kept.draw == acc.draw == r2.draw != figures.mean(CLIPS[1:], CLIPS[1:]).draw
    resamples.add(path, {"encoder": {"tempo_acc1": r2}})
    again = resamples.read(path)["encoder"]["tempo_acc1"]
    assert again.value == float(r2)


@pytest.mark.parametrize("damaged", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_what_cannot_be_read_is_begun_anew(tmp_path, damaged):
    path = tmp_path / "7_resamples.npz"
    path.write_bytes(damaged)
    assert resamples.read(path) == {}
    resamples.add(path, {"encoder": {"key": figures.mean(CLIPS / 60, CLIPS)}})
    assert list(resamples.read(path)) == ["encoder"]
