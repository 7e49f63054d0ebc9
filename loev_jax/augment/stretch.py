"""Time stretch: a phase vocoder whose phases are rotated, not measured.

Output frames lie one hop apart; frame j is the source's frame at j·hop·rate, turned so that each
partial goes on where the frame before left it. How far a partial turns in one hop is read from the
source itself, as the ratio of two spectra that lie exactly one hop apart (Puckette, "Phase-locked
vocoder", 1995), so no phase is ever unwrapped, and a scan over frames accumulates unit phasors
instead of angles. Around a partial all bins turn alike (identity phase locking, Laroche and Dolson,
"Improved phase vocoder time-scale modification of audio", 1999): each bin takes the sum of the
rotations about it, weighted by power, in which the peak prevails; peaks need not be searched. Where
power rises as at an attack the source's own phase is taken, so that attacks stay sharp and in time
(after Röbel, "A new approach to transient processing in the phase vocoder", 2003). At rate 1 every
rotation is 1 and the output is the input.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

OVERLAP = 4  # frames over each sample; Hann windows squared sum to 1.5 there
LOCKED_BINS = 1  # bins to either side that vote on a rotation
ONSET = 4.0  # rise of power in one hop that makes a bin's sound a new one
# Power below which a bin keeps its rotation: silence. Far below one step of 16-bit audio.
SILENCE = 1e-12


def frame_samples(sample_rate: int) -> int:
    """Length of the vocoder's frames: the power of two nearest to 64 ms."""
    return 2 ** round(math.log2(0.064 * sample_rate))


def head_samples(frame: int, lead: int, max_rate: float) -> int:
    """Samples before the source's start that frames about output sample -`lead` reach."""
    return math.ceil((lead + frame // 2) * max_rate) + frame


def tail_samples(frame: int, max_rate: float) -> int:
    """Samples past the last output's time that frames about it reach."""
    return math.ceil((frame // 2 + 1) * max_rate) + frame // 2 + 2


def _rotations(before: jax.Array, after: jax.Array) -> jax.Array:
    """Unit phasors that turn each frame of `after`.

    Args:
        before: [batch, frames, bins] spectra one hop before those of `after`.
        after: [batch, frames, bins] spectra of the source at each frame's time.

    Returns:
        [batch, frames, bins] complex; the first frame is not turned.
    """
    change = after[:, :-1] * jnp.conj(before[:, 1:])
    fresh = _votes(_power(after[:, 1:])) > ONSET * _votes(_power(before[:, 1:]))

    def advance(
        turned: tuple[jax.Array, jax.Array], news: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        real, imaginary = turned
        change, fresh = news
        a, b = jnp.real(change), jnp.imag(change)
        # Without a voice of its own a bin in silence would lose its phasor for good.
        x = _votes(real * a - imaginary * b) + SILENCE * real
        y = _votes(real * b + imaginary * a) + SILENCE * imaginary
        scale = jax.lax.rsqrt(jnp.maximum(x * x + y * y, SILENCE**2 / 4))
        turned = (jnp.where(fresh, 1.0, x * scale), jnp.where(fresh, 0.0, y * scale))
        return turned, turned

    one = jnp.ones_like(jnp.real(after[:, 0]))
    start = (one, jnp.zeros_like(one))
    news = (jnp.moveaxis(change, 1, 0), jnp.moveaxis(fresh, 1, 0))
    _, (real, imaginary) = jax.lax.scan(advance, start, news)
    turned = jnp.moveaxis(jax.lax.complex(real, imaginary), 0, 1)
    return jnp.concatenate([jnp.ones_like(turned[:, :1]), turned], axis=1)


def _power(spectrum: jax.Array) -> jax.Array:
    return jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2


def _votes(values: jax.Array) -> jax.Array:
    """Sum over each bin of [..., bins] and its `LOCKED_BINS` neighbours to either side."""
    bins = values.shape[-1]
    around = [(0, 0)] * (values.ndim - 1) + [(LOCKED_BINS, LOCKED_BINS)]
    padded = jnp.pad(values, around)
    total = values
    for shift in range(2 * LOCKED_BINS + 1):
        if shift != LOCKED_BINS:
            total = total + padded[..., shift : shift + bins]
    return total


def vocoder(
    audio: jax.Array, rate: jax.Array, samples: int, *, frame: int, lead: int, max_rate: float
) -> jax.Array:
    """Plays audio `rate` times faster at its own pitch.

    The source is mirrored before its start, where the first half frame reaches; nothing is mirrored
    or padded at its end. `loev_jax.augment.waveform` sees to it that the source is long enough.

    Args:
        audio: [batch, source] f32.
        rate: [batch] in (0, max_rate].
        samples: length of the output (static).
        frame: length of the frames, a multiple of `OVERLAP` (static).
        lead: outputs wanted before the source's start (static).
        max_rate: greatest rate (static).

    Returns:
        [batch, lead + samples] f32; output `lead + n` is the source at n·rate.
    """
    batch, hop = audio.shape[0], frame // OVERLAP
    first = hop - frame // 2 - lead
    frames = (samples - 1 + frame // 2 - first) // hop + 1
    head = head_samples(frame, lead, max_rate)
    padded = jnp.pad(audio, ((0, 0), (head, 0)), mode="reflect")

    centres = jnp.arange(first, first + frames * hop, hop, dtype=jnp.int32)
    times = jnp.round(centres.astype(jnp.float32)[None, :] * rate[:, None]).astype(jnp.int32)
    starts = times + (head - frame // 2 - hop)
    # A frame and the one a hop before it lie in one slice.
    cut = jax.vmap(
        lambda row, at: jax.vmap(lambda a: jax.lax.dynamic_slice(row, (a,), (frame + hop,)))(at)
    )(padded, starts)  # [batch, frames, frame + hop]
    window = np.hanning(frame + 1)[None, None, :-1].astype(np.float32)
    before = jnp.fft.rfft(cut[:, :, :frame] * window)
    after = jnp.fft.rfft(cut[:, :, hop:] * window)
    turned = jnp.fft.irfft(after * _rotations(before, after), frame)
    turned = turned * (window * (2.0 / 3.0))

    # Overlap-add: quarter q of frame j falls on hop j + q.
    quarters = turned.reshape(batch, frames, OVERLAP, hop)
    total = functools.reduce(
        jnp.add,
        (
            jnp.pad(quarters[:, :, q], ((0, 0), (q, OVERLAP - 1 - q), (0, 0)))
            for q in range(OVERLAP)
        ),
    )
    begin = -lead - (first - frame // 2)
    return total.reshape(batch, -1)[:, begin : begin + lead + samples]
