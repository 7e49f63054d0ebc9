"""Pictures of what augmentations do to a log-mel: before, after, and the truth."""

from __future__ import annotations

import io
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax import augment, frontend
from loev_jax.augment.transform import Transform
from loev_jax.benchmark import truth

SPEC = frontend.LogMel(fmax=6_300.0)
SECONDS = 3.0
RATE, SEMITONES = 1.25, 4.0
_KEY = jax.random.key(2)

# One of each kind, strong enough to be seen.
_GALLERY: tuple[tuple[str, Transform], ...] = (
    ("gain -12 dB", augment.Gain(-12.0, -12.0)),
    ("filter: band-pass", augment.Filter(1.0, band=(900.0, 900.0), kinds=(3,))),
    ("equalizer", augment.Equalizer(gain=augment.Range(-12.0, 12.0))),
    ("reverse", augment.Reverse(1.0)),
    ("mix, weight .5", augment.Mix(0.5, 0.5)),
    ("clipping 20 dB", augment.Clipping(20.0, 20.0)),
    ("bit_crush, 5 bits", augment.BitCrush(5.0, 5.0)),
    ("delay", augment.Delay(level=augment.Range(0.6, 0.6), time=augment.Range(0.3, 0.3))),
    ("reverb", augment.Reverb(wet=augment.Range(0.5, 0.5), decay=augment.Range(1.0, 1.0))),
    (
        "noise, pink, 10 dB",
        augment.Noise(snr=augment.Range(10.0, 10.0), decay=augment.Range(1.0, 1.0)),
    ),
    ("mixup, weight .5", augment.Mixup(0.5, 0.5)),
    ("time_mask", augment.TimeMask(width=augment.Range(0.2, 0.2))),
    ("frequency_mask", augment.FrequencyMask(width=augment.Range(0.2, 0.2))),
)


def run(out: pathlib.Path, quick: bool) -> dict[str, Any]:
    """Draws `augmentations.png` (every transform) and `domains.png` (both domains and the truth).

    Args:
        out: directory of the pictures.
        quick: leaves the gallery at its first three.

    Returns:
        The correlation of each domain's log-mel with the truth's, as the titles say it.
    """
    frames = SPEC.frames(round(SECONDS * SPEC.sample_rate))
    pieces = truth.pieces(2, seed=0)
    audio = np.stack([truth.render(piece) for piece in pieces])
    moved = truth.render(pieces[0], RATE, SEMITONES)
    found = _domains(out / "domains.png", audio[:1], moved, frames)
    _gallery(out / "augmentations.png", jnp.asarray(audio), _GALLERY[: 3 if quick else None])
    return found


def _domains(
    path: pathlib.Path, audio: np.ndarray, moved: np.ndarray, frames: int
) -> dict[str, float]:
    given = {
        "time_stretch": jnp.full(1, math.log2(RATE)),
        "pitch_shift": jnp.full(1, SEMITONES),
    }
    plain = SPEC.samples(frames)
    mels = {"before": frontend.log_mel(SPEC, jnp.asarray(audio[:, :plain]))[0]}
    exact = frontend.log_mel(SPEC, jnp.asarray(moved[None, :plain]))[0]
    found = {}
    for domain in ("analysis", "waveform"):
        chain = augment.log_mel_chain(
            augment.StretchShift(), frames=frames, frontend=SPEC, domain=domain
        )
        mel = chain.apply(jnp.asarray(audio), given)[0]
        found[domain] = float(np.corrcoef(np.ravel(mel), np.ravel(exact))[0, 1])
        mels[f"{domain} domain, correlation {found[domain]:.3f}"] = mel
    mels["truth: the score played so"] = exact
    _save(path, mels, columns=2, title=f"rate {RATE}, {SEMITONES:+g} semitones")
    return found


def _gallery(
    path: pathlib.Path, audio: jax.Array, transforms: tuple[tuple[str, Transform], ...]
) -> None:
    frames = SPEC.frames(round(SECONDS * SPEC.sample_rate))
    none = augment.log_mel_chain(frames=frames, frontend=SPEC)
    longest = max(transform.history() for _, transform in transforms)
    mels = {"before": none.apply(audio[:, longest:], {})[0]}
    for name, transform in transforms:
        chain = augment.log_mel_chain(transform, frames=frames, frontend=SPEC)
        # All begin at the same instant, however much of the past each one needs.
        mels[name] = chain(_KEY, audio[:, longest - transform.history() :])[0][0]
    _save(path, mels, columns=2 if len(mels) < 5 else 3, title="")


def _save(path: pathlib.Path, mels: dict[str, jax.Array], columns: int, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    rows = math.ceil(len(mels) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 1.9 * rows + 0.4), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    if title:
        figure.suptitle(title)
    seconds = next(iter(mels.values())).shape[0] * SPEC.hop / SPEC.sample_rate
    for axis in axes.flat[len(mels) :]:
        axis.axis("off")
    for axis, (name, mel) in zip(axes.flat, mels.items(), strict=False):
        axis.imshow(
            np.asarray(mel).T, origin="lower", aspect="auto", extent=(0, seconds, 0, SPEC.bands),
            vmin=0, vmax=7, cmap="magma",
        )  # fmt: skip
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("s", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("mel band", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    pyplot.close(figure)
    # Noise does not compress: 64 colours are a third of the bytes and look alike.
    Image.open(buffer).convert("RGB").quantize(64).save(path, optimize=True)
