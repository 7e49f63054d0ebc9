"""What the benchmarks of training report; no figure is asserted."""

import time

import entry_point
import numpy as np
import pytest

from loev_jax.benchmark import embedding, encoders, loop, losses, peers, probes, scaling, step


def test_losses_are_timed_and_weighed_beside_what_is_installed(tmp_path):
    result = losses.run(tmp_path, quick=True)
    methods = set(losses.METHODS if peers.installed("torch") else (losses.OURS,))
    assert set(result["milliseconds"]) == set(result["peak_megabytes"]) == methods
    assert bool(result["left_out"]) == (len(methods) == 1)
    assert all(value > 0 for value in result["milliseconds"].values())


def test_a_loss_is_that_of_numpy():
    projections, parameters, clips = losses.drawn(32)
    assert losses.make(losses.OURS, 32)() == pytest.approx(by_hand(projections, parameters, clips))


def by_hand(projections, parameters, clips):
    total = []
    for name in losses.NAMES:
        z = projections[name].astype(np.float64)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        similar = np.exp(z @ z.T / losses.SPEC.temperature)
        np.fill_diagonal(similar, 0)
        rows = []
        for row in range(len(clips)):
            positive = (clips == clips[row]) & (np.arange(len(clips)) != row)
            for one in losses.HEADS.get(name, ()):
                apart = np.abs(parameters[one] - parameters[one][row])
                positive &= apart <= getattr(losses.SPEC.tolerance, one)
            if positive.any():
                rows.append(-np.log(similar[row, positive] / similar[row].sum()).mean())
        total.append(np.mean(rows))
    return float(np.mean(total))


@pytest.mark.slow
def test_the_parts_of_a_step_are_timed(tmp_path):
    result = step.run(tmp_path, quick=True)
    parts = {step.VIEWS, step.MODEL_FORWARD, step.MODEL, step.LOSSES_FORWARD, step.LOSSES,
             step.OPTIMISER, step.STEP, step.IN_PARTS}  # fmt: skip
    assert set(result["milliseconds"]) == set(result["share"]) == parts
    assert result["share"][step.STEP] == 1
    assert result["working_megabytes"].keys() == {step.STEP, step.IN_PARTS}
    assert min(result["working_megabytes"].values()) > 0
    assert result["steps_per_second"] == pytest.approx(1000 / result["milliseconds"][step.STEP])


def test_probes_are_timed_beside_scikit_learn(tmp_path):
    result = probes.run(tmp_path, quick=True)
    methods = {probes.OURS, probes.PEER, probes.ALONE, probes.EACH}
    assert set(result["mlp"]) == methods
    assert set(result["linear"]) == methods | {f"{probes.EACH}, our tolerance"}
    for name in ("linear", "mlp"):
        for method in result[name].values():
            assert method["times_ours"] == pytest.approx(
                method["seconds"] / result[name][probes.OURS]["seconds"]
            )
            assert 0 <= method["accuracy"] <= 1
    # Whatever the threads, it is one search.
    assert result["linear"][probes.PEER]["accuracy"] == result["linear"][probes.EACH]["accuracy"]


def test_embedding_is_timed_by_the_audio_it_embeds(tmp_path, monkeypatch):
    embedded = []

    class Model:
        def embed(self, audio, *, sample_rate):
            embedded.append(len(audio) / sample_rate)
            time.sleep(0.05)

    monkeypatch.setattr(embedding, "_exported", lambda place: Model())
    result = embedding.run(tmp_path, quick=True)
    assert embedded == 4 * [result["seconds"]]  # each rate once to compile, and once that counts
    assert set(result["times_real_time"]) == {"16000", "44100"}
    for times in result["times_real_time"].values():
        assert 0.1 * result["seconds"] / 0.05 < times <= result["seconds"] / 0.05


@pytest.mark.slow
def test_an_exported_model_embeds(tmp_path):
    result = embedding.run(tmp_path, quick=True)
    assert min(result["times_real_time"].values()) > 0


@pytest.mark.slow
def test_encoders_are_timed_beside_what_is_installed(tmp_path):
    result = encoders.run(tmp_path, quick=True)
    assert {f"{encoders.OURS}, {encoders.FORWARD}", f"{encoders.OURS}, {encoders.BOTH}"} <= set(
        result["milliseconds"]
    )
    assert (encoders.PEER in result["left_out"]) != (encoders.PEER in result["peak_megabytes"])


def test_the_time_in_which_the_loop_was_stopped_is_not_its_own():
    # A second a step, a line every five; stopped for 10 s at 17 s, and for 10 s at 42 s.
    lines = [(5, 5), (10, 10), (15, 15), (30, 20), (35, 25), (40, 30)]
    taken = [loop.Turn(17, 30.0, 1.0, 2.0), loop.Turn(42, 63.0, 1.0, 2.0)]
    assert loop._seconds(lines, taken) == [1, 1]
    assert loop._work(lines, taken) == pytest.approx(33 / 15)


def test_the_interval_of_a_median_holds_it_19_times_of_20():
    days = np.random.default_rng(0).normal(1.04, 0.02, (300, 30))
    held = [low < 1.04 < high for low, high in map(loop._interval, days)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
def test_the_loop_is_timed_beside_bare_steps(tmp_path, monkeypatch):
    # As the bare step here is compiled, but for one device: two clips are not for eight.
    monkeypatch.setenv("XLA_FLAGS", entry_point.environment()["XLA_FLAGS"])
    result = loop.run(tmp_path, quick=True)
    times, work = result["step_milliseconds"], result["step_processor_milliseconds"]
    assert set(times) == set(work) == {"bare", "in the loop"}
    assert min(*work.values(), *result["start_seconds"].values()) > 0
    for quartiles in times.values():
        assert 0 < quartiles["lower"] <= quartiles["median"] <= quartiles["upper"]
    # Two turns: the median of their ratios lies between these, and a resample may be one alone.
    assert result["loop_over_bare_low"] < result["loop_over_bare"] < result["loop_over_bare_high"]
    assert result["work_over_bare"] == pytest.approx(work["in the loop"] / work["bare"])
    # It is the step that is timed, not the time between lines that are written at once.
    assert result["loop_over_bare"] > 0.5
    assert 0.5 < result["work_over_bare"] < 10
    saved = result["save_milliseconds"] / (result["checkpoint_every"] * times["bare"]["median"])
    assert result["save_share"] == pytest.approx(saved)


@pytest.mark.tpu
def test_cycles_are_counted_for_more_and_more_chips(tmp_path):
    result = scaling.run(tmp_path, quick=True)
    few, many = (
        result["chip"][f"small, {name}"]["million cycles"] for name in scaling.QUICK_TOPOLOGIES
    )
    assert result["estimated_efficiency"] == {"small": pytest.approx(few / many)}
    assert 0.1 < result["estimated_efficiency"]["small"] < 10
