#!/usr/bin/env bash
# A TPU pod for one training run: made, set up, kept training through preemptions, and deleted.
# docs/pods.md tells what it needs and what it costs.
set -euo pipefail

usage() {
  cat <<'END'
launch/tpu/pod.sh VERB [--dry-run] [-- TRAINING OPTIONS]

  create    ask for the pod (a queued resource) and wait until it is there
  setup     mount the shared file system, copy this checkout's HEAD, install it from the lock
  train     start launch/train.py on all workers, in place of one that is left; it outlives this shell
  keep      create, set up and train, and again after every preemption or host that fails, until the
            run is DONE
  eval      start launch/eval.py --watch beside the training, on the first worker's CPU
  status    the queued resource, and what runs on each worker
  logs      the last lines that each worker has written
  stop      save and stop the training on all workers
  collect   copy the run's directory to COLLECT here
  delete    delete the pod and what is queued for it, and list what is left
  help      this

--dry-run prints the commands instead of running them. From the environment:

  POD            name of the pod and of its queued resource
  ZONE           such as us-west4-a
  NFS            HOST:/SHARE of the file system that all workers share
  CONFIG         such as configs/loev_tempo.py               (train, keep)
  RUN            name of the run: WORKDIR is MOUNT/runs/RUN
  DATA           directory of the data set below MOUNT       (train, keep; corpus)
  ACCELERATOR    type and number of chips                    (v5litepod-16)
  RUNTIME        software of the workers                     (v2-alpha-tpuv5-lite)
  TIER           spot, on-demand or reserved                 (spot)
  PROJECT        Google Cloud project                        (gcloud's own)
  MOUNT          where the workers see NFS                   (/mnt/loev)
  EVAL           yes: `keep` starts what `eval` does, too    (no)
  COLLECT        where `collect` copies to                   (runs)
  POLL           seconds between looks at the pod            (60)
END
}

fail() { echo "error: $*" >&2; exit 2; }
say() { echo "$(date +%H:%M:%S) $*" >&2; }

VERB="${1:-help}"; shift || true
DRY=
if [ "${1:-}" = --dry-run ]; then DRY=1; shift; fi
if [ "${1:-}" = -- ]; then shift; fi
OPTIONS=("$@")
case "$VERB" in
  create | setup | train | keep | eval | status | logs | stop | collect | delete) ;;
  help | -h | --help) usage; exit 0 ;;
  *) fail "$VERB: no such verb; launch/tpu/pod.sh help lists them" ;;
esac

need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "$name is not set; launch/tpu/pod.sh help tells what it is"
  done
}

need POD ZONE
ACCELERATOR="${ACCELERATOR:-v5litepod-16}" RUNTIME="${RUNTIME:-v2-alpha-tpuv5-lite}"
TIER="${TIER:-spot}" MOUNT="${MOUNT:-/mnt/loev}" DATA="${DATA:-corpus}" COLLECT="${COLLECT:-runs}"
POLL="${POLL:-60}" EVAL="${EVAL:-no}"
case "$EVAL" in yes | no) ;; *) fail "EVAL=$EVAL: yes or no" ;; esac
case "$TIER" in spot | on-demand | reserved) ;; *) fail "TIER=$TIER: spot, on-demand or reserved" ;; esac
[ -n "$DRY" ] || command -v gcloud >/dev/null || fail "gcloud is not on PATH: install the Google Cloud CLI"
WHERE=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})

# Runs a command, or with --dry-run prints it so that it can be pasted.
run() {
  if [ -n "$DRY" ]; then printf '%q ' "$@"; echo; else "$@"; fi
}

queued() { run gcloud compute tpus queued-resources "$@" "${WHERE[@]}"; }

# One line of shell on workers: all of them, or those that are given first.
on() {
  local workers=$1; shift
  run gcloud compute tpus tpu-vm ssh "$POD" "${WHERE[@]}" --worker="$workers" --command="$*"
}

# WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED, FAILED ...; nothing where there is none.
state() {
  gcloud compute tpus queued-resources describe "$POD" "${WHERE[@]}" \
    --format='value(state.state)' 2>/dev/null || true
}

request() {
  local tier=()
  case "$TIER" in spot) tier=(--spot) ;; reserved) tier=(--reserved) ;; on-demand) ;; esac
  queued create "$POD" --node-id="$POD" --accelerator-type="$ACCELERATOR" \
    --runtime-version="$RUNTIME" ${tier[@]+"${tier[@]}"}
}

remove() { queued delete "$POD" --force --quiet; }

wait_until_active() {
  local now before=''
  while :; do
    now=$(state)
    [ "$now" = "$before" ] || say "$POD: ${now:-not there}"
    before=$now
    case "$now" in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | DELETING | "") return 1 ;;
    esac
    sleep "$POLL"
  done
}

create() {
  request
  [ -z "$DRY" ] || return 0
  wait_until_active || fail "$POD: $(state): see launch/tpu/pod.sh status, then delete"
}

