#!/usr/bin/env bash
# Everything that only a GPU can show, in one run that ends in a table. On a machine with an NVIDIA driver, PyTorch, no
# network:  BUNDLE/tests/gpu/run.sh   (cmake --build build --target bundle made BUNDLE). Results lie in $OUT or ./gpu-results.
#   run.sh --simulated TRAIN_SIM PICTURES [ROW...]   the same on the simulated device of the tests, small
#   run.sh ROW...                             only these rows; their tables come one after the other in tables.md
# Environment: PYTHON (with torch and torchvision; default python3), SPEED (options of bench_gpu.py:
# SPEED="--arch resnet50"), PRECISION (of the timed rows; default bf16).
set -u
here=$(realpath "$(dirname "$0")") bundle=$(realpath "$(dirname "$0")/../..")
train=$bundle/bin/train prep=$bundle/bin/prep bench=$bundle/bin/bench_step input=$bundle/bin/bench_input gradients=$bundle/bin/test_gradients
python=${PYTHON:-python3} simulated=
. "$here/settings.sh"
pictures=$bundle/pictures
# Precisions, and how far a loss may be from the CPU's.
curves=(f32:0.02 tf32:0.05 bf16:0.05 fp16:0.05)
if [ "${1:-}" = --simulated ]; then
    simulated=yes train=$(realpath "$2")
    programs=$(dirname "$train")
    gradients=$programs/test_gradients_sim bench=$programs/bench_step_sim input=$programs/bench_input_sim
    prep=$programs/prep pictures=$(realpath "$3") steps=4 size=64 batch=8 curves=(f32:0.001)
    shift 3
fi
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(device doctor gradients curve resume deterministic evaluation sanitizer probe speed evaluation_speed input profile learning resnet152)
out=$(realpath -m "${OUT:-gpu-results}")
mkdir -p "$out" && cd "$out" || exit 4
table=()
# row NAME VERDICT WORDS: one line of the table.
row() { table+=("$(printf '| %-34s | %-7s | %s |' "$1" "$2" "$3")"); echo "== $1: $2: $3"; }
judge() { if [ "$1" -eq 0 ]; then echo ok; elif [ "$1" -eq 77 ]; then echo skipped; else echo FAILED; fi; }

# cuDNN, cuBLASLt and NVRTC of the machine's PyTorch.
if [ -z "$simulated" ]; then
    wheels=$("$python" -c 'import torch, os, glob; print(":".join(glob.glob(os.path.join(os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "*", "lib"))))' 2>/dev/null)
    export LD_LIBRARY_PATH="$bundle/lib:$wheels:${LD_LIBRARY_PATH:-}" TEST_SOURCE=$bundle
fi
export XDG_CACHE_HOME=$out/cache

do_device() {
    [ -z "$simulated" ] && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >device.txt 2>&1
    "$train" plan --arch $arch --image-size $size --batch-size $batch --device cuda >>device.txt 2>&1
    row "device" "$(judge $?)" "$(head -n 2 device.txt | tr '\n' ' ')"
}

# Every op of a small ResNet against plain C, in every precision.
do_doctor() {
    "$train" doctor --device cuda ${simulated:+--precision f32} >doctor.txt 2>doctor.err
    row "train doctor" "$(judge $?)" "$(tail -n 1 doctor.txt)"
}

# Forward, loss and every gradient of whole networks in f32 against PyTorch's float64 (1e-4), ten steps (1e-2); and, when each
# run starts, its self-test: every plan's values, the augmentation's bytes.
do_gradients() {
    local names=(resnet18_on_cuda resnet152_on_cuda ten_steps_on_cuda)
    [ -z "$simulated" ] || names=()
    "$gradients" "${names[@]}" >gradients.log 2>gradients.err && ! grep -q skipped: gradients.log
    row "gradients against float64" "$(judge $?)" "$(grep -E 'worst error|off by' gradients.log | tr '\n' ';')"
    grep -q 'self-test:' gradients.err
    row "self-test of every plan" "$(judge $?)" "$(grep 'self-test:' gradients.err | head -n 1)"
}

