# Needs Go and make. "make help" lists the targets.

GO       ?= go
FUZZTIME ?= 2m
BENCH    ?= .
PKG      ?= ./...
VERSION  ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# One set of flags for all that is built, here and in test/e2e: what programs,
# tests and tools have in common is then compiled once.
export CGO_ENABLED := 0
export GOFLAGS     := $(GOFLAGS) -trimpath
# Variables given to make are meant for this file, not for test/e2e/Makefile.
MAKEOVERRIDES :=

BINARY   := bin/kube-enricher
LINTER   := bin/golangci-lint
CAPTURE  := testdata/captures/ovs-ipfix-2node-geneve.pcap
SNAPSHOT := examples/demo/snapshot.yaml
CHART    := charts/goflow2-kube-enricher

.PHONY: all
all: fmt build lint test ## fmt, build, lint and test

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/kube-enricher
	$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o $(BINARY) ./cmd/kube-enricher

.PHONY: demo
demo: ## show records enriched from a real Open vSwitch export; needs no cluster
	@$(MAKE) --no-print-directory -s build
	@sh examples/demo/demo.sh $(BINARY) $(CAPTURE) $(SNAPSHOT)

.PHONY: test
test: ## vet, then all tests, and once more with the race detector
	$(GO) vet $(PKG)
	$(GO) test $(PKG)
	@# The first run is not in vain: tests of allocations mean nothing under -race.
	@if [ "$$(env -u CGO_ENABLED $(GO) env CGO_ENABLED)" = 1 ]; then \
		echo '$(GO) test -race $(PKG)'; CGO_ENABLED=1 $(GO) test -race $(PKG); \
	else \
		echo 'no C compiler: tests were run without the race detector'; \
	fi

.PHONY: fmt
fmt: ## format the code
	$(GO) fmt $(PKG)

.PHONY: lint
lint: $(LINTER) ## run golangci-lint as pinned in tools/go.mod
	$(LINTER) run $(PKG)

.PHONY: lint-e2e
lint-e2e: $(LINTER) ## the same for the end-to-end tests; compiles what they need
	cd test/e2e && ../../$(LINTER) run ./...

$(LINTER): tools/go.mod tools/go.sum
	@echo 'building golangci-lint (once; takes a minute or two)'
	$(GO) -C tools build -o $(CURDIR)/bin/ tool
	@touch $@

.PHONY: chart-lint
chart-lint: ## run helm lint on the chart; compiles helm the first time
	$(MAKE) --no-print-directory -C test/e2e helm GO='$(GO)'
	test/e2e/bin/helm lint --strict $(CHART)

.PHONY: e2e
e2e: ## run the binary against a real API server, built from Go modules (ARGS='-run TestX -v')
	$(MAKE) -C test/e2e test GO='$(GO)' ARGS='$(ARGS)'

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (2m)
	@set -e; for pkg in $$($(GO) list $(PKG)); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg; \
		done; \
	done

.PHONY: soak
soak: ## all captures at 20,000 records/s with 10 % garbage for SOAK (10m)
	SOAK=$(or $(SOAK),10m) $(GO) test -count=1 -run 'TestSoak$$' -v -timeout 0 ./cmd/kube-enricher

.PHONY: bench
bench: ## run the benchmarks (BENCH=Pipeline for some of them)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

.PHONY: bench-kube
bench-kube: ## time and memory for 50,000 pods on a real API server, beside plain client-go
	BENCH_KUBE=1 $(MAKE) -C test/e2e test GO='$(GO)' ARGS='-run TestBenchKube -v'

.PHONY: docs
docs: ## write the generated pages of docs/ anew
	@# They are written by the tests that compare them, Test...Doc.
	@set -e; for dir in $$(grep -rlE --include='*_test.go' '^func Test\w*Doc\(' . | xargs -n 1 dirname | sort -u); do \
		$(GO) test $$dir -run 'Doc$$' -update; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
	$(MAKE) -C test/e2e clean
