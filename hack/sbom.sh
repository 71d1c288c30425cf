#!/usr/bin/env bash
# Lists the crates in the binary, as a CycloneDX software bill of materials: `make sbom`.
#
#   hack/sbom.sh [TARGET]      for another target than this machine's, as in aarch64-unknown-linux-gnu
#
# Prints its path. The same commit results in the same file. cargo-cyclonedx knows versions, licences and checksums,
# but lists the whole workspace, including crates that only tests use; examples/sbom.rs reduces it to the dependencies
# of the operator according to `cargo tree`, and fails if one is missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
triple=${1:-$(rustc -vV | sed -n 's/^host: //p')}
folder=${CARGO_TARGET_DIR:-target}/sbom
work=$folder/work
file=$folder/node-insights-$triple.cdx.json
tool=$(hack/tool.sh cargo-cyclonedx)

# It writes next to each manifest, so it runs on a copy.
rm -rf "$work"
mkdir -p "$work/tests/harness"
cp -a Cargo.toml Cargo.lock src benches examples "$work"
cp -a tests/harness/Cargo.toml tests/harness/src "$work/tests/harness"
# Instead of the time and a random number.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
(cd "$work" && "$tool" cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --target "$triple" \
  --override-filename sbom) >&2
cargo run --quiet --locked --example sbom -- "$triple" < "$work/sbom.json" > "$work/done.json"
mv "$work/done.json" "$file" # a rename, so that the file is always complete and correct
echo "$file"
