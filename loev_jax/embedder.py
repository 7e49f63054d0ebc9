"""Audio of any rate and length → embeddings, one row of every space per segment.

Neither flax nor tensorflow is imported to use an exported model: it is read with `jax.export`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import safetensors.numpy
import soxr
from jax import export as jax_export
from safetensors import SafetensorError

from loev_jax.errors import UserError

CARD = "config.json"
PARAMETERS = "model.safetensors"
ARTIFACT = "spaces.stablehlo"

T = TypeVar("T")

Spaces = Callable[[Mapping[str, Any], Any], dict[str, jax.Array]]
"""(parameters by flat name, waveforms [batch, samples] f32) → every space [batch, size] f32."""

# Seconds of audio in one batch: enough to keep the device busy, some 100 MB of spectra.
_BATCH_SECONDS = 128.0
_BLOCK_SAMPLES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Card:
    """What a model says of itself, in MODEL/config.json.

    Attributes:
        sample_rate: of the waveforms it takes, in Hz.
        segment_samples: length of a training view, at that rate.
        window: samples of one analysis frame: the shortest audio that has an embedding.
        hop: samples from one frame to the next.
        spaces: size of each space by name, the encoder's first.
        step: of training.
        recipe: the training run's config.json.
        versions: of the packages that exported it.
    """

    sample_rate: int
    segment_samples: int
    window: int
    hop: int
    spaces: Mapping[str, int]
    step: int
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]


class Embedder:
    """A trained model that embeds audio. `loev_jax.load` makes one.

    Attributes:
        card: what the model is.
    """

    def __init__(self, card: Card, spaces: Spaces, parameters: Mapping[str, Any]) -> None:
        self.card = card
        self._spaces = jax.jit(spaces)
        self._parameters = jax.device_put(dict(parameters))

    def segments(self, samples: int, *, sample_rate: float, hop: float | None = None) -> np.ndarray:
        """Start and end, in seconds, of each row that `embed` returns.

        Args:
            samples: length of the audio at its own rate.
            sample_rate: of the audio, in Hz.
            hop: as for `embed`.

        Returns:
            [rows, 2] f64.

        Raises:
            UserError: as `embed`.
        """
        rate = _positive("sample_rate", sample_rate)
        starts, length = self._cut(_resampled(samples, rate, self.card.sample_rate), hop)
        return np.stack([starts, starts + length], axis=1) / self.card.sample_rate

    def embed(
        self, audio: Any, *, sample_rate: float, hop: float | None = None
    ) -> dict[str, np.ndarray]:
        """Embeds segments of the length the model was trained on.

        Segments follow one another every `hop` seconds from the start; if the last does not reach
        the end, one more, aligned with the end, does. Nothing is padded: audio shorter than one
        segment is embedded at its own length. Channels are mixed to one, other rates resampled.
        Beyond `audio`, memory holds a copy at the model's rate, one batch, and the result.

        Args:
            audio: [samples] or [channels, samples]; floats with full scale at 1, int16 or int32.
            sample_rate: of the audio, in Hz.
            hop: seconds from one segment to the next; a segment's length if None.

        Returns:
            Every space by name, [rows, size] f32: "encoder", the pooled representation, then
            "invariant" and each variant head, of unit length.

        Raises:
            UserError: the audio is empty, shorter than one analysis frame, of another shape or
                type, or not finite; or sample_rate or hop is not positive.
        """
        rate = _positive("sample_rate", sample_rate)
        waveform = _resample(_checked(audio), rate, self.card.sample_rate)
        starts, length = self._cut(len(waveform), hop)
        rows = self._rows(length)
        batches = []
        for first in range(0, len(starts), rows):
            at = starts[first : first + rows]
            # Rows up to a power of two, so that few shapes are ever compiled; rows are independent.
            batch = np.zeros((1 << (len(at) - 1).bit_length(), length), np.float32)
            for row, start in enumerate(at):
                batch[row] = waveform[start : start + length]
            computed = jax.device_get(self._spaces(self._parameters, batch))
            batches.append({name: space[: len(at)] for name, space in computed.items()})
        return {
            name: np.concatenate([batch[name] for batch in batches]) for name in self.card.spaces
        }

    def _cut(self, samples: int, hop: float | None) -> tuple[np.ndarray, int]:
        """Starts of the segments and their one length, in samples at the model's rate."""
        card = self.card
        if samples < card.window:
            raise UserError(
                f"audio: {samples} samples at {card.sample_rate} Hz; "
                f"give {card.window} ({card.window / card.sample_rate:g} s) or more"
            )
        if hop is None:
            step = card.segment_samples
        else:
            step = max(1, round(_positive("hop", hop) * card.sample_rate))
        if samples < card.segment_samples:
            # Whole frames alone matter, and fewer lengths are fewer compilations.
            return np.zeros(1, np.int64), samples - (samples - card.window) % card.hop
        last = samples - card.segment_samples
        starts = np.arange(0, last + 1, step)
        return starts if starts[-1] == last else np.append(starts, last), card.segment_samples

    def _rows(self, length: int) -> int:
        """Rows of a full batch, a power of two."""
        fitting = max(1, int(_BATCH_SECONDS * self.card.sample_rate / length))
        return 1 << min(fitting.bit_length() - 1, 8)


