# One image with the programs of the house: `tieline`, and what the compose file tries it with (`test-pool`, `test-miner`,
# `test-facility`). Needs no BuildKit.

FROM rust:1.95-bookworm AS build
WORKDIR /src

# The dependencies first, from the manifests alone: they are compiled anew only when a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY agent/Cargo.toml agent/
COPY crates/daemon/Cargo.toml crates/daemon/
COPY crates/directive/Cargo.toml crates/directive/
COPY crates/stratum/Cargo.toml crates/stratum/
COPY crates/testbed/Cargo.toml crates/testbed/
COPY crates/tieline/Cargo.toml crates/tieline/
COPY integration-tests/Cargo.toml integration-tests/
COPY proxy/Cargo.toml proxy/
COPY switchboard/Cargo.toml switchboard/
RUN for manifest in */Cargo.toml crates/*/Cargo.toml; do \
        mkdir "$(dirname "$manifest")/src" && touch "$(dirname "$manifest")/src/lib.rs" || exit 1; \
    done \
    && echo 'fn main() {}' > crates/tieline/src/main.rs \
    && cargo build --release --locked -p tieline -p testbed

# Then our own crates. Cargo goes by file times, and the empty sources above are newer than ours: hence the touch.
COPY . .
RUN find agent crates proxy switchboard -name '*.rs' -exec touch {} + \
    && cargo build --release --locked -p tieline -p testbed --bins \
    && mkdir /out \
    && cd target/release \
    && cp tieline test-pool test-miner test-facility /out/ \
    && strip --strip-debug /out/*

FROM debian:bookworm-slim
# The folders belong to the user here, so that fresh volumes mounted over them do too.
RUN groupadd --gid 10001 tieline \
    && useradd --uid 10001 --gid tieline --no-create-home --home-dir /var/lib/tieline --shell /usr/sbin/nologin tieline \
    && install -d -o tieline -g tieline -m 0750 /var/lib/tieline \
    && install -d -o tieline -g tieline /run/site/machines /run/site/meters /run/site
COPY --from=build /out/ /usr/local/bin/
# The authorities that pools' certificates are checked with.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
ENV TIELINE_CONFIG=/etc/tieline/tieline.toml \
    TIELINE_TOKEN_FILE=/var/lib/tieline/token
USER tieline
WORKDIR /var/lib/tieline
STOPSIGNAL SIGTERM
CMD ["tieline", "run"]
