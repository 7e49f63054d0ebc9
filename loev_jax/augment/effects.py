"""Effects on the waveform: polarity, reverse, clipping, bit depth, mixing, echoes.

Every function is batched, with parameters per example that may be traced and shapes that are
static: it can be jitted and vmapped on any platform, and differentiated by the audio. A parameter
of 0 is "not applied" and gives the input back, bit for bit. Values that are out of range or not
finite raise outside jit; inside, where nothing can raise, they make their own example NaN.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from loev_jax.augment.resample import TOLERANCE, check, within

# f32 itself has 24 bits: beyond this a quantiser of audio within full scale does nothing.
MAX_BITS = 32.0


def polarity(audio: jax.Array, inverted: jax.Array) -> jax.Array:
    """Turns the sign of the examples whose `inverted` is 1.

    Args:
        audio: [batch, samples] f32.
        inverted: [batch] 0 or 1.

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or neither 0 nor 1.
    """
    check(audio, inverted=inverted)
    valid = within(_is_flag(inverted), "inverted must be 0 or 1 for each example")
    return jnp.where(valid[:, None], jnp.where(inverted[:, None] == 1, -audio, audio), jnp.nan)


def reverse(audio: jax.Array, reversed_: jax.Array) -> jax.Array:
    """Plays the examples whose `reversed_` is 1 backwards.

    Args:
        audio: [batch, samples] f32.
        reversed_: [batch] 0 or 1.

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or neither 0 nor 1.
    """
    check(audio, reversed_=reversed_)
    valid = within(_is_flag(reversed_), "reversed_ must be 0 or 1 for each example")
    output = jnp.where(reversed_[:, None] == 1, audio[:, ::-1], audio)
    return jnp.where(valid[:, None], output, jnp.nan)


def clip(audio: jax.Array, clipping_db: jax.Array) -> jax.Array:
    """Clipping distortion: cuts off what exceeds the example's peak lowered by `clipping_db`.

    The threshold is max|x|·10^(-clipping_db/20) of the view itself, so that a quiet example is
    distorted as much as a loud one, silence stays silence, and 0 dB touches nothing. The level is
    not made up for.

    Args:
        audio: [batch, samples] f32, of any level.
        clipping_db: [batch] in dB, 0 or more.

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or negative.
    """
    check(audio, clipping_db=clipping_db)
    valid = within(clipping_db >= 0, "clipping_db must be 0 or more for each example")
    peak = jnp.max(jnp.abs(audio), axis=1)
    threshold = (peak * jnp.power(10.0, -clipping_db / 20.0))[:, None]
    return jnp.where(valid[:, None], jnp.clip(audio, -threshold, threshold), jnp.nan)


def bit_crush(audio: jax.Array, bits: jax.Array) -> jax.Array:
    """Rounds audio to the levels of a signed integer of `bits` bits over full scale ±1.

    Levels are k / 2^(bits - 1) for whole k with -2^(bits - 1) <= k < 2^(bits - 1), as in two's
    complement: 2^bits levels where `bits` is whole, zero among them, so that silence stays silent.
    Beyond the last level audio saturates, as in a converter.

    The gradient by the audio is straight-through (Bengio et al. 2013, arXiv 1308.3432): that of the
    identity. That by `bits` is 0.

    Args:
        audio: [batch, samples] f32, full scale is 1.
        bits: [batch] real, 0 (not applied) or 1 to `MAX_BITS`.

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or out of range.
    """
    check(audio, bits=bits)
    valid = within(
        (bits == 0) | ((bits >= 1) & (bits <= MAX_BITS)),
        f"bits must be 0 (not applied) or 1 to {MAX_BITS:g} for each example",
    )
    # exp2 of a whole number need not be exact; a level too many or too few would be the result.
    whole = jnp.floor(bits)
    half = jnp.ldexp(jnp.exp2(bits - whole), whole.astype(jnp.int32) - 1)[:, None]
    level = jnp.clip(jnp.round(audio * half), -jnp.floor(half), jnp.ceil(half) - 1.0)
    crushed = jnp.where(bits[:, None] == 0, audio, level / half)
    # The difference is exactly 0 and its gradient 1.
    straight = jax.lax.stop_gradient(crushed) + (audio - jax.lax.stop_gradient(audio))
    return jnp.where(valid[:, None], straight, jnp.nan)


def mix(audio: jax.Array, other: jax.Array, weight: jax.Array) -> jax.Array:
    """(1 - weight)·audio + weight·other.

    Args:
        audio: [batch, samples] f32.
        other: [batch, samples] f32, for each example what is mixed in.
        weight: [batch] in 0..1; 0 is `audio`, 1 is `other`.

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or out of range.
    """
    check(audio, weight=weight)
    if jnp.shape(other) != jnp.shape(audio):
        raise ValueError(
            f"other must have the shape of audio, {jnp.shape(audio)}; its shape is "
            f"{jnp.shape(other)}"
        )
    within(jnp.isfinite(other), "other holds values that are not finite (NaN or infinity)")
    valid = within((weight >= 0) & (weight <= 1), "weight must lie in 0..1 for each example")
    share = weight[:, None]
    return jnp.where(valid[:, None], (1.0 - share) * audio + share * other, jnp.nan)


def delay_history(max_seconds: float, echoes: int, sample_rate: int) -> int:
    """Samples of source before the view that `delay` needs at any parameters within limits.

    Raises:
        ValueError: `max_seconds` is negative or `echoes` is below 1.
    """
    if max_seconds < 0 or echoes < 1:
        raise ValueError(f"{max_seconds=} must be 0 or more and {echoes=} at least 1")
    return math.ceil(max_seconds * echoes * sample_rate)


def delay(
    audio: jax.Array,
    seconds: jax.Array,
    level: jax.Array,
    feedback: jax.Array,
    samples: int,
    *,
    max_seconds: float,
    echoes: int,
    sample_rate: int,
) -> jax.Array:
    """Adds echoes: the k-th, of `echoes`, comes k·`seconds` late at level·feedback^(k - 1).

    Nothing is padded: echoes of what sounded before the view are heard in it. Delays are rounded to
    whole samples, so the gradient by `seconds` is 0.

    Args:
        audio: [batch, source] f32, at least `delay_history(...) + samples` long. The view begins
            after the history: output n is audio[history + n] and its echoes.
        seconds: [batch] from one echo to the next, in 0..`max_seconds`.
        level: [batch] amplitude of the first echo beside the dry sound, in 0..1; 0 is no echo.
        feedback: [batch] amplitude of each echo beside the one before, in 0..1.
        samples: length of the view (static).
        max_seconds: greatest `seconds` (static).
        echoes: how many echoes, at least 1 (static).
        sample_rate: in Hz (static).

    Returns:
        [batch, samples] f32.

    Raises:
        ValueError: a shape is wrong, the source is too short or, outside jit, a value is not finite
            or out of range.
    """
    _, source = check(audio, seconds=seconds, level=level, feedback=feedback)
    history = delay_history(max_seconds, echoes, sample_rate)
    if source < history + samples:
        raise ValueError(
            f"audio has {source} samples; a view of {samples} with {echoes=} at {max_seconds=} "
            f"needs {history + samples} (see delay_history)"
        )
    valid = within(
        (seconds >= 0) & (seconds <= max_seconds + TOLERANCE),
        f"seconds must lie in 0..{max_seconds=}: raise the limit",
    )
    for name, value in (("level", level), ("feedback", feedback)):
        valid &= within((value >= 0) & (value <= 1), f"{name} must lie in 0..1 for each example")

    cut = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (samples,)))
    total, amplitude = audio[:, history : history + samples], level
    for number in range(1, echoes + 1):
        late = jnp.minimum(jnp.round(seconds * (number * sample_rate)), history)
        total = total + amplitude[:, None] * cut(audio, history - late.astype(jnp.int32))
        amplitude = amplitude * feedback
    return jnp.where(valid[:, None], total, jnp.nan)


def _is_flag(value: jax.Array) -> jax.Array:
    return (value == 0) | (value == 1)
