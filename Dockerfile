# The container image: `make image`. No `# syntax` line, which would fetch a parser from a registry first: the
# BuildKit of Docker 23 supports everything that is used here.
#
# One file for all platforms: BuildKit sets TARGETARCH, `make image PLATFORMS=linux/amd64,linux/arm64` builds
# both. The compiler always runs on the architecture of the build machine.

# The exact version, so that the same commit is compiled by the same compiler; the first two numbers are
# `rust-version` of Cargo.toml. A tag can move in its registry, a digest cannot: a release is built with both
# digests below, each as `sha256:…`, which the registry reports:
#   docker buildx imagetools inspect rust:1.95.0-slim-bookworm
#   docker buildx imagetools inspect gcr.io/distroless/cc-debian12:nonroot
#   make image RUST_DIGEST=sha256:… RUNTIME_DIGEST=sha256:…
# They are empty, as none has been read from a registry yet.
ARG RUST_VERSION=1.95.0
ARG RUST_DIGEST=
# Contains glibc and libgcc, with which the binary is linked, of the same Debian as the compiler's image: a
# binary does not start with an older glibc than it was linked with. No shell, no package manager; OpenSSL and
# libstdc++ are in it as well, but not used. Its tags move with Debian's security updates, so only the digest
# identifies an image.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG RUNTIME_DIGEST=

# Runs on the build platform and cross-compiles for the target: emulation would take ten times as long.
FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-slim-bookworm${RUST_DIGEST:+@$RUST_DIGEST} AS build
ARG BUILDARCH
ARG TARGETARCH
# ring contains C and assembly, so another architecture needs a C cross compiler. /target stays empty for the
# build machine's own architecture.
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
# Debian's names for the cross compilers. ring's build script finds them itself.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
COPY . .
# Cargo features of the image: with `--build-arg FEATURES=otlp` it can send spans to a collector.
ARG FEATURES=
# One target folder per architecture: otherwise parallel builds would wait for each other. `make image-check`
# runs the line with cargo as well. Not stripped: the symbols, which make backtraces readable, take 0.6 of
# 7.3 MiB, compressed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=node-insights-target-$TARGETARCH <<'SCRIPT'
set -eu
target=$(cat /target)
if [ -n "$target" ]; then export CARGO_BUILD_TARGET="$target"; fi
cargo build --release --locked --bin node-insights --features "$FEATURES"
cp "target/$target/release/node-insights" /node-insights
SCRIPT

FROM ${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@$RUNTIME_DIGEST}
# Declared again, to be visible in this stage.
ARG RUNTIME_IMAGE
ARG RUNTIME_DIGEST
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="node-insights" \
      org.opencontainers.image.description="Reports, for every node and pool of a cluster, whether it is being updated, how far along it is and what holds it up" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@$RUNTIME_DIGEST}"
COPY --from=build /node-insights /node-insights
# Numeric, so that runAsNonRoot can be checked.
USER 65532:65532
# The default ports: metrics and operations, health. The chart moves the first to 8443.
EXPOSE 8080 8081
ENTRYPOINT ["/node-insights"]
CMD ["run"]
