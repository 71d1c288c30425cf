# The container image: `make image`. No `# syntax` line, which would fetch a parser from a registry before
# anything else: what is used here the BuildKit of Docker 23 knows.
#
# One file for each processor: BuildKit sets TARGETARCH, `make image PLATFORMS=linux/amd64,linux/arm64` asks
# for both. The compiler always runs on the processor of the machine that builds.

# The exact version, so that the same commit is compiled by the same compiler; the first two numbers are
# `rust-version` of Cargo.toml. A tag can be moved in its registry, a digest cannot: a release is built with
# both digests below, each as `sha256:…`, which the registry says:
#   docker buildx imagetools inspect rust:1.95.0-slim-bookworm
#   docker buildx imagetools inspect gcr.io/distroless/cc-debian12:nonroot
#   make image RUST_DIGEST=sha256:… RUNTIME_DIGEST=sha256:…
# None stands here, because none was read from a registry yet.
ARG RUST_VERSION=1.95.0
ARG RUST_DIGEST=
# glibc and libgcc, which is what the binary is linked with, of the same Debian as the compiler's image: a
# binary does not start with an older glibc than it was linked with. No shell, no package manager; of
# OpenSSL and libstdc++, which are in it as well, nothing is used. Its tags move with Debian's security
# updates, so only the digest says which one it is.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG RUNTIME_DIGEST=

# Compiles where it runs, for where the image will run: emulating the other processor would take ten
# times as long.
FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-slim-bookworm${RUST_DIGEST:+@$RUST_DIGEST} AS build
ARG BUILDARCH
ARG TARGETARCH
# ring has C and assembly in it, so another processor needs a C compiler of its own. /target stays empty
# where no other processor is meant.
RUN <<'SCRIPT'
set -eu
case "$TARGETARCH" in
  amd64) target=x86_64-unknown-linux-gnu gcc=x86-64-linux-gnu libc=libc6-dev-amd64-cross ;;
  arm64) target=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu libc=libc6-dev-arm64-cross ;;
  *) echo "No image for $TARGETARCH" >&2; exit 1 ;;
esac
: > /target
if [ "$TARGETARCH" != "$BUILDARCH" ]; then
  echo "$target" > /target
  rustup target add "$target"
  apt-get update
  apt-get install -y --no-install-recommends "gcc-$gcc" "$libc"
  rm -rf /var/lib/apt/lists/*
fi
SCRIPT
# Debian's names for the cross compilers. ring's build finds them by itself.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
COPY . .
# Cargo features of the image: `--build-arg FEATURES=otlp` makes it send spans to a collector.
ARG FEATURES=
# One target folder for each processor: two builds at once would wait for each other. The line with cargo is
# what `make image-check` runs as well. Not stripped: the names of the functions, by which a backtrace can be
# read, are 0.6 of 7.3 MiB, compressed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=node-insights-target-$TARGETARCH <<'SCRIPT'
set -eu
target=$(cat /target)
if [ -n "$target" ]; then export CARGO_BUILD_TARGET="$target"; fi
cargo build --release --locked --bin node-insights --features "$FEATURES"
cp "target/$target/release/node-insights" /node-insights
SCRIPT

FROM ${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@$RUNTIME_DIGEST}
# Named again, to be seen in this stage.
ARG RUNTIME_IMAGE
ARG RUNTIME_DIGEST
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="node-insights" \
      org.opencontainers.image.description="Says, for every node and pool of a cluster, whether it is being updated, how far it is and what holds it up" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@$RUNTIME_DIGEST}"
COPY --from=build /node-insights /node-insights
# As a number, so that runAsNonRoot can be checked.
USER 65532:65532
# Without flags: metrics and operations, health. The chart has the first on 8443.
EXPOSE 8080 8081
ENTRYPOINT ["/node-insights"]
CMD ["run"]
