#!/usr/bin/env bash
# The test command of the README: format, dependency rules, image, lints, docs, all tests.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "dependency rules"
./scripts/check-dependencies

step "image"
./scripts/check-image

step "references"
./scripts/check-references

step "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

step "build"
# With the programs that the end-to-end suite runs, in the features that the tests have: nothing is built twice.
cargo build --workspace --bins --tests --locked

step "tests"
# The end-to-end suite waits for far longer than it computes, so that it is in no need of a core for each test.
export TIELINE_TEST_PROGRAMS_ARE_BUILT=1
RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}" cargo test --workspace --locked
