"""`launch/export.py` as a user runs it."""

import json

import entry_point
import pytest
import tiny_run


def run(*arguments):
    return entry_point.run("launch/export.py", *arguments)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("launch") / "run"
    tiny_run.write(path, steps=(3,))
    return path


def test_exports_the_last_checkpoint_and_never_twice(workdir, tmp_path):
    out = tmp_path / "models" / "tiny"
    done = run(f"--workdir={workdir}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "step 3; spaces: encoder 40, invariant 6, pitch 6, tempo 6" in done.stdout
    assert {p.name for p in out.iterdir()} == {
        *("config.json", "model.safetensors", "spaces.stablehlo", "README.md")
    }
    assert [p.name for p in out.parent.iterdir()] == ["tiny"]
    assert json.loads((out / "config.json").read_text())["step"] == 3

    before = {p.name: p.read_bytes() for p in out.iterdir()}
    again = run(f"--workdir={workdir}", f"--out={out}")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere"], "nowhere"),
        (["--workdir={workdir}", "--step=7"], "step 7; checkpoints: 3"),
        (["--workdir={workdir}", "--step=last"], "step"),
        ([], "workdir"),
    ],
)
def test_bad_input_is_one_line_and_status_2(workdir, tmp_path, arguments, message):
    filled = [argument.format(workdir=workdir) for argument in arguments]
    done = run(*filled, f"--out={tmp_path / 'MODEL'}")
    assert done.returncode == 2
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
    assert message in line
    assert done.stderr.strip() == line
    assert not (tmp_path / "MODEL").exists()
