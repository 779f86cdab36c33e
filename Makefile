# Every target that people and CI use. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Sessions need root: network namespaces, mounts, control groups.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Tests that need it run as root too; compiling does not.
EXEC := $(if $(SUDO),-exec "sudo -E")
# The version comes from git where git trusts this checkout.
VCS  := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)

# One way to compile for all that is made and tested here, so that the packages of
# others, which take minutes, are compiled once. The race detector needs its own.
export CGO_ENABLED := 0
export GOFLAGS     := $(filter-out -trimpath,$(GOFLAGS)) -trimpath

EMBED   := internal/engine/runtime/bin
RUNTIME := tools/runtime/go.mod tools/runtime/go.sum
LINT    := .tools/golangci-lint
EXAMPLE ?= examples/requirements
FUZZTIME ?= 15s
PKG     ?= ./...
# Not run with the race detector: what has BuildKit inside, whose solver has a data
# race of its own (it writes a record into its log while another goroutine changes
# it; v0.34.2, TraceFields in solver/cachekey.go), the end-to-end tests, whose subject
# is another process, and the command line, which runs deployments by the hundred. The
# packages that they are made of have raced tests of their own; `make race` runs it so.
ALONE   := /internal/(image|engine|cli)$$|/test/e2e$$
UNRACED  = go list $(PKG) | { grep -E '$(ALONE)' || true; }
RACED    = go list $(PKG) | { grep -vE '$(ALONE)' || true; }
# Those of the end-to-end tests that need a Kubernetes, beside their benchmarks.
CLUSTER := ^(TestKubernetes|TestKubernetesPage|TestMigrationPage|TestWorkshopCluster)$$

.PHONY: run
run: setup build ## Install what is missing, build, start the hub, launch an example
	@[ -z "$(SUDO)" ] || echo "sudo is used because sessions need root: network namespaces, mounts and control groups."
	$(SUDO) bin/binnacle serve --launch $(EXAMPLE)

# All at a time: what takes longest waits more than it computes. Within each there is
# one package at a time. What Kubernetes' programs share with ours is compiled by then.
# golangci-lint has looked for what vet looks for.
GOTEST = xargs -r go test -vet=off -shuffle=on -timeout 80m $(EXEC)
.PHONY: test test-hub test-cluster test-race
test: setup-test ## Install what tests need and run all of them
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory -j2 kube-programs $(LINT)
	@$(MAKE) --no-print-directory -j4 -k test-hub test-cluster test-race lint
test-%: export BINNACLE_TEST_REQUIRE := all
test-hub: # a hub on this machine
	$(UNRACED) | { grep /test/e2e$$ || true; } | $(GOTEST) -skip '$(CLUSTER)'
test-cluster: export BINNACLE_TEST_ARTEFACTS := artefacts/cluster
test-cluster: kube-programs # the same on Kubernetes, and what builds for both
	$(UNRACED) | { grep /test/e2e$$ || true; } | $(GOTEST) -run '$(CLUSTER)'
	$(UNRACED) | { grep -E '/internal/(image|engine)$$' || true; } | $(GOTEST) -p 1
test-race: kube-programs # all others, and the command line
	$(RACED) | CGO_ENABLED=1 xargs -r nice go build -race
	$(RACED) | sort -r | CGO_ENABLED=1 $(GOTEST) -race -p 1
	$(UNRACED) | { grep /internal/cli$$ || true; } | $(GOTEST)

.PHONY: race
race: ## Run a package's tests with the race detector (PKG=./internal/cli)
	CGO_ENABLED=1 BINNACLE_TEST_REQUIRE=all go test -race -vet=off -shuffle=on -timeout 80m $(EXEC) $(PKG)

.PHONY: build
build: $(EMBED)/runc $(EMBED)/containerd-shim-runc-v2 ## Build bin/binnacle, with runc and the shim inside
	go build -buildvcs=$(VCS) -o bin/binnacle ./cmd/binnacle

$(EMBED)/runc: $(RUNTIME)
	CGO_ENABLED=1 go -C tools/runtime build -buildvcs=false -tags seccomp,netgo,osusergo \
		-ldflags '-s -w -extldflags -static' -o ../../$@ github.com/opencontainers/runc
	@touch $@

