# Short names for daily commands, for `just` (https://just.systems). Only test.sh says what a change must pass.

# Show this list.
default:
    @just --list --unsorted

# Compile everything, tests included, without running it.
check:
    cargo check --workspace --all-targets --locked

# Run everything that a change must pass, or the tests whose names contain FILTER.
test FILTER="":
    {{ if FILTER == "" { "./test.sh" } else { "cargo test --workspace --locked " + quote(FILTER) } }}

# Format, and apply clippy's automatic fixes.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# Play one seed of the proxy's simulation, with every line.
sim SEED:
    TIELINE_SIM_SEED={{ quote(SEED) }} cargo test -p proxy simulation -- --nocapture

# Play the first COUNT seeds of the proxy's simulation.
sims COUNT="20000":
    TIELINE_SIM_SEEDS={{ quote(COUNT) }} cargo test --release -p proxy simulation

# Play one seed of the control plane's simulation, with its story.
sim-power SEED:
    TIELINE_SIM_SEED={{ quote(SEED) }} cargo test -p simulation --test seeds -- --nocapture

# Play the first COUNT seeds of the control plane's simulation.
sims-power COUNT="2000":
    TIELINE_SIM_SEEDS={{ quote(COUNT) }} cargo test -p simulation --test seeds

# Fuzz TARGET for SECONDS seconds (needs nightly Rust and cargo-fuzz; fuzz/README.md has the targets).
fuzz TARGET SECONDS="300":
    cargo +nightly fuzz run -s none {{ quote(TARGET) }} -- -max_total_time={{ quote(SECONDS) }} -max_len=8192

# Build the code's documentation, with private items.
doc:
    cargo doc --workspace --no-deps --document-private-items --locked

# Run the demo: two pools, miners, a facility and one AI lease, in a minute.
demo:
    cargo run --release --locked -- demo

# Measure the share path, a session and the switchboard.
bench:
    cargo bench -p stratum
    cargo bench -p proxy
    cargo bench -p switchboard

# Build the image and drive a lease through docker-compose.yml.
try-compose:
    ./scripts/try-compose

# Check licences, banned crates, sources and, over the network, advisories.
deny:
    cargo deny --locked check
