import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from loev_jax.errors import UserError
from loev_jax.evaluate import report, results

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
