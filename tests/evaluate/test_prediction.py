"""Prediction and invariance of swept views, on spaces whose geometry is known."""

import dataclasses

import numpy as np
import pytest
import synthetic
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from loev_jax.evaluate import prediction, sweep
from loev_jax.evaluate.invariance import Invariance
from loev_jax.evaluate.linear import RIDGE_GRID
from loev_jax.evaluate.prediction import Prediction

ALONE = ("time_stretch", "pitch_shift", "gain")


@pytest.fixture(scope="module")
def world():
    """`step`: a change is the same step for all; `turn`: it depends on the clip; `deaf`: none."""
    known = synthetic.facts()
    rng = np.random.default_rng(5)
    steps = rng.normal(size=(2, 16))
    mixing = rng.normal(size=(2, 16, 16))
    result = {}

    def put(where, stretch, shift, space):
        change = np.stack([stretch, shift / 8], axis=-1)
        if space == "step":
            return where + change @ steps
        if space == "turn":
            return where + 0.2 * np.einsum("...k,kij,...j->...i", change, mixing, where)
        return where + 0.05 * rng.normal(size=where.shape)

    for split, one in known.items():
        count = len(one.ids)
        d = one.differences
        where = {name: rng.normal(size=(count, 16)) for name in ("step", "turn", "deaf")}
        moved = {
            name: put(x, d["time_stretch"], d["pitch_shift"], name) for name, x in where.items()
        }
        result[split] = synthetic.Vectored(where, where, moved)
    count, views = 60, 1 + sweep.VIEWS
    parameters = {
        "time_stretch": rng.uniform(-0.3, 0.3, (count, views)),
        "pitch_shift": rng.uniform(-4, 4, (count, views)),
    }
    for value in parameters.values():
        value[:, 0] = 0
    alone = {"time_stretch": (0.2, 0.0), "pitch_shift": (0.0, 3.0), "gain": (0.0, 0.0)}
    swept = {}
    for name in ("step", "turn", "deaf"):
        base = rng.normal(size=(count, 1, 16))
        each = put(
            np.repeat(base, views, axis=1),
            parameters["time_stretch"],
            parameters["pitch_shift"],
            name,
        )
        rest = [
            put(base[:, 0], np.full(count, a), np.full(count, b), name) for a, b in alone.values()
        ]
        swept[name] = np.concatenate([each, np.stack(rest, axis=1)], axis=1)
    changed = np.ones((count, len(ALONE)), bool)
    changed[7:, 1] = False  # only a few clips were shifted alone
    pieces = np.array([f"p{n // 2}" for n in range(count)])
    facts = known | {
        "test": dataclasses.replace(
            known["test"], swept=sweep.Sweep(pieces, parameters, ALONE, changed)
        )
    }
    result["test"] = dataclasses.replace(result["test"], swept=swept)
    return facts, result


@pytest.mark.parametrize("space", ["step", "turn"])
@pytest.mark.parametrize("direction", prediction.DIRECTIONS)
def test_where_changes_are_lawful_the_right_view_is_found(world, space, direction):
    score = Prediction().score(*world, space)
    assert score[f"predicted_{direction}_h1"] > (0.9 if space == "step" else 0.6)
    assert score[f"predicted_{direction}_time_stretch_pre"] < 0.03
    assert score[f"predicted_{direction}_pitch_shift_pre"] < 0.5


def test_where_nothing_is_kept_it_is_chance(world):
    score = Prediction().score(*world, "deaf")
    views = 1 + sweep.VIEWS
    assert abs(score["predicted_back_h10"] - 10 / views) < 0.15
    # Among the views is the clip itself, which is where it is predicted to stay.
    assert score["predicted_forth_h1"] < 2 / views
    truth = world[0]["test"].swept.parameters["pitch_shift"]
    random = np.abs(truth[:, None, 1:] - truth[:, :, None]).mean()
    assert score["predicted_back_pitch_shift_pre"] > 0.5 * random


def test_a_predictor_of_shuffled_changes_is_lost(world):
    right = Prediction().score(*world, "step")
    lost = Prediction().score(*world, "step", np.random.default_rng(0))
    assert lost["predicted_forth_mrr"] < 0.6 * right["predicted_forth_mrr"]


def test_ranks_equal_a_brute_force_reference():
    rng = np.random.default_rng(1)
    predicted, views = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 7, 3))
    right = np.array([6, 0, 3, 3, 1])
    place, nearest = prediction.placed(predicted, views, right)
    for clip in range(4):
        for number, own in enumerate(right):
            distances = [np.linalg.norm(predicted[clip, number] - view) for view in views[clip]]
            assert nearest[clip, number] == int(np.argmin(distances))
            assert place[clip, number] == sorted(distances).index(distances[own]) + 1
    flat, _ = prediction.placed(np.zeros((1, 1, 2)), np.zeros((1, 7, 2)), np.array([2]))
    assert flat.tolist() == [[7]]  # a tie counts against it


