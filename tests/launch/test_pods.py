"""Runs on TPU pods: the script, with a gcloud that plays its part; and the shell of all scripts."""

import json
import os
import re
import shutil
import subprocess
import sys

import entry_point
import pytest

BASH = shutil.which("bash")
LAUNCH = entry_point.ROOT / "launch"
SCRIPTS = [LAUNCH / "tpu/pod.sh", LAUNCH / "slurm/train.sbatch", LAUNCH / "slurm/eval.sbatch",
           LAUNCH / "gke/xpk.sh"]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# A pod, played by a gcloud that notes what it is asked, answers from a script, and fails where that
# says so: the second call that holds "x" does if a line of `failing` is "2 x".

GCLOUD = """\
#!{python}
import json, pathlib, sys
here = pathlib.Path({here!r})
arguments = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
def next_of(name):
    path = here / name
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("\\n".join(lines[1:] or lines[-1:]))
    return lines[0] if lines else ""
asked = " ".join(arguments)
lines = (here / "calls").read_text().splitlines()
for failing in (here / "failing").read_text().splitlines():
    number, part = failing.split(maxsplit=1)
    if part in asked and sum(part in " ".join(json.loads(line)) for line in lines) == int(number):
        sys.exit("gcloud: no answer")
if "describe" in arguments:
    answer = next_of("states")
    print(answer)
    sys.exit(0 if answer else 1)
if "ssh" in arguments and "/DONE'" in arguments[-1]:
    print(next_of("progress"))
"""


