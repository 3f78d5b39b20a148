# Sourced by tests that compile kernels for the CPU, with the build folder as $1: the headers of the CUDA toolkit into
# $include, a folder that is removed at the end into $work. Ends the test with 77 where they, or g++, are absent.
if grep -qs '^WITH_CUDA:[A-Z]*=OFF' "${1:-build}/CMakeCache.txt"; then
    echo "skipped: built with -DWITH_CUDA=OFF"
    exit 77
fi
cached=$(sed -n 's/^CUDA_INCLUDE:[A-Z]*=//p' "${1:-build}/CMakeCache.txt" 2>/dev/null)
include=
for folder in "$cached" "${CUDA_HOME:-/usr/local/cuda}/include"; do
    [ -z "$include" ] && [ -n "$folder" ] && [ -e "$folder/cuda_bf16.h" ] && include=$folder
done
[ -n "$include" ] || { echo "skipped: cuda_bf16.h was not found (the headers of the CUDA toolkit)"; exit 77; }
command -v g++ >/dev/null || { echo "skipped: no g++"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-kernels-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
