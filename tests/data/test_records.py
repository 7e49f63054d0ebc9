import subprocess
import sys

import numpy as np
import pytest

from loev_jax.data import records
from loev_jax.errors import UserError

KINDS = {"tempo": np.float32, "key": np.int64, "metre": str}


def _clip(k, samples=50):
    return {
        "audio": (np.arange(samples) + 100 * k).astype(np.int16),
        "id": f"clip {k} é",
        "piece": f"piece {k // 2}",
        "tempo": 60.5 + k,
        "key": k % 24,
        "metre": "3/4" if k % 2 else "",
    }


@pytest.fixture
def data_set(tmp_path, write_data_set):
    return write_data_set(
        tmp_path / "set",
        [_clip(k) for k in range(7)],
        KINDS,
        shards=3,
        shortest={"train": ("s", 9)},
    )


def test_records_come_back_as_written(data_set):
    split = records.open_split(data_set, "train")
    assert len(split) == 7
    assert split.label_names == ("key", "metre", "tempo")
    assert split.shortest == records.Clip("s", 9)
    for k, record in enumerate(split):
        expected = _clip(k)
        assert record["audio"].dtype == np.int16
        np.testing.assert_array_equal(record.pop("audio"), expected.pop("audio"))
        assert record == expected
    assert split[np.int64(6)]["id"] == "clip 6 é"
    for index in (7, -1):
        with pytest.raises(IndexError):
            split[index]


def test_labels_are_columns_of_the_declared_type(data_set):
    split = records.open_split(data_set, "train")
    tempo, key, metre = split.labels("tempo"), split.labels("key"), split.labels("metre")
    assert (tempo.dtype, key.dtype, metre.dtype.kind) == (np.float32, np.int64, "U")
    np.testing.assert_array_equal(tempo, np.arange(7, dtype=np.float32) + np.float32(60.5))
    assert key.tolist() == list(range(7))
    assert metre.tolist() == ["", "3/4"] * 3 + [""]
    assert split.labels("piece").tolist() == [f"piece {k // 2}" for k in range(7)]
    with pytest.raises(UserError, match=r"no label 'mood': choose from id, piece, key"):
        split.labels("mood")


def test_a_slice_of_a_split_claims_nothing_about_its_shortest_clip(data_set):
    split = records.open_split(data_set, "train[2:5]")
    assert [record["id"] for record in split] == [f"clip {k} é" for k in (2, 3, 4)]
    assert split.shortest is None


@pytest.mark.parametrize("name", ["test", "train[", "train[:0]", ""])
def test_an_unknown_split_names_the_known_ones(data_set, name):
    with pytest.raises(UserError, match=r"no split .*: choose from train"):
        records.open_split(data_set, name)


def test_what_is_not_a_data_set_names_the_command_that_makes_one(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"python launch/prepare_data\.py .*--out=") as error:
            records.open_split(path, "train")
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_damaged_data_set_says_so(data_set):
    shard = sorted(data_set.glob("*array_record*"))[1]
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(UserError, match=f"lacks its shard {shard.name}"):
        records.open_split(data_set, "train")
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged, prepare it again"):
        list(records.open_split(data_set, "train"))
    (data_set / "features.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        records.open_split(data_set, "train")


def test_another_schema_is_refused(data_set):
    text = (data_set / "features.json").read_text()
    (data_set / "features.json").write_text(text.replace("int16", "int32"))
    with pytest.raises(UserError, match="not int16 audio"):
        records.open_split(data_set, "train")


def test_reading_does_not_import_tensorflow(data_set):
    code = (
        "import sys; from loev_jax.data import pipeline, records;"
        f"records.open_split({str(data_set)!r}, 'train')[0];"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