$(EMBED)/containerd-shim-runc-v2: $(RUNTIME)
	go -C tools/runtime build -buildvcs=false -tags no_grpc \
		-ldflags '-s -w' -o ../../$@ github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
	@touch $@

# Our own image, made by our own builder. IMAGE names it; PUSH=1 pushes it, with
# the list of what is in it (PLAIN_HTTP=1 by http), else it is written to
# bin/binnacle-image.tar.
IMAGE      ?= binnacle:dev
IMAGE_DATA ?= /var/tmp/binnacle-image
.PHONY: image
image: setup build ## Build the image for Kubernetes with Binnacle itself (IMAGE=registry.example.org/binnacle:1 PUSH=1)
	rm -rf .tools/image && mkdir -p .tools/image && cp bin/binnacle tools/image/Dockerfile .tools/image/
	$(SUDO) bin/binnacle --config tools/image/binnacle.yaml --data $(IMAGE_DATA) build .tools/image --tag $(IMAGE) \
		$(if $(PUSH),--push $(if $(PLAIN_HTTP),--plain-http),--output bin/binnacle-image.tar)

.PHONY: image-twice
image-twice: setup build ## Build that image twice from nothing, and compare the digests
	rm -rf .tools/image && mkdir -p .tools/image && cp bin/binnacle tools/image/Dockerfile .tools/image/
	for n in 1 2; do $(SUDO) rm -rf $(IMAGE_DATA)-$$n; \
		$(SUDO) bin/binnacle --config tools/image/binnacle.yaml --data $(IMAGE_DATA)-$$n build .tools/image --tag $(IMAGE) \
			--output bin/binnacle-image.tar | sed -n 2p > .tools/image-$$n; $(SUDO) rm -rf $(IMAGE_DATA)-$$n; done
	cat .tools/image-1 .tools/image-2 && grep -q ^sha256: .tools/image-1 && cmp .tools/image-1 .tools/image-2

.PHONY: setup setup-test
setup: ## Install the system packages that building and running need
	@tools/setup.sh run
setup-test: ## Install the system packages that tests need
	@tools/setup.sh test

.PHONY: check
check: lint ## Vet, lint and the unit tests: under a minute when warm
	go vet $(PKG)
	go test -short $(PKG) # in order, so that what has not changed is not run again; make test shuffles

.PHONY: lint
lint: $(LINT) ## Run golangci-lint
	nice $(LINT) run --allow-parallel-runners $(PKG)

.PHONY: fmt
fmt: $(LINT) ## Format all Go files
	$(LINT) fmt

$(LINT): tools/go.mod tools/go.sum
	go -C tools build -buildvcs=false -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: helm-lint
helm-lint: ## Lint and render the Helm chart, and compare with what it rendered before
	go test -count=1 ./internal/deploy/chart

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the binary holds
	go tool -modfile=tools/go.mod govulncheck ./cmd/...

.PHONY: generate
generate: ## Write the generated files anew: reference pages
	go generate ./...

# The Kubernetes of the tests (test/kube): its programs are compiled once.
KUBE := .tools/kube/bin
KUBE_VERSION = $$(sed -n 's/.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' test/kube/components/go.mod)
.PHONY: kube kube-down kube-programs
kube: kube-programs ## Start a Kubernetes of two nodes for tests and for use by hand
	@$(SUDO) $(KUBE)/kube up
kube-down: kube-programs ## Stop it, and remove all that it made
	@$(SUDO) $(KUBE)/kube down

kube-programs: $(KUBE)/kubernetes $(KUBE)/containerd $(KUBE)/runc $(KUBE)/helm
	@go build -buildvcs=false -ldflags '-s -w' -o $(KUBE)/kube ./test/kube/cmd
	@go build -buildvcs=false -ldflags '-s -w' -o $(KUBE)/box ./test/kube/box

