"""What is evaluated, by the labels and spaces there are."""

import numpy as np
import pytest
import tiny_music
import tiny_run
from evaluated import UNLABELLED, read

from loev_jax.errors import UserError
from loev_jax.evaluate import humming, job
from loev_jax.evaluate.settings import Settings

pytestmark = pytest.mark.usefixtures("small_batches")


def test_data_without_labels_still_tells_equivariance(workdir, capsys):
    other = tiny_music.write(workdir.parent / "bare", labels={})
    tiny_run.heard_on(workdir, other)
    assert job.run(workdir, None, Settings(clips=10, segments=1), "last", watch=False)
    result = read(workdir, 2)
    assert set(result["spaces"]["tempo"]) == UNLABELLED
    assert result["left_out"]["tempo"] == ["the data set has no label 'tempo'"]
    assert result["counts"]["train"]["clips"] == 10
    said = capsys.readouterr()
    assert "tempo: left out, the data set has no label 'tempo'" in said.err
    header = next(line for line in said.out.splitlines() if line.startswith("| space"))
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        "R² of the stretch", "R² of the shift", "the same clip moved, MRR",
        "nearest tempo among copies, MRR", "nearest pitch among copies, MRR",
    ]  # fmt: skip


def test_labels_of_ones_own_are_tasks(workdir, tmp_path, capsys):
    """Whatever they are called."""
    labels = {"mood": str, "energy": np.float32, "retrieval": str, "score": np.float32,
              "time_stretch": np.float32, "mood_mlp": str}  # fmt: skip
    data = tiny_music.write(tmp_path / "data", labels=labels)
    tiny_run.heard_on(workdir, data)
    settings = Settings(baselines=False)
    assert job.run(workdir, None, settings, "1", watch=False)
    found = read(workdir, 1)
    assert found["tasks"][5:] == [
        *("energy", "mood", "mood_mlp_label", "retrieval_label", "score_label"),
        *("time_stretch_label", "retrieval", "equivariance", "invariance", "prediction"),
    ]
    encoder = set(found["spaces"]["encoder"])
    assert {"mood_accuracy", "energy_r2"} <= encoder
    assert {"retrieval_label_accuracy", "score_label_r2", "time_stretch_label_r2"} <= encoder
    assert {"same_clip_mrr", "time_stretch_r2"} <= encoder
    table = capsys.readouterr().out
    assert "| mood accuracy |" in table
    assert "retrieval label accuracy | score label r2 | time stretch label r2 |" in table

    assert job.run(workdir, ("mood_mlp", "score"), settings, "1", watch=False)
    assert "mood_mlp_accuracy" in read(workdir, 1)["spaces"]["encoder"]
    assert "score" in read(workdir, 1)["left_out"]
    with pytest.raises(UserError, match=r"unknown task 'valence'.* mood, mood_mlp_label, retriev"):
        job.run(workdir, ("valence",), settings, "1", watch=False)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A data set whose pieces have a score."""
    known = tiny_music.pieces(22)
    return tiny_music.write(tmp_path_factory.mktemp("job") / "scored", known=known)


def test_hums_scores_and_words_are_evaluated(workdir, scored, monkeypatch):
    """Of fewer clips: hums are then of the pieces that can be found among them."""
    looked = []
    ranks = humming.first_ranks

    def spied(similarity, wanted, there):
        looked.append((set(wanted), set(there)))
        return ranks(similarity, wanted, there)

    monkeypatch.setattr(humming, "first_ranks", spied)
    tiny_run.heard_on(workdir, scored)
    asked = ("humming", "score", "text")
    assert job.run(workdir, asked, Settings(clips=5, segments=2), "1", watch=False)
    result = read(workdir, 1)
    assert result["tasks"] == list(asked)
    assert result["left_out"] == {}
    assert result["counts"]["hums"] == {"clips": 5, "pairs": 5, "skipped": 0, "pieces": {"1": 5}}
    assert looked
    for wanted, there in looked:
        assert len(there) == 5  # of six
        assert wanted == there
    ways = [f"{task}_{way}_audio" for task in ("score", "text") for way in ("to", "from")]
    metrics = {
        *("humming_mrr", "humming_h10", "text_tempo", "text_key"),
        *(f"{way}_{metric}" for way in ways for metric in ("r1", "r5", "r10", "mrr")),
    }
    assert list(result["spaces"]) == ["encoder", "invariant", "pitch", "tempo", "heads", "all"]
    for section in ("spaces", "random_init", "shuffled_labels"):
        for space, found in result[section].items():
            assert set(found) == metrics, (section, space)
            assert all(0 <= value <= 1 for value in found.values())


def test_a_weighted_sum_of_spaces_is_a_space(workdir, capsys):
    settings = Settings(clips=8, mix=("tempo=2 + pitch",))
    assert job.run(workdir, ("retrieval",), settings, "1", watch=False)
    result = read(workdir, 1)
    assert list(result["spaces"])[-1] == "tempo=2+pitch=1"
    assert "tempo=2+pitch=1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1\.json was made with --mix=.*tempo=2\+pitch=1"):
        job.run(workdir, ("retrieval",), Settings(clips=8), "1", watch=False)
    with pytest.raises(UserError, match=r"--mix=chords=1: no space is called 'chords'; there are"):
        job.Job(workdir, None, Settings(mix=("chords",)))
    for text in ("", "tempo=-1", "tempo=x", "tempo=inf", "=2"):
        with pytest.raises(UserError, match="write spaces and weights so: pitch=2"):
            Settings(mix=(text,))
