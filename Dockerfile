# One image with all programs: `tieline`, and those of the compose file (`test-pool`, `test-miner`, `test-facility`). It
# needs no BuildKit. scripts/check-image checks the manifest layer.

FROM rust:1.95-bookworm AS build
WORKDIR /src

# The manifest layer: dependencies are compiled from the manifests alone, with empty sources in place of ours, so that
# they are compiled again only when a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY agent/Cargo.toml agent/
COPY crates/daemon/Cargo.toml crates/daemon/
COPY crates/directive/Cargo.toml crates/directive/
COPY crates/stratum/Cargo.toml crates/stratum/
COPY integration-tests/Cargo.toml integration-tests/
COPY proxy/Cargo.toml proxy/
COPY simulation/Cargo.toml simulation/
COPY switchboard/Cargo.toml switchboard/
COPY testbed/Cargo.toml testbed/
COPY tieline/Cargo.toml tieline/
COPY scripts/stub-sources scripts/
RUN ./scripts/stub-sources && cargo build --release --locked -p tieline -p testbed

# Then our own crates. Cargo compares file times, and the empty sources are newer than ours: `touch` makes cargo compile
# ours.
COPY . .
RUN find agent crates proxy switchboard testbed tieline -name '*.rs' -exec touch {} + \
    && cargo build --release --locked -p tieline -p testbed --bins \
    && mkdir /out \
    && cd target/release \
    && cp tieline test-pool test-miner test-facility /out/ \
    && strip --strip-debug /out/*

FROM debian:bookworm-slim
# The directories belong to the user in the image, so that new volumes mounted over them do too.
RUN groupadd --gid 10001 tieline \
    && useradd --uid 10001 --gid tieline --no-create-home --home-dir /var/lib/tieline \
        --shell /usr/sbin/nologin tieline \
    && install -d -o tieline -g tieline -m 0700 /var/lib/tieline \
    && install -d -o tieline -g tieline /run/site/machines /run/site/meters /run/site
COPY --from=build /out/ /usr/local/bin/
# The certificate authorities, for the certificates of pools.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
ENV TIELINE_CONFIG=/etc/tieline/tieline.toml \
    TIELINE_TOKEN_FILE=/var/lib/tieline/token
USER tieline
WORKDIR /var/lib/tieline
STOPSIGNAL SIGTERM
CMD ["tieline", "run"]
