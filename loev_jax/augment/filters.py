"""Spectral filters: their response, and how a zero-phase response is applied to a waveform.

The response is that of analogue Butterworth filters, so it does not depend on the sample rate and
one function serves both domains: the analysis domain multiplies a power spectrum by
`power_response`, the waveform domain multiplies a spectrum by its square root (zero phase).
"""

from __future__ import annotations

import functools
import math
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


def peak_response(
    frequencies_hz: jax.Array,
    gain_db: jax.Array,
    log2_frequency: jax.Array,
    bandwidth_octaves: jax.Array,
) -> jax.Array:
    """|H|² of analogue peaking equalisers, one per example.

    H(s) = (s² + s·A/Q + 1) / (s² + s/(A·Q) + 1) with A = 10^(gain/40), s = j·f/centre and
    1/Q = 2·sinh(ln(2)/2·bandwidth): R. Bristow-Johnson, "Cookbook formulae for audio equalizer
    biquad filter coefficients". A cut is the reciprocal of the boost. Gradients are finite.

    Args:
        frequencies_hz: [bins], or [..., bins] with one set per filter; 0 or more.
        gain_db: [...] at the centre; at 0 the response is exactly 1, whatever the rest.
        log2_frequency: [...] log2 of the centre in Hz.
        bandwidth_octaves: [...] between the frequencies that have half the gain in dB; 0 or more.

    Returns:
        [..., bins] f32, positive.
    """
    shape = jnp.broadcast_shapes(jnp.shape(frequencies_hz), (*jnp.shape(gain_db), 1))
    boosts = gain_db >= 0
    gain = jnp.power(10.0, jnp.where(boosts, gain_db, -gain_db) / 40.0)
    width = 2.0 * jnp.sinh(math.log(2.0) / 2.0 * bandwidth_octaves)
    excess = (width * width * (gain * gain - 1.0 / (gain * gain)))[..., None]
    damping = jnp.broadcast_to(((width / gain) ** 2)[..., None], shape)
    centre = jnp.broadcast_to(jnp.exp2(log2_frequency)[..., None], shape)
    square = (jnp.broadcast_to(frequencies_hz, shape) / centre) ** 2
    # As 1 plus what is beyond it, a gain of 0 is exact. The floor is that of a width of 0.
    beyond = jnp.broadcast_to(excess, shape) * square
    power = 1.0 + beyond / ((1.0 - square) ** 2 + damping * square + 1e-12)
    return jnp.where(jnp.broadcast_to(boosts[..., None], shape), power, 1.0 / power)


def equalizer_response(
    frequencies_hz: jax.Array,
    gains_db: jax.Array,
    log2_frequencies: jax.Array,
    bandwidths: jax.Array,
) -> jax.Array:
    """|H|² of parametric equalisers: peaks in a row, their responses multiplied.

    Args:
        frequencies_hz: [bins], or [..., bins] with one set per equaliser; 0 or more.
        gains_db: [..., peaks] as in `peak_response`; at 0 that peak is not there.
        log2_frequencies: [..., peaks] log2 of the centres in Hz.
        bandwidths: [..., peaks] in octaves.

    Returns:
        [..., bins] f32, positive.

    Raises:
        ValueError: the last three differ in shape, or have no peak.
    """
    shapes = [jnp.shape(value) for value in (gains_db, log2_frequencies, bandwidths)]
    if len(set(shapes)) != 1 or not shapes[0] or shapes[0][-1] < 1:
        raise ValueError(
            "gains_db, log2_frequencies and bandwidths must all be [..., peaks]; their shapes are "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    peaks = (
        peak_response(
            frequencies_hz, gains_db[..., at], log2_frequencies[..., at], bandwidths[..., at]
        )
        for at in range(shapes[0][-1])
    )
    return functools.reduce(jnp.multiply, peaks)


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
