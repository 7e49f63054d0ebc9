import numpy as np
import pytest
import tiny_music

from loev_jax.comparison import classical
from loev_jax.data import records
from loev_jax.data.audio import SAMPLE_RATE


def notes(pitches, seconds):
    """Plucked tones at MIDI pitches, one after another."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches]
    return np.concatenate([0.3 * tone * np.exp(-4 * time) for tone in tones]).astype(np.float32)


def test_the_tempo_of_a_scale():
    assert classical.tempo(notes([60, 62, 64, 65] * 8, 0.5)) == pytest.approx(120, rel=0.04)


@pytest.mark.parametrize(("tonic", "expected"), [(0, 0), (7, 7)])
def test_the_key_of_a_scale(tonic, expected):
    scale = [60 + tonic + step for step in (0, 4, 7, 5, 9, 7, 11, 12, 0, 4, 7, 0)]
    assert classical.key(notes(scale, 0.4)) == expected


def test_a_split_is_scored_by_the_probes_definitions(tmp_path, monkeypatch):
    data = tiny_music.write(tmp_path / "data")
    split = records.open_split(str(data), "test")
    bpm = iter(split.labels("tempo") * np.resize([1.0, 2.0, 1.1], len(split)))
    keys = iter(split.labels("key"))
    monkeypatch.setattr(classical, "tempo", lambda audio: next(bpm))
    monkeypatch.setattr(classical, "key", lambda audio: next(keys))
    assert classical.measure(split) == pytest.approx(
        {"tempo_acc1": 1 / 3, "tempo_acc2": 2 / 3, "key_weighted": 1.0}
    )


def test_data_without_labels_has_no_scores(tmp_path):
    data = tiny_music.write(tmp_path / "data", labels={"metre": str})
    assert classical.measure(records.open_split(str(data), "test")) == {}
