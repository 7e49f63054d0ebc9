"""Probes that are learned from a part of the labels."""

import dataclasses

import numpy as np
import pytest
import synthetic
from matplotlib.figure import Figure

from loev_jax.evaluate import learning_curves, report
from loev_jax.evaluate.learning_curves import PARTS, LearningCurve
from loev_jax.evaluate.probes import PROBES

TEMPO, KEY, *_ = PROBES


def cut(known, vectors, keep):
    """What is left of facts and vectors where `keep` says so of a split's pieces."""
    chosen = {split: keep(split, one.pieces) for split, one in known.items()}
    facts = {
        split: dataclasses.replace(
            one,
            ids=one.ids[chosen[split]],
            pieces=one.pieces[chosen[split]],
            labels={name: each[chosen[split]] for name, each in one.labels.items()},
        )
        for split, one in known.items()
    }
    where = {
        split: dataclasses.replace(
            one, tracks={space: rows[chosen[split]] for space, rows in one.tracks.items()}
        )
        for split, one in vectors.items()
    }
    return facts, where


class Spy:
    """A probe that keeps what it is given."""

    name = "spied"

    def __init__(self):
        self.given = []

    def left_out(self, facts):
        return []

    def score(self, facts, vectors, space, shuffle=None):
        for split, one in facts.items():
            assert len(vectors[split].tracks[space]) == len(one.ids) == len(one.labels["key"])
        self.given.append({split: one.ids.tolist() for split, one in facts.items()})
        return {}


