import numpy as np

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
    drawn = found["encoder/tempo"]["tempo_acc1"]
    np.testing.assert_allclose(drawn, acc.resampled, rtol=1e-6)
    np.testing.assert_allclose(figures.ends(drawn), acc.interval, rtol=1e-6)
    resamples.add(path, {"encoder": {"tempo_acc1": r2}})
    again = resamples.read(path)["encoder"]["tempo_acc1"]
    np.testing.assert_allclose(again, r2.resampled, rtol=1e-6)


def test_what_cannot_be_read_is_begun_anew(tmp_path):
    path = tmp_path / "7_resamples.npz"
    path.write_bytes(b"PK\x03\x04 torn")
    assert resamples.read(path) == {}
    resamples.add(path, {"encoder": {"key": figures.mean(CLIPS / 60, CLIPS)}})
    assert list(resamples.read(path)) == ["encoder"]
