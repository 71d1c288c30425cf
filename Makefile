# The tasks of this project. Each target has a one-line description; `make` alone prints them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
# The cluster that the demo simulates: openshift; kubernetes, where nodes are replaced; mixed, with several updaters at
# once; or one of the others below.
PLATFORM ?= openshift
# KEEP=1 leaves the demo's control plane and operator running.
KEEP ?=
# The simulated cluster of `make bench`, and how long CPU usage is measured at rest.
NODES ?= 1000
MACHINECONFIGS ?= 100
REST_SECONDS ?= 60
# MIXED=1 measures a cluster of Karpenter and Cluster API instead of OpenShift.
MIXED ?=
# DRAINS=500 measures a cluster of plain Kubernetes of which so many nodes are drained at once.
DRAINS ?=
# UPDATE=1 writes the results of `make bench` into docs/performance.md, those of `make bench-eta` into
# docs/eta-figures.md.
UPDATE ?=
# How long `make fuzz` takes.
FUZZ_SECONDS ?= 600
# The container image (hack/image.sh): the engine, docker or none, by default Docker if it is running; the name and tag,
# by default node-insights:dev with Docker, and without it docker.io/library/node-insights:VERSION, as in the chart; the
# platforms, by default this machine's; and the digests of its base images (see Dockerfile).
ENGINE ?=
IMAGE ?=
PLATFORMS ?=
RUST_DIGEST ?=
RUNTIME_DIGEST ?=
# How long `make soak` runs.
HOURS ?= 2
# The target for which `make sbom` lists the crates; by default this machine's.
TARGET ?=

.PHONY: help
help: ## Print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Watch a simulated cluster being updated; PLATFORM=openshift|kubernetes|karpenter|eks|aks|gke|cluster-api|k3s|hypershift|kured|mixed, KEEP=1 leaves it running
	@hack/demo.sh "$(PLATFORM)" "$(KEEP)"

.PHONY: test
test: ## Run everything: format, lints, tests on a real API server, dependency rules, spelling
	@hack/test.sh

.PHONY: soak
soak: ## Run the tests under fault for hours; HOURS=2, NODE_INSIGHTS_SEED=… repeats a run
	@hack/soak.sh "$(HOURS)"

.PHONY: e2e
e2e: ## Run the operator on real nodes, in namespaces of this machine (needs root); skipped if that is not allowed
	@hack/e2e.sh

.PHONY: build
build: ## Build the operator for release
	$(CARGO) build --release --locked --bin node-insights

.PHONY: crds
crds: ## Generate crds/, and the chart's copy of it, from the Rust types
	$(CARGO) run --quiet --bin node-insights -- crds --output-dir crds
	cp crds/*.yaml charts/node-insights/files/crds/

.PHONY: docs
docs: ## Generate the tables of flags, columns, fields and metrics in docs/reference
	UPDATE_DOCS=1 $(CARGO) test --quiet --test docs

.PHONY: bench
bench: ## Measure performance against the budgets on a real API server; NODES=1000 MACHINECONFIGS=100 REST_SECONDS=60, MIXED=1 several updaters, DRAINS=500 many drains, UPDATE=1 writes docs/performance.md
	$(CARGO) build --release --locked --bin node-insights
	$(CARGO) run --release --locked --example bench -- --nodes $(NODES) --machine-configs $(MACHINECONFIGS) \
	  --rest-seconds $(REST_SECONDS) --operator $(or $(CARGO_TARGET_DIR),target)/release/node-insights \
	  $(if $(MIXED),--mixed) $(if $(DRAINS),--drains $(DRAINS)) $(if $(UPDATE),--output docs/performance.md)

.PHONY: bench-micro
bench-micro: ## Run micro-benchmarks of evaluation, the store, parsing of Nodes and comparing
	$(CARGO) bench --locked --bench '*'

.PHONY: bench-eta
bench-eta: ## Measure estimated ends, and what is reported as stalled, on simulated rollouts; UPDATE=1 writes docs/eta-figures.md
	$(CARGO) run --release --locked --example bench_eta -- $(if $(UPDATE),--output docs/eta-figures.md)

.PHONY: fuzz
fuzz: ## Fuzz every parser of untrusted input; FUZZ_SECONDS=600
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
control-plane: ## Find, or build once, kube-apiserver, etcd, kubectl and kube-controller-manager, and print their paths
	@hack/control-plane.sh kube-apiserver etcd kubectl kube-controller-manager

.PHONY: image
image: ## Build the container image; IMAGE=name:tag PLATFORMS=linux/amd64,linux/arm64 RUST_DIGEST= RUNTIME_DIGEST= ENGINE=docker|none
	@ENGINE="$(ENGINE)" IMAGE="$(IMAGE)" PLATFORMS="$(PLATFORMS)" RUST_DIGEST="$(RUST_DIGEST)" \
	  RUNTIME_DIGEST="$(RUNTIME_DIGEST)" hack/image.sh

.PHONY: image-test
image-test: ## Build the image without an engine and run it on real nodes, like make e2e (needs root; takes minutes)
	@hack/image-test.sh

.PHONY: image-check
image-check: ## Do what the Dockerfile does without Docker, and start the operator in the image's root (needs root)
	@hack/image-root.sh

.PHONY: sbom
sbom: ## List the crates in the binary, as CycloneDX, in target/sbom; TARGET=aarch64-unknown-linux-gnu
	@hack/sbom.sh "$(TARGET)"

.PHONY: manifests
manifests: ## Generate config/ from the chart
	@hack/manifests.sh

.PHONY: snapshots
snapshots: ## Render the chart into tests/chart/snapshots, to review the effect of a change
	UPDATE_SNAPSHOTS=1 $(CARGO) test --quiet --test chart the_chart_renders_the_snapshots

.PHONY: helm
helm: ## Find, or build once, Helm 3 and 4, and print their paths
	@hack/helm.sh 3
	@hack/helm.sh 4

.PHONY: prometheus
prometheus: ## Find, or build once, Prometheus and promtool, and print their paths
	@hack/prometheus.sh promtool
	@hack/prometheus.sh prometheus

.PHONY: clean
clean: ## Remove cargo's build output; the user's cache folder stays
	$(CARGO) clean
