"""Peers do what ours do, in the same units; one that is missing says how to get it."""

import numpy as np
import pytest

from loev_jax.benchmark import peers
from loev_jax.errors import UserError

RATE = 16_000


def two_tones(first_hz, second_hz):
    """Two seconds of one sine, then two of another."""
    time = np.arange(2 * RATE) / RATE
    both = [np.sin(2 * np.pi * hz * time) for hz in (first_hz, second_hz)]
    return (0.4 * np.concatenate(both)).astype(np.float32)


def loudest_hz(audio):
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 17))
    return spectrum.argmax() * RATE / (1 << 17)


def test_the_order_of_tables_and_plots():
    assert list(peers.PEERS) == ["librosa", "pedalboard", "python-stretch"]


@pytest.mark.parametrize("name", [*peers.PEERS, *peers.VARIANTS])
def test_a_peer_stretches_and_shifts_as_the_parameters_say(name):
    peer = {**peers.PEERS, **peers.VARIANTS}[name]
    if not peer.available():
        pytest.skip(f"{peer.package} comes with the extra `benchmark`")
    rate, semitones = 1.25, 3.0
    moved = peer.stretch_and_shift(two_tones(400.0, 700.0), rate, semitones, RATE)
    assert moved.dtype == np.float32
    assert len(moved) == pytest.approx(4 * RATE / rate, abs=2)
    change, ratio = int(2 * RATE / rate), 2 ** (semitones / 12)
    margin = RATE // 5
    assert loudest_hz(moved[margin : change - margin]) == pytest.approx(400 * ratio, rel=0.01)
    assert loudest_hz(moved[change + margin : -margin]) == pytest.approx(700 * ratio, rel=0.01)


def test_a_missing_package_is_one_clear_line():
    peer = peers.Peer("some-library", "no_such_module", "", lambda *_: np.zeros(1))
    assert not peer.available()
    with pytest.raises(UserError) as raised:
        peer.stretch_and_shift(np.zeros(100, np.float32), 1.0, 0.0, RATE)
    message = str(raised.value)
    assert message.startswith("some-library is not installed")
    assert "loev_jax[benchmark]" in message
    assert "\n" not in message
