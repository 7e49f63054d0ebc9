import math
import unicodedata

import numpy as np
import pytest

from loev_jax.data import labels
from loev_jax.errors import UserError


def _read(tmp_path, text, paths=("a.wav", "b/c.mp3"), columns=None, encoding="utf-8"):
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode(encoding))
    return labels.read(file, tmp_path, paths, columns)


def test_columns_are_numbers_where_every_value_is_one(tmp_path):
    table = _read(
        tmp_path,
        "tempo,path,key,note,year\n120.5,a.wav,Eb major,12,\n,./b/c.mp3,,x,1999\n",
    )
    assert table.kinds == {"tempo": np.float32, "key": str, "note": str, "year": np.float32}
    first, second = table.of("a.wav"), table.of("b/c.mp3")
    assert (first["tempo"], first["key"], first["note"]) == (120.5, "Eb major", "12")
    assert (second["key"], second["note"], second["year"]) == ("", "x", 1999.0)
    assert math.isnan(first["year"])
    assert math.isnan(second["tempo"])


def test_a_column_of_splits_is_no_label(tmp_path):
    text = "path,split,key\na.wav, test ,C\nb/c.mp3,,D\n"
    table = _read(tmp_path, text)
    assert table.splits == {"a.wav": "test"}
    assert table.kinds == {"key": str}
    assert _read(tmp_path, text, columns=["key"]).splits == table.splits
    assert _read(tmp_path, "path,key\na.wav,C\n").splits is None


def test_a_file_without_a_row_has_missing_values(tmp_path):
    missing = _read(tmp_path, "path,key,tempo\na.wav,C,90\n").of("b/c.mp3")
    assert missing["key"] == ""
    assert math.isnan(missing["tempo"])


def test_whole_numbers_that_float32_cannot_hold_stay_text(tmp_path):
    table = _read(tmp_path, "path,track,beats,huge\na.wav,16777217,16777216,1e39\n")
    assert table.kinds == {"track": str, "beats": np.float32, "huge": str}
    assert table.of("a.wav")["track"] == "16777217"


def test_only_the_columns_asked_for_are_kept_and_need_good_names(tmp_path):
    text = "path,id,my tempo,key\na.wav,1,2,C\n"
    assert _read(tmp_path, text, columns=["key"]).of("a.wav") == {"key": "C"}
    for column in ("id", "my tempo"):
        with pytest.raises(UserError, match=f"column '{column}' cannot name a label"):
            _read(tmp_path, text, columns=[column])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_match_however_they_are_composed(tmp_path, form):
    name = unicodedata.normalize(form, "é.wav")
    table = _read(tmp_path, "path,key\né.wav,C\n", paths=[name], encoding="utf-8-sig")
    assert table.of(name) == {"key": "C"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("file,key\na.wav,C\n", "no column 'path' .it has file, key."),
        ("path,key,key\na.wav,C,D\n", "has column 'key' twice"),
        ("path,key\na.wav,C\nb.wav,D\n", "line 3: 'b.wav' is missing in"),
        ("path,key\nlabels.csv,C\n", "line 2: 'labels.csv' is not an audio file in"),
        ("path,key\na.wav,C\n./a.wav,D\n", "line 3: 'a.wav' has a row already"),
        ("path,key\na.wav,C,D\n", "line 2: 3 fields, but the header names 2"),
        ('path,key\na.wav,"C\n', "is not a CSV in UTF-8"),
        ("path,split\na.wav,dev\n", "line 2: unknown split 'dev': write one of train, validation"),
    ],
)
def test_a_bad_label_file_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        _read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_latin_1_and_unknown_columns_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        _read(tmp_path, "path,key\na.wav,é\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"no column 'mood'.*choose from key"):
        _read(tmp_path, "path,key\na.wav,C\n", columns=["mood"])
    with pytest.raises(UserError, match=r"absent\.csv does not exist"):
        labels.read(tmp_path / "absent.csv", tmp_path, ["a.wav"], None)
