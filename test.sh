#!/usr/bin/env bash
# The test command of the README: format, dependency rules, image, lints, fuzz targets, docs, all
# tests.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "dependency rules"
./scripts/check-dependencies

step "dependencies: licences, bans, sources"
# .ci/run installs it. The advisory database is on GitHub: `cargo deny check advisories` is for where
# that can be reached.
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check licenses bans sources
else
    echo "skipped: cargo-deny is missing (cargo install cargo-deny --locked)"
fi

step "image"
./scripts/check-image

step "references"
./scripts/check-references

step "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "fuzz targets"
# They run on nightly, and compile on stable. A check needs no libFuzzer: without this variable its
# C++ would be compiled. If the lock file is out of date: `cargo fetch` in fuzz/.
CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" \
    cargo check --manifest-path fuzz/Cargo.toml --locked --quiet

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

step "build"
# With the programs that the end-to-end suite runs, in the features that the tests have: nothing is built twice.
cargo build --workspace --bins --tests --locked

step "tests"
# The end-to-end suite waits for far longer than it computes, so that it is in no need of a core for each test.
export TIELINE_TEST_PROGRAMS_ARE_BUILT=1
RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}" cargo test --workspace --locked
