"""Splits by piece, and a plan that seed and size alone decide."""

import numpy as np
import pytest

from loev_jax.corpus import plan, scores
from loev_jax.errors import UserError


@pytest.fixture(scope="module")
def forty():
    return plan.make(40, 0)


def test_no_music_is_in_two_splits(forty):
    families = {}
    for clip in forty.clips:
        families.setdefault(clip.split, set()).add(scores.load(clip.piece).family)
    assert set(families) == set(plan.SPLITS)
    assert sum(len(found) for found in families.values()) == len(set().union(*families.values()))


def test_clips_are_numbered_and_shared_out_seven_one_two(forty):
    assert [clip.number for clip in forty.clips] == list(range(40))
    shares = {split: sum(clip.split == split for clip in forty.clips) for split in plan.SPLITS}
    assert shares == {"train": 28, "validation": 4, "test": 8} == plan.sizes(40)
    assert len({clip.piece for clip in forty.clips}) == 40 == forty.kept


def test_split_of_a_family_is_the_same_in_every_corpus(forty):
    other = {clip.piece: clip.split for clip in plan.make(60, 0).clips}
    shared = [clip for clip in forty.clips if clip.piece in other]
    assert len(shared) > 30
    assert all(other[clip.piece] == clip.split for clip in shared)


def test_families_are_shared_out_as_the_clips_are():
    splits = [plan.split_of(f"tune {number}") for number in range(5000)]
    shares = [np.mean([split == name for split in splits]) for name in plan.SPLITS]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


def test_plan_is_read_back_as_it_was_saved(forty, tmp_path):
    forty.save(tmp_path / "plan.json")
    assert plan.load(tmp_path / "plan.json") == forty


def test_pieces_are_played_again_when_they_run_out(monkeypatch):
    few = scores.sources()[::400]
    monkeypatch.setattr(scores, "sources", lambda: few)
    made = plan.make(30, 0)
    assert made.read == len(few)
    assert len(made.clips) == 30 > made.kept == len({clip.piece for clip in made.clips})


def test_seed_without_a_piece_for_each_split_is_refused(monkeypatch):
    first = scores.sources()[:1]
    monkeypatch.setattr(scores, "sources", lambda: first)
    with pytest.raises(UserError, match="seed=3"):
        plan.make(10, 3)
