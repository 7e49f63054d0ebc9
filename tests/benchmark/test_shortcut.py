"""The classifier on texture that is known, the music against itself, and a run from end to end."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.signal

from loev_jax.benchmark import classifier, peers, same_music, shortcut

SIZE = same_music.Size(pieces=1, renderings=2, views=1)
RANDOM_SEED = 3


def pairs(separate, pieces=24, views=6, statistics=40, seed=RANDOM_SEED):
    """Gaussian statistics that `separate(changed statistics, amount)` alters."""
    random = np.random.default_rng(seed)
    rows = pieces * views
    untouched, changed = random.normal(size=(2, rows, statistics))
    amount = random.uniform(0.3, 1.0, rows) * random.choice([-1, 1], rows)
    piece = np.repeat(np.arange(pieces), views)
    return classifier.Pairs(untouched, separate(changed, amount), amount, piece)


def test_nothing_to_find_is_chance():
    score = classifier.detect(pairs(lambda changed, amount: changed, pieces=100))
    assert abs(score.accuracy - 0.5) < 2 * score.error
    assert score.error < 0.04
    assert score.r2 < 0.05


def test_an_amount_is_read_and_its_size_tells_that_something_was_changed():
    def separate(changed, amount):
        return np.concatenate([0.1 * changed[:, :1] + amount[:, None], changed[:, 1:]], axis=1)

    given = pairs(separate)
    given.untouched[:, 0] *= 0.1  # about 0: changes lie on either side, out of a line's reach
    score = classifier.detect(given)
    assert score.accuracy > 0.85
    assert score.r2 > 0.9


def test_what_belongs_to_a_piece_is_not_learned():
    given = pairs(lambda changed, amount: changed)
    one_hot = np.eye(24)[given.piece]
    of_piece = np.random.default_rng(0).normal(size=24)[given.piece]
    score = classifier.detect(classifier.Pairs(one_hot, one_hot, of_piece, given.piece))
    assert score.accuracy == 0.5
    assert score.r2 < 0.01


def test_the_interval_grows_when_the_views_of_a_piece_agree():
    given = pairs(lambda changed, amount: changed)
    sure = np.random.default_rng(1).choice([-1.0, 1.0], 24)[given.piece][:, None]
    # Half of the pieces are told right, view for view, and half of them wrong.
    score = classifier.detect(classifier.Pairs(-sure, sure, given.amount, given.piece))
    binomial = 1.96 * math.sqrt(score.accuracy * (1 - score.accuracy) / (2 * len(given.piece)))
    assert score.error > 1.5 * binomial


def test_too_few_pieces_are_refused():
    given = pairs(lambda changed, amount: changed, pieces=7)
    with pytest.raises(ValueError, match="7 pieces"):
        classifier.detect(given)


def test_statistics_of_gaussian_noise_are_those_of_the_books():
    bands, deviation = 12, 0.7
    mels = np.random.default_rng(0).normal(2.0, deviation, (3, 4000, bands)).astype(np.float32)
    found = classifier.statistics(mels)
    groups = bands // 3
    blocks = found[:, : 7 * groups].reshape(3, 7, groups)
    size = math.log(deviation * math.sqrt(2 / math.pi))
    kurtosis = math.log(1 + 3)
    expected = np.array([0, size, 0, kurtosis, size + math.log(2) / 2, 0, kurtosis])
    np.testing.assert_allclose(blocks, np.broadcast_to(expected[:, None], (3, 7, groups)), atol=0.1)
    np.testing.assert_allclose(classifier.statistics(mels + 1), found, atol=2e-3)


def test_pink_noise_has_its_power_in_octaves():
    noise = same_music.pink_noise(2**18, np.random.default_rng(0))
    assert np.mean(np.square(noise)) == pytest.approx(1.0, rel=0.1)
    frequencies, power = scipy.signal.welch(noise, same_music.SAMPLE_RATE, nperseg=2**12)
    octaves = [
        power[(frequencies >= low) & (frequencies < 2 * low)].sum()
        for low in (125.0, 500.0, 2000.0)
    ]
    np.testing.assert_allclose(octaves, np.mean(octaves), rtol=0.15)


@pytest.mark.parametrize("kind", shortcut.KINDS)
def test_changed_music_is_the_untouched_music(kind):
    music = same_music.excerpts(kind, SIZE, shortcut.samples(), seed=0)
    assert np.prod(music.rate) * 2.0 ** music.semitones.sum() != 1
    log_mels = shortcut.methods()["analysis, window fixed"]
    source = same_music.as_audio(music.source)
    none = np.zeros(2)
    before = log_mels(same_music.as_audio(music.untouched), none + 1, none)
    changed = log_mels(source, music.rate, music.semitones)
    left = log_mels(source, none + 1, none)

    def correlation(mels):
        return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before, mels, strict=True)]

    assert min(correlation(changed)) > 0.85
    assert all(a > b for a, b in zip(correlation(changed), correlation(left), strict=True))
    if kind == "shift":
        tape = shortcut._sped_up(same_music.as_audio(music.resampled), music.semitones)
        assert min(correlation(tape)) > 0.85


def test_rates_and_shifts_are_those_that_are_stated():
    random = np.random.default_rng(0)
    rates = np.array([rate for rate, _ in same_music._amounts("stretch", 400, random)])
    shifts = np.array([shift for _, shift in same_music._amounts("shift", 400, random)])
    assert np.sum(rates < 1) == np.sum(shifts < 0) == 200
    assert 0.7 <= rates.min() < 0.71
    assert 1.29 < rates.max() <= 1.3
    assert not np.any((rates > 0.95) & (rates < 1.05))
    assert set(np.abs(shifts)) == {1, 2, 3, 4}


def test_excerpts_of_an_unknown_kind_or_too_long_are_refused():
    with pytest.raises(ValueError, match="swing"):
        same_music.excerpts("swing", SIZE, 1000, seed=0)
    with pytest.raises(ValueError, match="longer"):
        same_music.excerpts("stretch", SIZE, 30 * same_music.SAMPLE_RATE, seed=0)


@pytest.mark.parametrize("name", ["analysis, window fixed", "waveform", "librosa"])
def test_what_begins_at_the_edge_is_the_view(name):
    rates, second = np.array([0.8, 1.25]), 1.5
    audio = np.zeros((2, shortcut.samples()), np.float32)
    for row, rate in enumerate(rates):
        audio[row, same_music.EDGE + round(second * rate * same_music.SAMPLE_RATE)] = 0.9
    mels = shortcut.methods()[name](audio, rates, np.zeros(2))
    heard = np.argmax(mels.sum(axis=2), axis=1) * 0.01 + 200 / same_music.SAMPLE_RATE
    np.testing.assert_allclose(heard, second, atol=0.03)


def test_texture_tells_the_rate_unless_frames_lie_apart():
    random = np.random.default_rng(0)
    noise = 0.1 * random.normal(size=(32, shortcut.samples())).astype(np.float32)
    rates = np.repeat([0.7, 1.3], 16)

    def flicker(name):
        """Size of the change from a frame to the next, slow views over fast ones."""
        mels = shortcut.methods()[name](noise, rates, np.zeros(32))
        size = np.abs(np.diff(mels[:, :, 20:], axis=1)).mean(axis=(1, 2))
        return size[:16].mean() / size[16:].mean()

    assert flicker("analysis, window fixed") < 0.85
    assert 0.97 < flicker("analysis, frames apart") < 1.01
    # The overlap is right, but a short window hears fewer independent bins in each band.
    assert flicker("analysis, window ∝ change") > 1.15


def test_windows_are_drawn_and_scaled():
    random = np.random.default_rng(0)
    rates, semitones = np.full(500, 1.2), np.full(500, 12.0)
    drawn = shortcut.Windows(low=0.5, high=2.0).draw(rates, semitones, random)
    assert 0.5 <= drawn.min() < 0.55
    assert 1.95 < drawn.max() <= 2.0
    scaled = shortcut.Windows(by_rate=-1.0, by_ratio=1.0).draw(rates, semitones, random)
    np.testing.assert_allclose(scaled, 2.0 / 1.2, rtol=1e-6)


@pytest.mark.slow
def test_it_runs_and_draws(tmp_path, monkeypatch):
    kept = "analysis, window fixed"
    monkeypatch.setattr(shortcut, "WINDOWS", {kept: shortcut.WINDOWS[kept]})
    absent = dataclasses.replace(peers.PEERS["pedalboard"], module="no_such_module")
    monkeypatch.setattr(
        shortcut, "PEERS", {"librosa": peers.PEERS["librosa"], "pedalboard": absent}
    )
    result = shortcut.run(tmp_path, quick=True)
    assert list(result["stretch"]) == [kept, "waveform", "librosa", shortcut.NEGATIVE]
    assert list(result["shift"]) == [shortcut.FLOOR, *result["stretch"]]
    for row in (*result["stretch"].values(), *result["shift"].values()):
        assert 0 <= row["accuracy"] <= 1
        assert all(math.isfinite(value) for value in row.values())
    assert result["test_views"] == 2 * 8 * 1 * 2
    assert list(result["left_out"]) == ["pedalboard"]
    assert (tmp_path / "shortcuts.png").stat().st_size > 10_000
