# The project's tasks. Go 1.26 or newer and make are all that has to be there, and perf for make profile; the rest is fetched.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE       := $(CURDIR)/.cache
PREFIX      ?= /usr/local
FUZZTIME    ?= 10s

# Namespaces and packet sockets need root; compiling does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# A test that runs as root must not compile as root, so it is given the binaries and the place of the servers.
AS_ROOT := $(if $(SUDO),-exec "sudo env PATH=$$PATH NAT64D_BIN=$(CURDIR)/bin NAT64D_CACHE=$(CACHE)")

.DEFAULT_GOAL := help
.PHONY: help build demo test test-long check unit fuzz bench bench-quick bench-dns profile deps install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/nat64d and bin/nat64ctl, static
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

demo: build ## watch an IPv6-only host talk to an IPv4-only one, in namespaces of its own (needs root)
	$(SUDO) bin/nat64d demo $(DEMO)

test: deps build check unit ## everything that has to hold: what continuous integration runs (needs root)

check: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w: $$unformatted" >&2; exit 1; fi
	go vet -tags long ./...
	go run $(STATICCHECK) -tags long ./...

# One package at a time: the end-to-end tests measure loss, and a neighbour's load would be measured with it. The tables get
# their memory from Go under the race detector and from the kernel otherwise, so they are tested both ways.
unit: deps build ## the tests alone, under the race detector (needs root)
	go test -count 1 ./table ./bib ./session
	CGO_ENABLED=1 go build -race ./...
	CGO_ENABLED=1 go test -race -p 1 -count 1 -timeout 20m $(AS_ROOT) ./...

# Tests that take minutes are in files with the build tag long, and their names begin with TestLong.
test-long: deps build ## the tests that take minutes: floods, hundreds of changes under load (needs root)
	go test -tags long -p 1 -count 1 -timeout 60m -run '^TestLong' -v $(AS_ROOT) ./...

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

bench: deps build ## measure beside the kernel and Tayga, three times, a quarter of an hour; BENCH=-help lists flags (needs root)
	go build -o bin/ ./test/bench
	$(SUDO) bin/bench -reps 3 -cache "$(CACHE)" $(BENCH)

bench-quick: deps build ## the same in two minutes, less exact (needs root)
	go build -o bin/ ./test/bench
	$(SUDO) bin/bench -quick -cache "$(CACHE)" $(BENCH)

bench-dns: deps build ## measure DNS64 beside BIND and Unbound, two minutes
	scripts/bench-dns bin "$(CACHE)"

# nat64d is built with its symbols here, or the profile would have no names.
profile: deps ## CPU profiles of nat64d under load, kernel included, and of its Go benchmarks, in .cache/profile (needs root)
	mkdir -p "$(CACHE)/profile"
	CGO_ENABLED=0 go build -o "$(CACHE)/profile/" ./cmd/nat64d ./test/bench
	$(SUDO) "$(CACHE)/profile/bench" -cache "$(CACHE)" -bin "$(CACHE)/profile" -profile "$(CACHE)/profile"
	go test -run '^$$' -bench . -cpuprofile "$(CACHE)/profile/gateway.pprof" -o "$(CACHE)/profile/gateway.test" ./gateway
	@for load in udp tcp; do \
		echo "$$load:"; \
		$(SUDO) perf report -i "$(CACHE)/profile/$$load.perf" --stdio --no-children -g none 2>/dev/null | grep -v '^#' | grep . | head -n 25; \
	done
	go tool pprof -top -nodecount 15 "$(CACHE)/profile/gateway.test" "$(CACHE)/profile/gateway.pprof"

deps: ## get the programs that the tests use, if they are missing (needs root)
	@scripts/deps "$(CACHE)"

install: build ## copy the programs to PREFIX/sbin (/usr/local)
	install -d "$(DESTDIR)$(PREFIX)/sbin"
	install -m 755 bin/nat64d bin/nat64ctl "$(DESTDIR)$(PREFIX)/sbin/"

clean: ## remove what make made
	rm -rf bin .cache