do_curve() {
    local wanted=$bundle/tests/gpu/curve.jsonl failed=0 precision bound
    if [ -n "$simulated" ]; then
        trained "$train" curve-ref ref f32 "$steps"
        failed=$? wanted=runs/curve-ref/metrics.jsonl
    fi
    for precision in "${curves[@]}"; do
        bound=${precision#*:} precision=${precision%:*}
        trained "$train" "curve-$precision" cuda "$precision" "$steps" && [ $failed -eq 0 ] &&
            said=$("$python" "$here/compare_losses.py" "$wanted" "runs/curve-$precision/metrics.jsonl" "$bound")
        row "loss of $steps steps, $precision / CPU" "$(judge $?)" "${said:-see curve-$precision.log}"
    done
}

do_resume() {
    trained "$train" straight cuda bf16 5 --deterministic && trained "$train" resumed cuda bf16 3 --deterministic &&
        trained "$train" resumed cuda bf16 5 --deterministic && cmp checkpoints/straight/checkpoint.pth checkpoints/resumed/checkpoint.pth
    row "stopped and resumed: same bits" "$(judge $?)" "bf16, --deterministic, 3 of 5 steps"
}

do_deterministic() {
    local precision
    for precision in bf16 fp16 tf32; do
        trained "$train" "one-$precision" cuda $precision 3 --deterministic && trained "$train" "two-$precision" cuda $precision 3 --deterministic &&
            cmp "checkpoints/one-$precision/checkpoint.pth" "checkpoints/two-$precision/checkpoint.pth"
        row "two runs, same bits, $precision" "$(judge $?)" "3 steps"
    done
}

do_evaluation() {
    trained "$train" evaluated cuda f32 10 &&
        said=$("$python" "$here/torch_evaluation.py" "$(ls checkpoints/evaluated/model_*.pth | tail -n 1)" $arch "$pictures/val" $size \
            runs/evaluated/metrics.jsonl)
    row "evaluation against torchvision" "$(judge $?)" "${said:-see evaluated.log}"
}

do_sanitizer() {
    local tool checker
    checker=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
    for tool in memcheck racecheck initcheck; do
        if [ -z "$checker" ]; then row "compute-sanitizer $tool" skipped "it is not on this machine"; continue; fi
        "$checker" --tool $tool --error-exitcode 99 "$train" --db train.lmdb --arch $arch --image-size $size --batch-size $batch \
            --max-steps 1 --no-first-validation --device cuda --name "sanitized-$tool" --resume no >$tool.log 2>&1
        row "compute-sanitizer $tool" "$(judge $?)" "$(grep 'ERROR SUMMARY' $tool.log | tail -n 1)"
    done
}

# What cuDNN plans for the absent device of the table, and for the one that is here.
do_probe() {
    local name
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    case $name in *H200*) name=h200 ;; *H100*) name=h100 ;; *A100*) name=a100 ;; *4090*) name=rtx4090 ;; *B200*) name=b200 ;; *) name=h100 ;; esac
    "$train" plan --arch resnet50 --batch-size 256 --device $name --json >absent.json 2>absent.err &&
        "$train" plan --arch resnet50 --batch-size 256 --device cuda --json >here.json 2>here.err
    row "plan on paper and on the device" "$(judge $?)" "$(diff absent.json here.json | grep -E '^[<>].*(total_bytes|workspace_bytes)' | tr -s ' \n' ' ')"
}

# What the timed rows run.
timed_arch=resnet50 timed_size=224 timed_batch=256 timed_steps=60 precision=${PRECISION:-bf16}
[ -z "$simulated" ] || timed_arch=$arch timed_size=32 timed_batch=4 timed_steps=2 precision=f32
# stepped MODE ARCH OUT: milliseconds of each step, one a line, then the memory.
stepped() { "$bench" cuda "$precision" "$1" "$2" $timed_batch $timed_size 1000 $((timed_steps / 6 + 1)) $timed_steps >"$3" 2>"$3.log"; }

do_speed() {
    if [ -n "$simulated" ]; then
        stepped train $timed_arch step.txt
        row "speed against PyTorch" "$(judge $?)" "our side alone, $(grep -c '^[0-9]' step.txt) steps: a simulated device has no speed"
        return
    fi
    # shellcheck disable=SC2086
    "$python" "$bundle/tests/bench/bench_gpu.py" "$bench" --python "$python" ${SPEED:-} >speed.md 2>speed.log
    row "speed against PyTorch" "$(judge $?)" "see speed.md"
    cat speed.md
}

