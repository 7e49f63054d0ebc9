import dataclasses

import numpy as np
import pytest
import synthetic
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from loev_jax.evaluate.equivariance import Equivariance
from loev_jax.evaluate.linear import RIDGE_GRID
from loev_jax.evaluate.spaces import Vectored


def test_each_space_tells_its_own_parameter(known, vectors):
    tempo = Equivariance().score(known, vectors, "tempo")
    key = Equivariance().score(known, vectors, "key")
    noise = Equivariance().score(known, vectors, "noise")
    assert tempo["time_stretch_r2"] > 0.98
    assert key["pitch_shift_r2"] > 0.98
    assert max(tempo["pitch_shift_r2"], key["time_stretch_r2"], *noise.values()) < 0.1


def test_shuffled_differences_teach_nothing(known, vectors):
    shuffled = Equivariance().score(known, vectors, "tempo", np.random.default_rng(0))
    assert max(shuffled.values()) < 0.1


@pytest.mark.parametrize(("name", "space"), [("time_stretch", "tempo"), ("pitch_shift", "key")])
def test_the_difference_stands_for_the_concatenated_pair_both_ways(known, vectors, name, space):
    """The literal protocol: ridge on [z_a, z_b] and the direction, every pair both ways."""

    def pairs(split, forward=True, backward=True):
        one, theta = vectors[split], known[split].differences[name]
        a, b = one.clean[space] / scale[None], one.moved[space] / scale[None]
        way = np.full((len(a), 1), 1e6)  # so large that the penalty does not reach its weight
        both = ([[a, b, way]] if forward else []) + ([[b, a, -way]] if backward else [])
        target = ([theta] if forward else []) + ([-theta] if backward else [])
        return np.concatenate([np.concatenate(ab, axis=1) for ab in both]), np.concatenate(target)

    train = vectors["train"]
    scale = np.std(train.moved[space] - train.clean[space], axis=0)
    peers = [Ridge(alpha, solver="svd").fit(*pairs("train")) for alpha in RIDGE_GRID]
    x, y = pairs("validation")
    best = peers[int(np.argmin([np.sum((peer.predict(x) - y) ** 2) for peer in peers]))]
    mine = Equivariance().score(known, vectors, space)[f"{name}_r2"]
    for direction in ({"backward": False}, {"forward": False}):
        assert best.score(*pairs("test", **direction)) == pytest.approx(mine, abs=1e-6)


def _changed(known, vectors, name, draw, told):
    """Facts of another change, and two spaces: one is moved as `told` says, one always alike."""
    rng = np.random.default_rng(2)
    facts, spaces = {}, {}
    for split, one in known.items():
        theta = draw(rng, len(one.ids))
        facts[split] = dataclasses.replace(one, differences={name: theta})
        clean = vectors[split].clean["noise"]
        ways = np.random.default_rng(3).normal(size=(5, clean.shape[1]))
        moved = {"told": clean + told(theta) @ ways[:4], "transformed": clean + 3 * ways[4]}
        moved = {space: rows + 0.1 * rng.normal(size=rows.shape) for space, rows in moved.items()}
        sides = (dict.fromkeys(moved, clean), moved)
        spaces[split] = Vectored(vectors[split].tracks, *sides)
    return facts, spaces


def test_that_a_view_was_transformed_tells_nothing_whatever_the_range(known, vectors):
    """Gains of -15 to 5 dB are -5 on average: who knows which view has one knows that much."""
    facts, spaces = _changed(
        known,
        vectors,
        "gain",
        lambda rng, count: rng.uniform(-15, 5, count),
        lambda gain: gain[:, None] / 5 * [1, 0, 0, 0],
    )
    assert abs(Equivariance().score(facts, spaces, "transformed")["gain_r2"]) < 0.05
    assert Equivariance().score(facts, spaces, "told")["gain_r2"] > 0.98


