#!/usr/bin/env bash
# Fuzzes every parser of untrusted input: `make fuzz`.
#
#   hack/fuzz.sh [SECONDS]    this long in total, 600 by default
#
# Starts from the corpus in tests/fuzz/corpus, which `make test` also runs, and from the findings of earlier runs,
# thousands of inputs in the user's cache folder. An input that makes a target fail is stored and named, and this
# exits with 1: add it to the corpus with the fix.
#
# Works with the stable compiler: coverage comes from LLVM, and no sanitizer is needed, as there is no unsafe code.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-600}
cache="${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/fuzz"
say() { printf 'fuzz: %s\n' "$*"; }

command -v c++ >/dev/null || { say "This needs a C++ compiler for libFuzzer (Debian: apt-get install g++)" >&2; exit 1; }
export RUSTFLAGS="--cfg fuzzing -C debug-assertions -C codegen-units=1 -C passes=sancov-module \
-C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR=$cache/target CARGO_PROFILE_RELEASE_LTO=off
host=$(rustc -vV | sed -n 's/^host: //p')
say "Building, about 4 minutes on 2 cores if nothing is cached"
# With an explicit target, the flags do not apply to build scripts and macros.
cargo build --quiet --release --locked --manifest-path tests/fuzz/Cargo.toml --target "$host"
program=$CARGO_TARGET_DIR/$host/release/node-insights-fuzz

mapfile -t targets < <(ls tests/fuzz/corpus)
each=$((seconds / ${#targets[@]}))
failed=()
for name in "${targets[@]}"; do
  corpus=tests/fuzz/corpus/$name found=$cache/found/$name bad=$cache/failures/$name
  mkdir -p "$found" "$bad"
  say "$name, $each s"
  FUZZ_TARGET=$name "$program" "$found" "$corpus" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 \
    -max_len=16384 -artifact_prefix="$bad/" -print_final_stats=1 -verbosity=0 2>"$cache/$name.log" || failed+=("$name")
  grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added)' "$cache/$name.log" | tr '\n' ' ' || true
  echo
done
if [ ${#failed[@]} -gt 0 ]; then
  for name in "${failed[@]}"; do
    say "FAILED: $name, with the inputs in $cache/failures/$name:"
    grep -E 'panicked|ERROR' -A2 "$cache/$name.log" | head -n 6
  done
  exit 1
fi
say "Nothing found in $((each * ${#targets[@]})) s; $(find "$cache/found" -type f | wc -l) inputs are in $cache/found"
