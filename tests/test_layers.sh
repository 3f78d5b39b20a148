#!/usr/bin/env bash
# The arrows between folders are those of the design: common knows nobody but itself; prep and train know common;
# only train/cuda knows kernels; an outside library's headers appear in one module. Reads the include lines.
set -u
cd "$(dirname "$0")/.." || exit 1
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

# FOLDER may include the folders that match PATTERN.
check_arrows() {
    while IFS=: read -r file line include; do
        target=${include#*\"}
        target=${target%%\"*}
        [[ $target =~ $2 ]] || fail "$file:$line: $1 must not include $target"
    done < <(grep -rnE '^#include "' --include='*.[ch]' --include='*.cu' --include='*.cuh' "$1" 2>/dev/null)
}
check_arrows common '^common/'
check_arrows prep '^(prep|common)/|^version\.h$'
check_arrows train '^(train|common)/|^version\.h$|^kernels/kernels\.h$'
check_arrows kernels '^kernels/'
while IFS=: read -r file _; do
    [[ $file == train/cuda/* ]] || fail "$file: only the CUDA backend may include kernels/kernels.h"
done < <(grep -rnF '#include "kernels/' --include='*.[ch]' train 2>/dev/null)

# HEADER (a pattern) appears only in files that match PATTERN.
check_library() {
    while IFS=: read -r file line _; do
        [[ $file =~ $2 ]] || fail "$file:$line: only $2 may include <$1>"
    done < <(grep -rnE "^#include <($1)>" --include='*.[ch]' common prep train kernels 2>/dev/null)
}
check_library 'matio\.h' '^prep/meta_mat\.c$'
check_library 'lmdb\.h' '^common/shard\.c$'
check_library 'jpeglib\.h|jerror\.h' '^common/jpeg\.c$|^prep/sample_jpeg\.c$'
check_library 'png\.h' '^common/png_file\.c$'
check_library 'xxhash\.h' '^common/digest\.c$'
check_library 'zlib\.h' '^train/zip_format\.c$|^prep/meta_mat\.c$'
check_library '(oneapi/dnnl/)?dnnl[a-z_]*\.h' '^train/(backend_cpu|dnnl_adapter)\.[ch]$'
check_library 'cudnn[a-z_]*\.h' '^train/cuda/cudnn[a-z_]*\.[ch]$'
check_library 'cublas[a-zA-Z_]*\.h' '^train/cuda/cublaslt\.[ch]$'
check_library 'cuda[a-z0-9_]*\.h' '^train/cuda/(door_cuda|cudnn|cublaslt)[a-z_]*\.[ch]$'

# Every header can be compiled alone.
for header in common/*.h prep/*.h train/*.h train/cuda/*.h kernels/*.h; do
    [ -e "$header" ] || continue
    [[ $header == train/cuda/cudnn_* ]] && continue # they include cuDNN's, which may be absent
    ${CC:-cc} -std=c17 -D_GNU_SOURCE -I. -fsyntax-only -x c "$header" 2>/dev/null ||
        fail "$header cannot be compiled alone"
done

# Nothing depends on where it was written.
while read -r line; do
    fail "path of one machine: $line"
done < <(git grep -nIE '(/w[o]rk/|/r[o]ot/|/h[o]me/)' -- . 2>/dev/null)

echo "layers: $failures failures"
[ "$failures" -eq 0 ]
