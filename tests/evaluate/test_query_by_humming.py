import dataclasses

import numpy as np
import pytest
import synthetic

from loev_jax.corpus import scores
from loev_jax.corpus.humming import Played
from loev_jax.data import records
from loev_jax.evaluate import humming
from loev_jax.evaluate.humming import Humming
from loev_jax.evaluate.spaces import Vectored


def test_ranks_equal_a_brute_force_reference():
    rng = np.random.default_rng(0)
    there = np.array(["a", "b", "a", "c", "d", "d"])
    wanted = np.array(["a", "d", "c", "b"])
    similarity = rng.normal(size=(4, 6))
    expected = []
    for query, row in zip(wanted, similarity, strict=True):
        order = there[np.argsort(-row)]
        expected.append(1 + int(np.flatnonzero(order == query)[0]))
    # Clips of the right piece behind its first one do not count as ahead of it.
    assert humming.first_ranks(similarity, wanted, there).tolist() == expected
    flat = humming.first_ranks(np.zeros((1, 6)), np.array(["a"]), there)
    assert flat.tolist() == [5]  # a tie counts against it


def test_a_hum_finds_its_piece_where_the_space_holds_melodies():
    known = synthetic.facts(clips={"test": 40})
    rng = np.random.default_rng(1)
    melody = {piece: rng.normal(size=8) for piece in np.unique(known["test"].pieces)}
    tracks = np.stack([melody[piece] for piece in known["test"].pieces])
    tracks += 0.1 * rng.normal(size=tracks.shape)
    hums = dataclasses.replace(
        known["test"], ids=np.array(list(melody)), pieces=np.array(list(melody))
    )
    hummed = np.stack(list(melody.values()))
    facts = known | {humming.HUMS: hums}

    def score(queries, shuffle=None):
        vectors = {
            "test": Vectored({"x": tracks}, {}, {}),
            humming.HUMS: Vectored({"x": queries}, {}, {}),
        }
        return Humming().score(facts, vectors, "x", shuffle)

    assert score(hummed)["humming_mrr"] == pytest.approx(1.0)
    assert score(hummed)["humming_h10"] == 1.0
    assert score(hummed, np.random.default_rng(0))["humming_mrr"] < 0.5

    blurred = hummed + 2.5 * rng.normal(size=hummed.shape)
    ranks = []
    for piece, query in zip(melody, blurred, strict=True):
        order = np.argsort([-query @ one / np.linalg.norm(one) for one in tracks])
        named = known["test"].pieces[order]
        first = list(named).index(piece)
        ranks.append(1 + first)
    found = score(blurred)
    assert found["humming_h10"] == pytest.approx(np.mean([rank <= 10 for rank in ranks]))
    assert 0.2 < found["humming_h10"] < 1
    assert found["humming_mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_pieces_of_ones_own_have_no_score():
    assert humming.of(synthetic.facts()["test"], 0) is None
    assert "no score to hum" in Humming().left_out(synthetic.facts())[0]
    assert Humming().score(synthetic.facts(), {}, "x") == {}


def test_hums_are_records_of_their_pieces():
    pieces = ["bach/bwv338", "ryansMammoth/RakesOfWestmeathJig"]
    labels = {"tempo": np.array([90.0, 120.0, 75.0]), "key": np.array([19, 2, 14])}
    test = dataclasses.replace(
        synthetic.facts()["test"], pieces=np.array([*pieces, pieces[0]]), labels=labels
    )
    hums = humming.of(test, 0)
    assert len(hums) == 2
    assert [hum[records.PIECE] for hum in hums] == [
        "bach/bwv338",
        "ryansMammoth/RakesOfWestmeathJig",
    ]
    assert all(len(hum[records.AUDIO]) == 12 * 16_000 for hum in hums)


def test_hums_are_drawn_beside_what_their_clips_are(monkeypatch):
    """Of the chorale there are two, a fourth up and a semitone down."""
    pieces = np.array(["ryansMammoth/RakesOfWestmeathJig", "bach/bwv338", "bach/bwv338"])
    keys = [scores.load(str(piece)).key for piece in pieces]
    keys = [key // 12 * 12 + (key + step) % 12 for key, step in zip(keys, (6, 5, -1), strict=True)]
    known = []
    monkeypatch.setattr(humming.humming, "draw", lambda score, clips, *_: known.append(clips))
    monkeypatch.setattr(humming.humming, "render", lambda *_: None)
    list(humming.Hums(pieces, np.array([60.0, 80.0, 100.0]), np.array(keys), 0))
    assert known == [[Played(80.0, 5), Played(100.0, -1)], [Played(60.0, 6)]]
