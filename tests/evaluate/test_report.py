import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from loev_jax.errors import UserError
from loev_jax.evaluate import crossmodal, humming, report, results

SETTINGS = {"clips": None, "segments": 3}


@pytest.fixture
def result():
    blank = results.blank(7, "data", "0", SETTINGS, {"tempo": ("time_stretch",)})
    blank["counts"] = {"train": {"clips": 5}, "test": {"clips": 2}}
    blank["spaces"] = {
        "encoder": {"tempo_r2": 0.5, "key_weighted": float("nan")},
        "tempo": {"tempo_r2": -1.25, "neighbour_tempo": 1.0},
    }
    blank["random_init"] = {"encoder": {"tempo_r2": 0.25}, "tempo": {}}
    blank["shuffled_labels"] = {"encoder": {"tempo_r2": -0.001}}
    return blank


def test_the_table_shows_every_space_beside_its_baselines(result):
    lines = report.summary(result, "runs/x").splitlines()
    assert lines[0] == "runs/x, step 7 (5 train, 2 test clips)"
    header, rule, *rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines[2:]]
    there = ["neighbour_tempo", "key_weighted", "tempo_r2"]
    assert header == ["space", *(report.COLUMNS[name] for name in there)]
    assert set("".join(rule)) == {"-"}
    cells = {row[0]: dict(zip(there, row[1:], strict=True)) for row in rows}
    assert list(cells) == [
        *("encoder", "tempo", "random init, encoder", "random init, tempo"),
        "shuffled labels, encoder",
    ]
    assert cells["encoder"]["tempo_r2"] == ".50"
    assert cells["encoder"]["key_weighted"] == "-"
    assert cells["tempo"]["tempo_r2"] == "-1.25"
    assert cells["tempo"]["neighbour_tempo"] == "1.00"
    assert cells["shuffled labels, encoder"]["tempo_r2"] == ".00"


def test_searches_have_tables_of_their_own_below_chance(result):
    for section in ("spaces", "random_init", "shuffled_labels"):
        found = {"humming_mrr": 0.5, "humming_h10": 0.25, "text_key": 0.5, "text_to_audio_r1": 1.0}
        result[section]["encoder"] = found
    result["spaces"]["tempo"] = result["random_init"]["tempo"] = {}
    result["counts"]["test"]["clips"] = 20
    blocks = report.summary(result, "runs/x").split("\n\n")
    assert blocks[0].startswith("runs/x, step 7")
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
        for block in blocks[1:]
    ]
    (head, _, chance, encoder, *_), (words, _, *recalled) = tables
    titles = [report.SEARCHES[name] for name in ("text_key", "humming_mrr", "humming_h10")]
    assert head == ["space", *titles]
    assert chance == ["chance among 20", "-", ".18", ".50"]
    assert encoder == ["encoder", ".50", ".50", ".25"]
    assert words == ["space", "words to audio, R@1"]
    assert recalled[0] == ["chance among 20", ".05"]
    assert ["shuffled labels, encoder", "1.00"] in recalled


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_chance_is_the_mean_of_random_ranks(candidates, seed):
    place = np.random.default_rng(seed).integers(1, candidates + 1, 20_000)
    for metric, scores in (
        ("humming_mrr", 1 / place),
        ("humming_h10", place <= 10),
        ("text_to_audio_r1", place <= 1),
        ("score_from_audio_r5", place <= 5),
    ):
        assert report.chance(metric, candidates) == pytest.approx(np.mean(scores), abs=0.02)
    assert report.chance("text_key", candidates) is None


@pytest.mark.parametrize(("candidates", "right"), [(1, 1), (8, 8), (40, 3), (12, 11)])
def test_chance_of_a_hum_is_that_of_the_first_clip_of_its_piece(candidates, right):
    alike = np.random.default_rng(candidates).random((20_000, candidates))
    there = np.where(np.arange(candidates) < right, "its own", "another")
    place = humming.first_ranks(alike, np.full(20_000, "its own"), there)
    for metric, scores in (("humming_mrr", 1 / place), ("humming_h10", place <= 10)):
        assert report.chance(metric, candidates, right) == pytest.approx(np.mean(scores), abs=0.01)


def test_pieces_of_several_clips_are_found_more_easily_by_chance(result):
    result["counts"]["test"] |= {"clips": 40, "pieces": {"1": 10, "3": 10}}
    for section in ("spaces", "random_init", "shuffled_labels"):
        result[section]["encoder"] = {"humming_h10": 0.5, "score_to_audio_mrr": 0.5}
    first, *_ = report.searches(result, report.SEARCHES).splitlines()[2:]
    mean = (report.chance("humming_h10", 40) + report.chance("humming_h10", 40, 3)) / 2
    of_score = report.chance("score_to_audio_mrr", 40)  # each looks for its own clip
    expected = ["chance among 40", report.number(of_score), report.number(mean)]
    assert [cell.strip() for cell in first.split("|")[1:-1]] == expected


def test_every_metric_of_a_search_has_a_column():
    alike = crossmodal._both_ways(np.eye(12), np.arange(12), "text")
    alike |= crossmodal._both_ways(np.eye(12), np.arange(12), "score")
    assert set(alike) < {*report.SEARCHES, *report.WORDS, *report.SCORES}
    assert not set(report.SEARCHES) & {*report.WORDS, *report.SCORES}


def test_the_plot_is_written_whole(result, tmp_path):
    report.plot(result, tmp_path / "7.png")
    assert [path.name for path in tmp_path.iterdir()] == ["7.png"]
    assert (tmp_path / "7.png").read_bytes().startswith(b"\x89PNG")


def test_events_hold_every_number(result, tmp_path):
    result["spaces"]["encoder"]["key_weighted"] = None
    path = tmp_path / "events.out.tfevents.7"
    for _ in range(2):  # what was written before is replaced
        report.events(result, path)
    assert list(tmp_path.iterdir()) == [path]
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.Tags()["tensors"]) == {
        *("encoder/tempo_r2", "tempo/tempo_r2", "tempo/neighbour_tempo"),
        *("random_init/encoder/tempo_r2", "shuffled_labels/encoder/tempo_r2"),
    }
    (event,) = events.Tensors("encoder/tempo_r2")
    assert event.step == 7
    assert make_ndarray(event.tensor_proto) == 0.5


def test_a_result_is_read_back_with_null_for_nan(result, tmp_path):
    path = tmp_path / "7.json"
    results.write(path, result)
    assert [one.name for one in tmp_path.iterdir()] == ["7.json"]
    json.loads(path.read_text(), parse_constant=pytest.fail)
    read = results.read(path, SETTINGS)
    assert read["spaces"]["encoder"] == {"tempo_r2": 0.5, "key_weighted": None}
    assert read["spaces"]["tempo"] == result["spaces"]["tempo"]
    assert report.table(read) == report.table(result)


def test_results_of_other_settings_are_not_taken(result, tmp_path):
    path = tmp_path / "7.json"
    assert results.read(path, SETTINGS) is None
    results.write(path, result)
    with pytest.raises(UserError, match="--clips=all, not 10: remove it"):
        results.read(path, SETTINGS | {"clips": 10})
    path.write_text("{")
    with pytest.raises(UserError, match="not a result"):
        results.read(path, SETTINGS)
