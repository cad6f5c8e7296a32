#!/usr/bin/env bash
# What needs a CUDA device, in three parts of at most four minutes, the figures first:
#   benchmarks/on_gpu.sh [figures] [conformance] [sanitizers]      (all three without an argument)
# A machine that reaches no package index is given the wheels beforehand: `make wheels` fills the folder WHEELS
# (default: wheels), from which what is missing is installed. Results go to benchmarks/results/ and, where OUT is set, to
# that folder as well.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="src:kernels:tests${PYTHONPATH:+:$PYTHONPATH}"
PY=${PY:-python3}
WHEELS=${WHEELS:-wheels}
LIMIT=${LIMIT:-240}
failed=0

missing=$($PY - <<'END'
import importlib.util

names = {
    "array_api_compat": "array-api-compat", "lazy_loader": "lazy-loader", "threadpoolctl": "threadpoolctl",
    "numba": "numba", "scipy": "scipy", "h5py": "h5py", "tifffile": "tifffile", "zarr": "zarr", "typer": "typer",
    "rich": "rich", "pytest": "pytest", "hypothesis": "hypothesis", "gudhi": "gudhi", "skimage": "scikit-image",
    "cupy": "cupy-cuda13x",
}
print(*(package for name, package in names.items() if importlib.util.find_spec(name) is None))
END
)
if [ -n "$missing" ]; then
  echo "== installing from $WHEELS: $missing"
  # shellcheck disable=SC2086 -- one word per package
  $PY -m pip install --quiet --no-index --find-links "$WHEELS" $missing || echo "not everything could be installed"
fi

figures() {
  (cd benchmarks && timeout "$LIMIT" "$PY" bench_cuda.py) || failed=1
  if [ -n "${OUT:-}" ]; then cp benchmarks/results/*.json "$OUT"/; fi
}

conformance() {
  timeout "$LIMIT" "$PY" -m pytest -q -x tests/conformance tests/ops --backend cuda -p no:cacheprovider || failed=1
}

# A sanitizer makes a process many times slower: one small case of each kernel, not the suite.
sanitizers() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "compute-sanitizer is not installed"
    return
  fi
  for tool in memcheck racecheck; do
    timeout $((LIMIT / 2)) compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$PY" benchmarks/check_kernels.py uint16 float32 || failed=1
  done
}

[ $# -gt 0 ] || set -- figures conformance sanitizers
for part in "$@"; do
  case $part in
    figures | conformance | sanitizers) echo "== $part" && "$part" ;;
    *) echo "parts are figures, conformance and sanitizers, not $part" >&2 && exit 2 ;;
  esac
done
exit $failed
