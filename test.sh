#!/usr/bin/env bash
# The test command of the README: format, dependency rules, imports, image, lints, fuzz targets, docs, all
# tests.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "dependency rules"
./scripts/check-dependencies

step "imports"
./scripts/check-imports

step "dependencies: licences, bans, sources"
# .ci/run installs it. The advisory database is on GitHub: run `cargo deny check advisories` where that can be reached.
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
# They run on nightly Rust and compile on stable. Checking them needs no libFuzzer, whose C++ would be compiled without
# this variable. If the lock file is out of date: `cargo fetch` in fuzz/.
CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" \
    cargo check --manifest-path fuzz/Cargo.toml --locked --quiet

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

step "build"
# Builds the programs for the end-to-end suite together with the tests, with the same features, so that nothing is built
# twice.
cargo build --workspace --bins --tests --locked

step "tests"
# The end-to-end suite mostly waits, so more tests than cores can run at the same time.
export TIELINE_TEST_PROGRAMS_ARE_BUILT=1
RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}" cargo test --workspace --locked
