# syntax=docker/dockerfile:1

# The base images are pinned by tag. A release pins them by digest as well (`docker buildx imagetools
# inspect` prints it): that takes a registry to ask, which not every place that builds this has.
ARG RUST_VERSION=1.95

# Compiles where it runs, for where the image will run: emulating the other processor would take ten
# times as long.
FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
# ring has C and assembly in it, so another processor needs a C compiler of its own.
RUN <<'SCRIPT'
set -eu
case "$TARGETARCH" in
  amd64) target=x86_64-unknown-linux-gnu gcc=x86-64-linux-gnu libc=libc6-dev-amd64-cross ;;
  arm64) target=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu libc=libc6-dev-arm64-cross ;;
  *) echo "No image for $TARGETARCH" >&2; exit 1 ;;
esac
echo "$target" > /target
rustup target add "$target"
if [ "$TARGETARCH" != "$BUILDARCH" ]; then
  apt-get update
  apt-get install -y --no-install-recommends "gcc-$gcc" "$libc"
  rm -rf /var/lib/apt/lists/*
fi
SCRIPT
# Debian's names for the compilers, native and cross alike. ring's build finds them by itself.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
COPY . .
# Cargo features of the image: `--build-arg FEATURES=otlp` makes it send spans to a collector.
ARG FEATURES=
# One target folder for each processor: two builds at once would wait for each other.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=node-insights-target-$TARGETARCH \
    cargo build --release --locked --bin node-insights --features "$FEATURES" --target "$(cat /target)" \
    && cp "target/$(cat /target)/release/node-insights" /node-insights

# glibc of the same Debian as above, libgcc, and nothing else: no shell, no package manager. The CA
# certificates in it are not used: the API server's come with the service account.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="node-insights" \
      org.opencontainers.image.description="Says, for every node and pool of a cluster, whether it is being updated, how far it is and what holds it up" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /node-insights /node-insights
# As a number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/node-insights"]
CMD ["run"]
