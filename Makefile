# All targets need Go and make. A target that needs another tool installs it (as
# root on Debian), or names it.

.DEFAULT_GOAL := help

COMMIT      ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
MODULES      = . test

# The commit comes from git above. The go command must not ask git: that fails in a
# checkout that belongs to another user.
export GOFLAGS += -buildvcs=false

GO_TEST = CGO_ENABLED=1 go test -race -timeout 40m

help: ## this list
	@echo 'make TARGET, where TARGET is:'
	@awk -F ' *:.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## a cluster in one process, without Redis; ARGS="--nodes 5"
	bin/usher dev $(ARGS)

build: ## bin/usher and bin/usher-bench, static
	GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X github.com/usher-broker/usher/broker/process.commit=$(COMMIT)' -o bin/ ./cmd/usher ./cmd/usher-bench

images: ## the container image usher:latest; BUILD_IMAGE= and RUN_IMAGE= replace its bases
	docker build -t usher:latest --build-arg COMMIT='$(COMMIT)' \
		--build-arg VERSION="$$(sed -n 's/^const Version = "\(.*\)"$$/\1/p' proto/version.go)" \
		$(if $(BUILD_IMAGE),--build-arg BUILD_IMAGE='$(BUILD_IMAGE)') \
		$(if $(RUN_IMAGE),--build-arg RUN_IMAGE='$(RUN_IMAGE)') .

# The tests in test/ run binaries and read files that the cache of go test does not
# see, so they always run.
test: need-cc need-redis test-js ## all tests with the race detector, about ten minutes
	$(GO_TEST) ./...
	$(GO_TEST) -count=1 ./test/...

build-js: ## client-sdk/js/dist
	cd client-sdk/js && npm ci --silent && node build.mjs

test-js: build build-js ## tests of the JavaScript SDK: vectors, and cuts against a real node
	@for file in usher.min.js usher-proof.min.js; do cmp client-sdk/js/dist/$$file cmd/usher/demo/$$file || { echo 'make demo-js'; exit 1; }; done
	cd client-sdk/js && node test/build.mjs && node --test test/
	cd client-sdk/js && ../../bin/usher conformance node conformance/client.mjs

demo-js: build-js ## copy the SDK's script to the demo
	cp client-sdk/js/dist/usher.min.js client-sdk/js/dist/usher-proof.min.js cmd/usher/demo/

test-browser: build build-js need-redis need-chromium ## tests of demo and dashboard in headless Chromium; pictures in client-sdk/js/browser/pictures
	cd client-sdk/js && node --test browser/

# Packages whose tests do more with USHER_SLOW. "make test" covers the others.
SLOW = $(shell grep -rl --include='*_test.go' USHER_SLOW . | xargs -n1 dirname | sort -u)

test-slow: export USHER_SLOW = 1
test-slow: need-cc need-redis need-tools ## tests with longer outages, more random schedules and more tools
	$(GO_TEST) -count=1 $(SLOW)
	go test -count=1 -timeout 40m ./test/chaos
	USHER_SLOW= go test -tags lockorder -count=1 -timeout 40m ./node/... ./test/chaos

test-containers: need-redis ## tests of the image and docker-compose.yml in a Docker engine
	USHER_CONTAINERS=1 go test -count=1 -v -timeout 20m ./test/containers

# Writes all checksums to go.work.sum that any go command in the workspace could add, so
# that no later command changes it.
WORK_SUM = go mod download && go list -m all >/dev/null

check: ## formatting, vet, staticcheck, tidy modules; each module without the workspace
	@out=$$(go run $(GOFUMPT) -l .); test -z "$$out" || { echo "gofumpt -w these:"; echo "$$out"; exit 1; }
	@export GOWORK=off; for dir in $(MODULES); do \
		echo "check $$dir"; cd $$dir && go mod tidy -diff && go build -o /dev/null ./... && go vet ./... && go run $(STATICCHECK) ./... || exit 1; \
	done
	@before=$$(cksum <go.work.sum); $(WORK_SUM) && test "$$before" = "$$(cksum <go.work.sum)" || { echo 'go.work.sum was not complete and has changed: commit it'; exit 1; }

fix: ## format all code and tidy all modules
	go run $(GOFUMPT) -w .
	@export GOWORK=off; for dir in $(MODULES); do (cd $$dir && go mod tidy) || exit 1; done
	rm -f go.work.sum && $(WORK_SUM)

BENCH     ?= .
BENCHTIME ?= 1s
COUNT     ?= 6
bench: need-redis ## Go benchmarks, in the format of benchstat; BENCH=Pick COUNT=6 BENCHTIME=1s
	go test ./... ./test/... -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT)

ONLY ?= .
RUNS ?= 5
bench-peers: build need-redis ## compare with HAProxy, nginx, gorilla, gws, Colyseus, Socket.IO: docs/performance.md; ONLY=echo RUNS=5 ARGS="-page="
	@for tool in haproxy:haproxy nginx:nginx-light; do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	test -e /usr/lib/nginx/modules/ngx_stream_module.so || missing="$$missing libnginx-mod-stream"; \
	test -z "$$missing" || .ci/need $$missing
	cd test/peers/js && npm install --silent --no-save
	go build -o bin/peer-server ./test/peers/server
	go run ./test/peers -only '$(ONLY)' -runs $(RUNS) $(ARGS)

bench-before: build need-redis ## the same cases, with this build and that of an earlier commit: REV=main~1 ONLY=echo RUNS=5
	@test -n '$(REV)' || { echo 'make bench-before REV=COMMIT'; exit 1; }
	@dir=$$(mktemp -d); trap 'git worktree remove --force "$$dir"' EXIT; \
	git worktree add --quiet --detach "$$dir" '$(REV)' && $(MAKE) -C "$$dir" build && \
	go run ./test/peers -before "$$dir/bin" -only '$(ONLY)' -runs $(RUNS)

# A number of runs, not a time: with a time limit go test sometimes fails with
# "context deadline exceeded" at the end, without a finding.
FUZZTIME ?= 1000000x
fuzz: ## run each fuzz target FUZZTIME=1000000x times
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | while IFS=: read -r file func; do \
		name=$${func#func }; echo "fuzz $$(dirname $$file) $$name"; \
		go test "$$(dirname $$file)" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

set-version: ## set the version of the next release: VERSION=0.1.0; docs/RELEASING.md
	.ci/set-version "$$VERSION"

release-check: ## check that this commit can be released; DEV=1 accepts a -dev version
	.ci/release-check

clean: ## remove what was built
	rm -rf bin client-sdk/js/dist client-sdk/js/node_modules

# Tools that the tests need: a C compiler for the race detector, and Redis.
need-cc:
	@echo '#include <stdlib.h>' | $$(go env CC) -E - >/dev/null 2>&1 || .ci/need gcc libc6-dev

need-redis:
	@command -v redis-server >/dev/null || .ci/need redis-server

# Tools that check the files in deploy/, and ip, for tests with several hosts.
need-tools:
	@for tool in nginx:nginx-light haproxy:haproxy promtool:prometheus systemd-analyze:systemd ip:iproute2; do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	test -z "$$missing" || .ci/need $$missing

need-chromium:
	@test -x /usr/bin/chromium || .ci/need chromium

.PHONY: help run build build-js demo-js images test test-js test-browser need-chromium need-tools test-slow test-containers check fix bench bench-peers bench-before fuzz clean need-cc need-redis set-version release-check
