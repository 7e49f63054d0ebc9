import dataclasses
import tracemalloc

import mir_eval
import numpy as np
import pytest
import synthetic

from loev_jax.evaluate import figures, metrics, retrieval, sweep
from loev_jax.evaluate.spaces import Vectored

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NAMES = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS]


def test_scores_equal_a_brute_force_reference():
    known = synthetic.facts(seed=3, clips={"test": 40})
    vectors = synthetic.vectors(known, seed=4)
    test, tracks = known["test"], vectors["test"].tracks["tempo"]
    hits, keys = [], []
    for query in range(40):
        best, found = -2.0, None
        for other in range(40):
            if test.pieces[query] == test.pieces[other]:
                continue
            cosine = tracks[query] @ tracks[other]
            cosine /= np.linalg.norm(tracks[query]) * np.linalg.norm(tracks[other])
            if cosine > best:
                best, found = cosine, other
        tempo, key = test.labels["tempo"], test.labels["key"]
        hits.append(abs(tempo[found] - tempo[query]) <= 0.08 * tempo[query])
        keys.append(mir_eval.key.weighted_score(NAMES[key[query]], NAMES[key[found]]))
    score = retrieval.Retrieval().score(known, vectors, "tempo")
    assert score["neighbour_tempo"] == pytest.approx(np.mean(hits))
    assert score["neighbour_key"] == pytest.approx(np.mean(keys))


def test_each_space_finds_its_own_attribute():
    known = synthetic.facts()
    vectors = synthetic.vectors(known)
    score = {s: retrieval.Retrieval().score(known, vectors, s) for s in ("tempo", "key", "noise")}
    assert score["key"]["neighbour_key"] > 0.9
    assert max(score[s]["neighbour_key"] for s in ("tempo", "noise")) < 0.3
    shuffled = retrieval.Retrieval().score(known, vectors, "key", np.random.default_rng(0))
    assert shuffled["neighbour_key"] < 0.3


def test_neighbours_are_of_another_piece_even_when_copies_are_at_hand():
    tracks = np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    pieces = np.array(["a", "a", "b", "c"])
    queries, found = retrieval.nearest(tracks, tracks, pieces)
    assert queries.tolist() == [0, 1, 2, 3]
    assert found.tolist() == [2, 2, 0, 2]


def test_a_query_without_another_piece_is_no_query():
    queries, _ = retrieval.nearest(np.eye(2), np.eye(2), np.array(["a", "a"]))
    assert queries.tolist() == []


