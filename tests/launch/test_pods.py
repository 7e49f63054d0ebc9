"""What starts runs on pods and clusters: scripts with fakes for gcloud and srun, manifests."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import textwrap
import tomllib

import entry_point
import jsonschema
import kubernetes_validate
import pytest
import yaml
from tiny_training import command

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


# The units of a worker are files; as systemd, it refuses to start one that there is.
WORKER = """
sudo() {
  case "$1" in
    systemctl) [ "$2" != stop ] || rm "$3" ;;
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


# SLURM, played by an srun that starts the tasks as it would.

SRUN = """\
#!{python}
import os, subprocess, sys
command = [one for one in sys.argv[1:] if not one.startswith("--kill-on-bad-exit")]
if {status}:
    sys.exit({status})
tasks = []
for number in range(2):
    slurm = {{"SLURM_JOB_ID": "{job}", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
             "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number),
             "SLURM_STEP_NUM_NODES": "1"}}
    tasks.append(subprocess.Popen(command, env=os.environ | slurm))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def slurm(tmp_path):
    """Submits a script: with tasks that really run, or that end with a status."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def fake(name, text):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    fake("scontrol", f'#!/bin/sh\necho "$@" > "{tmp_path}/scontrol"\n')

    def submit(script, *arguments, status=0, **changed):
        fake("srun", SRUN.format(python=sys.executable, status=status, job=os.getpid()))
        known = entry_point.environment() | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "77",
        }
        done = subprocess.run(
            ["bash", LAUNCH / "slurm" / script, *arguments],
            env=known | {"SLURM_SUBMIT_DIR": str(entry_point.ROOT)} | changed,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        asked = tmp_path / "scontrol"
        return done, asked.read_text() if asked.exists() else None

    return submit


here_is_venv = (entry_point.ROOT / ".venv/bin/python").exists()


@pytest.mark.skipif(not here_is_venv, reason="the checkout has no .venv of its own")
def test_slurm_starts_a_process_for_each_task(slurm, corpus, tmp_path):
    few = command(tmp_path / "run", corpus, "--config.training.steps=10")
    options = [one for one in few if one.startswith("--config.")]
    done, asked = slurm(
        "train.sbatch",
        *options,
        CONFIG="configs/loev_tempo_pitch.py:small",
        WORKDIR=str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 devices" in done.stderr
    assert (tmp_path / "run" / "DONE").read_text() == "10\n"
    assert asked is None


@pytest.mark.skipif(not here_is_venv, reason="the checkout has no .venv of its own")
def test_slurm_queues_again_what_was_stopped_and_nothing_else(slurm):
    known = {"CONFIG": "c", "WORKDIR": "w"}
    done, asked = slurm("train.sbatch", status=143, **known)
    assert (done.returncode, asked) == (0, "requeue 77\n")
    done, _ = slurm("train.sbatch", status=2, **known)
    assert done.returncode == 2


def test_slurm_says_what_is_missing(slurm, tmp_path):
    done, _ = slurm("train.sbatch", CONFIG="c")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: WORKDIR is not set")
    done, _ = slurm("train.sbatch", CONFIG="c", WORKDIR="w", SLURM_SUBMIT_DIR=str(tmp_path))
    assert "/.venv is not there: run make setup" in done.stderr
    done, _ = slurm("eval.sbatch")
    assert done.stderr.startswith("error: WORKDIR is not set")


# GKE. No package has the schema of a JobSet: what surrounds its pods is written down here.

JOBSET = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["replicatedJobs"],
            "additionalProperties": False,
            "properties": {
                "failurePolicy": {
                    "type": "object",
                    "properties": {"maxRestarts": {"type": "integer", "minimum": 0}},
                },
                "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0},
                "replicatedJobs": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "replicas", "template"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "replicas": {"type": "integer", "minimum": 1},
                            "template": {"type": "object", "required": ["spec"]},
                        },
                    },
                },
            },
        },
    },
}
FILLED = {
    "RUN": "loev",
    "IMAGE": "registry/loev_jax:1",
    "CONFIG": "configs/loev_tempo.py",
    "CHIP": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x4",
    "HOSTS": "4",
    "CHIPS": "4",
    "CLAIM": "shared",
}


def manifest(name):
    text = (LAUNCH / "gke" / name).read_text()
    return yaml.safe_load(string.Template(text).substitute(FILLED))


