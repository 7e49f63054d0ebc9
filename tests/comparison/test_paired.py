"""Differences between runs, beside scipy's paired bootstrap."""

import dataclasses

import made_up
import numpy as np
import pytest
from scipy import stats

from loev_jax.comparison import paired, report, runs
from loev_jax.evaluate import figures, resamples

CLIPS = 400


def leave(workdirs, found, scores):
    """Makes runs that scored each clip so, by (recipe, seed), space and metric."""
    for (name, seed), spaces in scores.items():
        measured = {
            space: {
                metric: figures.mean(each, np.arange(len(each))) for metric, each in one.items()
            }
            for space, one in spaces.items()
        }
        run = found.runs[runs.key(name, seed)]
        run["spaces"] = {s: {m: float(v) for m, v in one.items()} for s, one in measured.items()}
        directory = runs.evaluated(found.plan, name, seed, workdirs)
        directory.mkdir(parents=True, exist_ok=True)
        resamples.add(directory / f"{run['steps']}_resamples.npz", measured)


@pytest.fixture(name="scores")
def _scores():
    """Both err on the same clips, and one of them a little less often."""
    rng = np.random.default_rng(0)
    hard = rng.random(CLIPS)
    return {
        ("simclr", 0): {
            "encoder": {"key_weighted": hard < 0.80},
            "invariant": {"key_weighted": hard < 0.30},
        },
        ("loev_tempo_pitch", 0): {
            "pitch": {"key_weighted": hard + 0.05 * rng.normal(size=CLIPS) < 0.84},
            "tempo": {"key_weighted": hard < 0.3},
        },
    }


def test_a_difference_is_a_paired_bootstrap_against_the_best_space(tmp_path, scores):
    found = made_up.results(*scores)
    leave(tmp_path, found, scores)
    measured = paired.differences(found, tmp_path, ("key_weighted", "tempo_acc1"))
    assert set(measured) == {"loev_tempo_pitch"}
    assert set(measured["loev_tempo_pitch"]) == {"0"}
    (pitch,) = measured["loev_tempo_pitch"]["0"]["pitch"].values()
    ours = scores["loev_tempo_pitch", 0]["pitch"]["key_weighted"]
    theirs = scores["simclr", 0]["encoder"]["key_weighted"]
    each = ours.astype(float) - theirs
    assert pitch[0] == pytest.approx(each.mean(), abs=1e-4)
    peer = stats.bootstrap(
        (each,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(pitch[1:], peer, atol=0.005)
    alone = [figures.mean(one, np.arange(CLIPS)).interval for one in (ours, theirs)]
    assert alone[0][0] < alone[1][1]  # they overlap, and yet
    assert pitch[1] > 0


def test_each_seed_has_its_own_and_what_was_known_of_another_is_kept(tmp_path, scores):
    rng = np.random.default_rng(3)
    again = {
        (name, 1): {
            space: {metric: rng.permutation(each) for metric, each in one.items()}
            for space, one in spaces.items()
        }
        for (name, _), spaces in scores.items()
    }
    found = made_up.results(*scores, *again)
    leave(tmp_path, found, scores | again)
    both = paired.differences(found, tmp_path, ("key_weighted",))["loev_tempo_pitch"]
    for seed, one in enumerate((scores, again)):
        difference = one["loev_tempo_pitch", seed]["pitch"]["key_weighted"].astype(float)
        difference -= one["simclr", seed]["encoder"]["key_weighted"]
        expected = figures.mean(difference, np.arange(CLIPS))
        cell = both[str(seed)]["pitch"]["key_weighted"]
        assert cell == pytest.approx([expected, *expected.interval], abs=1e-4)

    found.differences = {"loev_tempo_pitch": {"0": both["0"], "1": {}}}
    alone = tmp_path / "another machine"  # with only the second seed's files
    leave(alone, made_up.results(*again), again)
    assert paired.differences(found, alone, ("key_weighted",)) == {"loev_tempo_pitch": both}


def test_what_another_run_left_or_what_lacks_a_figure_does_not_count(tmp_path, scores):
    found = made_up.results(*scores)
    leave(tmp_path, found, scores)
    assert paired.differences(found, tmp_path, ("key_weighted",))
    known = {"loev_tempo_pitch": {"0": {"pitch": {"key_weighted": [1, 1, 1]}}}}
    other = dataclasses.replace(found, differences=known)
    other.runs["simclr/0"]["spaces"]["encoder"]["key_weighted"] += 0.001
    assert paired.differences(other, tmp_path, ("key_weighted",)) == known
    found = made_up.results(*scores)
    leave(tmp_path, found, scores)
    found.runs["simclr/0"]["spaces"]["encoder"]["tempo_acc1"] = 0.5  # of which nothing was kept
    assert paired.differences(found, tmp_path, ("key_weighted", "tempo_acc1")) == {}


def test_figures_of_other_clips_are_not_subtracted(tmp_path, scores):
    found = made_up.results(*scores)
    fewer = {space: {m: v[:-1] for m, v in one.items()}
             for space, one in scores["simclr", 0].items()}  # fmt: skip
    leave(tmp_path, found, scores | {("simclr", 0): fewer})
    measured = paired.differences(found, tmp_path, ("key_weighted",))
    assert measured["loev_tempo_pitch"] == {"0": {}}


def test_without_resamples_there_is_no_difference(tmp_path, scores):
    found = made_up.results(*scores)
    assert paired.differences(found, tmp_path, ("key_weighted",)) == {}
    assert "minus SimCLR's best" not in report.markdown(found)


def test_differences_have_a_table_of_means_over_seeds(tmp_path):
    found = made_up.results(*made_up.PLAN.runs())
    first = {"key_weighted": [0.034, 0.012, 0.06], "tempo_acc1": [-0.02, -0.051, 0.01]}
    second = {"key_weighted": [0.05, 0.02, 0.08]}
    known = {"loev_tempo_pitch": {"0": {"pitch": first, "tempo": first}, "1": {"pitch": second}}}
    found = dataclasses.replace(found, differences=known)
    runs.write(tmp_path, found)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(runs.read(tmp_path)).splitlines()
    ]
    means = ["-.020 (-.051 to +.010)", "-", "+.042 (+.016 to +.070)", "-"]
    assert ["LOEV, both", "pitch", "2", *means] in rows
    alone = ["-.020 (-.051 to +.010)", "-", "+.034 (+.012 to +.060)", "-"]
    assert ["LOEV, both", "tempo", "1", *alone] in rows


def test_differences_of_an_older_comparison_are_those_of_its_seed(tmp_path):
    cells = {"pitch": {"key_weighted": [0.034, 0.012, 0.06]}}
    known = {"looc": {"seeds": 2, "spaces": cells}, "loev": {"seeds": 1, "spaces": cells}}
    runs.write(tmp_path, dataclasses.replace(made_up.results(), differences=known))
    assert runs.read(tmp_path).differences == {"loev": {"0": cells}}