$(KUBE)/kubernetes: test/kube/components/go.mod test/kube/components/go.sum test/kube/components/main.go
	v=$(KUBE_VERSION); p=k8s.io/component-base/version; minor=$${v#v1.}; \
	go -C test/kube/components build -buildvcs=false \
		-ldflags "-s -w -X $$p.gitVersion=$$v -X $$p.gitMajor=1 -X $$p.gitMinor=$${minor%.*}" -o ../../../$@ .
	@touch $@

$(KUBE)/containerd: test/kube/components/node/go.mod test/kube/components/node/go.sum test/kube/components/node/coredns/main.go
	go -C test/kube/components/node build -buildvcs=false -ldflags '-s -w' -o ../../../../$(KUBE)/ tool ./coredns
	@touch $@

$(KUBE)/runc: $(EMBED)/runc $(EMBED)/containerd-shim-runc-v2
	@mkdir -p $(KUBE) && cp $^ $(KUBE)/

$(KUBE)/helm: go.mod go.sum # as operators have it
	go build -buildvcs=false -ldflags '-s -w' -o $@ helm.sh/helm/v4/cmd/helm
	@touch $@

.PHONY: lock
lock: ## Renew the pinned Jupyter that images get, from PyPI
	python3 -m venv .tools/uv && .tools/uv/bin/pip install -q uv
	.tools/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.9 --generate-hashes \
		--no-header --no-annotate --overrides internal/recipe/overrides.txt -o internal/recipe/server.txt internal/recipe/server.in
	for f in node deno; do .tools/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.13 --generate-hashes \
		--no-header --no-annotate -o internal/recipe/$$f.txt internal/recipe/$$f.in || exit 1; done
	for name in proxy desktop; do .tools/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.9 --generate-hashes --no-deps \
		--no-header --no-annotate --constraint internal/recipe/server.txt -o internal/recipe/$$name.txt internal/recipe/$$name.in || exit 1; done

.PHONY: bench-kube
bench-kube: setup-test build kube-programs ## Measure a hub on a Kubernetes of this machine, and write bench/kubernetes.json
	BINNACLE_TEST_REQUIRE=all BINNACLE_BENCH_KUBE=bench/kubernetes.json go test -count=1 -timeout 60m -v -run TestBenchKubernetes $(EXEC) ./test/e2e

.PHONY: bench-deploy
bench-deploy: setup-test build kube-programs ## Measure binnacle deploy on a Kubernetes of this machine, and write bench/deploy.json
	BINNACLE_TEST_REQUIRE=all BINNACLE_BENCH_DEPLOY=bench/deploy.json go test -count=1 -timeout 60m -v -run TestBenchDeploy $(EXEC) ./test/e2e

.PHONY: e2e
e2e: setup-test build ## Run the end-to-end tests only
	BINNACLE_TEST_REQUIRE=all go test -count=1 -p 1 -timeout 40m -v $(EXEC) ./test/...

.PHONY: e2e-rust
e2e-rust: setup-test build ## Run the end-to-end test of the Rust kernel, which compiles for minutes
	BINNACLE_TEST_REQUIRE=all BINNACLE_TEST_RUST=1 go test -count=1 -timeout 40m -v -run TestRust $(EXEC) ./test/e2e

.PHONY: bench
bench: setup-test build ## Measure, beside CHP, JupyterHub and repo2docker, and write the figures to bench/
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 60m $(EXEC) ./internal/... | tee bench/go.txt
	$(SUDO) $$(command -v go) run ./bench/proxy -json bench/proxy.json
	$(SUDO) $$(command -v go) run ./bench/launch -out bench/launch.json
	$(SUDO) $$(command -v go) run ./bench/launch -ecosystems -out bench/environments.json

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (15s)
	@for pkg in $$(go list $(PKG)); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

.PHONY: cover
cover: ## Coverage of the unit tests, in cover.html
	go test -short -coverprofile=cover.out $(PKG)
	go tool cover -func=cover.out | tail -1
	go tool cover -html=cover.out -o cover.html

.PHONY: clean
clean: ## Remove what was built; data of a hub is not touched
	rm -rf bin .tools cover.out cover.html $(EMBED)/runc $(EMBED)/containerd-shim-runc-v2

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
