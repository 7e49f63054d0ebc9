"""Fidelity: how like the truth is what each method makes of a source?

The measure is Pearson's correlation of log-mels over the frames and bands of a view of 3 s, so an
overall gain and nothing else is forgiven. All methods hear the same source, and the view lies two
seconds from its beginning and one from its end. The truth is what nobody had to estimate: a score
rendered at the other tempo and in the other key (`loev_jax.benchmark.truth`), or notes synthesised
in closed form (`loev_jax.benchmark.tones`).

A control tells how near anything can come: the piece rendered at tempo · rate / q in its own key
and sped up by q = 2^(semitones / 12) (`loev_jax.benchmark.tape`). Its stretch costs nothing and its
shift estimates nothing, so what it lacks of 1 is what a score in another key has of its own, and
attacks and vibrato that sped up by q.

Each piece is heard at every one of nine rates and nine shifts, paired at random, so that both are
covered evenly and independently. Intervals are of a bootstrap over pieces.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.benchmark import methods, plots, tape, tones, truth
from loev_jax.benchmark.peers import PEERS, VARIANTS
from loev_jax.data import processes
from loev_jax.data.progress import Progress

RATES = np.linspace(0.7, 1.3, 9)
SEMITONES = np.arange(-4.0, 5.0)
LAGS_MS = (-15, -10, -5, 0, 5, 10, 15)
"""Delays behind the truth at which a method is compared."""

VIEW = methods.View()
PIECES = {"scores": 64, "tones": 32}
SEED = 0
_VIEWS = 3  # of 3 s each, one after the other
_RESAMPLES = 10_000

Render = Callable[[float, float], np.ndarray]
"""(rate, semitones) → the truth; at (1, 0) it is the source."""


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Measures every method on scores and on tones and draws `fidelity.png`.

    Args:
        out: an existing directory, for the plot.
        quick: one piece and three conditions of each, to see that it works.

    Returns:
        `scores` and `tones`: by method, the mean `correlation`, its 95 % interval `low` to `high`,
        and the correlation `at_best_lag` with the constant delay `best_lag_ms` that suits the
        method best; `scores_by_rate`, `scores_by_semitones` and the like: means by method;
        `analysis_minus_best_peer`, `waveform_minus_best_peer` and `tape_minus_best_peer` on scores,
        with intervals: the last is what a shift that estimates nothing would gain;
        `left_out`: peers that are not installed.
    """
    counts = dict.fromkeys(PIECES, 1) if quick else PIECES
    rates, semitones = (RATES[::4], SEMITONES[::4]) if quick else (RATES, SEMITONES)
    material: dict[str, list[Render]] = {
        "scores": [
            functools.partial(truth.render, piece) for piece in truth.pieces(counts["scores"], SEED)
        ],
        "tones": [
            functools.partial(tones.render, tones.draw(SEED, n)) for n in range(counts["tones"])
        ],
    }
    result: dict[str, Any] = {
        "pieces": counts,
        "conditions_of_a_piece": len(rates),
        "left_out": methods.missing(),
    }
    measured = {
        name: measure(name, renders, rates, semitones) for name, renders in material.items()
    }
    for name, one in measured.items():
        result[name] = one.summary()
    for ours in (methods.ANALYSIS, methods.WAVEFORM):
        result[f"{ours}_minus_best_peer"] = measured["scores"].advantage(ours)
    result["tape_minus_best_peer"] = measured["scores"].advantage(tape.NAME)
    for name, one in measured.items():
        result[f"{name}_by_rate"] = one.means_by("rates")
        result[f"{name}_by_semitones"] = one.means_by("semitones")
    plots.fidelity(result, out / "fidelity.png")
    return result