def test_parts_are_of_whole_pieces_one_within_another_and_the_test_split_is_whole(known, vectors):
    spy = Spy()
    LearningCurve(spy).score(known, vectors, "key")
    assert len(spy.given) == len(PARTS)
    for part, given in zip(PARTS, spy.given, strict=True):
        assert given["test"] == known["test"].ids.tolist()
        for split in ("train", "validation"):
            pieces = known[split].pieces[np.isin(known[split].ids, given[split])]
            assert len(given[split]) == np.isin(known[split].pieces, pieces).sum()
            there = len(set(known[split].pieces))
            assert len(set(pieces)) == -(-there // part)
    for fewer, more in zip(spy.given, spy.given[1:], strict=False):
        assert all(set(fewer[split]) < set(more[split]) for split in ("train", "validation"))


def test_a_part_does_not_depend_on_the_order_of_clips(known, vectors):
    turned, spies = {}, [Spy(), Spy()]
    for split, one in known.items():
        turned[split] = dataclasses.replace(
            one,
            ids=one.ids[::-1],
            pieces=one.pieces[::-1],
            labels={name: each[::-1] for name, each in one.labels.items()},
        )
    for spy, facts in zip(spies, (known, turned), strict=True):
        LearningCurve(spy).score(facts, vectors, "key")
    for one, two in zip(*(spy.given for spy in spies), strict=True):
        assert {split: sorted(ids) for split, ids in one.items()} == {
            split: sorted(ids) for split, ids in two.items()
        }


def test_figures_are_those_of_the_probe_on_what_is_left(known, vectors):
    """As if the other clips had never been there."""
    spy = Spy()
    LearningCurve(spy).score(known, vectors, "tempo")
    found = LearningCurve(TEMPO).score(known, vectors, "tempo")
    assert len(found) == 3 * len(PARTS)
    for part, given in zip(PARTS, spy.given, strict=True):
        pieces = {
            piece
            for split, one in known.items()
            for piece in one.pieces[np.isin(one.ids, given[split])]
        }
        facts, where = cut(known, vectors, lambda _, there, mine=pieces: np.isin(there, [*mine]))
        for name, figure in TEMPO.score(facts, where, "tempo").items():
            here = found[f"{name}_1of{part}"]
            assert here == figure
            assert here.interval == figure.interval
            assert here.draw == figure.draw


def test_more_labels_teach_more(known, vectors):
    found = LearningCurve(KEY).score(known, vectors, "key")
    whole = KEY.score(known, vectors, "key")["key_weighted"]
    curve = [found[f"key_weighted_1of{part}"] for part in PARTS]
    assert curve[0] < curve[-1] <= whole
    blind = LearningCurve(KEY).score(known, vectors, "key", np.random.default_rng(0))
    assert all(blind[f"key_weighted_1of{part}"] < 0.3 for part in PARTS)


def test_a_part_that_is_too_small_is_left_out_with_a_reason(vectors):
    known = synthetic.facts(clips={"train": 300, "validation": 24, "test": 120})
    assert LearningCurve(KEY).left_out(known) == [
        "of 1/8 of the labels: split 'validation' has 4 clips with a key, a task needs 5"
    ]
    found = LearningCurve(KEY).score(known, synthetic.vectors(known), "key")
    assert {name.rpartition("_")[2] for name in found} == {"1of4", "1of2"}
    bare = synthetic.facts(labels=("metre",))
    assert LearningCurve(KEY).left_out(bare) == ["the data set has no label 'key'"]
    assert LearningCurve(KEY).score(bare, vectors, "key") == {}


@pytest.fixture(name="result")
def _result(known, vectors):
    """Of a checkpoint, as far as it is shown."""
    tasks = {"key": KEY, "key_curve": LearningCurve(KEY)}
    sections = {
        name: {
            space: {k: v for task in tasks.values() for k, v in task.score(*world, space).items()}
            for space in ("tempo", "key")
        }
        for name, world in {
            "spaces": (known, vectors),
            "random_init": (known, synthetic.vectors(known, 5)),
        }.items()
    }
    ends = {
        space: {name: list(one.interval) for name, one in there.items()}
        for space, there in sections["spaces"].items()
    }
    return {
        **sections, "shuffled_labels": {}, "intervals": ends, "step": 7, "tasks": [*tasks],
        "counts": {"test": {"clips": 120}}, "settings": {},
    }  # fmt: skip


def test_a_curve_has_a_table_for_each_metric(result):
    lines = report.summary(result, "run").splitlines()
    (at,) = (n for n, line in enumerate(lines) if line.startswith("| key weighted, space"))
    head, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in lines[at : at + 6])
    assert head[1:] == [
        "1/8 of the labels", "1/4 of the labels", "1/2 of the labels", "all labels"
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["tempo", "key", "random init, tempo", "random init, key"]
    spaces = result["spaces"]["key"]
    shown = [spaces[f"key_weighted_1of{part}"] for part in PARTS] + [spaces["key_weighted"]]
    assert rows[1][1:] == [report.number(value) for value in shown]
    assert report.curves(result | {"spaces": {"key": {"key_weighted": 1.0}}}) == []


def test_a_curve_is_drawn_where_there_is_one(result, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        learning_curves, "draw_line", lambda axes, *rest, **style: drawn.append((rest, style))
    )
    plot = tmp_path / "7_curves.png"
    learning_curves.plot(result, plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [one[0][0] for one in drawn] == ["key_weighted"] * 4 + ["key_accuracy"] * 4
    plot.unlink()
    learning_curves.plot(result | {"spaces": {"key": {"key_weighted": 1.0}}}, plot)
    assert not plot.exists()


def test_a_line_is_of_the_values_that_are_there():
    axes = Figure().subplots()
    values = {"x_1of8": 0.5, "x_1of4": None, "x": 0.75, "y_1of2": 0.1}
    learning_curves.draw_line(axes, "x", values, {"x": [0.7, 0.8]}, color="C0")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0.125, 0.5], [1.0, 0.75]])
    (band,) = axes.collections
    ends = {tuple(point) for point in band.get_paths()[0].vertices}
    assert ends == {(0.125, 0.5), (1.0, 0.7), (1.0, 0.8)}
    learning_curves.draw_line(axes, "z", values, {}, color="C0")
    assert len(axes.lines) == 1
