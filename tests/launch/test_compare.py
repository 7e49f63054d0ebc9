"""launch/compare.py as its users run it."""

import entry_point
import numpy as np

from loev_jax.evaluate import figures, resamples


def test_two_evaluated_runs_are_compared_and_a_missing_one_is_named(tmp_path):
    for name, bar in (("ours", 0.9), ("theirs", 0.7)):
        directory = tmp_path / name / "eval_other"
        directory.mkdir(parents=True)
        (directory / "7.json").write_text("{}")
        hits = np.linspace(0, 1, 200) < bar
        figure = figures.mean(hits, np.arange(200))
        resamples.add(directory / "7_resamples.npz", {"encoder": {"tempo_acc1": figure}})
    command = ("launch/compare.py", f"--workdir={tmp_path / 'ours'}", f"--data={tmp_path}/other")
    done = entry_point.run(*command, f"--baseline={tmp_path / 'theirs'}")
    assert done.returncode == 0, done.stderr
    assert "| tempo_acc1 | encoder: .700 (" in done.stdout
    assert "+.200 (" in done.stdout
    failed = entry_point.run(*command, f"--baseline={tmp_path / 'none'}")
    assert failed.returncode == 2
    assert failed.stderr.strip().endswith(
        "holds no result; evaluate the run by launch/eval.py first"
    )
    assert "Traceback" not in failed.stderr
