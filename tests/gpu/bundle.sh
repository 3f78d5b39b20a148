#!/usr/bin/env bash
# Makes BUILD/bundle: everything that tests/gpu/run.sh needs on a bare machine with an NVIDIA driver and PyTorch and no
# network. train with CUDA and ref (no oneDNN), prep without matio, the small shared libraries they need, pictures.
# cuDNN, cuBLASLt and NVRTC come from that machine's PyTorch. BUILD has train with oneDNN.
# usage: bundle.sh SOURCE BUILD DATA
set -eu
source=$(realpath "$1") build=$(realpath "$2") data=$3
limit_mb=60
programs=(prep train test_gradients bench_input bench_step)

cmake -S "$source" -B "$build/bundle-build" -DCMAKE_BUILD_TYPE=Release -DWITH_CUDA=ON -DWITH_DNNL=OFF -DWITH_MATIO=OFF \
    -DTEST_DATA="$data" >"$build/bundle.log"
cmake --build "$build/bundle-build" -j "$(nproc)" --target "${programs[@]}" >>"$build/bundle.log" 2>&1 ||
    { tail -n 20 "$build/bundle.log"; exit 1; }
out=$build/bundle
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/tests" "$out/pictures"
for program in "${programs[@]}"; do
    strip -o "$out/bin/$program" "$build/bundle-build/$program"
    # The C library and the loader are the machine's own.
    ldd "$out/bin/$program" | awk '$3 ~ "^/" && $1 !~ "^lib(c|m|pthread|dl|rt)\\.so" { print $3 }'
done | sort -u | xargs -I{} cp -L {} "$out/lib/"
mkdir -p "$out/tests/oracle"
cp -r "$source/tests/gpu" "$source/tests/bench" "$out/tests/"
cp "$source/tests/oracle/gradients.txt" "$out/tests/oracle/"
if [ -d "$data/imagenette-160" ]; then
    cp -rL "$data/imagenette-160/train" "$data/imagenette-160/val" "$out/pictures/"
else
    echo "no pictures: $data/imagenette-160 is not there"
fi
# The loss curve that the GPU's is held against: this machine's, in f32.
if [ -d "$out/pictures/train" ] && [ -x "$build/train" ]; then
    work=$(mktemp -d "$build/bundle-curve-XXXXXX")
    (cd "$work" && . "$source/tests/gpu/settings.sh" && pack "$build/prep" "$out/pictures" && trained "$build/train" curve cpu f32 $steps) ||
        { tail -n 3 "$work"/*.log; exit 1; }
    cp "$work/runs/curve/metrics.jsonl" "$out/tests/gpu/curve.jsonl"
    rm -rf "$work"
fi
megabytes=$(du -sm --apparent-size "$out" | cut -f1)
echo "$out: $megabytes MB, $(find "$out/pictures" -type f | wc -l) pictures, $(ls "$out/lib" | tr '\n' ' ')"
[ "$megabytes" -lt "$limit_mb" ] || { echo "it must be under $limit_mb MB"; exit 1; }
