"""Any audio file → 16 kHz mono, block by block, so that its length never matters."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
"""Samples per second of every record and of every model, in Hz."""

EXTENSIONS = (
    *(".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3"),
    *(".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav"),
)
"""Names that libsndfile can read, in lower case."""

FOREIGN_EXTENSIONS = (
    ".aac",
    ".ape",
    ".m4a",
    ".m4b",
    ".mka",
    ".mp4",
    ".mpc",
    ".webm",
    ".wma",
    ".wv",
)
"""Names of audio that libsndfile cannot read: reported as skipped rather than passed over."""

_BLOCK_SECONDS = 8.0
_SPOOL_BYTES = 64 << 20  # 35 minutes of int16 at 16 kHz stay in memory, more goes to disk


class AudioError(Exception):
    """A file that cannot be used; its message is the reason, without the file's name."""


def blocks(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
    """Decodes a file, mixes its channels to one and resamples it.

    The resampler runs on as the file is read, so the blocks' concatenation equals the whole file
    resampled at once, at the memory of a few seconds.

    Args:
      path: an audio file of any rate and channel count.
      sample_rate: samples per second of the result, in Hz.

    Yields:
      float32 [T], nominally in [-1, 1]; T differs from block to block.

    Raises:
      AudioError: the file is empty, unreadable, or holds samples that are not finite.
    """
    if _size(path) == 0:
        raise AudioError("empty file")
    try:
        with _Stream(path) as file:
            frames = max(1, round(_BLOCK_SECONDS * file.samplerate))
            resampler = _resampler(file.samplerate, sample_rate)
            # Not SoundFile.blocks: of an mp3 cut short, that repeats the last block until there are
            # as many frames as the header says.
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                mono = block.mean(axis=1, dtype=np.float32)
                if not np.isfinite(mono).all():
                    raise AudioError("non-finite samples")
                yield mono if resampler is None else resampler.resample_chunk(mono)
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"unreadable ({_reason(error)})") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioError(f"unreadable ({' '.join(str(error).split())})") from error


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Quantises floats in [-1, 1) to int16: full scale is 32768, halves go to even, rest clips.

    This is the inverse of libsndfile's scaling, so 16-bit PCM at 16 kHz comes back bit for bit.
    """
    return np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)


def segments(
    path: str | os.PathLike[str],
    *,
    clip_samples: int,
    min_samples: int,
    spool_dir: str | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts a file into consecutive clips. A file that fails part-way yields nothing.

    Args:
      path: an audio file of any rate, channel count and length.
      clip_samples: length of a clip, in samples at 16 kHz.
      min_samples: the last clip is kept if it has at least as many samples.
      spool_dir: where decoded audio beyond 64 MB is kept meanwhile; the system's default if None.

    Yields:
      (start, clip): the clip's first sample at 16 kHz, and int16 [T] with min_samples ≤ T ≤
      clip_samples. Clips of digital silence are left out.

    Raises:
      AudioError: as `blocks`, or the file is shorter than min_samples, or silent throughout.
    """
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=spool_dir) as spool:
        total, loud = 0, False
        for block in blocks(path):
            pcm = to_int16(block)
            total += len(pcm)
            loud = loud or bool(pcm.any())
            spool.write(pcm.tobytes())
        if total == 0:
            raise AudioError("no samples")
        if total < min_samples:
            seconds, least = total / SAMPLE_RATE, min_samples / SAMPLE_RATE
            raise AudioError(f"too short ({seconds:.2f} s, min_seconds is {least:g})")
        if not loud:
            raise AudioError("silent")
        spool.seek(0)
        yielded = False
        for start in range(0, total - min_samples + 1, clip_samples):
            clip = np.frombuffer(spool.read(2 * clip_samples), np.int16)
            if clip.any():
                yielded = True
                yield start, clip
        if not yielded:
            raise AudioError("silent but for an end shorter than min_seconds")


class _Stream(soundfile.SoundFile):
    """A file that is only read onwards.

    After each read soundfile seeks to where it already is, unless the file is not seekable. That
    resets the mp3 decoder: up to 60 ms after each block would be noise.
    """

    def seekable(self) -> bool:
        return False


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise AudioError(f"unreadable ({error.strerror})") from error


def _reason(error: soundfile.LibsndfileError) -> str:
    text = error.error_string.removeprefix("Error : ").rstrip(".")
    # libsndfile says so of a file that is there, but is not the mp3 that its name promises.
    return "Format not recognised" if text.startswith("File does not exist") else text


def _resampler(rate: int, sample_rate: int) -> soxr.ResampleStream | None:
    if rate == sample_rate:
        return None
    return soxr.ResampleStream(rate, sample_rate, num_channels=1, dtype="float32", quality="HQ")