setup() {
  need NFS
  local archive
  archive="$(mktemp -d)/loev_jax.tar.gz"
  git -C "$(dirname "$0")/../.." archive --format=tar.gz --output="$archive" HEAD || return
  run gcloud compute tpus tpu-vm scp "$archive" "$POD:loev_jax.tar.gz" "${WHERE[@]}" \
    --worker=all || return
  # Ubuntu 22.04, which TPU runtimes are made of, has Python 3.10, and 3.11 among its packages.
  on all "set -e
    if ! mountpoint -q '$MOUNT'; then
      sudo apt-get -qq update && sudo apt-get -qq install -y nfs-common make
      sudo mkdir -p '$MOUNT' && sudo mount -t nfs -o hard '$NFS' '$MOUNT' && sudo chmod 777 '$MOUNT'
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      sudo apt-get -qq install -y python3.11 python3.11-venv
    mkdir -p loev_jax && tar -xzf loev_jax.tar.gz -C loev_jax && cd loev_jax && make setup
    .venv/bin/python -m pip install --require-hashes --no-deps -r requirements-tpu.lock"
}

# Starts a command as a unit of systemd: it outlives the shell, and has SIGTERM and its time to save
# where the worker is preempted. Where a worker has died, those of the others run on for up to a
# minute: what is left is stopped first. JAX writes compiled programs on the first worker alone, so
# they lie where all find them, and the next pod too.
unit() {
  local workers=$1 name=$2 environment=$3; shift 3
  on "$workers" "cd loev_jax || exit
    { sudo systemctl stop $name; sudo systemctl reset-failed $name; } 2>/dev/null || true
    sudo systemd-run --unit=$name --uid=\$(id -u) --working-directory=\$PWD $environment \
      --setenv=JAX_COMPILATION_CACHE_DIR='$MOUNT/programs' \
      -p KillSignal=SIGTERM -p TimeoutStopSec=25 -p SuccessExitStatus=143 \
      --setenv=HOME=\$HOME .venv/bin/python $(printf '%q ' "$@")"
}

train() {
  need CONFIG RUN
  unit all loev-train "" launch/train.py --config="$CONFIG" --workdir="$MOUNT/runs/$RUN" \
    --config.data.path="$MOUNT/$DATA" --distributed ${OPTIONS[@]+"${OPTIONS[@]}"}
}

evaluate() {
  need RUN
  unit 0 loev-eval --setenv=JAX_PLATFORMS=cpu launch/eval.py --workdir="$MOUNT/runs/$RUN" --watch
}

# What the unit on the first worker is at: done, running, failed, or none.
progress() {
  on 0 "if [ -e '$MOUNT/runs/$RUN/DONE' ]; then echo done
    elif [ \"\$(systemctl show -p SubState --value loev-train)\" = running ]; then echo running
    elif [ \"\$(systemctl show -p Result --value loev-train)\" != success ]; then echo failed
    else echo none; fi" 2>/dev/null | tail -n 1
}

# Sets up and starts everything: after a reboot a worker has lost its mount.
start() {
  setup && train && { [ "$EVAL" = no ] || evaluate; }
}

keep() {
  need NFS CONFIG RUN
  if [ -n "$DRY" ]; then create; start; return; fi
  trap 'say "$POD is still there, and costs: launch/tpu/pod.sh delete"' EXIT
  local now asked='' ever='' failures=0
  while :; do
    now=$(state)
    case "$now" in
      ACTIVE)
        ever=1
        case "$(progress)" in
          done) say "$RUN is done"; return 0 ;;
          running) failures=0 ;;
          failed)
            [ "$failures" -lt 2 ] || fail "$RUN failed three times in a row: launch/tpu/pod.sh logs"
            # A start that does not reach all workers is not the run's failure.
            if start; then failures=$((failures + 1)); else say "$POD does not answer, trying again"; fi ;;
          none) start || say "$POD does not answer, trying again" ;;
          *) say "$POD does not answer" ;;
        esac ;;
      "")
        if request; then asked=1
        elif [ -n "$asked" ]; then say "$POD cannot be asked for, trying again"
        else fail "$POD cannot be asked for"; fi ;;
      SUSPENDED | FAILED)
        [ -n "$ever" ] || [ "$now" = SUSPENDED ] ||
          fail "$POD was never there: launch/tpu/pod.sh status tells why; delete it then"
        say "$POD was preempted: asking again"
        if ! remove || ! request; then say "$POD cannot be asked for, trying again"; fi ;;
    esac
    [ -z "$now" ] || asked=1
    sleep "$POLL"
  done
}

collect() {
  need RUN
  mkdir -p "$COLLECT"
  run gcloud compute tpus tpu-vm scp --recurse "$POD:$MOUNT/runs/$RUN" "$COLLECT/" \
    "${WHERE[@]}" --worker=0
}

delete() {
  remove
  say "queued resources and TPUs that are left in $ZONE, each of which costs:"
  queued list
  run gcloud compute tpus tpu-vm list "${WHERE[@]}"
}

case "$VERB" in
  create) create ;;
  setup) setup ;;
  train) train ;;
  keep) keep ;;
  eval) evaluate ;;
  status)
    queued describe "$POD"
    on all "systemctl --no-pager status 'loev-*' | head -n 20" ;;
  logs) on all "journalctl --no-pager -u loev-train -u loev-eval -n 30" ;;
  stop) on all "sudo systemctl stop loev-train" ;;
  collect) collect ;;
  delete) delete ;;
esac