def load(path: Path, step: int | None = None) -> Embedder:
    """Loads an exported model.

    Args:
        path: what `launch/export.py` wrote.
        step: refused if the model is of another one.

    Raises:
        UserError: it cannot be read, or is of another step.
    """
    card = _read(path / CARD, lambda content: Card(**json.loads(content)))
    parameters = _read(path / PARAMETERS, safetensors.numpy.load)
    artifact = _read(path / ARTIFACT, bytearray)
    if step not in (None, card.step):
        raise UserError(f"step={step}: {path} was exported at step {card.step}; leave step out")
    try:
        spaces = jax_export.deserialize(artifact)
    except Exception as error:  # flatbuffers, MLIR and JAX each raise their own
        raise UserError(
            f"{path / ARTIFACT}: jax {jax.__version__} cannot read what jax "
            f"{card.versions.get('jax')} wrote; export the model again"
        ) from error
    return Embedder(card, spaces.call, parameters)


def _read(file: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; export the model again") from error
    except (TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: damaged ({reason}); export the model again") from error


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, int | float | np.number) and 0 < value < math.inf):
        raise UserError(f"{name}={value!r}: give a positive number")
    return float(value)


def _checked(audio: Any) -> np.ndarray:
    """[channels, samples], as given otherwise."""
    array = np.asarray(audio)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[0] == 0:
        raise UserError(f"audio: shape {np.shape(audio)}; give [samples] or [channels, samples]")
    if array.shape[1] == 0:
        raise UserError(f"audio: shape {np.shape(audio)}, no samples; leave empty files out")
    if array.shape[0] > array.shape[1]:
        raise UserError(
            f"audio: shape {array.shape} has more channels than samples; give audio.T "
            "([channels, samples])"
        )
    if array.dtype not in (np.int16, np.int32) and not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"audio: dtype {array.dtype}; give floats (full scale 1), int16 or int32")
    return array


def _mono(audio: np.ndarray) -> Iterator[np.ndarray]:
    """[channels, samples] of any type → f32 [samples'], block by block."""
    scale = 1.0 if np.issubdtype(audio.dtype, np.floating) else -1.0 / np.iinfo(audio.dtype).min
    for start in range(0, audio.shape[1], _BLOCK_SAMPLES):
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, in one line
            block = audio[:, start : start + _BLOCK_SAMPLES].astype(np.float32) * np.float32(scale)
            mono = block.mean(axis=0, dtype=np.float32)
        if not np.isfinite(mono).all():
            at = start + int(np.argmin(np.isfinite(mono)))
            raise UserError(f"audio: sample {at} is not finite; mend or leave out the recording")
        yield mono


def _resampled(samples: int, rate: float, target: int) -> int:
    """Length at the target rate; soxr rounds halves up."""
    return samples if rate == target else math.floor(samples * target / rate + 0.5)


def _resample(audio: np.ndarray, rate: float, target: int) -> np.ndarray:
    """[channels, samples] → f32 mono [samples'] at the target rate."""
    if rate == target:
        return np.concatenate(list(_mono(audio)))
    stream = soxr.ResampleStream(rate, target, num_channels=1, dtype="float32", quality="HQ")
    blocks = [stream.resample_chunk(block) for block in _mono(audio)]
    blocks.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(blocks)
