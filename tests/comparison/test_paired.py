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
    assert measured["loev_tempo_pitch"]["seeds"] == 1
    (pitch,) = measured["loev_tempo_pitch"]["spaces"]["pitch"].values()
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


def test_seeds_are_pooled_and_what_was_known_of_more_is_kept(tmp_path, scores):
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
    assert both["seeds"] == 2
    mean = np.mean(
        [
            one["loev_tempo_pitch", seed]["pitch"]["key_weighted"].astype(float)
            - one["simclr", seed]["encoder"]["key_weighted"]
            for seed, one in enumerate((scores, again))
        ],
        axis=0,
    )
    expected = figures.mean(mean, np.arange(CLIPS))
    cell = both["spaces"]["pitch"]["key_weighted"]
    assert cell == pytest.approx([expected, *expected.interval], abs=1e-4)

    found.differences = {"loev_tempo_pitch": both}
    alone = tmp_path / "another machine"  # with only one seed's files
    leave(alone, made_up.results(*scores), scores)
    assert paired.differences(found, alone, ("key_weighted",)) == found.differences


def test_what_another_run_left_or_what_lacks_a_figure_does_not_count(tmp_path, scores):
    found = made_up.results(*scores)
    leave(tmp_path, found, scores)
    assert paired.differences(found, tmp_path, ("key_weighted",))
    known = {"loev_tempo_pitch": {"seeds": 1, "spaces": {"pitch": {"key_weighted": [1, 1, 1]}}}}
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
    assert measured["loev_tempo_pitch"]["spaces"] == {}


def test_without_resamples_there_is_no_difference(tmp_path, scores):
    found = made_up.results(*scores)
    assert paired.differences(found, tmp_path, ("key_weighted",)) == {}
    assert "minus SimCLR's best" not in report.markdown(found)


def test_differences_have_a_table(tmp_path, scores):
    found = made_up.results(*scores)
    cells = {"key_weighted": [0.034, 0.012, 0.06], "tempo_acc1": [-0.02, -0.051, 0.01]}
    known = {"loev_tempo_pitch": {"seeds": 1, "spaces": {"pitch": cells}}}
    found = dataclasses.replace(found, differences=known)
    runs.write(tmp_path, found)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in report.markdown(runs.read(tmp_path)).splitlines()
    ]
    shown = ["-.020 (-.051 to +.010)", "-", "+.034 (+.012 to +.060)", "-"]
    assert ["LOEV, both", "pitch", "1", *shown] in rows
