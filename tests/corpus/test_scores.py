"""Scores against hand-counted notes, and against music21's own reader."""

import warnings

import mir_eval
import numpy as np
import pytest

from loev_jax.corpus import abc, key_finding, scores
from loev_jax.corpus.score import METRES, RejectedError, Source

JIG = """X:1
T:The Test -- Jig
M:6/8
L:1/8
K:Em
B|:EGE GAB|e3 dBA|GFE FED|1 E3 E2B:|2 E3- E3|]
"""


@pytest.fixture
def as_source(monkeypatch, tmp_path):
    """Returns a function that makes ABC text loadable, and returns the id to load it by."""

    def add(text):
        source = Source("test/tune", "ryansMammoth", tmp_path / "tune.abc", text)
        monkeypatch.setattr(scores, "_by_piece", lambda: {source.piece: source})
        return source.piece

    return add


def test_sources_are_many_and_distinct():
    found = scores.sources()
    assert len({source.piece for source in found}) == len(found) > 4500
    assert {source.collection for source in found} == set(scores.COLLECTIONS)


def test_tune_is_read_in_dotted_quarters_with_its_repeat(as_source, capfd):
    score = scores.load(as_source(JIG))
    assert (score.key, score.metre, score.family) == (12 + 4, "6/8", "test")
    assert score.pickup == pytest.approx(1 / 3)
    # The upbeat, twice the first three bars, and the two endings.
    first = [71, 64, 67, 64, 67, 69, 71, 76, 74, 71, 69, 67, 66, 64, 66, 64, 62, 64]
    np.testing.assert_array_equal(score.pitch, [*first, 64, 71, *first[1:]])
    eighths = [1, *[1] * 6, 3, 1, 1, 1, *[1] * 6, 3, 2, 1, *[1] * 6, 3, 1, 1, 1, *[1] * 6, 6]
    np.testing.assert_allclose(score.duration * 3, eighths, atol=0.02)
    np.testing.assert_allclose(score.onset * 3, np.cumsum([0, *eighths[:-1]]), atol=0.02)
    assert score.period == 18  # 49 eighths are filled up to 9 bars of 2 beats
    assert capfd.readouterr().out == ""


def test_reader_prints_nothing_about_bad_abc(as_source, capfd):
    scores.load(as_source(JIG.replace("EGE", "E`G@E")))
    assert capfd.readouterr() == ("", "")


def test_cut_time_counts_half_notes(as_source):
    text = JIG.replace("M:6/8", "M:C|").replace("B|:EGE GAB", "BA|:E2GE GABG")
    text = text.replace("e3 dBA", "e4 dBAB").replace("GFE FED", "GFEG FEDF")
    score = scores.load(as_source(text.replace("|1 E3 E2B:|2 E3- E3|]", "|E8:|")))
    assert score.metre == "2/2"
    assert score.onset[2] == pytest.approx(0.5, abs=0.01)  # two eighths are half a beat
    assert score.pickup == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("K:Em", "K:Edor"), "neither major nor minor"),
        (("K:Em", "K:F"), "another key"),
        (("M:6/8", "M:5/8"), "metre is not one of"),
        (("e3 dBA", "[M:9/8] e3 dBA"), "M: changes"),
        (("|e3 dBA|GFE FED", ""), "shorter than"),
        (("M:6/8\n", ""), "no field M:"),
    ],
)
def test_unusable_tunes_are_rejected_with_a_reason(as_source, change, reason):
    text = JIG.replace("1 E3 E2B:|2 E3- E3", "E3- E3") if "shorter" in reason else JIG
    with pytest.raises(RejectedError, match=reason):
        scores.load(as_source(text.replace(*change)))


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("C", 0),
        ("F#m", 18),
        ("Bb", 10),
        ("E Minor", 16),
        ("A maj", 9),
        ("Gmin", 19),
        ("D Major", 2),
    ],
)
def test_abc_keys(field, key):
    assert abc.parse_key(field) == key


@pytest.mark.parametrize("field", ["Ador", "A Mixolydian", "Hp", "", "D=c", "Bn", "none"])
def test_abc_modes_and_nonsense_are_no_keys(field):
    with pytest.raises(RejectedError):
        abc.parse_key(field)


@pytest.mark.parametrize("piece", ["bach/bwv66.6", "bach/bwv1.6", "bach/bwv269"])
def test_chorale_equals_music21s_reading(piece):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import music21

        theirs = music21.converter.parse(scores._by_piece()[piece].path)
        expected = [
            (
                voice,
                float(note.getOffsetInHierarchy(part)),
                float(note.quarterLength),
                note.pitch.midi,
            )
            for voice, name in enumerate(("Soprano", "Alto", "Tenor", "Bass"))
            for part in [next(p for p in theirs.parts if p.partName == name).stripTies()]
            for note in part.recurse().notes
        ]
        signature = theirs.parts[-4].recurse().getElementsByClass("KeySignature")[0]
        metre = theirs.parts[-4].recurse().getElementsByClass("TimeSignature")[0].ratioString
    score = scores.load(piece)
    quarters = METRES[score.metre][0]
    beats = score.onset * quarters, score.duration * quarters
    found = sorted(zip(score.voice, *beats, score.pitch, strict=True))
    np.testing.assert_allclose(found, np.asarray(sorted(expected), float), atol=1e-6)
    assert score.metre == metre
    tonic = score.key % 12 if score.key < 12 else score.key + 3
    assert (7 * signature.sharps) % 12 == tonic % 12


def test_krumhansl_agrees_with_music21():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from music21.analysis.discrete import KrumhanslKessler

        theirs = KrumhanslKessler()
    random = np.random.default_rng(0)
    for _ in range(50):
        weights = random.dirichlet(np.full(12, 0.5))
        ranked = [
            np.corrcoef(np.roll(theirs.getWeights(mode), tonic), weights)[0, 1]
            for mode in ("major", "minor")
            for tonic in range(12)
        ]
        assert key_finding.find_key(weights) == int(np.argmax(ranked))


def test_key_names_and_transposition_follow_mir_eval():
    for key in range(24):
        up = key_finding.transpose_key(key, 7)
        assert key_finding.transpose_key(up, -7) == key
        # mir_eval gives 0.5 for an estimate a fifth above the reference.
        names = key_finding.key_name(key), key_finding.key_name(up)
        assert mir_eval.key.weighted_score(*names) == 0.5
        relative = key - 3 if key < 12 else key + 3
        relative = relative % 12 + (12 if key < 12 else 0)
        assert mir_eval.key.weighted_score(names[0], key_finding.key_name(relative)) == 0.3