def test_figures_equal_a_brute_force_reference(world, monkeypatch):
    """Whatever is predicted: here anything, in the space itself."""
    facts, vectors = world
    train = StandardScaler().fit(vectors["train"].clean["deaf"])
    views = vectors["test"].swept["deaf"][:, : 1 + sweep.VIEWS]
    clips, number, size = views.shape
    scaled = train.transform(views.reshape(-1, size)).reshape(views.shape)
    rng = np.random.default_rng(6)
    guess = scaled.mean(axis=1)[:, None, None] + rng.normal(size=(clips, 2, number - 1, size))
    monkeypatch.setattr(prediction, "_axes", lambda rows: np.eye(rows.shape[1]))
    monkeypatch.setattr(prediction, "regress", lambda *_: guess.reshape(-1, size))
    score = Prediction().score(facts, vectors, "deaf")
    parameters = facts["test"].swept.parameters
    for way, direction in enumerate(("forth", "back")):
        ranks, errors = [], {name: [] for name in parameters}
        for clip in range(clips):
            for other in range(1, number):
                wanted = other if direction == "forth" else 0
                far = [np.linalg.norm(guess[clip, way, other - 1] - v) for v in scaled[clip]]
                order = np.argsort(far)
                ranks.append(1 + list(order).index(wanted))
                for name, value in parameters.items():
                    errors[name].append(abs(value[clip, order[0]] - value[clip, wanted]))
        own = f"predicted_{direction}"
        assert score[f"{own}_mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
        for k in (1, 5, 10):
            assert score[f"{own}_h{k}"] == pytest.approx(np.mean([r <= k for r in ranks]))
        for name, each in errors.items():
            assert score[f"{own}_{name}_pre"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("space", ["step", "turn", "deaf"])
def test_the_predictor_is_scikit_learns_ridge_on_products(world, space):
    """From vectors to figures: scaler, principal axes, products, and a penalty for each axis."""
    facts, vectors = world
    scaler = StandardScaler().fit(vectors["train"].clean[space])
    axes = PCA().fit(scaler.transform(vectors["train"].clean[space]))
    differences = facts["train"].differences
    unit = {name: np.abs(value).max() for name, value in differences.items()}

    def place(rows):
        return axes.transform(scaler.transform(rows))

    def inputs(where, changes):
        told = np.stack([value / unit[name] for name, value in changes.items()], axis=1)
        products = [where * told[:, [column]] for column in range(told.shape[1])]
        return np.concatenate([where, told, *products], axis=1)

    def pairs(split):
        clean, moved = (place(getattr(vectors[split], s)[space]) for s in ("clean", "moved"))
        forth = facts[split].differences
        back = {name: -value for name, value in forth.items()}
        seen = np.concatenate([inputs(clean, forth), inputs(moved, back)])
        return seen, np.concatenate([moved, clean])

    (x, y), (tune_x, tune_y) = pairs("train"), pairs("validation")
    inner = StandardScaler().fit(x)
    read = []
    for axis in range(y.shape[1]):
        peers = [Ridge(a, solver="svd").fit(inner.transform(x), y[:, axis]) for a in RIDGE_GRID]
        errors = [
            np.sum((one.predict(inner.transform(tune_x)) - tune_y[:, axis]) ** 2) for one in peers
        ]
        read.append(peers[int(np.argmin(errors))])

    views = vectors["test"].swept[space][:, : 1 + sweep.VIEWS]
    there = np.stack([place(clip) for clip in views])
    parameters = facts["test"].swept.parameters
    score = Prediction().score(facts, vectors, space)
    for sign, direction in ((1, "forth"), (-1, "back")):
        ranks = []
        for clip in range(len(views)):
            change = {name: sign * value[clip, 1:] for name, value in parameters.items()}
            start = there[clip][[0] * sweep.VIEWS] if sign > 0 else there[clip][1:]
            asked = inner.transform(inputs(start, change))
            guesses = np.stack([one.predict(asked) for one in read], axis=1)
            for other, guess in enumerate(guesses, start=1):
                far = np.linalg.norm(there[clip] - guess, axis=1)
                ranks.append(np.sum(far <= far[other if sign > 0 else 0]))
        ranks = np.array(ranks)
        assert score[f"predicted_{direction}_mrr"] == pytest.approx(np.mean(1 / ranks), abs=2e-3)
        assert score[f"predicted_{direction}_h5"] == pytest.approx(np.mean(ranks <= 5), abs=2e-3)


def test_invariance_is_the_mean_cosine(world):
    facts, vectors = world
    score = Invariance().score(facts, vectors, "step")
    assert score["invariance_gain"] == pytest.approx(1.0)
    swept = vectors["test"].swept["step"]
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(swept[:, 0], swept[:, 1 + sweep.VIEWS], strict=True)
    ]
    assert score["invariance_time_stretch"] == pytest.approx(np.mean(cosines))
    few = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(swept[:7, 0], swept[:7, 2 + sweep.VIEWS], strict=True)
    ]
    assert score["invariance_pitch_shift"] == pytest.approx(np.mean(few))
    plain, pieces = swept[:, 0], facts["test"].swept.pieces
    others = [
        np.mean(
            [
                one @ two / np.linalg.norm(one) / np.linalg.norm(two)
                for two, other in zip(plain, pieces, strict=True)
                if other != piece
            ]
        )
        for one, piece in zip(plain, pieces, strict=True)
    ]
    assert score["invariance_other"] == pytest.approx(np.mean(others))
    shuffled = Invariance().score(facts, vectors, "step", np.random.default_rng(0))
    assert abs(shuffled["invariance_gain"]) < 0.2


def test_without_swept_views_both_are_left_out():
    known = synthetic.facts()
    vectors = synthetic.vectors(known)
    for task in (Invariance(), Prediction()):
        (reason,) = task.left_out(known)
        assert "0 clips long enough to be swept" in reason
        assert task.score(known, vectors, "tempo") == {}
