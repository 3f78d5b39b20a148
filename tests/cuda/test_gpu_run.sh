#!/usr/bin/env bash
# tests/gpu/run.sh, the one command for a machine with a GPU, on the simulated device: its rows work and judge.
# usage: test_gpu_run.sh BUILD DATA
set -u
build=$(realpath "$1") source=$(realpath "$(dirname "$0")/../..")
[ -x "$build/train_sim" ] && [ -x "$build/prep" ] || { echo "skipped: train_sim is not built"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-run-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
"$build/prep" sample raw --classes 3 --train-per-class 8 --val-per-class 4 --seed 3 >said 2>&1 &&
    mkdir pictures && mv raw/train pictures/train && "$build/prep" sort-val raw/devkit raw/val pictures/val >>said 2>&1 ||
    { cat said; exit 1; }
# A seed whose engines round as ref does where a ReLU is within rounding of 0 in the first step (test_train_sim.sh).
export OUT=$work/results SIM_SEED=1
bash "$source/tests/gpu/run.sh" --simulated "$build/train_sim" pictures device doctor gradients curve resume deterministic speed evaluation_speed input profile >said 2>&1 ||
    { echo "FAIL: run.sh: exit $?"; tail -n 40 said; exit 1; }
sed -n '/^| what/,$p' said
[ "$(grep -cE '^\| .*\| (ok|skipped) +\|' "$OUT/table.md")" -eq 16 ] || { echo "FAIL: not 16 rows"; exit 1; }
# A loss that is off is told.
sed 's/"loss": [0-9]/"loss": 7/' "$OUT/runs/curve-f32/metrics.jsonl" >wrong.jsonl
! python3 "$source/tests/gpu/compare_losses.py" "$OUT/runs/curve-ref/metrics.jsonl" wrong.jsonl 0.05 ||
    { echo "FAIL: other losses are called equal"; exit 1; }
# So are a rate below its floor, a loss that stays, and a step that takes longer than without pictures.
sed 's/"loss": [0-9.]*/"loss": 2/' wrong.jsonl >flat.jsonl
echo 0.001 >fast.txt
judge=$source/tests/gpu/compare_losses.py
for case in "--rate $OUT/evaluation.txt 4 1000000" "--falls flat.jsonl" "--waiting $OUT/runs/real-rgb/metrics.jsonl fast.txt 4"; do
    # shellcheck disable=SC2086
    ! python3 "$judge" $case >said 2>&1 || { echo "FAIL: $case is not told:"; cat said; exit 1; }
    ! grep -q Traceback said || { cat said; exit 1; }
done
echo "ok   run.sh on the simulated device"
