# Mitschnitt: every entry point a newcomer needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Debian 12 packages: what the build links, what demo and tests use as a second opinion, and the font of the name labels.
PACKAGES := ca-certificates ffmpeg fonts-dejavu-core libavcodec-dev libavfilter-dev libavformat-dev libavutil-dev \
            libcurl4-openssl-dev libebur128-dev libopus-dev libsqlite3-dev libsrtp2-dev curl libswresample-dev libswscale-dev mkvtoolnix pkg-config python3-aiosmtpd
# What only the tests use.
TEST_PACKAGES := chromium
BIN := .build/release

.PHONY: help install install-for-tests build demo test torture fuzz bench clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

define add_packages
@missing=""; for p in $(1); do \
  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then \
  as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
  echo "installing:$$missing"; \
  $$as_root apt-get update -qq; \
  DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

install: ## the Debian packages that are missing (as root, or through sudo)
	$(call add_packages,$(PACKAGES))
	@command -v swift >/dev/null || { echo "no Swift toolchain: install Swift 6.3 from https://www.swift.org/install/linux/"; exit 1; }

install-for-tests: install
	$(call add_packages,$(TEST_PACKAGES))

build: install ## .build/release/mitschnitt and mitschnitt-stage
	@swift build -c release --product mitschnitt
	@swift build -c release --product mitschnitt-stage

demo: build ## the main job on Fixtures, end to end, with every promise measured
	@$(BIN)/mitschnitt demo

# Rendering while a recording runs stands back for everything else: its tests need a machine that is not busy with all the others. A browser
# takes the machine from everybody else's.
LIVE := LiveTests|LiveInterruptionTests
PAGES := PageTests
test: install-for-tests ## every test
	@swift build --build-tests
	@SWIFT_BACKTRACE=enable=no swift test --skip-build --skip '$(LIVE)|$(PAGES)'
	@SWIFT_BACKTRACE=enable=no swift test --skip-build --filter '$(LIVE)'
	@SWIFT_BACKTRACE=enable=no swift test --skip-build --filter '$(PAGES)'

torture: install-for-tests ## random histories against the rules of consent, a hundred million packets through emulated networks, and kill -9, EIO or a full disk at every system call of erasure and of a pipeline
	@swift build --build-tests
	@MITSCHNITT_KILLS=all SWIFT_BACKTRACE=enable=no swift test --skip-build --filter KillTests
	@swift build -c release --product mitschnitt-torture
	@$(BIN)/mitschnitt-torture --jobs 100000
	@$(BIN)/mitschnitt-torture --histories '0..<5000' & other=$$!; $(BIN)/mitschnitt-torture --histories '5000..<10000' && wait $$other
	@$(BIN)/mitschnitt-torture --seeds '0..<50' & other=$$!; $(BIN)/mitschnitt-torture --seeds '50..<100' && wait $$other

SECONDS := 600
TARGETS := rtp rtcp sdp sound vp8 vp9 h264 h265 av1 depacketizer capture matroska
fuzz: ## each parser under libFuzzer and the address sanitizer: SECONDS=600 each, TARGETS="rtp sdp"
	@Tests/Fuzz/run.sh $(SECONDS) $(TARGETS)

bench: build ## figures beside the peers'
	@swift build -c release --product mitschnitt-bench
	@$(BIN)/mitschnitt-bench

clean: ## remove what was built
	@rm -rf .build
