# Needs Go and make. "make help" lists the targets.

GO       ?= go
FUZZTIME ?= 2m
BENCH    ?= .
PKG      ?= ./...
IMAGE    ?= quay.io/netobserv/goflow2-kube
VERSION  ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# One set of flags for all that is built, here and in test/e2e: what programs,
# tests and tools have in common is then compiled once.
export CGO_ENABLED := 0
export GOFLAGS     := $(GOFLAGS) -trimpath
# Variables given to make are meant for this file, not for test/e2e/Makefile.
MAKEOVERRIDES :=

BINARY   := bin/kube-enricher
LINTER   := bin/golangci-lint
SBOM     := bin/cyclonedx-gomod
# go test, and then which tests were skipped and why.
GOTEST   := bin/gotest
LDFLAGS   = -s -w -X main.version=$(VERSION)
CAPTURE  := testdata/captures/ovs-ipfix-2node-geneve.pcap
SNAPSHOT := examples/demo/snapshot.yaml
CHART    := charts/goflow2-kube-enricher

##@ Every day

.PHONY: all
all: fmt build lint test ## fmt, build, lint and test (14 min)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Times are those of two cores, with the build cache warm.'

.PHONY: build
build: ## build bin/kube-enricher
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/kube-enricher

.PHONY: demo
demo: ## show records enriched from a real Open vSwitch export; needs no cluster (10 s; the first time 2 min)
	@[ -x $(BINARY) ] || echo 'building $(BINARY): some two minutes the first time, a few seconds later on'
	@$(MAKE) --no-print-directory -s build
	@sh examples/demo/demo.sh $(BINARY) $(CAPTURE) $(SNAPSHOT)

.PHONY: demo-live
demo-live: ## the same flows, sent to a running collector and its page over loopback until Ctrl-C
	@[ -x $(BINARY) ] || echo 'building $(BINARY): some two minutes the first time, a few seconds later on'
	@$(MAKE) --no-print-directory -s build
	@$(GO) build -o bin/replay ./examples/demo/replay
	@sh examples/demo/live.sh $(BINARY) bin/replay $(CAPTURE) $(SNAPSHOT)

.PHONY: test
test: $(GOTEST) ## vet, then all tests, and once more with the race detector (12 min)
	$(GO) vet $(PKG)
	$(GOTEST) $(GO) test $(PKG)
	@# What a byte of a hostile datagram may cost, in steps that this tag counts.
	$(GO) vet -tags steps ./collector
	$(GOTEST) $(GO) test -tags steps -run 'TestHostileSteps|DearestByte' ./collector
	@# The first run is not in vain: tests of allocations mean nothing under -race.
	@if [ "$$(env -u CGO_ENABLED $(GO) env CGO_ENABLED)" = 1 ]; then \
		echo '$(GO) test -race $(PKG)'; CGO_ENABLED=1 $(GOTEST) $(GO) test -race -timeout 20m $(PKG); \
	else \
		echo 'no C compiler: tests were run without the race detector'; \
	fi

.PHONY: quick
quick: $(LINTER) $(GOTEST) ## lint what differs from BASE (HEAD), test without the race detector (up to 2 min)
	@sh tools/quick.sh '$(GO)' $(LINTER) $(GOTEST)

.PHONY: fmt
fmt: ## format the code
	$(GO) fmt $(PKG)

.PHONY: lint
lint: $(LINTER) ## run golangci-lint as pinned in tools/go.mod (1 min; the first time 3)
	$(LINTER) run $(PKG)

.PHONY: lint-e2e
lint-e2e: $(LINTER) ## the same for the end-to-end tests; compiles what they need (1 min)
	cd test/e2e && ../../$(LINTER) run ./...

$(LINTER): tools/go.mod tools/go.sum
	@echo 'building golangci-lint (once; takes a minute or two)'
	$(GO) -C tools build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(GOTEST): test/gotest/main.go test/gotest/broken.go
	$(GO) build -o $@ ./test/gotest

$(SBOM): tools/sbom/go.mod tools/sbom/go.sum
	$(GO) -C tools/sbom build -o $(CURDIR)/bin/ tool
	@touch $@

##@ Releases and images

.PHONY: release
release: $(SBOM) ## binaries for Linux and macOS, lists of components, chart, checksums, in dist/
	@VERSION='$(VERSION)' EPOCH='$(EPOCH)' GO='$(GO)' SBOM='$(SBOM)' TZ=UTC sh tools/release.sh

