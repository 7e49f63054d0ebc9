"""What makes the log-mel of a stretched and shifted view: ours in both domains, peers, nothing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax import frontend
from loev_jax.augment import analysis, waveform
from loev_jax.benchmark.peers import PEERS, VARIANTS, Peer
from loev_jax.data import processes

FASTEST = 1.3
UNCHANGED, ANALYSIS, WAVEFORM = "no change", "analysis", "waveform"
LABELS = {ANALYSIS: "ours, analysis domain", WAVEFORM: "ours, waveform domain"}
"""What tables and plots call a method; others go by their own name."""

Method = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(source [samples], rates [K], semitones [K]) → log-mels [K, frames, bands]."""


@dataclasses.dataclass(frozen=True)
class View:
    """What is compared: a part of the result that lies far from both ends of the source.

    Attributes:
        frontend: settings of the log-mel. A shift of -4 semitones empties what lies above
            8 kHz · 2^(-4/12), so the bands end there.
        start_seconds: where the view begins, in the result's time.
        frames: its length.
    """

    frontend: frontend.LogMel = frontend.LogMel(fmax=6_300.0)
    start_seconds: float = 2.0
    frames: int = 900

    @property
    def start(self) -> int:
        """First sample of the view, in the result's time."""
        return round(self.start_seconds * self.frontend.sample_rate)

    @property
    def samples(self) -> int:
        """Its length in samples."""
        return self.frontend.samples(self.frames)

    @property
    def source(self) -> int:
        """Samples of source that every method is given: one second more than any view needs."""
        return round((self.start + self.samples) * FASTEST) + self.frontend.sample_rate


def log_mels(spec: frontend.LogMel, audio: np.ndarray) -> np.ndarray:
    """The plain log-mels of audio [batch, samples]."""
    return np.asarray(_log_mels(spec, jnp.asarray(audio)))


_log_mels = jax.jit(frontend.log_mel, static_argnums=0)


def available(view: View) -> Mapping[str, Method]:
    """Every method whose package is installed: no change, ours, peers, variants of peers."""
    methods: dict[str, Method] = {
        UNCHANGED: functools.partial(_unchanged, view),
        ANALYSIS: functools.partial(_analysis, view),
        WAVEFORM: functools.partial(_waveform, view),
    }
    for name, peer in {**PEERS, **VARIANTS}.items():
        if peer.available():
            methods[name] = functools.partial(_peer, view, peer)
    return methods


def missing() -> dict[str, str]:
    """Peers that are left out, and why."""
    return {
        name: f"{peer.package} is not installed"
        for name, peer in {**PEERS, **VARIANTS}.items()
        if not peer.available()
    }


def _cut(source: np.ndarray, view: View, rates: np.ndarray, samples: int) -> np.ndarray:
    """The source from where each view begins, [K, samples]."""
    starts = [round(view.start * float(rate)) for rate in rates]
    return np.stack([source[start : start + samples] for start in starts])


def _unchanged(
    view: View, source: np.ndarray, rates: np.ndarray, semitones: np.ndarray
) -> np.ndarray:
    del semitones
    return log_mels(view.frontend, _cut(source, view, rates, view.samples))


def _analysis(
    view: View, source: np.ndarray, rates: np.ndarray, semitones: np.ndarray
) -> np.ndarray:
    needed = analysis.source_samples(view.frontend, view.frames, FASTEST, 1.0)
    parameters = {
        "time_stretch": jnp.asarray(np.log2(rates), jnp.float32),
        "pitch_shift": jnp.asarray(semitones, jnp.float32),
    }
    audio = jnp.asarray(_cut(source, view, rates, needed))
    return np.asarray(_analyse(view.frontend, audio, parameters, view.frames))


_analyse = jax.jit(analysis.log_mel, static_argnums=(0, 3))


def _waveform(
    view: View, source: np.ndarray, rates: np.ndarray, semitones: np.ndarray
) -> np.ndarray:
    moved = _move(
        jnp.asarray(np.tile(source, (len(rates), 1))),
        jnp.asarray(np.log2(rates), jnp.float32),
        jnp.asarray(semitones, jnp.float32),
        view.start + view.samples,
        sample_rate=view.frontend.sample_rate,
    )
    return log_mels(view.frontend, np.asarray(moved[:, view.start :]))


_move = jax.jit(waveform.stretch_and_shift, static_argnums=3, static_argnames="sample_rate")


def _peer(
    view: View, peer: Peer, source: np.ndarray, rates: np.ndarray, semitones: np.ndarray
) -> np.ndarray:
    def one(rate: float, shift: float) -> np.ndarray:
        moved = peer.stretch_and_shift(source, rate, shift, view.frontend.sample_rate)
        return moved[view.start : view.start + view.samples]

    with futures.ThreadPoolExecutor(processes.available_cpus()) as pool:
        moved = pool.map(one, map(float, rates), map(float, semitones))
        return log_mels(view.frontend, np.stack(list(moved)))
