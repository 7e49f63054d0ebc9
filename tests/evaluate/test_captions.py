import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.errors import UserError
from loev_jax.evaluate import captions
from loev_jax.evaluate.captions import Known, Vocabulary

CLIPS = st.builds(
    Known,
    tempo=st.none() | st.floats(60, 200),
    key=st.none() | st.integers(0, 23),
    metre=st.none() | st.sampled_from(["3/4", "6/8"]),
    instrument=st.none() | st.sampled_from(["organ", "synth lead"]),
    collection=st.none() | st.sampled_from(["bach", "my own songs"]),
)


@given(CLIPS, st.integers(0, 1000))
def test_a_caption_tells_what_is_known_and_nothing_else(clip, seed):
    text = captions.caption(clip, np.random.default_rng(seed))
    assert text
    speeds = [word for _, words in captions.SPEEDS for word in words]
    said = [word for word in speeds if text.startswith(f"{word} ")]
    if clip.tempo is None:
        assert not said
        assert "bpm" not in text
    if "bpm" in text:
        number = captions.words(text)[captions.words(text).index("bpm") - 1]
        assert abs(float(number) - clip.tempo) <= 0.5
    if clip.key is None:
        assert "major" not in text
        assert "minor" not in text
    if "major" in text or "minor" in text:
        assert any(f"in {name}" in text for name in captions.key_names(clip.key))
    for name in ("metre", "instrument"):
        if getattr(clip, name) is None:
            assert "/" not in text if name == "metre" else "organ" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fast fiddle tune in D# minor", ["fast", "fiddle", "tune", "in", "d", "sharp", "minor"]),
        ("in D\N{MUSIC SHARP SIGN} minor", ["in", "d", "sharp", "minor"]),
        ("in E\N{MUSIC FLAT SIGN} major", ["in", "eb", "major"]),
        ("E flat, E-flat, Eb", ["eb", "eb", "eb"]),
        ("a flattened air", ["a", "flattened", "air"]),
        ("6/8 at 96.5 BPM!", ["6/8", "at", "96.5", "bpm"]),
    ],
)
def test_spellings_of_one_thing_are_the_same_words(text, expected):
    assert captions.words(text) == expected


def test_keys_have_the_names_of_mir_eval():
    import mir_eval.key

    for key in range(24):
        for name in captions.key_names(key):
            tonic, mode = name.replace(" sharp", "#").split()
            number, named = mir_eval.key.split_key_string(f"{tonic} {mode}")
            assert (number, named) == (key % 12, "major" if key < 12 else "minor")


def test_a_tempo_is_near_its_neighbours():
    words = Vocabulary.of(["slow tune", "slow tune in C major"])
    rows = words.count([f"{bpm} bpm" for bpm in (100, 104, 200, 20)])[:, len(words.places) :]
    assert rows[0] @ rows[1] > 0.8 * rows[0] @ rows[0]
    assert rows[0] @ rows[2] < 1e-3
    assert np.isfinite(rows).all()
    assert not words.count(["100 pipers"])[:, len(words.places) :].any()


def test_only_terms_that_captions_share_are_counted():
    words = Vocabulary.of(["slow tune", "slow tune", "slow march"])
    assert sorted(words.places) == ["slow", "slow tune", "tune"]
    row = words.count(["slow slow tune"])[0, : len(words.places)]
    assert {term: row[place] for term, place in words.places.items()} == {
        "slow": 2, "slow tune": 1, "tune": 1,
    }  # fmt: skip


def test_a_query_must_have_a_known_word():
    words = Vocabulary.of(["slow tune", "slow tune"])
    assert words.check("slow polka at 90 bpm") == ["polka", "at", "bpm"]
    with pytest.raises(UserError, match=r"--text=loud polka: no word of it is known; .*slow, tune"):
        words.check("loud polka")


def test_labels_of_any_writing_are_known():
    labels = {
        "tempo": np.array(["120", ""]), "key": np.array(["Eb minor", "H"]),
        "metre": np.array(["6/8", ""]),
    }  # fmt: skip
    assert captions.known(labels) == [Known(120.0, 15, "6/8"), Known()]
    assert len(captions.known(synthetic.facts()["test"].labels)) == 120
    assert captions.known({}) == []