# The images. Which engine builds them, for which platforms, on what: see
# Containerfile for GO_IMAGE, BASE_IMAGE and SHELL_IMAGE.
ENGINE      ?= $(or $(shell for e in podman docker buildah; do command -v $$e >/dev/null || continue; \
	[ $$e != docker ] || docker info >/dev/null 2>&1 || continue; echo $$e; break; done),$(error images need podman, \
	docker or buildah: install one, or name one by ENGINE=))
PLATFORMS   ?=
IMAGE_FLAGS ?=
comma       := ,
# The time of everything in the image and in a release is that of the commit.
EPOCH     = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
REVISION  = $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)
CREATED   = $(shell date -u -d @$(EPOCH) +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r $(EPOCH) +%Y-%m-%dT%H:%M:%SZ)
ARGUMENTS = $(foreach name,GO_IMAGE BASE_IMAGE SHELL_IMAGE GOPROXY,$(if $($(name)),--build-arg $(name)=$($(name)))) \
	--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg CREATED=$(CREATED) --build-arg SOURCE_DATE_EPOCH=$(EPOCH)
# Older podmans and buildahs don't know it by themselves where they need it.
BUILDPLATFORM = --build-arg BUILDPLATFORM=linux/$(shell $(GO) env GOHOSTARCH)

# build-image: engine, stage, name. Several platforms make a manifest list; docker
# keeps one only with its containerd image store.
ifneq (,$(findstring $(comma),$(PLATFORMS)))
build-image = $(if $(filter docker,$(1)),,$(1) rmi $(3) 2>/dev/null || true; )$(strip \
	$(1) build --platform $(PLATFORMS) $(if $(filter docker,$(1)),--tag,$(BUILDPLATFORM) --timestamp $(EPOCH) --manifest) $(3) \
	$(ARGUMENTS) $(IMAGE_FLAGS) --target $(2) --file Containerfile .)
