# The project's tasks. They need Go 1.26 or newer, make, and for make profile perf; they install the other programs.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE       := $(CURDIR)/.cache
PREFIX      ?= /usr/local
FUZZTIME    ?= 10s

# Namespaces and packet sockets need root; compiling does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Root runs the tests, but must not compile; the variables name the compiled binaries and the unpacked servers.
AS_ROOT := $(if $(SUDO),-exec "sudo env PATH=$$PATH NAT64D_BIN=$(CURDIR)/bin NAT64D_CACHE=$(CACHE)")

.DEFAULT_GOAL := help
.PHONY: help build demo test test-long chaos soak test-guest check unit attack fuzz bench bench-quick bench-dns bench-jool profile container guest deps browser install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/nat64d and bin/nat64ctl, static
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

# The archive has the layout of the Open Container Initiative: ctr images import, podman load and kind load image-archive read it.
IMAGE ?= bin/nat64d-image.tar
container: ## write the container image for amd64 and arm64 to IMAGE (bin/nat64d-image.tar)
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/container/$$arch/ ./cmd/... || exit 1; \
	done
	cd deploy/container && go run . -o "$(abspath $(IMAGE))" -version "$(VERSION)" \
		-created "$$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
		linux/amd64="$(CURDIR)/bin/container/amd64" linux/arm64="$(CURDIR)/bin/container/arm64"

demo: build ## show an IPv6-only host and an IPv4-only one communicating, in network namespaces (needs root)
	$(SUDO) bin/nat64d demo $(DEMO)

test: deps build check unit ## all checks and tests, as run by continuous integration (needs root)

check: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w: $$unformatted" >&2; exit 1; fi
	go vet -tags long ./...
	go run $(STATICCHECK) -tags long ./...

# Tests of packages that make networks or measure time run one package at a time, and so do those whose goroutines compete
# for the tables, because the load of others would disturb them. The tables use memory of Go under the race detector and of the
# kernel otherwise, so both are tested.
ALONE := nat64d/\(bib\|daemon\|demo\|dns64\|gateway\|lab\|linux\|session\|state\|table\|test\)\(/\|$$\)
RACE  := CGO_ENABLED=1 go test -race -vet=off -count 1 -timeout 20m
unit: deps build ## the tests, with the race detector (needs root)
	go test -vet=off -count 1 ./table ./bib ./session
	cd deploy/container && go build -o "$(CURDIR)/bin/test/" . && go test -count 1 .
	go build -C test/kubernetes -o "$(CURDIR)/bin/test/" ./seccomp
	$(RACE) $(AS_ROOT) $$(go list ./... | grep -v '$(ALONE)')
	CGO_ENABLED=1 go build -race ./...
	$(RACE) -p 1 $(AS_ROOT) $$(go list ./... | grep '$(ALONE)')

# Tests that take minutes are in files with the build tag long, and their names begin with TestLong.
# CoreDNS takes five minutes to build, the first time, and the types of Kubernetes' API two.
test-long: browser build ## tests that take minutes: floods, hundreds of changes under load, CoreDNS, Kubernetes (needs root)
	go test -C test/kubernetes -count 1 .
	CGO_ENABLED=0 go build -C test/coredns -trimpath -ldflags "-s -w" -o "$(CURDIR)/bin/test/" .
	go test -tags long -p 1 -count 1 -timeout 60m -run '^TestLong' -v $(AS_ROOT) ./...

CHAOS ?= 10m
chaos: deps build ## kill, upgrade and disturb the gateway under load for CHAOS (10m); make test does so for 20 s (needs root)
	CHAOS=$(CHAOS) go test -count 1 -timeout 0 -run '^TestChaos$$' -v $(AS_ROOT) ./test

SOAK ?= 30m
soak: deps build ## make and end 16,000 sessions a second for SOAK (30m), and check memory and counters; make test does so for 60 s (needs root)
	SOAK=$(SOAK) go test -count 1 -timeout 0 -run '^TestSoak$$' -v $(subst NAT64D_BIN,SOAK=$(SOAK) NAT64D_BIN,$(AS_ROOT)) ./test

# Other kernels and systemd, in a guest that QEMU emulates. Such tests are in files with the build tag guest.
test-guest: deps build guest ## tests in a Debian guest: systemd, suspend, links of all kinds, an older kernel (needs root)
	go test -tags guest -count 1 -timeout 60m -run '^TestGuest' -v $(AS_ROOT) ./test/guest

attack: ATTACK ?= 10s
attack: deps build ## flood the gateway in eleven ways and print a table, ten minutes; ATTACK is the duration of a flood (needs root)
	NAT64D_ATTACK=$(ATTACK) go test -tags long -count 1 -timeout 60m -run '^TestLongAttacks$$' -v $(subst NAT64D_BIN,NAT64D_ATTACK=$(ATTACK) NAT64D_BIN,$(AS_ROOT)) ./test

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

bench: deps build ## compare with the kernel and Tayga, three rounds, 20 minutes; BENCH=-help lists flags (needs root)
	go build -o bin/ ./test/bench
	$(SUDO) bin/bench -reps 3 -cache "$(CACHE)" $(BENCH)

bench-quick: deps build ## the same in two minutes, less precise (needs root)
	go build -o bin/ ./test/bench
	$(SUDO) bin/bench -quick -cache "$(CACHE)" $(BENCH)

bench-dns: deps build ## compare DNS64 with BIND and Unbound, two minutes
	scripts/bench-dns bin "$(CACHE)"

bench-jool: deps build guest ## compare with Jool in a Debian guest, 30 minutes; writes docs/jool.md; BENCH=-help lists flags (needs root)
	CGO_ENABLED=0 go build -o bin/ ./test/bench-jool
	$(SUDO) bin/bench-jool -guest "$(CACHE)/guest" -version "$(VERSION)" -page docs/jool.md $(BENCH)

# This build of nat64d keeps its symbols, which the profile needs.
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

guest: ## build the guest of test-guest and bench-jool in .cache/guest, once, 10 minutes (needs root)
	$(SUDO) scripts/guest "$(CACHE)/guest"

deps: ## install or unpack missing programs for the tests (needs root)
	@scripts/deps "$(CACHE)"

browser: ## unpack a browser for the tests of the status page, too (needs root)
	@scripts/deps "$(CACHE)" chromium-headless-shell:chromium-headless-shell

install: build ## copy the programs to PREFIX/sbin (/usr/local)
	install -d "$(DESTDIR)$(PREFIX)/sbin"
	install -m 755 bin/nat64d bin/nat64ctl "$(DESTDIR)$(PREFIX)/sbin/"

clean: ## remove the files that make created
	$(if $(wildcard .cache/guest),$(SUDO)) rm -rf bin .cache
