# One screen of commands. `make` alone prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION    ?= 0.1.0-dev
KUBERNETES ?= v1.36.3
# Kubernetes' own version, which `kubectl version` shows, is that of the machinery that is linked in.
MACHINERY  := v1.37.1
LDFLAGS := -s -w \
  -X slipway.dev/slipway/internal/app.Version=$(VERSION) \
  -X k8s.io/component-base/version.gitVersion=$(MACHINERY) \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
  -X k8s.io/component-base/version.gitTreeState=clean

# The same for every command, so that they share one build cache.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false
GO ?= go
# Bundles are shared by the demo and the tests; what is in it is named by content.
STORE := $(CURDIR)/.cache/bundles
DEMO  := $(CURDIR)/.slipway
PACKAGES = $(shell $(GO) list ./... | grep -v /test/e2e)

help: ## print this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what the machine needs (Debian packages; needs root)
	@./test/setup.sh

build: ## build bin/slipway
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/slipway ./cmd/slipway

bundle: build setup ## build the bundle of $(KUBERNETES) into .cache/bundles
	bin/slipway bundle build --kubernetes $(KUBERNETES) --store $(STORE) --update-lock=machine

demo: build bundle ## make three hosts and a cluster on this machine, and leave them running
	@DATA=$(DEMO) STORE=$(STORE) KUBERNETES=$(KUBERNETES) ./test/demo.sh up

demo-down: ## remove every trace of the demo
	@DATA=$(DEMO) ./test/demo.sh down

check: ## the quick loop: format, vet, architecture rules, unit and golden tests
	@test -z "$$(gofmt -l api cmd catalog internal test | tee /dev/stderr)" || { echo "run gofmt -w on these"; exit 1; }
	cd api && $(GO) vet ./... && $(GO) test ./...
	$(GO) vet ./... && $(GO) vet -tags acceptance ./test/e2e ./internal/backup
	$(GO) test -timeout 8m $(PACKAGES)

test: setup build bundle check ## what CI runs: check, one bundle, one real journey on sandbox hosts
	SLIPWAY=$(CURDIR)/bin/slipway STORE=$(STORE) KUBERNETES=$(KUBERNETES) $(GO) test -count=1 -timeout 40m -v ./test/e2e/...

bench: build bundle ## measure; prints figures, asserts nothing
	SLIPWAY=$(CURDIR)/bin/slipway STORE=$(STORE) KUBERNETES=$(KUBERNETES) ./test/bench/run.sh

acceptance: test bench ## everything that is too long for CI; its output goes to docs/acceptance
	HOSTILE=full $(GO) test -count=1 -timeout 20m -v ./test/hostile | grep -v '^==='
	FAULTS=all $(GO) test -count=1 -timeout 90m ./test/fault
	$(GO) test -count=1 -run '^$$' -bench AddHost -benchtime 1x ./test/fault
	$(GO) build -modfile=tools/versitygw.mod -o .cache/versitygw github.com/versity/versitygw/cmd/versitygw
	VERSITYGW=$(CURDIR)/.cache/versitygw $(GO) test -tags acceptance -count=1 -timeout 5m -v -run TestS3RealServer ./internal/backup
	for version in v1.35.4 v1.37.1; do bin/slipway bundle build --kubernetes $$version --store $(STORE) --update-lock=machine; done
	SLIPWAY=$(CURDIR)/bin/slipway STORE=$(STORE) KUBERNETES=$(KUBERNETES) $(GO) test -tags acceptance -count=1 -timeout 200m -v -run 'TestRestore$$|TestUpgrade$$|TestUpgradeByHand$$|TestSettings$$|TestEndedCertificates$$' ./test/e2e

generate: ## write what is generated: deep copies and CRDs
	cd api && $(GO) tool -modfile=../tools/go.mod controller-gen object crd:crdVersions=v1,maxDescLen=1000 paths=./... output:crd:dir=crd

.PHONY: help setup build bundle demo demo-down check test bench acceptance generate
