"""Shortcuts: can a network tell *that* a view was changed, and how much, but for its being faster?

A classifier (`loev_jax.benchmark.classifier`) is trained to tell changed views from untouched ones,
and to read the rate or the shift, on the same music at the same tempo and in the same key
(`loev_jax.benchmark.same_music`): what it finds is a trace of the change itself. In training a
network may follow such a trace instead of the tempo or the key.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax import frontend
from loev_jax.augment import analysis, waveform
from loev_jax.benchmark import classifier, same_music, shortcut_plot, tape
from loev_jax.benchmark.peers import PEERS, Peer
from loev_jax.data import processes
from loev_jax.data.progress import Progress

# A shift of 4 semitones down empties what lies above 6.35 kHz: that would be a trace of its own.
DENSE = frontend.LogMel(fmax=6_300.0)
SPARSE = frontend.LogMel(fmax=6_300.0, hop=320)
SECONDS = 3.0
KINDS = ("stretch", "shift")
NEGATIVE, FLOOR = "untouched, twice", tape.NAME
"""The controls: nothing to find; nothing but what every method must leave."""

FULL = same_music.Size(pieces=128, renderings=2, views=4)
QUICK = same_music.Size(pieces=classifier.FEWEST_PIECES, renderings=1, views=2)
_SEED = 11
_BATCH = 16
_LONGEST_WINDOW = 1.75
_FASTEST = same_music.RATES[1][1]
_SLOWEST = same_music.RATES[0][0]
_HIGHEST = 2.0 ** (same_music.LARGEST_SHIFT / 12)

LogMels = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(audio [views, samples] f32, rates [views], semitones [views]) → log-mels."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """How the analysis domain sets the length of its window, as a factor of the plain one.

    Attributes:
        frontend: settings of the log-mel.
        low: the factor is drawn for each view from here
        high: to here, and multiplied with
        by_rate: the rate to this power and
        by_ratio: the pitch ratio to this power.
    """

    frontend: frontend.LogMel = DENSE
    low: float = 1.0
    high: float = 1.0
    by_rate: float = 0.0
    by_ratio: float = 0.0

    def draw(
        self, rates: np.ndarray, semitones: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """A factor for each view, [views] f32."""
        drawn = random.uniform(self.low, self.high, len(rates))
        changed = rates**self.by_rate * 2.0 ** (semitones / 12 * self.by_ratio)
        return (drawn * changed).astype(np.float32)


# Hann windows at hops of half their length hardly share any noise: the longest that shares none at
# the slowest rate.
_APART = 2 * _SLOWEST * DENSE.hop / DENSE.window
WINDOWS: Mapping[str, Windows] = {
    "analysis, window fixed": Windows(),
    "analysis, window drawn .72-1.36": Windows(low=0.72, high=1.36),
    "analysis, window drawn .5-1.75": Windows(low=0.5, high=_LONGEST_WINDOW),
    "analysis, window ∝ change": Windows(by_rate=1.0, by_ratio=1.0),
    "analysis, window ∝ 1 / change": Windows(by_rate=-1.0, by_ratio=-1.0),
    "analysis, frames apart": Windows(low=_APART, high=_APART),
    "analysis, frames apart, window ∝ pitch": Windows(
        low=_APART / _HIGHEST, high=_APART / _HIGHEST, by_ratio=1.0
    ),
    "analysis, hop 320": Windows(SPARSE),
    "analysis, hop 320, window ∝ pitch": Windows(SPARSE, by_ratio=1.0),
}
"""What is tried in the analysis domain. "Change" is the rate or the pitch ratio; "apart" is a
window of two hops of the slowest view."""


def _frames(spec: frontend.LogMel) -> int:
    return spec.frames(round(SECONDS * spec.sample_rate))


def samples() -> int:
    """Length of an excerpt: what the fastest view may read, and an edge on either side."""
    needed = max(
        *(
            analysis.source_samples(spec, _frames(spec), _FASTEST, _LONGEST_WINDOW)
            for spec in (DENSE, SPARSE)
        ),
        _waveform_source(),
    )
    return needed + 2 * same_music.EDGE


def _waveform_source() -> int:
    return waveform.source_samples(
        DENSE.samples(_frames(DENSE)),
        max_log2_rate=waveform.MAX_LOG2_RATE,
        max_semitones=waveform.MAX_SEMITONES,
        sample_rate=DENSE.sample_rate,
    )


def _batched(function: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
    """Applies a batched function to `_BATCH` views at a time; the last batch is filled up."""
    views, parts = len(arrays[0]), []
    for first in range(0, views, _BATCH):
        rows = np.minimum(np.arange(first, first + _BATCH), views - 1)
        parts.append(np.asarray(function(*(jnp.asarray(array[rows]) for array in arrays))))
    return np.concatenate(parts)[:views]


@functools.partial(jax.jit, static_argnums=0)
def _analyse(
    spec: frontend.LogMel,
    audio: jax.Array,
    log2_rate: jax.Array,
    semitones: jax.Array,
    width: jax.Array,
) -> jax.Array:
    parameters = {"time_stretch": log2_rate, "pitch_shift": semitones}
    return analysis.log_mel(spec, audio, parameters, _frames(spec), width, _LONGEST_WINDOW)


@jax.jit
def _move(audio: jax.Array, log2_rate: jax.Array, semitones: jax.Array) -> jax.Array:
    moved = waveform.stretch_and_shift(
        audio, log2_rate, semitones, DENSE.samples(_frames(DENSE)), sample_rate=DENSE.sample_rate
    )
    return frontend.log_mel(DENSE, moved)


def _plain(audio: np.ndarray) -> np.ndarray:
    """Log-mels of views that begin at the audio's first sample."""
    return _batched(functools.partial(_log_mel, DENSE), audio[:, : DENSE.samples(_frames(DENSE))])


