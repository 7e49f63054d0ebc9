"""Two evaluated runs beside each other, with their intervals."""

import numpy as np
import pytest
from scipy import stats

from loev_jax.comparison import two_runs
from loev_jax.errors import UserError
from loev_jax.evaluate import figures, resamples

CLIPS = 300


def leave(workdir, scores, step=5):
    """A result of a run that scored each clip so, by space and metric."""
    (workdir / "eval").mkdir(parents=True, exist_ok=True)
    (workdir / "eval" / f"{step}.json").write_text("{}")
    pieces = np.arange(CLIPS)
    measured = {
        space: {name: figures.mean(each, pieces[: len(each)]) for name, each in one.items()}
        for space, one in scores.items()
    }
    resamples.add(workdir / "eval" / f"{step}_resamples.npz", measured)
    return two_runs.evaluated(workdir, None, "test")


@pytest.fixture(name="hard")
def _hard():
    return np.random.default_rng(0).random(CLIPS)


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_best_spaces_stand_beside_each_other_with_a_paired_difference(tmp_path, hard):
    ours = hard + 0.05 * np.random.default_rng(1).normal(size=CLIPS) < 0.84
    pitch = {"key_weighted": ours, "tempo_acc1": hard < 0.2}
    tempo = {"key_weighted": hard < 0.3, "tempo_acc1": hard < 0.5, "mood_accuracy": ours}
    run = leave(tmp_path / "run", {"pitch": pitch, "tempo": tempo})
    encoder = {"key_weighted": hard < 0.8, "tempo_acc1": hard < 0.5, "mood_accuracy": ours}
    other = leave(tmp_path / "other", {"encoder": encoder})
    head, _, tempo, key = cells(two_runs.compare(run, other))
    assert head == ["metric", "baseline", "run", "difference, 95 %"]
    assert tempo[0] == "tempo_acc1"
    assert tempo[3] == "+.000 (+.000 to +.000)"
    assert key[1].startswith(f"encoder: .{1000 * np.mean(hard < 0.8):.0f} (")
    assert key[2].startswith(f"pitch: .{1000 * np.mean(ours):.0f} (")
    each = ours.astype(float) - (hard < 0.8)
    peer = stats.bootstrap((each,), np.mean, n_resamples=9999, method="percentile", rng=0)
    value, low, _, high = key[3].replace("(", "").replace(")", "").split()
    assert float(value) == pytest.approx(each.mean(), abs=5e-4)
    assert [float(low), float(high)] == pytest.approx([*peer.confidence_interval], abs=0.006)
    (_, _, mood) = cells(two_runs.compare(run, other, ["mood_accuracy"]))
    assert mood[0] == "mood_accuracy"


def test_the_last_result_is_taken_and_labels_of_a_users_own_are_compared(tmp_path, hard):
    leave(tmp_path / "run", {"encoder": {"mood_accuracy": hard < 0.1}}, step=20)
    run = leave(tmp_path / "run", {"encoder": {"mood_accuracy": hard < 0.9}}, step=100)
    (_, _, mood) = cells(two_runs.compare(run, run))
    assert mood[1].startswith(f"encoder: .{1000 * np.mean(hard < 0.9):.0f} (")


def test_what_cannot_be_compared_is_told(tmp_path, hard):
    run = leave(tmp_path / "run", {"encoder": {"key_weighted": hard < 0.5}})
    fewer = leave(tmp_path / "fewer", {"encoder": {"key_weighted": hard[:200] < 0.5}})
    with pytest.raises(UserError, match="not of the same clips"):
        two_runs.compare(run, fewer)
    with pytest.raises(UserError, match=r"--metrics=tempo_r2: not in both .* from key_weighted"):
        two_runs.compare(run, run, ["tempo_r2"])
    with pytest.raises(UserError, match=r"eval/validation: holds no result; evaluate the run"):
        two_runs.evaluated(tmp_path / "run", None, "validation")
    (tmp_path / "run" / "eval" / "5_resamples.npz").unlink()
    with pytest.raises(UserError, match=r"5_resamples\.npz: holds no resamples; remove 5\.json"):
        two_runs.evaluated(tmp_path / "run", None, "test")
