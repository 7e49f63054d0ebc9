"""The same music twice: as it is played, and played otherwise so that a change brings it back.

For a stretch by r, a piece is rendered at its tempo and at its tempo / r; for a shift by n
semitones, in its key and n semitones lower. After the change both are at one tempo and in one key,
so nothing is left to tell them by but the change's own traces. A third rendering, at tempo / q and
n semitones lower, is put right by plain resampling with the ratio q = 2^(n / 12)
(`loev_jax.benchmark.tape`): what it gives away is what any method must.

Half of the pieces have drums where they are stretched (drums do not transpose), and every excerpt
has a bed of pink noise of its own: texture is what betrays a change, and pink noise remains pink
noise whatever its speed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from loev_jax.benchmark import tape, truth
from loev_jax.data import processes
from loev_jax.data.progress import Progress

SAMPLE_RATE = truth.SAMPLE_RATE
RATES = ((0.7, 0.95), (1.05, 1.3))  # drawn evenly in octaves
LARGEST_SHIFT = 4  # semitones, whole ones, up or down
SNR_DB = (10.0, 30.0)  # of the music over its bed of noise
EDGE = SAMPLE_RATE // 2
"""Samples before the view and after it that an excerpt holds, for what others pad there."""
_FIRST = 0.75  # seconds of the piece before the first view
_DRUMS = 90  # velocity
_PIECES_PER_WORKER = 16  # fewer are rendered sooner than another process is started
_SCALE = 2**14  # of int16: drums may exceed full scale


@dataclasses.dataclass(frozen=True)
class Size:
    """How much music.

    Attributes:
        pieces: their number.
        renderings: of each piece for each kind of change: each has its own amount.
        views: of each rendering, spread over it.
    """

    pieces: int
    renderings: int
    views: int


@dataclasses.dataclass(frozen=True)
class Excerpts:
    """Excerpts in pairs, int16 [pairs, samples]; the view begins at `EDGE`.

    Attributes:
        untouched: at the tempo and in the key that are wanted.
        source: what must be changed to be so.
        resampled: what must be sped up by the ratio to be so (of shifts; otherwise empty).
        rate: [pairs] of the stretch, 1 for shifts.
        semitones: [pairs] of the shift, 0 for stretches.
        piece: [pairs] number of the piece.
    """

    untouched: np.ndarray
    source: np.ndarray
    resampled: np.ndarray
    rate: np.ndarray
    semitones: np.ndarray
    piece: np.ndarray


def as_audio(excerpts: np.ndarray) -> np.ndarray:
    """int16 of `Excerpts` → f32."""
    return excerpts.astype(np.float32) / _SCALE


def excerpts(kind: str, size: Size, samples: int, seed: int) -> Excerpts:
    """Renders music for one kind of change.

    Args:
        kind: "stretch" or "shift".
        size: how much.
        samples: of each excerpt, both edges included.
        seed: of the pieces and all else that is drawn.

    Raises:
        ValueError: the renderings are too short for such excerpts.
    """
    if kind not in ("stretch", "shift"):
        raise ValueError(f"kind={kind!r}: it is stretch or shift")
    pieces = truth.pieces(size.pieces, seed)
    progress = Progress(f"{kind}: render", size.pieces, "pieces")
    parts = []
    for number, part in enumerate(_all(kind, pieces, size, samples, seed), start=1):
        parts.append(part)
        progress.update(number)
    progress.close()
    return Excerpts(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Excerpts)
        )
    )


def _all(
    kind: str, pieces: list[truth.Piece], size: Size, samples: int, seed: int
) -> Iterator[Excerpts]:
    """Excerpts of each piece, in their order."""
    work = functools.partial(_piece, kind, size=size, samples=samples, seed=seed)
    workers = min(processes.available_cpus(), len(pieces) // _PIECES_PER_WORKER)
    if workers < 2:
        yield from map(work, pieces)
        return
    with processes.pool(workers) as pool:
        yield from pool.map(work, pieces)


def _piece(kind: str, piece: truth.Piece, size: Size, samples: int, seed: int) -> Excerpts:
    """All excerpts of a piece: a function of (kind, seed, piece) alone."""
    random = np.random.default_rng([seed, piece.number, kind == "shift"])
    if kind == "stretch" and piece.number % 2:
        piece = dataclasses.replace(
            piece, performance=dataclasses.replace(piece.performance, drums=_DRUMS)
        )
    untouched = truth.render(piece)
    level = float(np.sqrt(np.mean(np.square(untouched))))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, float, int]] = []
    for rate, semitones in _amounts(kind, size.renderings, random):
        ratio = tape.ratio(semitones)
        source = truth.render(piece, 1 / rate, -semitones)
        slower = truth.render(piece, 1 / ratio, -semitones) if semitones else None
        slowest = min(rate, ratio)
        last = len(untouched) / SAMPLE_RATE - samples / SAMPLE_RATE / slowest
        if last < _FIRST:
            raise ValueError(f"samples={samples}: an excerpt is longer than a rendering")
        for start in _starts(_FIRST, last, size.views, random):

            def cut(audio: np.ndarray, speed: float, start: float = start) -> np.ndarray:
                at = round(start * speed * SAMPLE_RATE) - EDGE
                bed = pink_noise(samples, random) * level
                quiet = 10.0 ** (-random.uniform(*SNR_DB) / 20)
                mixed = (audio[at : at + samples] + bed * quiet) * _SCALE
                return np.clip(np.round(mixed), -(2**15), 2**15 - 1).astype(np.int16)

            resampled = np.empty(0, np.int16) if slower is None else cut(slower, ratio)
            rows.append((cut(untouched, 1.0), cut(source, rate), resampled, rate, semitones))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    columns.append(np.full(len(rows), piece.number))
    return Excerpts(*columns)


def _amounts(kind: str, count: int, random: np.random.Generator) -> Iterator[tuple[float, int]]:
    """Rates and semitones: up and down in turn, beginning with either."""
    first = int(random.integers(2))
    for number in range(count):
        up = (number + first) % 2
        if kind == "stretch":
            yield float(np.exp(random.uniform(*np.log(RATES[up])))), 0
        else:
            yield 1.0, int(random.integers(1, LARGEST_SHIFT + 1)) * (1 if up else -1)


def _starts(first: float, last: float, count: int, random: np.random.Generator) -> np.ndarray:
    """One place in each of `count` equal parts, in seconds."""
    width = (last - first) / count
    return first + width * (np.arange(count) + random.uniform(0, 1, count))


def pink_noise(samples: int, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise of equal power in every octave from 20 Hz; its expected power is 1."""
    points = 2 ** int(np.ceil(np.log2(samples)))
    frequencies = np.fft.rfftfreq(points, 1 / SAMPLE_RATE)
    power = np.where(frequencies >= 20.0, 1 / np.maximum(frequencies, 20.0), 0.0)
    spectrum = np.fft.rfft(random.standard_normal(points)) * np.sqrt(power / power.mean())
    return np.fft.irfft(spectrum, points)[:samples].astype(np.float32)
