# Everything here needs Go and make; what else a target needs it installs (as
# root, on Debian) or asks for.

.DEFAULT_GOAL := help

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
MODULES      = . test

# The version comes from git above; go build asking git again would fail in a
# checkout that belongs to another user.
export GOFLAGS += -buildvcs=false

GO_TEST = CGO_ENABLED=1 go test -race -timeout 40m
# Tests in test/ run binaries and read other modules, which the cache of go
# test does not see: they always run.

help: ## this list
	@echo 'make TARGET, where TARGET is:'
	@awk -F ' *:.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## a whole cluster in one process, nothing else needed; ARGS="--nodes 5"
	bin/usher dev $(ARGS)

build: ## bin/usher, static
	GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/usher ./cmd/usher

images: ## the container image usher:latest; BUILD_IMAGE= and RUN_IMAGE= replace its bases
	docker build -t usher:latest --build-arg VERSION='$(VERSION)' \
		$(if $(BUILD_IMAGE),--build-arg BUILD_IMAGE='$(BUILD_IMAGE)') \
		$(if $(RUN_IMAGE),--build-arg RUN_IMAGE='$(RUN_IMAGE)') .

test: need-cc need-redis test-js ## all tests of all modules with the race detector, about ten minutes
	$(GO_TEST) ./...
	$(GO_TEST) -count=1 ./test/...

build-js: ## client-sdk/js/dist
	cd client-sdk/js && npm ci --silent && node build.mjs

test-js: build build-js ## the JavaScript SDK: vectors, and cuts against a real node
	@for file in usher.min.js usher-proof.min.js; do cmp client-sdk/js/dist/$$file cmd/usher/demo/$$file || { echo 'make demo-js'; exit 1; }; done
	cd client-sdk/js && node test/build.mjs && node --test test/
	cd client-sdk/js && ../../bin/usher conformance node conformance/client.mjs

demo-js: build-js ## the SDK's script as the demo has it
	cp client-sdk/js/dist/usher.min.js client-sdk/js/dist/usher-proof.min.js cmd/usher/demo/

test-browser: build build-js need-redis need-chromium ## demo and dashboard in headless Chromium; pictures in client-sdk/js/browser/pictures
	cd client-sdk/js && node --test browser/

test-slow: export USHER_SLOW = 1
test-slow: need-tools test ## the same with longer outages and more random schedules, and what needs more tools
	go test -count=1 -timeout 40m ./test/chaos

test-containers: need-redis ## the images and docker-compose.yml in a real engine
	USHER_CONTAINERS=1 go test -count=1 -v -timeout 20m ./test/containers

check: ## formatting, vet, staticcheck, tidy modules; each module by itself
	@out=$$(go run $(GOFUMPT) -l .); test -z "$$out" || { echo "gofumpt -w these:"; echo "$$out"; exit 1; }
	@export GOWORK=off; for dir in $(MODULES); do \
		echo "check $$dir"; cd $$dir && go mod tidy -diff && go build -o /dev/null ./... && go vet ./... && go run $(STATICCHECK) ./... || exit 1; \
	done

fix: ## format all code and tidy all modules, for check to pass
	go run $(GOFUMPT) -w .
	@export GOWORK=off; for dir in $(MODULES); do (cd $$dir && go mod tidy) || exit 1; done

BENCH     ?= .
BENCHTIME ?= 1s
COUNT     ?= 6
bench: need-redis ## Go benchmarks, for benchstat; BENCH=Pick COUNT=6 BENCHTIME=1s
	go test ./... ./test/... -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT)

ONLY ?= .
RUNS ?= 5
bench-peers: build need-redis ## Usher beside HAProxy, nginx, gorilla, gws, Colyseus, Socket.IO: docs/performance.md; ONLY=echo RUNS=5 ARGS="-page="
	@for tool in haproxy:haproxy nginx:nginx-light; do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	test -e /usr/lib/nginx/modules/ngx_stream_module.so || missing="$$missing libnginx-mod-stream"; \
	test -z "$$missing" || .ci/need $$missing
	cd test/peers/js && npm install --silent --no-save
	go build -o bin/peer-server ./test/peers/server
	go run ./test/peers -only '$(ONLY)' -runs $(RUNS) $(ARGS)

# A number of runs and not a time: at the end of a time go test now and then
# fails with «context deadline exceeded», having found nothing.
FUZZTIME ?= 1000000x
fuzz: ## every fuzz target in the tree, each for FUZZTIME=1000000x runs
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | while IFS=: read -r file func; do \
		name=$${func#func }; echo "fuzz $$(dirname $$file) $$name"; \
		go test "$$(dirname $$file)" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

clean: ## remove what was built
	rm -rf bin client-sdk/js/dist client-sdk/js/node_modules

# What tests need besides Go: a C compiler for the race detector, and a real
# Redis.
need-cc:
	@echo '#include <stdlib.h>' | $$(go env CC) -E - >/dev/null 2>&1 || .ci/need gcc libc6-dev

need-redis:
	@command -v redis-server >/dev/null || .ci/need redis-server

# What reads deploy/: nginx, HAProxy, promtool, systemd-analyze; and ip, for hosts.
need-tools:
	@for tool in nginx:nginx-light haproxy:haproxy promtool:prometheus systemd-analyze:systemd ip:iproute2; do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	test -z "$$missing" || .ci/need $$missing

need-chromium:
	@test -x /usr/bin/chromium || .ci/need chromium

.PHONY: help run build build-js demo-js images test test-js test-browser need-chromium need-tools test-slow test-containers check fix bench bench-peers fuzz clean need-cc need-redis
