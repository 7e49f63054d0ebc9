"""What is timed, and the ratios of it; no figure is asserted."""

import pytest

from loev_jax.benchmark import speed, speed_peers


@pytest.mark.slow
def test_a_run_times_what_is_installed_and_lists_the_rest(tmp_path):
    result = speed.run(tmp_path, quick=True)
    milliseconds = result["milliseconds"]
    assert set(speed.OURS) <= set(milliseconds)
    assert "librosa" not in result["left_out"]
    for name, library in speed_peers.LIBRARIES.items():
        timed = {row for row in milliseconds if row.startswith(f"{name} ")}
        if name in result["left_out"]:
            assert timed == set()
        else:
            assert timed == {
                f"{name} {operation}{cores}"
                for operation in library.operations
                for cores in ("", ", every core")
            }
    (plain,) = milliseconds["plain log-mel"].values()
    (analysis,) = milliseconds["analysis chain"].values()
    (cores,) = milliseconds["librosa stretch + shift, every core"].values()
    (librosa,) = milliseconds["librosa stretch + shift"].values()
    assert result["analysis_over_plain_mel"] == pytest.approx(analysis / plain)
    assert result["librosa_over_analysis"] == pytest.approx((librosa + plain) / analysis)
    assert result["librosa_every_core_over_analysis"] == pytest.approx((cores + plain) / analysis)
    assert result["librosa_over_waveform_stretch_shift"] == pytest.approx(
        librosa / milliseconds["waveform stretch + shift"]["2"]
    )
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_a_clip_is_no_longer_than_its_view_needs():
    clips = speed.draw_clips(3, windows=2)
    assert clips.audio.shape[0] == 3
    rows = slice(0, 3)
    stretched = clips.sources(rows, speed_peers.STRETCH)
    for (audio, rate, semitones), drawn in zip(stretched, clips.rates, strict=True):
        assert len(audio) == round(48_000 * float(drawn))
        assert (rate, semitones) == (pytest.approx(drawn), 0.0)
    for audio, rate, _ in clips.sources(rows, speed_peers.SHIFT):
        assert (len(audio), rate) == (48_000, 1.0)
