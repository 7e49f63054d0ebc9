#!/usr/bin/env bash
# A training run on one TPU slice of a GKE cluster that xpk has made: what jobset.yaml is without it.
# docs/pods.md tells what it needs and what it costs.
set -euo pipefail

usage() {
  cat <<'END'
launch/gke/xpk.sh [--dry-run] [-- TRAINING OPTIONS]

Creates the workload RUN, which is started again after a host fails or is preempted, and resumes.
--dry-run prints the command instead of running it. From the environment:

  CLUSTER     that xpk has made
  RUN         name of the run and of the workload
  IMAGE       of launch/gke/image.dockerfile
  CONFIG      such as configs/loev_tempo.py
  TPU_TYPE    type and number of chips                            (v5litepod-16)
  SHARED      where the pods see the volume of `xpk storage`      (/shared)
  ZONE        of the cluster                                      (gcloud's own)
  PROJECT     Google Cloud project                                (gcloud's own)
END
}

fail() { echo "error: $*" >&2; exit 2; }

DRY=
case "${1:-}" in
  help | -h | --help) usage; exit 0 ;;
  --dry-run) DRY=1; shift ;;
esac
if [ "${1:-}" = -- ]; then shift
elif [ $# -gt 0 ]; then fail "$1: unknown; options of the training follow --"; fi
for name in CLUSTER RUN IMAGE CONFIG; do
  [ -n "${!name:-}" ] || fail "$name is not set; launch/gke/xpk.sh help tells what it is"
done
SHARED="${SHARED:-/shared}"
[ -n "$DRY" ] || command -v xpk >/dev/null || fail "xpk is not on PATH: pip install xpk"

# The image begins in the checkout. All hosts find compiled programs where the first has written them.
train=(env JAX_COMPILATION_CACHE_DIR="$SHARED/programs" .venv/bin/python launch/train.py
  --config="$CONFIG" --workdir="$SHARED/runs/$RUN" --config.data.path="$SHARED/corpus" --distributed)
command=$(printf '%q ' "${train[@]}" "$@")
# By itself xpk starts again what a signal ended. Hosts that lost another end with status 1.
create=(xpk workload create --cluster="$CLUSTER" --workload="$RUN"
  --tpu-type="${TPU_TYPE:-v5litepod-16}" --docker-image="$IMAGE"
  --max-restarts=1000 --restart-on-exit-codes=1
  ${ZONE:+--zone="$ZONE"} ${PROJECT:+--project="$PROJECT"} --command="$command")
if [ -n "$DRY" ]; then printf '%q ' "${create[@]}"; echo; else "${create[@]}"; fi
