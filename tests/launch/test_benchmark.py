"""`launch/benchmark.py` as a user runs it."""

import json

import entry_point


def run(*arguments):
    return entry_point.run("launch/benchmark.py", *arguments)


def test_one_benchmark(tmp_path):
    out = tmp_path / "results"
    done = run("--quick", "--only=fidelity", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "## fidelity" in done.stdout
    assert "| analysis " in done.stdout
    (name,) = results = json.loads((out / "benchmarks.json").read_text())
    assert name == "fidelity"
    assert results[name]["quick"] is True
    for material in ("scores", "tones"):
        rows = results[name][material]
        assert rows["analysis"]["correlation"] > rows["no change"]["correlation"]
        assert rows["waveform"]["correlation"] > rows["no change"]["correlation"]
    assert results[name]["analysis_minus_best_peer"]["best_peer"]
    assert (out / "fidelity.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_name_is_one_line(tmp_path):
    done = run("--only=fidelity,none", f"--out={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: --only=none: no such benchmark; "
        "there are fidelity, speed, shortcut, pictures, losses, encoders, step, loop, "
        "embedding, probes, scaling, cycles"
    ]


def test_results_that_cannot_be_added_to_are_one_line(tmp_path):
    (tmp_path / "benchmarks.json").write_text("not JSON")
    done = run("--only=fidelity", f"--out={tmp_path}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "remove it" in line