do_evaluation_speed() {
    stepped eval resnet18 evaluation.txt &&
        said=$("$python" "$here/compare_losses.py" --rate evaluation.txt $timed_batch ${simulated:-7300})
    row "evaluation, resnet18 (>= 7,300 img/s)" "$(judge $?)" "${said:-see evaluation.txt.log}"
}

# Pictures as large as ImageNet's are.
make_large() {
    [ -d large-jpeg.lmdb ] && return
    if [ -n "$simulated" ]; then ln -sfn "$pictures/train" large; else "$python" "$here/enlarge.py" "$pictures/train" large 2048; fi &&
        "$prep" pack large large-rgb.lmdb >large.log 2>&1 && "$prep" pack large large-jpeg.lmdb --encoding jpeg >>large.log 2>&1
}
# large NAME ENCODING [OPTION...]: training on them.
large() {
    local name=$1 encoding=$2
    shift 2
    "$train" --db large-$encoding.lmdb --arch $timed_arch --image-size $timed_size --batch-size $timed_batch --lr 0.01 --log-every 1 \
        --workers "$(nproc)" --device cuda --precision "$precision" --max-steps $timed_steps --name "$name" --resume no "$@" >"$name.log" 2>&1
}

# The input path alone, then a step with pictures from a data set in memory against one with pictures that are there already.
do_input() {
    local encoding failed
    make_large && stepped train $timed_arch synthetic.txt
    failed=$?
    for encoding in rgb jpeg; do
        [ $failed -eq 0 ] && "$input" cuda large-$encoding.lmdb $timed_size $timed_batch "$(nproc)" $timed_steps >input-$encoding.txt 2>input-$encoding.log
        row "input path alone, $encoding" "$(judge $?)" "$(tr '\n' ';' <input-$encoding.txt)"
        [ $failed -eq 0 ] && large "real-$encoding" $encoding &&
            said=$("$python" "$here/compare_losses.py" --waiting "runs/real-$encoding/metrics.jsonl" ${simulated:-synthetic.txt $timed_batch})
        row "step with pictures, $encoding / without" "$(judge $?)" "${said:-see real-$encoding.log}"
    done
}

do_profile() {
    make_large && large profile rgb --profile
    row "profile of a step" "$(judge $?)" "$(sed -n '/^profile of/,$p' profile.log | grep -E ' %$' | sort -k5 -nr | head -n 4 | awk '{ printf "%s %s %%; ", $1, $6 }')"
}

do_learning() {
    [ -n "$simulated" ] && { row "accuracy after 10 epochs" skipped "too long for a simulated device"; return; }
    "$python" "$bundle/tests/bench/learning.py" "$bundle/bin" "$pictures" learning --device cuda --precisions bf16,fp16 >learning.md 2>learning.log
    row "accuracy after 10 epochs" "$(judge $?)" "$(tail -n 2 learning.md | cut -d '|' -f 2-6 | tr '\n' ';')"
}

# A deep network learns: its loss falls within some minutes.
do_resnet152() {
    [ -n "$simulated" ] && { row "loss of resnet152 falls" skipped "too long for a simulated device"; return; }
    "$prep" pack "$pictures/train" small.lmdb --short-side 0 >small.log 2>&1 &&
        "$train" --db small.lmdb --arch resnet152 --image-size 128 --batch-size 64 --lr 0.02 --warmup-epochs 1 --log-every 1 --epochs 100 \
            --max-steps 600 --device cuda --name falls --resume no >falls.log 2>&1 &&
        said=$("$python" "$here/compare_losses.py" --falls runs/falls/metrics.jsonl)
    row "loss of resnet152 falls" "$(judge $?)" "${said:-see falls.log}"
}

pack "$prep" "$pictures" || { cat pack.log; exit 3; }
for name in "${rows[@]}"; do "do_$name"; done
echo
{
    printf '| %-34s | %-7s | %s |\n|---|---|---|\n' "what" "verdict" "words"
    printf '%s\n' "${table[@]}"
} | tee table.md
cat table.md >>tables.md
! grep -q FAILED table.md