def test_a_category_is_read_as_indicators(known, vectors):
    facts, spaces = _changed(
        known,
        vectors,
        "filter_kind",
        lambda rng, count: rng.integers(1, 5, count).astype(float),
        lambda kind: 2 * np.eye(4)[kind.astype(int) - 1],
    )
    assert abs(Equivariance().score(facts, spaces, "transformed")["filter_kind_r2"]) < 0.05
    found = Equivariance().score(facts, spaces, "told")["filter_kind_r2"]
    assert found > 0.95
    assert found.confusion.counts.trace() == len(facts["test"].ids)
    assert found.confusion.names == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("name", "draw", "columns"),
    [
        ("gain", lambda rng, n: rng.uniform(-15, 5, n), lambda gain: gain[:, None]),
        (
            "filter_kind",
            lambda rng, n: rng.integers(1, 5, n).astype(float),
            lambda kind: np.eye(4)[kind.astype(int) - 1],
        ),
    ],
)
def test_of_whatever_differs_it_is_scikit_learns_ridge_on_both_views(
    known, vectors, name, draw, columns
):
    """The literal protocol of a column at a time: its own penalty, every pair both ways."""
    facts, spaces = _changed(
        known, vectors, name, draw, lambda theta: np.resize(columns(theta).T, (4, len(theta))).T / 3
    )
    scale = np.std(spaces["train"].moved["told"] - spaces["train"].clean["told"], axis=0)

    def views(split, sign):
        a, b = (getattr(spaces[split], side)["told"] / scale for side in ("clean", "moved"))
        way = np.full((len(a), 1), 1e6 * sign)
        return np.concatenate([a, b, way] if sign > 0 else [b, a, way], axis=1)

    def both(split):
        theta = columns(facts[split].differences[name])
        return np.concatenate([views(split, 1), views(split, -1)]), np.concatenate([theta, -theta])

    (x, y), (tune_x, tune_y) = both("train"), both("validation")
    truth = columns(facts["test"].differences[name])
    read = []
    for column in range(y.shape[1]):
        peers = [Ridge(alpha, solver="svd").fit(x, y[:, column]) for alpha in RIDGE_GRID]
        errors = [np.sum((one.predict(tune_x) - tune_y[:, column]) ** 2) for one in peers]
        read.append(peers[int(np.argmin(errors))].predict(views("test", 1)))
    expected = r2_score(truth, np.stack(read, axis=1), multioutput="variance_weighted")
    found = Equivariance().score(facts, spaces, "told")[f"{name}_r2"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_clips_of_one_piece_stand_or_fall_together(known, vectors):
    """Of a folder, those of one file: with each clip ten times an interval is no shorter."""
    test, paired = known["test"], np.arange(120) % 3 > 0
    differences = {name: one[paired] for name, one in test.differences.items()}
    few = dataclasses.replace(test, paired=paired, differences=differences)
    many = dataclasses.replace(
        few,
        pieces=np.tile(test.pieces, 10),
        paired=np.tile(paired, 10),
        differences={name: np.tile(one, 10) for name, one in differences.items()},
    )
    spaces = vectors["test"]
    rows = {side: getattr(spaces, side)["key"][paired] for side in ("clean", "moved")}
    found = []
    for facts, times in ((few, 1), (many, 10)):
        sides = {side: {"key": np.tile(one, (times, 1))} for side, one in rows.items()}
        scored = vectors | {"test": Vectored(spaces.tracks, **sides)}
        found.append(Equivariance().score(known | {"test": facts}, scored, "key"))
    for name, figure in found[0].items():
        assert found[1][name] == pytest.approx(figure)
        assert found[1][name].interval == pytest.approx(figure.interval)


def test_without_pairs_it_is_left_out():
    known = synthetic.facts(clips={"train": 20, "validation": 3, "test": 20})
    reasons = Equivariance().left_out(known)
    assert "split 'validation' has 3 clips long enough" in reasons[0]
    assert Equivariance().score(known, synthetic.vectors(known), "tempo") == {}
