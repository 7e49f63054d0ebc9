"""The sanity report, run as its user does, and its parts on sounds with a known answer."""

import entry_point
import librosa
import numpy as np
import pytest

from loev_jax.corpus import builder, sanity


def cadence(tempo, tonic_hz):
    """Clicks at `tempo` over the chords I IV V I in major, 20 s."""
    times = np.arange(0, 20, 60 / tempo)
    audio = 0.5 * librosa.clicks(times=times, sr=16000, length=320_000)
    chords = [[0, 4, 7, 12], [5, 9, 12], [7, 11, 14], [0, 4, 7, 12]]
    seconds = np.arange(80_000) / 16000
    for place, chord in enumerate(chords):
        for semitones in chord:
            wave = np.sin(2 * np.pi * tonic_hz * 2 ** (semitones / 12) * seconds)
            audio[place * 80_000 : (place + 1) * 80_000] += 0.05 * wave
    return np.round(audio / np.abs(audio).max() * 32767).astype(np.int16)


def test_listening_confirms_right_labels_and_no_others():
    record = {"audio": cadence(120, 293.66), "tempo": 120.0, "key": 2, "collection": b"bach"}
    assert sanity.listen(record) == sanity.Agreement("bach", True, True, True, 1.0)
    half = sanity.listen({**record, "tempo": 60.0, "key": 7})  # D is a fifth above G
    assert half == sanity.Agreement("bach", False, True, True, 0.5)
    third = sanity.listen({**record, "tempo": 80.0})  # pairs of quavers in a bar of 6/8
    assert third == sanity.Agreement("bach", False, False, True, 1.0)
    wrong = sanity.listen({**record, "tempo": 100.0, "key": 8})
    assert wrong == sanity.Agreement("bach", False, False, False, 0.0)


def test_table_has_the_means_of_each_collection_and_of_all():
    agreements = [
        sanity.Agreement("bach", True, True, True, 1.0),
        sanity.Agreement("bach", False, True, True, 0.5),
        sanity.Agreement("airdsAirs", False, False, True, 0.3),
    ]
    rows = [line.strip("| ").split(" | ") for line in sanity.table(agreements).splitlines()[2:]]
    assert rows == [
        ["airdsAirs", "1", "0.00", "0.00", "1.00", "0.30"],
        ["bach", "2", "0.50", "1.00", "1.00", "0.75"],
        ["all", "3", "0.33", "0.67", "1.00", "0.60"],
    ]


def run(*arguments):
    return entry_point.run("-m", "loev_jax.corpus.sanity", *arguments)


def test_report_is_printed_for_a_corpus(tmp_path):
    builder.prepare(tmp_path / "data", clips=10, workers=1)
    done = run(f"--data={tmp_path / 'data'}", "--clips=3")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert last[:2] == ["all", "3"]
    assert all(0 <= float(mean) <= 1 for mean in last[2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "--data is missing"), (("--data=nowhere",), "--data=nowhere: no data set is there")],
)
def test_missing_data_is_one_line_and_status_two(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