@dataclasses.dataclass(frozen=True)
class Measured:
    """Correlations with the truth.

    Attributes:
        names: of the methods.
        rates: [pieces, conditions].
        semitones: [pieces, conditions].
        correlations: [pieces, conditions, methods, lags].
    """

    names: tuple[str, ...]
    rates: np.ndarray
    semitones: np.ndarray
    correlations: np.ndarray

    @property
    def _prompt(self) -> np.ndarray:
        """Correlations without a delay, [pieces, conditions, methods]."""
        return self.correlations[..., LAGS_MS.index(0)]

    def summary(self) -> dict[str, dict[str, float]]:
        """The mean of each method, its interval, and what the best constant delay makes of it."""
        rows = {}
        for place, name in enumerate(self.names):
            by_lag = self.correlations[:, :, place].mean(axis=(0, 1))
            best = int(by_lag.argmax())
            rows[name] = _estimate(self._prompt[:, :, place].mean(axis=1), "correlation") | {
                "best_lag_ms": LAGS_MS[best],
                "at_best_lag": float(by_lag[best]),
            }
        return rows

    def advantage(self, ours: str) -> dict[str, Any]:
        """How much better `ours` is than the peer with the highest mean; empty without a peer."""
        peers = [name for name in self.names if name in {**PEERS, **VARIANTS}]
        if not peers:
            return {}
        means = dict(zip(self.names, self._prompt.mean(axis=1).T, strict=True))
        best = max(peers, key=lambda name: means[name].mean())
        return {"best_peer": best} | _estimate(means[ours] - means[best], "difference")

    def means_by(self, axis: str) -> dict[str, dict[str, float]]:
        """The mean of each method at each value of `rates` or `semitones`."""
        values = getattr(self, axis)
        return {
            name: {
                f"{value:g}": float(self._prompt[:, :, place][values == value].mean())
                for value in np.unique(values)
            }
            for place, name in enumerate(self.names)
        }


def measure(
    label: str,
    renders: Sequence[Render],
    rates: np.ndarray,
    semitones: np.ndarray,
    view: methods.View = VIEW,
) -> Measured:
    """Compares every method, and the tape, with the truth on every piece.

    Args:
        label: what the progress line says.
        renders: the pieces.
        rates: [K], each of which a piece takes once, paired at random with
        semitones: [K].
        view: what is compared.
    """
    available = methods.available(view)
    rows = []
    progress = Progress(f"fidelity, {label}", len(renders), "pieces")
    pairs = [np.random.default_rng([SEED, n]).permutation(semitones) for n in range(len(renders))]
    for number, (render, shifts) in enumerate(zip(renders, pairs, strict=True)):
        source = render(1.0, 0.0)[: view.source]
        with futures.ThreadPoolExecutor(processes.available_cpus()) as pool:
            targets = list(pool.map(render, map(float, rates), map(float, shifts)))
            tapes = list(
                pool.map(functools.partial(_taped, render), map(float, rates), map(float, shifts))
            )
        answers = [methods.log_mels(view.frontend, _cut(targets, view, lag)) for lag in LAGS_MS]
        mels = [method(source, rates, shifts) for method in available.values()]
        mels.append(methods.log_mels(view.frontend, _cut(tapes, view, 0)))
        rows.append(
            [
                [[correlation(mel[k], answer[k]) for answer in answers] for mel in mels]
                for k in range(len(rates))
            ]
        )
        progress.update(number + 1)
    progress.close()
    return Measured(
        (*available, tape.NAME),
        np.tile(rates, (len(renders), 1)),
        np.stack(pairs),
        np.asarray(rows),
    )


def _taped(render: Render, rate: float, semitones: float) -> np.ndarray:
    """What a tape makes of a piece: played at the tempo that speeding it up puts right."""
    slower = render(rate / tape.ratio(semitones), 0.0)
    return tape.sped_up(slower, semitones, VIEW.frontend.sample_rate)


def _cut(targets: Sequence[np.ndarray], view: methods.View, lag_ms: int) -> np.ndarray:
    """The truth [K, samples] that a method which lags behind by so much would have at the view."""
    start = view.start - round(lag_ms / 1000 * view.frontend.sample_rate)
    return np.stack([target[start : start + view.samples] for target in targets])


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Pearson's correlation of two log-mels [frames, bands], averaged over views of 3 s.

    Raises:
        ValueError: a view does not vary at all, so that its correlation is not defined.
    """
    frames = len(ours) // _VIEWS * _VIEWS
    first, second = (mel[:frames].reshape(_VIEWS, -1).astype(np.float64) for mel in (ours, theirs))
    first = first - first.mean(axis=1, keepdims=True)
    second = second - second.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    if not (norms > 0).all():
        raise ValueError("a view is constant (silent?), so its correlation is not defined")
    return float(((first * second).sum(axis=1) / norms).mean())


def _estimate(values: np.ndarray, name: str) -> dict[str, float]:
    """The mean of one value per piece, and its 95 % interval by a bootstrap over pieces."""
    drawn = np.random.default_rng(SEED).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return {name: float(values.mean()), "low": float(low), "high": float(high)}
