import mir_eval
import numpy as np
import pytest
import tiny_music
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.comparison import classical
from loev_jax.data import records
from loev_jax.data.audio import SAMPLE_RATE


def notes(pitches, seconds):
    """Plucked tones at MIDI pitches, one after another."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches]
    return np.concatenate([0.3 * tone * np.exp(-4 * time) for tone in tones]).astype(np.float32)


@pytest.mark.parametrize("bpm", [120, 163])
def test_the_tempo_of_a_scale(bpm):
    """Also of one that no lag of twice the hop comes near."""
    scale = notes([60, 62, 64, 65] * 12, 60 / bpm)
    assert classical.tempo(scale) == pytest.approx(bpm, rel=0.04)


@pytest.mark.parametrize(("tonic", "expected"), [(0, 0), (7, 7)])
def test_the_key_of_a_scale(tonic, expected):
    scale = [60 + tonic + step for step in (0, 4, 7, 5, 9, 7, 11, 12, 0, 4, 7, 0)]
    assert classical.key(notes(scale, 0.4)) == expected


def test_a_split_is_scored_by_the_probes_definitions(tmp_path, monkeypatch):
    data = tiny_music.write(tmp_path / "data")
    split = records.open_split(str(data), "test")
    for heard in (np.arange(12), np.array([1, 4, 9])):
        bpm = iter(split.labels("tempo")[heard] * np.resize([1.0, 2.0, 1.1], len(heard)))
        keys = iter(split.labels("key")[heard])
        monkeypatch.setattr(classical, "tempo", lambda audio, bpm=bpm: next(bpm))
        monkeypatch.setattr(classical, "key", lambda audio, keys=keys: next(keys))
        assert classical.measure(split, heard) == pytest.approx(
            {"tempo_acc1": 1 / 3, "tempo_acc2": 2 / 3, "key_weighted": 1.0}
        )
        assert next(bpm, None) is None


class Split(list):
    """Records that lie in no file."""

    label_names = ("key", "tempo")

    def labels(self, name):
        return np.array([record[name] for record in self])


@given(seed=st.integers(0, 2**32))
def test_random_estimates_are_scored_as_by_mir_eval(seed):
    rng = np.random.default_rng(seed)
    tonics = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    names = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in tonics]
    silence = np.zeros(10, np.int16)
    split = Split(
        {"audio": silence, "piece": f"{n // 3}", "tempo": rng.uniform(40, 250), "key": key}
        for n, key in enumerate(rng.integers(0, 24, 30))
    )
    multiples = rng.choice([1, 2, 1 / 2, 3, 1 / 3, 4, 3 / 2], 30)
    bpm = split.labels("tempo") * multiples * rng.uniform(0.93, 1.07, 30)
    keys = (split.labels("key") + rng.choice([0, 0, 5, 7, 12], 30)) % 24
    left = {"tempo": iter(bpm), "key": iter(keys)}
    with pytest.MonkeyPatch.context() as patch:
        for name, estimates in left.items():
            patch.setattr(classical, name, lambda audio, estimates=estimates: next(estimates))
        found = classical.measure(split, np.arange(len(split)))

    def right(truth, estimate):
        pair = (np.full(2, truth), 0.5, np.full(2, estimate))
        return mir_eval.tempo.detection(*pair, tol=0.04)[2]

    hits = [
        [right(one["tempo"] * m, mine) for m in (1, 2, 1 / 2, 3, 1 / 3)]
        for one, mine in zip(split, bpm, strict=True)
    ]
    related = [
        mir_eval.key.weighted_score(names[one["key"]], names[mine])
        for one, mine in zip(split, keys, strict=True)
    ]
    assert found == pytest.approx(
        {
            "tempo_acc1": np.mean([one[0] for one in hits]),
            "tempo_acc2": np.mean([any(one) for one in hits]),
            "key_weighted": np.mean(related),
        }
    )
    for figure in found.values():
        assert figure.interval[0] <= figure <= figure.interval[1]


def test_data_without_labels_has_no_scores(tmp_path):
    data = tiny_music.write(tmp_path / "data", labels={"metre": str})
    assert classical.measure(records.open_split(str(data), "test"), np.arange(12)) == {}
