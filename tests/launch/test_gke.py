"""Runs on GKE: manifests by their schema, xpk with one that plays its part, the image."""

import os
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

BASH = shutil.which("bash")
LAUNCH = entry_point.ROOT / "launch"

# No package has the schema of a JobSet: what surrounds its pods is written down here.

RULE = {
    "type": "object",
    "required": ["name", "action"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        "action": {
            "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"],
        },
        "onJobFailureReasons": {"type": "array", "items": {"type": "string"}},
        "targetReplicatedJobs": {"type": "array", "items": {"type": "string"}},
    },
}
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
                    "additionalProperties": False,
                    "properties": {
                        "maxRestarts": {"type": "integer", "minimum": 0},
                        "rules": {"type": "array", "items": RULE},
                    },
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


def test_a_mistake_is_not_started_again(tmp_path):
    """Nothing else ends a run for good: the status is that of a mistake alone."""
    jobset = manifest("jobset.yaml")["spec"]
    (rule,) = jobset["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = jobset["replicatedJobs"][0]["template"]["spec"]
    (exit_,) = job["podFailurePolicy"]["rules"]
    assert exit_["action"] == "FailJob"
    (container,) = job["template"]["spec"]["containers"]
    assert exit_["onExitCodes"]["containerName"] == container["name"]
    done = entry_point.run("launch/train.py", "--config=configs/none.py", f"--workdir={tmp_path}")
    assert exit_["onExitCodes"]["values"] == [done.returncode]


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
        *("--docker-image=registry/loev_jax:1", "--max-restarts=1000"),
        *("--restart-on-exit-codes=1", "--zone=z"),
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
