# Everything a developer runs. `make help` lists it.
GO        ?= go
GOLANGCI  ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
TESTFLAGS ?=
# Nested modules: what only tests or benchmarks need never reaches the library's go.mod.
NESTED    := $(patsubst %/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path './.tools/*'))

.PHONY: help setup test check spec long chaos bench race vet lint tidy fmt

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

setup: ## install the servers that tests need, where that is possible
	@sh scripts/setup

test: setup ## run every test, on the real servers that are there (DROVER_REQUIRE_SERVERS=1: on all)
	$(GO) test -p 1 -timeout 20m $(TESTFLAGS) ./... # one package at a time: some cases bound wall time
	@set -e; for m in $(NESTED); do echo "# $$m"; (cd $$m && $(GO) test -timeout 10m $(TESTFLAGS) ./...); done

check: setup fmt vet lint tidy race ## format, vet, linters, tidy, and the tests under -race

fmt:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }

vet:
	$(GO) vet ./...
	@set -e; for m in $(NESTED); do (cd $$m && $(GO) vet ./...); done

lint:
	$(GOLANGCI) run ./...

tidy:
	$(GO) mod verify
	$(GO) mod tidy -diff
	@set -e; for m in $(NESTED); do (cd $$m && $(GO) mod tidy -diff); done

race:
	@sh scripts/setup race
	$(GO) test -race -short -p 1 -timeout 25m ./... # one package at a time, as test

spec: ## list the acceptance cases with and without a test (RUN=1: and which pass)
	@$(GO) run ./internal/spec $(if $(RUN),-run) $(if $(MILESTONE),-milestone $(MILESTONE))

long: setup ## thousands of seeds and long soaks
	DROVER_LONG=1 DROVER_SEEDS=1000 $(GO) test -count=1 -timeout 120m ./...
	cd examples/refserver/clienttest && DROVER_LONG=1 $(GO) test -count=1 -timeout 20m ./... # two nodes under load, one killed, one drained

chaos: setup ## kill, freeze and cut off real processes, and judge the history (PROFILE=long: the full figures)
	@d=$$(mktemp -d) && trap 'rm -rf $$d' EXIT && set -e; \
	$(GO) run ./internal/chaos kill -profile $(or $(PROFILE),short) -history $$d/history $(CHAOSFLAGS); \
	cd internal/linear && $(GO) run . $$d/history

bench: setup ## every benchmark beside its alternative: prints ratios, writes bench/results.json
	cd bench && $(GO) run . $(BENCHFLAGS)
