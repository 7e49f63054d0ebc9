import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loev_jax.data import audio


def _decode(path, **kwargs):
    return np.concatenate(list(audio.blocks(path, **kwargs)))


def _tone(hertz, samples, rate=16000):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


@pytest.mark.parametrize(
    ("name", "rate", "tolerance"),
    [
        ("a.wav", 44100, 2e-4),
        ("a.wav", 16000, 4e-5),
        ("a.flac", 8000, 2e-3),
        ("a.aiff", 96000, 2e-4),
        ("a.ogg", 48000, 2e-2),
        ("a.mp3", 44100, 2e-2),
    ],
)
def test_a_stereo_tone_of_any_format_and_rate_becomes_the_mono_tone_at_16_khz(
    tmp_path, write_tone, name, rate, tolerance
):
    # Longer than one block: a seam between blocks would show. (soundfile's own block-wise reading
    # of an mp3 leaves noise there.)
    path = write_tone(tmp_path / name, rate=rate, seconds=10.0, hertz=(440.0, 1000.0))
    decoded = _decode(path)
    assert decoded.dtype == np.float32
    assert abs(len(decoded) - 160_000) <= 1
    n = min(len(decoded), 160_000)
    expected = (_tone(440.0, n) + _tone(1000.0, n)) / 2
    inside = slice(1600, n - 1600)  # away from the resampler's edges
    assert np.abs(decoded[inside] - expected[inside]).max() < tolerance


def test_blockwise_resampling_agrees_with_scipy_on_the_whole_file(tmp_path):
    noise = np.random.default_rng(0).standard_normal(48_000 * 20) * 0.1
    # Band-limited below both filters' transition band, where they may differ.
    lowpass = scipy.signal.firwin(401, 6000, fs=48_000)
    samples = scipy.signal.fftconvolve(noise, lowpass, mode="same")
    soundfile.write(tmp_path / "n.wav", samples, 48_000, subtype="FLOAT")
    expected = scipy.signal.resample_poly(samples, 1, 3, window=("kaiser", 12.0))
    decoded = _decode(tmp_path / "n.wav")
    assert len(decoded) == len(expected)
    inside = slice(200, -200)
    error = np.abs(decoded[inside] - expected[inside]).max()
    assert error < 2e-3 * np.abs(expected).max()


def test_what_lies_above_8_khz_does_not_alias(tmp_path, write_tone):
    path = write_tone(tmp_path / "a.wav", rate=44100, seconds=2.0, hertz=(12_000.0,))
    assert np.abs(_decode(path)[1600:-1600]).max() < 1e-4


def test_another_rate_can_be_asked_for(tmp_path, write_tone):
    path = write_tone(tmp_path / "a.wav", rate=16000, seconds=2.0)
    decoded = _decode(path, sample_rate=22050)
    assert len(decoded) == 44100
    np.testing.assert_allclose(decoded[500:-500], _tone(440, 44100, 22050)[500:-500], atol=1e-3)


@given(hnp.arrays(np.int16, st.integers(1, 300)))
def test_int16_pcm_at_16_khz_comes_back_bit_for_bit(tmp_path_factory, pcm):
    path = tmp_path_factory.mktemp("pcm") / "a.wav"
    soundfile.write(path, pcm, 16000, subtype="PCM_16")
    np.testing.assert_array_equal(audio.to_int16(_decode(path)), pcm)


def test_quantisation_rounds_and_clips():
    step = 1 / 32768
    samples = np.array([0.4 * step, 0.6 * step, -0.6 * step, 1.0, 1e9, -1.0, -7.0], np.float32)
    expected = [0, 1, -1, 32767, 32767, -32768, -32768]
    np.testing.assert_array_equal(audio.to_int16(samples), np.array(expected, np.int16))


def _cut(path, clip, least):
    return list(audio.segments(path, clip_samples=clip, min_samples=least))


@given(total=st.integers(1, 400), clip=st.integers(1, 90), data=st.data())
def test_segments_are_the_file_cut_in_order(tmp_path_factory, total, clip, data):
    least = data.draw(st.integers(1, clip))
    path = tmp_path_factory.mktemp("cut") / "a.wav"
    pcm = np.arange(1, total + 1, dtype=np.int16)
    soundfile.write(path, pcm, 16000)
    if total < least:
        with pytest.raises(audio.AudioError, match="too short"):
            _cut(path, clip, least)
        return
    cut = _cut(path, clip, least)
    left = total % clip
    assert [len(c) for _, c in cut] == [clip] * (total // clip) + [left] * (left >= least > 0)
    assert [start for start, _ in cut] == list(range(0, len(cut) * clip, clip))
    joined = np.concatenate([c for _, c in cut])
    np.testing.assert_array_equal(joined, pcm[: len(joined)])


def test_clips_of_digital_silence_are_left_out(tmp_path):
    pcm = np.concatenate([np.ones(100), np.zeros(100), np.ones(100)]).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, 16000)
    assert [start for start, _ in _cut(tmp_path / "a.wav", 100, 100)] == [0, 200]


def test_a_truncated_mp3_yields_what_it_holds_and_nothing_twice(tmp_path):
    noise = np.random.default_rng(0).standard_normal(44100 * 20) * 0.1
    soundfile.write(tmp_path / "a.mp3", noise, 44100)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(whole[: len(whole) // 2])
    # The header still promises 20 s.
    seconds = len(_decode(tmp_path / "b.mp3")) / 16000
    assert 9.0 < seconds < 11.0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("zero.wav", b"", "empty file"),
        ("text.wav", b"these are words\n" * 50, "unreadable .*not recognised"),
        ("text.mp3", b"these are words\n" * 50, "unreadable .*not recognised"),
        ("header.wav", np.zeros(0), "no samples"),
        ("silent.wav", np.zeros(16000), "silent"),
        ("short.wav", np.full(1000, 0.5), "too short .0.06 s, min_seconds is 0.5"),
        ("nan.wav", np.array([0.1] * 9000 + [np.nan] * 2), "non-finite"),
        ("inf.wav", np.array([0.1] * 9000 + [np.inf] * 2), "non-finite"),
    ],
)
def test_a_bad_file_says_why(tmp_path, name, content, reason):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, 16000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=reason):
        _cut(path, 16000, 8000)


def test_a_flac_cut_short_and_a_missing_file_are_unreadable(tmp_path):
    noise = np.random.default_rng(0).standard_normal(16000 * 20) * 0.1
    soundfile.write(tmp_path / "a.flac", noise, 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    for name in ("a.flac", "absent.wav"):
        with pytest.raises(audio.AudioError, match="unreadable"):
            _cut(tmp_path / name, 16000, 8000)


def test_memory_does_not_grow_with_the_length_of_the_file(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 16000, 1) as file:
        minute = np.random.default_rng(0).integers(-9, 9, 16000 * 60, np.int16)
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    clips = audio.segments(tmp_path / "a.wav", clip_samples=480_000, min_samples=480_000)
    count = sum(1 for _ in clips)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 120
    assert peak < 90e6  # the spool's 64 MiB and some blocks; the hour is 115 MB of int16
