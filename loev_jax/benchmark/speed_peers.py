"""What the speed benchmark has peers do, in worker processes of one thread each.

Workers hold the clips and throw the results away, so that no audio is sent while the clock runs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.benchmark import peers

STRETCH, SHIFT, BOTH = "stretch", "shift", "stretch + shift"

Work = Callable[[slice], None]
"""Transforms the clips of a slice."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """What every method is given.

    Attributes:
        audio: [clips, samples] f32, long enough for the fastest view.
        rates: [clips].
        semitones: [clips].
        samples: length of a view.
        sample_rate: in Hz.
    """

    audio: np.ndarray
    rates: np.ndarray
    semitones: np.ndarray
    samples: int
    sample_rate: int

    def save(self, path: Path) -> None:
        """Writes them for the workers."""
        np.savez(path, **dataclasses.asdict(self))

    @staticmethod
    def load(path: Path) -> Clips:
        """Reads what `save` wrote."""
        with np.load(path) as stored:
            return Clips(
                stored["audio"],
                stored["rates"],
                stored["semitones"],
                int(stored["samples"]),
                int(stored["sample_rate"]),
            )

    def sources(self, rows: slice, operation: str) -> Iterator[tuple[np.ndarray, float, float]]:
        """Clips, rates and shifts of `operation`; a clip is no longer than its view needs."""
        for audio, rate, semitones in zip(
            self.audio[rows], self.rates[rows], self.semitones[rows], strict=True
        ):
            played = 1.0 if operation == SHIFT else float(rate)
            shifted = 0.0 if operation == STRETCH else float(semitones)
            yield audio[: round(self.samples * played)], played, shifted


@dataclasses.dataclass(frozen=True)
class Library:
    """A library and how it is made to work.

    Attributes:
        package: the name that pip knows.
        module: the name that Python knows.
        operations: what it can do.
        prepare: (clips, operation) → its work; what needs no clock is done here.
    """

    package: str
    module: str
    operations: tuple[str, ...]
    prepare: Callable[[Clips, str], Work] = dataclasses.field(repr=False)


def _librosa(clips: Clips, operation: str) -> Work:
    import librosa

    def work(rows: slice) -> None:
        for audio, rate, semitones in clips.sources(rows, operation):
            if operation != SHIFT:
                audio = librosa.effects.time_stretch(audio, rate=rate)
            if operation != STRETCH:
                librosa.effects.pitch_shift(audio, sr=clips.sample_rate, n_steps=semitones)

    return work


def _peer(clips: Clips, operation: str, *, name: str) -> Work:
    def work(rows: slice) -> None:
        for audio, rate, semitones in clips.sources(rows, operation):
            peers.PEERS[name].stretch_and_shift(audio, rate, semitones, clips.sample_rate)

    return work


def _audiomentations(clips: Clips, operation: str) -> Work:
    """It draws its own parameters, from the same ranges; so its views are 3 s before a stretch."""
    import audiomentations

    steps: list[Any] = []
    if operation != SHIFT:
        limits = float(clips.rates.min()), float(clips.rates.max())
        steps.append(audiomentations.TimeStretch(*limits, leave_length_unchanged=False, p=1.0))
    if operation != STRETCH:
        limits = float(clips.semitones.min()), float(clips.semitones.max())
        steps.append(audiomentations.PitchShift(*limits, p=1.0))
    compose = audiomentations.Compose(steps)

    def work(rows: slice) -> None:
        for audio in clips.audio[rows, : clips.samples]:
            compose(audio, sample_rate=clips.sample_rate)

    return work


def _torch_audiomentations(clips: Clips, operation: str) -> Work:
    """It draws among few shifts that it finds fast, and has no time stretch."""
    del operation
    import torch
    import torch_audiomentations

    torch.set_num_threads(1)
    transform = torch_audiomentations.PitchShift(
        float(clips.semitones.min()),
        float(clips.semitones.max()),
        p=1.0,
        sample_rate=clips.sample_rate,
        output_type="tensor",
    )
    audio = torch.from_numpy(np.array(clips.audio[:, None, : clips.samples]))

    def work(rows: slice) -> None:
        transform(audio[rows])

    return work


_ALL = (STRETCH, SHIFT, BOTH)
LIBRARIES: Mapping[str, Library] = {
    "librosa": Library("librosa", "librosa", _ALL, _librosa),
    **{
        name: Library(
            peers.PEERS[name].package,
            peers.PEERS[name].module,
            _ALL,
            functools.partial(_peer, name=name),
        )
        for name in ("pedalboard", "python-stretch")
    },
    "audiomentations": Library("audiomentations", "audiomentations", _ALL, _audiomentations),
    "torch-audiomentations": Library(
        "torch-audiomentations", "torch_audiomentations", (SHIFT,), _torch_audiomentations
    ),
}
"""By the name that tables give them."""

_works: dict[tuple[str, str], Work] = {}  # of this worker


def start(path: Path, wanted: tuple[tuple[str, str], ...]) -> None:
    """Makes a worker ready: imports, and one clip by each (library, operation)."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)
    clips = Clips.load(path)
    for name, operation in wanted:
        _works[name, operation] = LIBRARIES[name].prepare(clips, operation)
        _works[name, operation](slice(0, 1))


def work(name: str, operation: str, first: int, last: int) -> None:
    """Has a worker transform clips first..last - 1."""
    _works[name, operation](slice(first, last))
