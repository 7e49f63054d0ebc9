"""`launch/query.py` as a user runs it."""

import json

import entry_point
import mir_eval.key
import numpy as np
import pytest
import soundfile
import symusic
import tiny_music
import tiny_run

import loev_jax
from loev_jax import run_config
from loev_jax.corpus import humming, scores
from loev_jax.data import records
from loev_jax.errors import UserError
from loev_jax.evaluate.query import Recording, shown


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("query")
    data = tiny_music.write(directory / "data", known=tiny_music.pieces(22))
    tiny_run.write(directory / "run", steps=(1, 2))
    file = directory / "run" / "config.json"
    settings = json.loads(file.read_text())
    settings["data"]["path"] = str(data)
    file.write_text(json.dumps(settings))
    return directory


def query(run, *arguments):
    return entry_point.run("launch/query.py", f"--workdir={run / 'run'}", *arguments)


def rows_of(done):
    """The cells of each row of the table."""
    assert done.returncode == 0, done.stderr
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("space", ["encoder", "pitch=2+all"])
def test_a_clip_finds_itself_first(run, tmp_path, space):
    """At another rate, in stereo, and as a file with a blank in its name."""
    clip = records.open_split(run / "data", "test")[5]
    audio = clip["audio"].astype(np.float32) / 32768
    wave = np.repeat(audio, 2)  # an octave up in rate: 32 kHz
    soundfile.write(tmp_path / "a song.wav", np.stack([wave, wave], axis=1), 32_000)
    done = query(run, f"--audio={tmp_path / 'a song.wav'}", f"--space={space}", "--top=3")
    header, _, *rows = rows_of(done)
    assert header[:3] == ["cosine", "id", "piece"]
    assert "tempo" in header
    tonic, mode = mir_eval.key.split_key_string(rows[0][header.index("key")])  # by name, not number
    assert tonic + 12 * (mode == "minor") == clip["key"]
    assert len(rows) == 3
    assert rows[0][1:3] == [clip["id"], clip["piece"]]
    assert float(rows[0][0]) > 0.9
    cosines = [float(row[0]) for row in rows]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("key", np.int64(15), "Eb minor"),
        ("key", np.float32(2), "D major"),
        ("key", np.str_("D# minor"), "D# minor"),
        ("key", np.int64(40), "40"),
        ("mood", np.int64(3), "3"),
        ("tempo", np.float32(103.7433), "103.7"),
    ],
)
def test_a_label_is_listed_as_a_reader_knows_it(name, value, text):
    assert shown(name, value) == text


def test_words_find_clips_and_tell_which_are_unknown(run):
    done = query(run, "--text=slow reed tunes in 4/4, please", "--space=all", "--top=4")
    assert done.returncode == 0, done.stderr
    assert "no caption has 'please': passed over" in done.stderr
    _, _, *rows = done.stdout.splitlines()
    assert len(rows) == 4
    cosines = [float(row.split("|")[1]) for row in rows]
    assert cosines == sorted(cosines, reverse=True)


def test_a_hum_in_a_file_is_ranked_as_by_the_loaded_model(run, tmp_path):
    """Beside cosines made with `loev_jax.load`, one segment at a time."""
    clips = list(records.open_split(run / "data", "test"))
    score = scores.load(clips[0]["piece"])
    hum = humming.render(score, humming.draw(score, [], 0, 0), 5.0)
    soundfile.write(tmp_path / "hum.wav", hum, 16_000)
    done = query(run, f"--audio={tmp_path / 'hum.wav'}", "--space=tempo", "--top=12")
    _, _, *rows = rows_of(done)

    model = loev_jax.load(run / "run")
    views = run_config.load(run / "run").views
    length = views.frontend.samples(views.frames)

    def track(audio):
        count = min(6, len(audio) // length)
        starts = np.linspace(0, len(audio) - length, count).round().astype(int)
        each = [model.embed(audio[s : s + length], sample_rate=16_000)["tempo"] for s in starts]
        mean = np.concatenate(each).mean(axis=0)
        return mean / np.linalg.norm(mean)

    wanted = track(hum)
    alike = {clip["id"]: track(clip["audio"]) @ wanted for clip in clips}
    found = [float(row[0]) for row in rows]
    assert found == sorted(found, reverse=True)
    assert np.ptp(found) > 0.02  # some are more alike than others
    assert dict(zip([row[1] for row in rows], found, strict=True)) == pytest.approx(alike, abs=2e-3)


@pytest.mark.slow
def test_a_midi_file_finds_clips(run, tmp_path):
    """Each once, the nearest first; another tune finds them in another order."""
    orders = []
    for name, step in (("scale", 2), ("note", 0)):
        midi = symusic.Score(480)
        midi.tempos.append(symusic.Tempo(0, qpm=90.0))
        track = symusic.Track(name="", program=0, is_drum=False)
        track.notes.extend(symusic.Note(240 * n, 200, 60 + step * (n % 7), 90) for n in range(40))
        midi.tracks.append(track)
        midi.dump_midi(tmp_path / f"{name}.mid")
        done = query(run, f"--score={tmp_path / f'{name}.mid'}", "--top=50")
        _, _, *rows = rows_of(done)
        cosines = [float(row[0]) for row in rows]
        assert cosines == sorted(cosines, reverse=True)
        assert -1 <= cosines[-1] < cosines[0] <= 1
        ids = [row[1] for row in rows]
        assert sorted(ids) == sorted(f"test{number}" for number in range(12))
        orders.append(ids)
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--score={song}"], "--score={song}: not a MIDI file that can be read"),
        ([], "--audio, --text, --score: give one of them, what to look for"),
        (["--text=gibberish"], "--text=gibberish: no word of it is known"),
        (["--text=fast", "--audio={song}"], "--audio, --text, --score: give one of them"),
        (["--audio={short}"], "--audio={short}: 0.1 s are too short, a view of this run is 0.5 s"),
        (["--audio={song}", "--space=chords"], "--space=chords: no space 'chords'; there are enc"),
        (["--audio={song}", "--top=0"], "--top=0: give a number of at least 1"),
    ],
    ids=["no MIDI", "nothing", "no word", "two", "too short", "no space", "none"],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, message):
    places = {name: tmp_path / f"{name}.wav" for name in ("short", "song")}
    for name, seconds in (("short", 0.1), ("song", 1.0)):
        noise = np.random.default_rng(0).normal(0, 0.1, int(16_000 * seconds))
        soundfile.write(places[name], noise, 16_000)
    done = query(run, *(one.format(**places) for one in arguments))
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message.format(**places) in last
    assert "Traceback" not in done.stderr


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("none.wav", "text.wav"):
        with pytest.raises(UserError, match=f"--audio=.*{name}: "):
            Recording(tmp_path / name)
