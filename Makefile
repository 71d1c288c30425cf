# What there is to do here. Each target says in one line what it does; `make` alone prints them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
# Which cluster the demo simulates: openshift, or kubernetes, where nodes are replaced.
PLATFORM ?= openshift
# KEEP=1 leaves the demo's control plane and operator running.
KEEP ?=
# The simulated cluster of `make bench`, and how long its processor is measured at rest.
NODES ?= 1000
MACHINECONFIGS ?= 100
REST_SECONDS ?= 60
# UPDATE=1 writes what `make bench` measured into docs/performance.md.
UPDATE ?=
# How long `make fuzz` takes.
FUZZ_SECONDS ?= 600
# What builds the container image, docker or none (hack/image.sh), not given meaning Docker where that runs; its name
# and tag, not given meaning node-insights:dev with Docker, and docker.io/library/node-insights:VERSION, which is what
# the chart asks for, without; the processors that it is for, none meaning this machine's; and the digests of the
# images that it is made from (see Dockerfile).
ENGINE ?=
IMAGE ?=
PLATFORMS ?=
RUST_DIGEST ?=
RUNTIME_DIGEST ?=
# For how long `make soak` runs.
HOURS ?= 2
# For which target `make sbom` lists the crates; none meaning this machine's.
TARGET ?=

.PHONY: help
help: ## Print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Watch a simulated cluster being updated; PLATFORM=openshift|kubernetes, KEEP=1 leaves it running
	@hack/demo.sh "$(PLATFORM)" "$(KEEP)"

.PHONY: test
test: ## Run everything: format, lints, tests on a real API server, dependency rules, spelling
	@hack/test.sh

.PHONY: soak
soak: ## Look for hours what holds under fault; HOURS=2, NODE_INSIGHTS_SEED=… repeats a run
	@hack/soak.sh "$(HOURS)"

.PHONY: e2e
e2e: ## Run the operator on real nodes, in namespaces of this machine (needs root); skipped where that is not allowed
	@hack/e2e.sh

.PHONY: build
build: ## Build the operator for release
	$(CARGO) build --release --locked --bin node-insights

.PHONY: crds
crds: ## Generate crds/, and the chart's copy of it, from the Rust types
	$(CARGO) run --quiet --bin node-insights -- crds --output-dir crds
	cp crds/*.yaml charts/node-insights/files/crds/

.PHONY: docs
docs: ## Write the tables of flags, columns, fields and metrics into docs/reference
	UPDATE_DOCS=1 $(CARGO) test --quiet --test docs

.PHONY: bench
bench: ## Measure the budgets on a real API server; NODES=1000 MACHINECONFIGS=100 REST_SECONDS=60, UPDATE=1 writes docs/performance.md
	$(CARGO) build --release --locked --bin node-insights
	$(CARGO) run --release --locked --example bench -- --nodes $(NODES) --machine-configs $(MACHINECONFIGS) \
	  --rest-seconds $(REST_SECONDS) --operator $(or $(CARGO_TARGET_DIR),target)/release/node-insights \
	  $(if $(UPDATE),--output docs/performance.md)

.PHONY: bench-micro
bench-micro: ## Measure evaluation, the store, reading of Nodes and comparing, each by itself
	$(CARGO) bench --locked --bench '*'

.PHONY: fuzz
fuzz: ## Fuzz everything that reads what others write; FUZZ_SECONDS=600
	@hack/fuzz.sh $(FUZZ_SECONDS)

.PHONY: fmt
fmt: ## Format the Rust code
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Check format, lints and documentation
	@hack/test.sh format lints documentation

.PHONY: deny
deny: ## Check licences, bans, sources and advisories of the dependencies
	@hack/test.sh dependencies advisories

.PHONY: spell
spell: ## Check the spelling
	@hack/test.sh spelling

.PHONY: control-plane
control-plane: ## Find, or build once, kube-apiserver, etcd, kubectl and kube-controller-manager, and print where
	@hack/control-plane.sh kube-apiserver etcd kubectl kube-controller-manager

.PHONY: image
image: ## Build the container image; IMAGE=name:tag PLATFORMS=linux/amd64,linux/arm64 RUST_DIGEST= RUNTIME_DIGEST= ENGINE=docker|none
	@ENGINE="$(ENGINE)" IMAGE="$(IMAGE)" PLATFORMS="$(PLATFORMS)" RUST_DIGEST="$(RUST_DIGEST)" \
	  RUNTIME_DIGEST="$(RUNTIME_DIGEST)" hack/image.sh

.PHONY: image-test
image-test: ## Build the image without an engine and run it on real nodes, as make e2e does (needs root; minutes)
	@hack/image-test.sh

.PHONY: image-check
image-check: ## Do by hand, without Docker, what the Dockerfile does, and start the operator in the root of the image (needs root)
	@hack/image-root.sh

.PHONY: sbom
sbom: ## List the crates that are in the binary, as CycloneDX, in target/sbom; TARGET=aarch64-unknown-linux-gnu
	@hack/sbom.sh "$(TARGET)"

.PHONY: manifests
manifests: ## Generate config/ from the chart
	@hack/manifests.sh

.PHONY: snapshots
snapshots: ## Render the chart into tests/chart/snapshots, for a look at what a change of it changes
	UPDATE_SNAPSHOTS=1 $(CARGO) test --quiet --test chart the_chart_renders_the_snapshots

.PHONY: helm
helm: ## Find, or build once, Helm 3 and 4, and print where
	@hack/helm.sh 3
	@hack/helm.sh 4

.PHONY: prometheus
prometheus: ## Find, or build once, Prometheus and promtool, and print where
	@hack/prometheus.sh promtool
	@hack/prometheus.sh prometheus

.PHONY: clean
clean: ## Remove what cargo built; the user's cache folder stays
	$(CARGO) clean
