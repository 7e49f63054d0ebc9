"""`launch/reproduce.py` as a user runs it."""

import json

import entry_point
import pytest
import tiny_music


def run(*arguments):
    return entry_point.run("launch/reproduce.py", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=simclr,byol"], "--only: unknown recipe 'byol': choose from simclr, "),
        (["--data=/nowhere"], "/nowhere"),
        (["--report"], "no finished run in results.json; leave --report out"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, arguments, message):
    done = run(f"--out={tmp_path / 'out'}", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_comparison_of_a_step(tmp_path):
    # As long as a training window of the small recipe.
    lengths = {
        f"{split}{n}": 10.5 for split, count in tiny_music.CLIPS.items() for n in range(count)
    }
    data, out = tiny_music.write(tmp_path / "data", lengths=lengths), tmp_path / "out"
    fresh = tiny_music.write(tmp_path / "fresh", lengths=lengths)
    paths = (f"--out={out}", f"--data={data}", f"--eval_data={fresh}")
    arguments = (*paths, "--only=simclr", "--steps=1", "--quick")
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs are done." in done.stdout
    results = json.loads((out / "results.json").read_text())
    (found,) = results["runs"].values()
    assert found["spaces"]["encoder"].keys() >= {"tempo_r2", "time_stretch_r2"}
    assert "text_to_audio_mrr" not in found["spaces"]["encoder"]  # too dear for a quick one
    evaluation = json.loads((out / "simclr-0" / "eval_fresh" / "1.json").read_text())
    assert (evaluation["settings"]["segments"], evaluation["settings"]["clips"]) == (2, 800)
    assert (out / "simclr-0" / "eval_fresh" / "1_resamples.npz").exists()
    assert evaluation["data"] == str(fresh)
    again = run(f"--out={out}", "--report")
    assert again.stdout == done.stdout
