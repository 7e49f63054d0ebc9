"""Spectral filters: their response, and how a zero-phase response is applied to a waveform.

The response is that of analogue Butterworth filters, so it does not depend on the sample rate and
one function serves both domains: the analysis domain multiplies a power spectrum by
`power_response`, the waveform domain multiplies a spectrum by its square root (zero phase).
"""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp

NONE, LOW_PASS, HIGH_PASS, BAND_PASS, BAND_STOP = range(5)

# Second order, 12 dB an octave for low- and high-pass: the slope of a mixing desk's filters.
ORDER = 2


def power_response(
    frequencies_hz: jax.Array,
    kind: jax.Array,
    log2_frequency: jax.Array,
    bandwidth: jax.Array,
    order: int = ORDER,
) -> jax.Array:
    """|H|² of analogue Butterworth filters, one per example.

    Low- and high-pass of order n are 1 / (1 + (f/fc)^±2n). Band filters are their usual transforms
    (of order 2n, as `scipy.signal.butter` counts): band edges at centre·(1 ± bandwidth/2) have half
    the power. Without branches, and its gradients are finite, at 0 Hz too.

    Args:
        frequencies_hz: [bins], or [..., bins] with one set per filter; 0 or more.
        kind: [...] one of NONE, LOW_PASS, HIGH_PASS, BAND_PASS, BAND_STOP, integers or floats.
        log2_frequency: [...] log2 of the cut-off or of the centre in Hz; ignored by NONE.
        bandwidth: [...] between the band's edges, as a fraction of the centre, in (0, 2); ignored
            by NONE, LOW_PASS and HIGH_PASS.
        order: n, of the low-pass prototype (static).

    Returns:
        [..., bins] f32 in 0..1; unity for NONE.
    """
    shape = jnp.broadcast_shapes(jnp.shape(frequencies_hz), (*jnp.shape(kind), 1))
    kind = jnp.broadcast_to(jnp.round(kind)[..., None], shape)
    centre = jnp.broadcast_to(jnp.exp2(log2_frequency)[..., None], shape)
    width = jnp.broadcast_to(bandwidth[..., None], shape)
    x = jnp.broadcast_to(frequencies_hz, shape) / centre
    # |H|² = passⁿ / (passⁿ + stopⁿ): no quotient has a zero below it, at 0 Hz either.
    one, square, in_band = jnp.ones_like(x), x * x, (x * width) ** 2
    off_band = (square - (1.0 - 0.25 * width * width)) ** 2
    kinds = [kind == number for number in (LOW_PASS, HIGH_PASS, BAND_PASS, BAND_STOP)]
    passed = jnp.select(kinds, [one, square, in_band, off_band], one)
    stopped = jnp.select(kinds, [square, one, off_band, in_band], jnp.zeros_like(x))
    total = passed + stopped + jnp.finfo(jnp.float32).tiny
    passed, stopped = (passed / total) ** order, (stopped / total) ** order
    return passed / (passed + stopped)


def zero_phase(
    audio: jax.Array, response: jax.Array, reach: int, upsampling: Fraction = Fraction(1)
) -> jax.Array:
    """Filters audio with a real, symmetric response, in blocks by FFT (overlap-add).

    Short FFTs compile fast on every platform, and a block's spectrum fits a cache. The convolution
    is exact for impulse responses within ±`reach` samples; what lies beyond wraps around.

    Args:
        audio: [batch, samples] f32, zero outside.
        response: [batch, bins] amplitude at the bins of an FFT of length 2·(bins - 1).
        reach: samples that the impulse response extends to either side (static).
        upsampling: ratio u ≥ 1 of the output's sample rate to the input's (static); `reach` and
            the FFT's length times u must be whole.

    Returns:
        [batch, samples·u] f32: sample n is the filtered signal at time n/u.

    Raises:
        ValueError: the FFT is too short for `reach`, or u does not fit the lengths.
    """
    length = 2 * (response.shape[-1] - 1)
    hop = length - 2 * reach
    if hop < 2 * reach:
        raise ValueError(f"an FFT of {length} samples is too short for a reach of {reach}")
    if upsampling < 1 or (length * upsampling).denominator * (reach * upsampling).denominator > 1:
        raise ValueError(f"upsampling={upsampling} must be >= 1 and fit {length} and {reach}")
    batch, samples = audio.shape
    blocks = -(-samples // hop)
    padded = jnp.pad(audio, ((0, 0), (0, blocks * hop - samples))).reshape(batch, blocks, hop)
    spectrum = jnp.fft.rfft(jnp.pad(padded, ((0, 0), (0, 0), (reach, reach))))
    response = (response * float(upsampling)).at[:, -1].multiply(1.0 if upsampling == 1 else 0.5)
    wide, advance = int(length * upsampling), int(hop * upsampling)
    filtered = jnp.fft.irfft(spectrum * response[:, None, :], wide)
    body = jnp.pad(filtered[:, :, :advance], ((0, 0), (0, 1), (0, 0)))
    tail = jnp.pad(filtered[:, :, advance:], ((0, 0), (1, 0), (0, 2 * advance - wide)))
    start = int(reach * upsampling)
    return (body + tail).reshape(batch, -1)[:, start : start + int(samples * upsampling)]