@pytest.fixture
def pod(tmp_path):
    """Runs the script in a checkout of its own; returns what became of it, and the calls made."""
    checkout, here = tmp_path / "a checkout", tmp_path / "gcloud"
    (checkout / "launch/tpu").mkdir(parents=True)
    here.mkdir()
    shutil.copy(SCRIPTS[0], checkout / "launch/tpu/pod.sh")
    git = ["git", "-C", checkout, "-c", "user.name=x", "-c", "user.email=x@x"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    fake = here / "bin" / "gcloud"
    fake.parent.mkdir()
    fake.write_text(GCLOUD.format(python=sys.executable, here=str(here)))
    fake.chmod(0o755)
    known = {"POD": "a-pod", "ZONE": "us-west4-a", "NFS": "10.0.0.2:/share", "POLL": "0",
             "CONFIG": "configs/loev_tempo.py", "RUN": "loev"}  # fmt: skip

    def call(*arguments, states=(), progress=(), failing=(), **changed):
        (here / "states").write_text("\n".join(states))
        (here / "progress").write_text("\n".join(progress))
        (here / "failing").write_text("\n".join(failing))
        (here / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            [BASH, checkout / "launch/tpu/pod.sh", *arguments],
            env={"PATH": f"{fake.parent}:{os.environ['PATH']}", "HOME": "/"} | known | changed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        calls = here / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done, [json.loads(line) for line in lines]

    return call


def what(calls):
    """The calls in a word each, without those that only look."""
    words = []
    for arguments in calls:
        if arguments[2:4] == ["queued-resources", "create"]:
            words.append("create")
        elif arguments[2:4] == ["queued-resources", "delete"]:
            words.append("delete")
        elif "scp" in arguments:
            words.append("copy")
        elif "ssh" in arguments and "/DONE'" not in arguments[-1]:
            started = re.search(r"launch/(train|eval)\.py", arguments[-1])
            words.append(started[1] if started else "install")
    return words


def calls_of(arguments, calls):
    return [one for one in calls if all(each in one for each in arguments)]


def test_a_pod_is_asked_for_and_waited_for(pod):
    done, calls = pod("create", states=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    assert done.returncode == 0, done.stderr
    assert calls[0] == [
        *("compute", "tpus", "queued-resources", "create", "a-pod", "--node-id=a-pod"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"),
        "--zone=us-west4-a",
    ]
    for state in ("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"):
        assert f"a-pod: {state}" in done.stderr
    on_demand, calls = pod("create", states=["ACTIVE"], TIER="on-demand", PROJECT="p")
    assert on_demand.returncode == 0
    assert "--spot" not in calls[0]
    assert "--project=p" in calls[0]


def test_a_pod_that_never_comes_is_one_line(pod):
    done, _ = pod("create", states=["WAITING_FOR_RESOURCES", "FAILED"])
    assert done.returncode == 2
    assert "error: a-pod: FAILED: see launch/tpu/pod.sh status, then delete" in done.stderr


def test_preemption_leads_to_another_pod_and_the_same_run(pod):
    done, calls = pod(
        "keep",
        "--",
        "--config.seed=3",
        # Not there; then waited for, trained on, preempted, asked for again, trained on to its end.
        states=["", "PROVISIONING", "ACTIVE", "ACTIVE", "SUSPENDING", "SUSPENDED",
                "PROVISIONING", "ACTIVE", "ACTIVE"],
        progress=["none", "running", "none", "done"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = ["copy", "install", "train"]
    assert what(calls) == ["create", *one, "delete", "create", *one]
    first, second = (c[-1] for c in calls if what([c]) == ["train"])
    assert first == second
    for option in ("--workdir=/mnt/loev/runs/loev", "--distributed", "--config.seed=3"):
        assert option in first
    assert "was preempted: asking again" in done.stderr
    assert "loev is done" in done.stderr
    assert "still there, and costs: launch/tpu/pod.sh delete" in done.stderr


def test_a_run_that_fails_by_itself_is_not_tried_for_ever(pod):
    done, calls = pod("keep", states=["ACTIVE"], progress=["none", "failed"])
    assert done.returncode == 2
    assert "error: loev failed three times in a row: launch/tpu/pod.sh logs" in done.stderr
    assert what(calls).count("train") == 3
    assert "still there, and costs" in done.stderr


def test_a_host_that_dies_does_not_end_it(pod):
    """It fails the others; a start does not reach it for minutes; then it is there again."""
    done, calls = pod(
        "keep",
        states=["ACTIVE"],
        progress=["none", "running", *(4 * ["failed"]), "running", "done"],
        failing=["2 launch/train.py", "3 launch/train.py", "4 launch/train.py"],
    )
    assert done.returncode == 0, done.stderr
    assert what(calls) == 5 * ["copy", "install", "train"]
    assert done.stderr.count("a-pod does not answer, trying again") == 3
    assert "loev is done" in done.stderr


def test_a_cloud_that_does_not_answer_is_asked_again(pod):
    done, calls = pod(
        "keep",
        states=["", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "", "ACTIVE"],
        progress=["none", "done"],
        failing=["1 queued-resources delete", "2 queued-resources create",
                 "3 queued-resources create"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    start = ["copy", "install", "train"]
    assert what(calls) == ["create", *start, "delete", "delete", *(3 * ["create"])]
    assert done.stderr.count("a-pod cannot be asked for, trying again") == 3
    done, _ = pod("keep", states=[""], failing=["1 queued-resources create"])
    assert done.returncode == 2
    assert "error: a-pod cannot be asked for" in done.stderr


def test_the_eval_job_is_started_again_with_the_training(pod):
    states = ["ACTIVE", "SUSPENDED", "ACTIVE"]
    done, calls = pod("keep", states=states, progress=["none", "none", "done"], EVAL="yes")
    assert done.returncode == 0, done.stderr
    start = ["copy", "install", "train", "eval"]
    assert what(calls) == [*start, "delete", "create", *start]


def test_what_was_never_granted_is_not_asked_for_again(pod):
    done, calls = pod("keep", states=["", "FAILED"])
    assert done.returncode == 2
    assert what(calls) == ["create"]
    assert "a-pod was never there" in done.stderr


def test_delete_deletes_and_lists_what_is_left(pod):
    done, calls = pod("delete")
    assert done.returncode == 0
    assert calls[0][2:] == [
        *("queued-resources", "delete", "a-pod", "--force", "--quiet", "--zone=us-west4-a")
    ]
    assert calls_of(["queued-resources", "list"], calls)
    assert calls_of(["tpu-vm", "list"], calls)


def test_the_run_is_copied_back(pod, tmp_path):
    done, calls = pod("collect", COLLECT=str(tmp_path / "my runs"))
    assert done.returncode == 0
    assert calls[0][3:6] == ["scp", "--recurse", "a-pod:/mnt/loev/runs/loev"]
    assert calls[0][6] == f"{tmp_path / 'my runs'}/"


def test_a_dry_run_does_nothing(pod):
    done, calls = pod("keep", "--dry-run", "--", "--config.data.path=/a b")
    assert done.returncode == 0, done.stderr
    assert calls == []
    assert "gcloud compute tpus queued-resources create a-pod" in done.stdout
    assert "launch/train.py" in done.stdout


# The units of a worker are files; as systemd, it refuses to start one that there is. Its Python is
# old, and what it is not made to do it says.
WORKER = """
mountpoint() { [ -e mounted ]; }
python3() { return 1; }
make() {
  mkdir -p .venv/bin && echo 'echo python "$@"' > .venv/bin/python && chmod +x .venv/bin/python
}
systemctl() { [ "$*" = "show -p $3 --value loev-train" ] && cat "$3"; }
sudo() {
  case "$1" in
    systemctl) [ "$2" != stop ] || rm "$3" ;;
    mount) touch mounted; echo "$*" ;;
    apt-get) echo "$*" ;;
    systemd-run)
      shift
      for word in "$@"; do
        case "$word" in --unit=*) [ ! -e "${word#*=}" ] || return 1; touch "${word#*=}" ;; esac
      done
      printf '%s\\n' "$@" ;;
  esac
}
"""


@pytest.fixture
def worker(tmp_path):
    """Runs a line that was meant for a worker; returns what systemd-run was given."""
    (tmp_path / "home/loev_jax").mkdir(parents=True)

    def run(line):
        done = subprocess.run(
            ["bash", "-c", WORKER + line.removeprefix("--command=")],
            cwd=tmp_path / "home",
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    return run


def test_what_it_starts_is_a_shell_command_that_keeps_its_quotes(pod, worker):
    _, calls = pod("train", "--", "--config.data.path=/a b", "--config.seed=$HOME", MOUNT="/m n")
    (line,) = [one[-1] for one in calls]
    shown = worker(line)
    assert "--config.data.path=/a b" in shown
    assert "--config.seed=$HOME" in shown
    assert "--unit=loev-train" in shown
    # JAX writes programs on the first worker alone: all look for them in one place.
    assert "--setenv=JAX_COMPILATION_CACHE_DIR=/m n/programs" in shown


def test_what_is_left_of_a_run_makes_room_for_the_next(pod, worker):
    """The units of hosts that wait for a dead one."""
    (line,) = [one[-1] for one in pod("train")[1]]
    assert worker(line) == worker(line)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"SubState": "running", "Result": "success"}, "running"),
        ({"SubState": "failed", "Result": "exit-code"}, "failed"),
        # A unit that there is not, or one that SIGTERM ended.
        ({"SubState": "dead", "Result": "success"}, "none"),
        ({"SubState": "dead", "Result": "success", "runs/loev/DONE": "9"}, "done"),
        ({"SubState": "failed", "Result": "exit-code", "runs/loev/DONE": "9"}, "done"),
    ],
)
def test_what_a_run_is_at_is_told_by_its_unit(pod, worker, tmp_path, left, said):
    home = tmp_path / "home"
    _, calls = pod("keep", states=["ACTIVE"], progress=["done"], MOUNT=str(home))
    (line,) = [one[-1] for one in calls if "/DONE'" in one[-1]]
    for name, text in left.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    assert worker(line) == [said]


def test_a_worker_is_set_up_once_mounted(pod, worker, tmp_path):
    _, calls = pod("setup", MOUNT=str(tmp_path / "m n"))
    copied, installed = calls
    archive = next(word for word in copied if word.endswith("loev_jax.tar.gz"))
    shutil.copy(archive, tmp_path / "home")
    mount = f"mount -t nfs -o hard 10.0.0.2:/share {tmp_path / 'm n'}"
    done = worker(installed[-1])
    assert done[0:2] == ["apt-get -qq update", "apt-get -qq install -y nfs-common make"]
    assert mount in done
    assert "apt-get -qq install -y python3.11 python3.11-venv" in done
    assert done[-1].endswith("pip install --require-hashes --no-deps -r requirements-tpu.lock")
    assert (tmp_path / "home/loev_jax/launch/tpu/pod.sh").exists()
    again = worker(installed[-1])
    assert mount not in again
    assert again[-1] == done[-1]


@pytest.mark.parametrize(
    ("arguments", "changed", "message"),
    [
        (["launch"], {}, "launch: no such verb"),
        (["create"], {"POD": ""}, "POD is not set"),
        (["keep"], {"NFS": ""}, "NFS is not set"),
        (["train"], {"RUN": ""}, "RUN is not set"),
        (["create"], {"TIER": "free"}, "TIER=free: spot, on-demand or reserved"),
        (["keep"], {"EVAL": "1"}, "EVAL=1: yes or no"),
        (["create"], {"PATH": "/nowhere"}, "gcloud is not on PATH"),
    ],
)
def test_what_is_missing_is_one_line(pod, arguments, changed, message):
    done, calls = pod(*arguments, **changed)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert calls == []


def test_help_lists_every_verb(pod):
    done, _ = pod("help")
    script = SCRIPTS[0].read_text()
    verbs = script.split('case "$VERB" in')[1].split(")")[0].replace("|", " ").split()
    assert done.returncode == 0
    assert len(verbs) == 10
    assert all(f"\n  {verb} " in done.stdout for verb in verbs)