_log_mel = jax.jit(frontend.log_mel, static_argnums=0)


def _in_analysis(
    windows: Windows,
    random: np.random.Generator,
    audio: np.ndarray,
    rates: np.ndarray,
    semitones: np.ndarray,
) -> np.ndarray:
    return _batched(
        functools.partial(_analyse, windows.frontend),
        audio[:, same_music.EDGE :],
        np.log2(rates).astype(np.float32),
        semitones.astype(np.float32),
        windows.draw(rates, semitones, random),
    )


def _in_waveform(audio: np.ndarray, rates: np.ndarray, semitones: np.ndarray) -> np.ndarray:
    return _batched(
        _move,
        audio[:, same_music.EDGE :],
        np.log2(rates).astype(np.float32),
        semitones.astype(np.float32),
    )


def _by_peer(peer: Peer, audio: np.ndarray, rates: np.ndarray, semitones: np.ndarray) -> np.ndarray:
    """Untouched views are not given to a peer; what it pads lies in the excerpts' edges."""
    length = DENSE.samples(_frames(DENSE))

    def one(excerpt: np.ndarray, rate: float, shift: float) -> np.ndarray:
        if rate != 1 or shift != 0:
            excerpt = peer.stretch_and_shift(excerpt, rate, shift, DENSE.sample_rate)
        begin = round(same_music.EDGE / rate)
        return excerpt[begin : begin + length]

    with futures.ThreadPoolExecutor(processes.available_cpus()) as pool:
        moved = pool.map(one, audio, map(float, rates), map(float, semitones))
        return _plain(np.stack(list(moved)))


def _sped_up(audio: np.ndarray, semitones: np.ndarray) -> np.ndarray:
    """Log-mels of excerpts resampled so that they sound `semitones` higher, and faster alike."""
    views = []
    for excerpt, shift in zip(audio, map(float, semitones), strict=True):
        faster = tape.sped_up(excerpt, shift, DENSE.sample_rate)
        begin = round(same_music.EDGE / tape.ratio(shift))
        views.append(faster[begin : begin + DENSE.samples(_frames(DENSE))])
    return _plain(np.stack(views))


def methods() -> dict[str, LogMels]:
    """What is compared, by name: ours in both domains, and the peers that are installed."""
    found: dict[str, LogMels] = {
        name: functools.partial(_in_analysis, windows, np.random.default_rng(_SEED))
        for name, windows in WINDOWS.items()
    }
    found["waveform"] = _in_waveform
    return found | {
        name: functools.partial(_by_peer, peer) for name, peer in PEERS.items() if peer.available()
    }


def _views(kind: str, music: same_music.Excerpts) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """By method: log-mels of the untouched views, and of the changed ones."""
    untouched, source = same_music.as_audio(music.untouched), same_music.as_audio(music.source)
    none = np.zeros(len(untouched))
    plain = _plain(untouched[:, same_music.EDGE :])
    if kind == "shift":
        yield FLOOR, plain, _sped_up(same_music.as_audio(music.resampled), music.semitones)
    for name, log_mels in methods().items():
        before = plain if name in PEERS else log_mels(untouched, none + 1, none)
        yield name, before, log_mels(source, music.rate, music.semitones)
    # Half of a piece's views stand for changed ones; its number is never in two parts of a fold.
    order = np.argsort(music.piece, kind="stable").reshape(-1, 2).T
    yield NEGATIVE, plain[order[0]], plain[order[1]]


def measure(kind: str, music: same_music.Excerpts) -> dict[str, dict[str, float]]:
    """What the classifier finds of one kind of change, by method.

    Args:
        kind: "stretch" or "shift".
        music: of that kind.

    Returns:
        For each method `accuracy`, `error` and `r2` of `classifier.Score`, and `level_db`: how much
        louder changed views are, in dB of mel power on average over frames and bands.
    """
    amounts = np.log2(music.rate) if kind == "stretch" else music.semitones.astype(float)
    found = {}
    progress = Progress(f"{kind}: listen", len(methods()) + 2, "methods")
    for number, (name, untouched, changed) in enumerate(_views(kind, music), start=1):
        chosen = slice(None, None, 2) if name == NEGATIVE else slice(None)
        score = classifier.detect(
            classifier.Pairs(
                classifier.statistics(untouched),
                classifier.statistics(changed),
                amounts[chosen],
                music.piece[chosen],
            )
        )
        level = 10 * float(np.mean(changed) - np.mean(untouched))
        found[name] = {**dataclasses.asdict(score), "level_db": level}
        progress.update(number)
    progress.close()
    return found


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Measures and draws `shortcuts.png`.

    Args:
        out: an existing directory.
        quick: few views of few pieces: figures mean nothing then.

    Returns:
        For each kind of change what `measure` returns, and how much music it was.
    """
    size = QUICK if quick else FULL
    result: dict[str, Any] = {
        **dataclasses.asdict(size),
        "test_views": 2 * size.pieces * size.renderings * size.views,
    }
    for kind in KINDS:
        result[kind] = measure(kind, same_music.excerpts(kind, size, samples(), _SEED))
    result["left_out"] = {
        name: f"{peer.package} is not installed"
        for name, peer in PEERS.items()
        if not peer.available()
    }
    shortcut_plot.draw(result, out / "shortcuts.png")
    return result