def test_the_jobset_fits_its_schema_and_its_pods_theirs():
    jobset = manifest("jobset.yaml")
    jsonschema.validate(jobset, JOBSET)
    (slice_,) = jobset["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **slice_["template"]}
    kubernetes_validate.validate(job, "1.33", strict=True)
    spec = job["spec"]
    assert spec["parallelism"] == spec["completions"] == 4
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    with pytest.raises(kubernetes_validate.utils.ValidationError):
        kubernetes_validate.validate(job | {"spec": spec | {"paralellism": 4}}, "1.33", strict=True)


HOST = """
from jax._src.clusters import cloud_tpu_cluster
cloud_tpu_cluster.running_in_cloud_tpu_vm = True  # as where libtpu finds chips
import jax
from loev_jax import cluster
cluster.join(cluster.Cluster(detect=True))
print(jax.process_index(), "of", jax.process_count(), flush=True)
"""


def test_hosts_of_a_slice_find_each_other_by_what_gke_tells_them():
    names = {"TPU_WORKER_HOSTNAMES": "localhost,localhost", "TPU_SKIP_MDS_QUERY": "true",
             "JAX_COORDINATOR_PORT": str(entry_point.free_port())}  # fmt: skip
    # What is not set JAX asks Google's metadata for.
    names |= dict.fromkeys(
        ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"), ""
    )
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST],
            cwd=entry_point.ROOT,
            env=entry_point.environment() | names | {"TPU_WORKER_ID": str(number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [host.communicate(timeout=100)[0].splitlines() for host in hosts]
    assert [lines[-1] for lines in said] == ["0 of 2", "1 of 2"]


def test_the_eval_job_fits_its_schema():
    kubernetes_validate.validate(manifest("eval.yaml"), "1.33", strict=True)


@pytest.mark.parametrize("name", ["jobset.yaml", "eval.yaml"])
def test_the_manifests_give_flags_that_there_are(name):
    pod = manifest(name)
    spec = pod["spec"]["replicatedJobs"][0]["template"]["spec"] if name[0] == "j" else pod["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    script, *flags = container["args"]
    assert (entry_point.ROOT / script).exists()
    done = entry_point.run(script, *flags, "--nonsense")
    assert done.returncode == 2
    assert "Unknown command line flag 'nonsense'" in done.stderr


@pytest.fixture
def xpk(tmp_path):
    """Runs the script with an xpk that notes what it is asked; returns that, line by line."""
    tool = tmp_path / "xpk"
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/asked"\n')
    tool.chmod(0o755)

    def call(*arguments, **changed):
        known = {name: FILLED[name] for name in ("RUN", "IMAGE", "CONFIG")} | {"CLUSTER": "c"}
        done = subprocess.run(
            [BASH, LAUNCH / "gke/xpk.sh", *arguments],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"} | known | changed,
            capture_output=True,
            text=True,
            check=False,
        )
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    return call


def test_xpk_is_asked_for_the_workload_of_the_jobset(xpk):
    done, asked = xpk("--", "--config.seed=$HOME", "--config.data.path=/a b", ZONE="z")
    assert done.returncode == 0, done.stderr
    assert asked[:2] == ["workload", "create"]
    *flags, command = asked[2:]
    assert flags == [
        *("--cluster=c", "--workload=loev", "--tpu-type=v5litepod-16"),
        *("--docker-image=registry/loev_jax:1", "--max-restarts=1000", "--zone=z"),
    ]
    words = shlex.split(command.removeprefix("--command="))
    pods = manifest("jobset.yaml")["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    (container,) = pods["spec"]["containers"]
    cache = {one["name"]: one["value"] for one in container["env"]}["JAX_COMPILATION_CACHE_DIR"]
    assert words == [
        *("env", f"JAX_COMPILATION_CACHE_DIR={cache}", ".venv/bin/python", *container["args"]),
        *("--config.seed=$HOME", "--config.data.path=/a b"),
    ]


def test_xpk_is_not_asked_in_a_dry_run_or_for_what_is_missing(xpk):
    done, asked = xpk("--dry-run")
    assert (done.returncode, asked) == (0, [])
    assert done.stdout.startswith("xpk workload create --cluster=c ")
    for arguments, changed, message in [
        ((), {"RUN": ""}, "error: RUN is not set"),
        (("--config.seed=3",), {}, "error: --config.seed=3: unknown; options of the training"),
        ((), {"PATH": "/nowhere"}, "error: xpk is not on PATH: pip install xpk"),
    ]:
        done, asked = xpk(*arguments, **changed)
        assert (done.returncode, asked) == (2, [])
        assert done.stderr.startswith(message)
        assert len(done.stderr.splitlines()) == 1


def test_every_variable_of_the_manifests_is_explained():
    text = (LAUNCH / "gke" / "jobset.yaml").read_text()
    used = set(string.Template(text).get_identifiers())
    explained = {
        line.split()[1]
        for line in textwrap.dedent(text.split("apiVersion")[0]).splitlines()
        if line.startswith("#   ") and line.split()[1].isupper()
    }
    assert used == explained == set(FILLED)


def test_the_image_is_made_of_files_that_there_are():
    for line in (LAUNCH / "gke" / "image.dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            assert all((entry_point.ROOT / name).exists() for name in line.split()[1:-1])


def test_the_image_has_the_files_that_the_package_is_made_from():
    copied = (LAUNCH / "gke" / "image.dockerfile").read_text()
    project = tomllib.loads((entry_point.ROOT / "pyproject.toml").read_text())["project"]
    for name in (project["readme"], *project["license-files"]):
        assert f" {name} " in copied