def test_many_clips_are_looked_for_some_at_a_time(monkeypatch):
    """What is found does not depend on how many at once, nor the memory on how many in all."""
    known = synthetic.facts(seed=3, clips={"test": 40})
    rng = np.random.default_rng(4)
    clean = rng.normal(size=(40, 8))
    moved = {"x": clean + rng.normal(size=(40, 8))}
    vectors = {"test": Vectored({"x": rng.normal(size=(40, 8))}, {"x": clean}, moved)}
    together = retrieval.Retrieval().score(known, vectors, "x")
    monkeypatch.setattr(retrieval, "ROWS", 7)
    assert retrieval.Retrieval().score(known, vectors, "x") == together
    monkeypatch.undo()
    many = rng.normal(size=(12_000, 4))
    tracemalloc.start()
    retrieval.nearest(many, many, np.arange(12_000))
    retrieval.own_ranks(many, many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * retrieval.ROWS * 12_000 * 8  # all at once: 1.2 GB for each matrix


def test_labels_of_clips_that_are_too_short_for_a_pair_leave_the_rest_alone():
    known = synthetic.facts(clips={"test": 20})
    test, late = known["test"], np.arange(20) >= 10
    labels = {
        "tempo": np.where(late, np.nan, test.labels["tempo"]),
        "key": np.where(late, np.nan, test.labels["key"]),
    }
    differences = {name: value[late] for name, value in test.differences.items()}
    test = dataclasses.replace(test, labels=labels, paired=late, differences=differences)
    rng = np.random.default_rng(0)
    pairs = {"x": rng.normal(size=(10, 4))}
    vectors = {"test": Vectored({"x": rng.normal(size=(20, 4))}, pairs, pairs)}
    score = retrieval.Retrieval().score({"test": test}, vectors, "x")
    assert score["same_clip_mrr"] == 1.0
    assert {"neighbour_tempo", "neighbour_key"} < set(score)
    assert not any("clean" in name for name in score)


def test_the_same_clip_is_found_unless_the_space_collapsed():
    known = synthetic.facts(clips={"test": 20})
    rng = np.random.default_rng(0)
    clean = {"good": rng.normal(size=(20, 8)), "flat": np.ones((20, 8))}
    moved = {"good": 3.0 * clean["good"], "flat": np.ones((20, 8))}
    vectors = {"test": Vectored(clean, clean, moved)}
    good = retrieval.Retrieval().score(known, vectors, "good")
    assert [good[f"same_clip_r{k}"] for k in (1, 5, 10)] == [1.0, 1.0, 1.0]
    assert good["same_clip_mrr"] == 1.0
    flat = retrieval.Retrieval().score(known, vectors, "flat")
    assert flat["same_clip_r10"] == 0.0
    assert flat["same_clip_mrr"] == pytest.approx(1 / 20)


def test_ranks_of_the_same_clip_equal_a_brute_force_reference():
    known = synthetic.facts(clips={"test": 30})
    rng = np.random.default_rng(2)
    clean = rng.normal(size=(30, 8))
    moved = clean + 1.5 * rng.normal(size=(30, 8))
    vectors = {"test": Vectored({"x": clean}, {"x": clean}, {"x": moved})}
    score = retrieval.Retrieval().score(known, vectors, "x")
    ranks = []
    for query in range(30):
        alike = [clean[query] @ one / np.linalg.norm(one) for one in moved]
        ranks.append(1 + sum(other > alike[query] for other in alike))
    assert 1 < np.median(ranks) < 10  # neither lost nor found at once
    for k in (1, 5, 10):
        assert score[f"same_clip_r{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert score["same_clip_mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_clips_of_one_piece_stand_or_fall_together():
    """As by figures of each clip that are drawn piece by piece; some clips have no pair."""
    known = synthetic.facts(clips={"test": 60})
    paired = np.arange(60) % 3 > 0
    differences = {name: one[paired] for name, one in known["test"].differences.items()}
    test = dataclasses.replace(
        known["test"], pieces=np.repeat(np.arange(6), 10), paired=paired, differences=differences
    )
    rng = np.random.default_rng(5)
    clean = rng.normal(size=(40, 8))
    moved = clean + 1.5 * rng.normal(size=(40, 8))
    vectors = Vectored({"x": rng.normal(size=(60, 8))}, {"x": clean}, {"x": moved})
    score = retrieval.Retrieval().score({"test": test}, {"test": vectors}, "x")
    place = metrics.ranks(retrieval.cosines(clean, moved))
    by_piece = figures.mean(1 / place, np.repeat(np.arange(6), 10)[paired])
    assert score["same_clip_mrr"].interval == by_piece.interval
    assert score["same_clip_r5"].interval == figures.mean(place <= 5, test.pieces[paired]).interval
    assert by_piece.interval != figures.mean(1 / place, np.arange(40)).interval


def test_copies_equal_a_brute_force_reference():
    """`tempo` turns with the stretch alone, `both` with a shift by whole semitones too."""
    known, rng = synthetic.facts(clips={"test": 20}), np.random.default_rng(3)
    copies = 1 + sweep.VIEWS
    parameters = {
        "time_stretch": rng.uniform(-0.3, 0.3, (20, copies)),
        "pitch_shift": rng.integers(-4, 5, (20, copies)).astype(float),
    }
    base, octave, semitone = rng.normal(size=(20, 1, 12)), *rng.normal(size=(2, 12))
    stretched = base + 3 * parameters["time_stretch"][:, :, None] * octave
    both = stretched + 0.2 * parameters["pitch_shift"][:, :, None] * semitone
    spaces = {"tempo": stretched, "both": both, "flat": np.ones_like(both)}
    alone = {name: np.concatenate([view, view[:, :2]], axis=1) for name, view in spaces.items()}
    swept = sweep.Sweep(
        known["test"].pieces, parameters, ("gain", "filter"), np.ones((20, 2), bool)
    )
    facts = {"test": dataclasses.replace(known["test"], swept=swept)}
    tracks = {name: rng.normal(size=(20, 12)) for name in spaces}
    vectors = {"test": Vectored(tracks, tracks, tracks, alone)}
    score = {name: retrieval.Retrieval().score(facts, vectors, name) for name in spaces}
    for parameter, values in parameters.items():
        found = []
        for clip, view in enumerate(both):
            for query in range(copies):
                others = [other for other in range(copies) if other != query]
                away = {one: abs(values[clip, one] - values[clip, query]) for one in others}
                wanted = {one for one in others if away[one] == min(away.values())}
                unit = view / np.linalg.norm(view, axis=1, keepdims=True)
                order = sorted(others, key=lambda one: -(unit[one] @ unit[query]))
                found.append(1 / (1 + min(order.index(one) for one in wanted)))
        assert score["both"][f"copies_{parameter}_mrr"] == pytest.approx(np.mean(found))
        assert score["flat"][f"copies_{parameter}_mrr"] < 0.12  # a tie counts against it
    assert score["tempo"]["copies_time_stretch_mrr"] > 0.9
    chance = np.mean(1 / np.arange(1, copies))
    assert score["tempo"]["copies_pitch_shift_mrr"] < 0.55  # of several the first
    lost = retrieval.Retrieval().score(facts, vectors, "tempo", np.random.default_rng(0))
    assert abs(lost["copies_time_stretch_mrr"] - chance) < 0.06


def test_parts_without_labels_or_pairs_are_left_out():
    known = synthetic.facts(clips={"test": 20}, labels=("tempo",))
    vectors = synthetic.vectors(known)
    task = retrieval.Retrieval()
    reason, unswept = task.left_out(known)
    assert reason == "neighbour_key: the data set has no label 'key'"
    assert unswept.startswith("copies: split 'test' has 0 clips long enough to be swept")
    assert "neighbour_key" not in task.score(known, vectors, "tempo")
    one_piece = dataclasses.replace(known["test"], pieces=np.full(20, "x"))
    assert "of one piece" in task.left_out({"test": one_piece})[0]
    unpaired = dataclasses.replace(
        known["test"],
        paired=np.zeros(20, bool),
        differences={"time_stretch": np.zeros(0), "pitch_shift": np.zeros(0)},
    )
    assert "same_clip_mrr" not in task.score({"test": unpaired}, vectors, "tempo")


def test_sides_equal_a_brute_force_reference():
    """A neighbour by one segment, of clips that were moved or were not, labels moved with them."""
    known = synthetic.facts(seed=3, clips={"test": 30})
    paired = np.arange(30) % 5 != 0  # some are too short for a pair
    test = known["test"]
    differences = {name: value[paired] for name, value in test.differences.items()}
    test = dataclasses.replace(test, paired=paired, differences=differences)
    rng = np.random.default_rng(8)
    sides = {side: rng.normal(size=(24, 6)) for side in retrieval.SIDES}
    vectors = {"test": Vectored({"x": rng.normal(size=(30, 6))}, {"x": sides["clean"]},
                                {"x": sides["moved"]})}  # fmt: skip
    score = retrieval.Retrieval().score({"test": test}, vectors, "x")
    clips = np.flatnonzero(paired)

    def label(column, at, side):
        value = test.labels[column][clips[at]]
        if side == "clean":
            return value
        if column == "tempo":
            return value * 2 ** differences["time_stretch"][at]
        return value // 12 * 12 + (value + round(differences["pitch_shift"][at])) % 12

    for query in retrieval.SIDES:
        for gallery in retrieval.SIDES:
            hits, octaves, keys = [], [], []
            for one in range(24):
                alike = {
                    other: sides[query][one] @ sides[gallery][other]
                    / np.linalg.norm(sides[gallery][other])
                    for other in range(24)
                    if test.pieces[clips[other]] != test.pieces[clips[one]]
                }  # fmt: skip
                found = max(alike, key=alike.get)
                want, got = label("tempo", one, query), label("tempo", found, gallery)
                hits.append(abs(got - want) <= 0.04 * want)
                octaves.append(
                    any(abs(got - m * want) <= 0.04 * m * want for m in (1, 2, 3, 1 / 2, 1 / 3))
                )
                names = (NAMES[label("key", one, query)], NAMES[label("key", found, gallery)])
                keys.append(mir_eval.key.weighted_score(*names))
            side = f"{query}_{gallery}"
            assert score[f"neighbour_tempo_{side}_acc1"] == pytest.approx(np.mean(hits))
            assert score[f"neighbour_tempo_{side}_acc2"] == pytest.approx(np.mean(octaves))
            assert score[f"neighbour_key_{side}"] == pytest.approx(np.mean(keys))