push-image  = $(if $(filter docker,$(1)),docker push $(2),$(1) manifest push --all $(2) docker://$(2))
else
build-image = $(strip $(1) build $(if $(PLATFORMS),--platform $(PLATFORMS)) $(if $(filter docker,$(1)),,$(if $(PLATFORMS),$(BUILDPLATFORM)) --timestamp $(EPOCH)) --tag $(3) \
	$(ARGUMENTS) $(IMAGE_FLAGS) --target $(2) --file Containerfile .)
push-image  = $(1) push $(2)
endif

.PHONY: image
image: ## build the image IMAGE:VERSION with podman, docker or buildah (PLATFORMS=linux/amd64,linux/arm64)
	$(call build-image,$(ENGINE),collector,$(IMAGE):$(VERSION))

.PHONY: image-pipe
image-pipe: ## the same with goflow2 and a shell, for manifests with a pipe: IMAGE:VERSION-pipe
	$(call build-image,$(ENGINE),pipe,$(IMAGE):$(VERSION)-pipe)

.PHONY: push push-pipe
push: ## push IMAGE:VERSION to its registry
	$(call push-image,$(ENGINE),$(IMAGE):$(VERSION))

push-pipe: ## push IMAGE:VERSION-pipe
	$(call push-image,$(ENGINE),$(IMAGE):$(VERSION)-pipe)

# In a cluster; examples/deploy.sh tells what can be set. The manifest's image is
# replaced if IMAGE or VERSION is given.
DEPLOY = $(if $(filter environment command,$(firstword $(origin IMAGE)) $(firstword $(origin VERSION))),IMAGE_REF=$(IMAGE):$(VERSION) )sh examples/deploy.sh

##@ In a cluster

.PHONY: ovnk-deploy
ovnk-deploy: ## install the collector and point OVN-Kubernetes at it (EXPORT=netflow for NetFlow v5)
	@$(DEPLOY) ovnk

.PHONY: cno-deploy
cno-deploy: ## the same on OpenShift
	@$(DEPLOY) cno

.PHONY: undeploy
undeploy: ## take both away again
	@$(DEPLOY) undeploy

.PHONY: chart-lint
chart-lint: ## run helm lint on the chart; compiles helm the first time
	$(MAKE) --no-print-directory -C test/e2e helm GO='$(GO)'
	test/e2e/bin/helm lint --strict $(CHART)

##@ More tests

.PHONY: test-dashboards
test-dashboards: $(GOTEST) ## hold the Grafana dashboards to Grafana's own schemas
	@# Go's test cache does not see files of another module.
	$(GOTEST) $(GO) -C test/grafana test -count=1 ./...

.PHONY: e2e
e2e: $(GOTEST) ## run the binary against a real API server, built from Go modules (6 min; the first time 15; ARGS='-run TestX -v')
	$(MAKE) -C test/e2e test GO='$(GO)' GOTEST='$(CURDIR)/$(GOTEST)' ARGS='$(ARGS)'

.PHONY: e2e-outputs
e2e-outputs: ## send records to OpenTelemetry's collector, VictoriaLogs and Debian's ClickHouse (3 min; the first time 10; OUTAGE=30s)
	$(GO) -C test/outputs/otelcol build -o bin/ .
	$(GO) -C test/outputs/victorialogs build -o bin/ tool
	OUTAGE=$(OUTAGE) $(GO) test -tags outputs -count=1 -timeout 20m ./test/outputs $(ARGS)

.PHONY: e2e-hubble
e2e-hubble: ## Cilium's hubble command and filters against the program (2 min; the first time 15; ARGS='-run TestX -v')
	@# The width of a column is that of the version.
	$(GO) build -buildvcs=false -o test/hubble/bin/kube-enricher ./cmd/kube-enricher
	$(GO) -C test/hubble build -o bin/ github.com/cilium/cilium/hubble
	$(GO) -C test/hubble test -count=1 -timeout 30m $(ARGS) ./...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (2m)
	@set -e; for pkg in $$($(GO) list $(PKG)); do \
		for target in $$($(GO) test -tags steps -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -tags steps -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg; \
		done; \
	done

.PHONY: soak
soak: ## all captures, then 2,000 exporters, at 20,000 records/s with 10 % garbage for SOAK (10m) each
	SOAK=$(or $(SOAK),10m) $(GO) test -count=1 -run '^TestSoak' -v -timeout 0 ./cmd/kube-enricher

.PHONY: races
races: ## all at once for RACES (30s), built with the race detector: hostile flows, SIGHUP, requests, a stop under load
	CGO_ENABLED=1 RACES=$(or $(RACES),30s) $(GO) test -race -count=1 -run 'TestRaces$$' -v ./cmd/kube-enricher

.PHONY: kafka-outage
kafka-outage: ## 20,000 records/s to Kafka while the broker is away for OUTAGE (30s)
	KAFKA_OUTAGE=$(or $(OUTAGE),30s) $(GO) test -count=1 -run 'TestKafkaOutage$$' -v -timeout 0 ./cmd/kube-enricher

##@ Speed

# What is measured is what users get, so the version is not a reason to build anew.
COMPARE = $(GO) build -ldflags '-s -w' -o $(BINARY) ./cmd/kube-enricher && $(GO) -C bench build -o ../bin/ ./gen ./readloop ./compare && \
	$(GO) -C test/goflow2 build -o ../../bin/goflow2/ github.com/netsampler/goflow2/v2/cmd/goflow2 && bin/compare -root . -bin bin

.PHONY: bench
bench: ## CPU time and throughput beside stock goflow2 (15 min; ONLY='^json-' for some, ARGS='-repeat 3')
	$(COMPARE) -only '$(ONLY)' $(ARGS)

.PHONY: bench-otelcol
bench-otelcol: ## OTLP beside OpenTelemetry's collector, built from its modules (3 min; the first time 10)
	$(GO) -C bench/otelcol build -o ../../bin/ .
	$(COMPARE) -only '^otelcol' $(ARGS)

.PHONY: bench-growth
bench-growth: ## how cost and memory grow with pods, exporters, fields and protocols (20 min)
	$(COMPARE) -only '$(or $(ONLY),^(pods|exporters|fields|protocol|workers)-)' $(ARGS)

.PHONY: bench-go
bench-go: ## Go's benchmarks, for benchstat (BENCH=Pipeline for some, COUNT=10)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(or $(COUNT),1) $(PKG)

.PHONY: profile
profile: ## profiles of the program under load: bin/profile/{cpu,allocs,mutex}.pprof and a flame graph
	$(COMPARE) -profile bin/profile $(ARGS)

.PHONY: pgo
pgo: ## write cmd/kube-enricher/default.pgo anew, from a profile of the program under load (1 min)
	$(COMPARE) -profile bin/profile -pgo cmd/kube-enricher/default.pgo $(ARGS)

.PHONY: bench-kube
bench-kube: ## time and memory for 50,000 pods on a real API server, beside plain client-go (3 min)
	BENCH_KUBE=1 $(MAKE) -C test/e2e test GO='$(GO)' ARGS='-run TestBenchKube -v'

##@ The rest

.PHONY: docs
docs: ## write the generated pages of docs/ anew (30 s)
	@# They are written by the tests that compare them, Test...Doc.
	@set -e; for dir in $$(grep -rlE --include='*_test.go' '^func Test\w*Doc\(' . | xargs -n 1 dirname | sort -u); do \
		$(GO) test $$dir -run 'Doc$$' -update; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist test/hubble/bin test/outputs/*/bin
	$(MAKE) -C test/e2e clean
