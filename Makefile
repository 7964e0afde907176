# Everything a newcomer, an operator or the pipeline runs. `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first seed, and how many: one seed alone is a replay.
SEED ?=
SEEDS ?= $(if $(SEED),1,100)
MINUTES ?= 10
# How much longer than in `make test` the crash tests go.
ROUNDS ?= 5
CARGO_DENY_VERSION := 0.20.2
TOOLS := .cache/tools
CARGO_DENY := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
# The advisory database of RustSec. `make deny` says so when it cannot be fetched; it never passes as checked.
ADVISORIES_LOG := .cache/advisories.log

# The Gerrit of the end-to-end tests (3.11.1, 3.12.0, 3.13.5, 3.14.2 run), and the acceptance framework that Maven Central
# has for its release. 3.12's fits the first patch release only.
VERSION ?= 3.13.5
FRAMEWORK_3.11 := 3.11.0
FRAMEWORK_3.12 := 3.12.0
FRAMEWORK_3.13 := 3.13.5
FRAMEWORK_3.14 := 3.13.5
FRAMEWORK := $(FRAMEWORK_$(basename $(VERSION)))
# 3.13's framework lacks a binding that 3.14's server wants.
EXTRA_MODULE_3.14 := com.google.gerrit.server.config.SendEmailEnabledModule
WAR := .cache/gerrit/gerrit-$(VERSION).war
# The module whose jar serves that release.
BRIDGE := gerrit-$(basename $(VERSION))
# The releases of `make gerrit-e2e-rolling`.
FROM ?= 3.12.0
TO ?= 3.13.5
# What the tests run: the Gerrit of a release, and what belongs to it; the second argument ends the variables' names.
kit = LOCKSTEP_GERRIT_VERSION$(2)=$(1) LOCKSTEP_GERRIT_WAR$(2)=$(CURDIR)/.cache/gerrit/gerrit-$(1).war \
  LOCKSTEP_GERRIT_EXTRA_MODULE$(2)=$(EXTRA_MODULE_$(basename $(1))) \
  LOCKSTEP_BRIDGE_JAR$(2)="$$(ls $(CURDIR)/bridge/gerrit-$(basename $(1))/target/lockstep-bridge-gerrit-*.jar)" \
  LOCKSTEP_GERRIT_PLUGIN$(2)=$(CURDIR)/bridge/test-plugin/target/$(1)/test-plugin.jar
GERRIT = LOCKSTEP_GERRIT_JAVA="$$(bridge/find-jdk)/bin/java" $(call kit,$(VERSION),)
# google-java-format, from Maven Central: the formatter of Gerrit's own sources.
JAVA_FORMAT_VERSION := 1.28.0
JAVA_FORMAT_JAR := $(TOOLS)/google-java-format-$(JAVA_FORMAT_VERSION)-all-deps.jar
JAVA_FORMAT = "$$(bridge/find-jdk)/bin/java" -jar $(JAVA_FORMAT_JAR)
JAVA_SOURCES = $(sort $(shell find bridge -name target -prune -o -name '*.java' -print))
MAVEN = JAVA_HOME="$$(bridge/find-jdk)" mvn --batch-mode --no-transfer-progress

.PHONY: help demo test sim crash soak bench bench-gerrit bench-quick bridge bridge-fmt bridge-lint gerrit-war gerrit-e2e gerrit-e2e-rolling gerrit-parts demo-gerrit fmt lint deny docs ci tools

help: ## Say what every target does
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Three sites on this machine: a push at one, seen at the others (needs no cloud)
	cargo run --locked --package lockstep -- demo

test: gerrit-parts ## Every test: units, contracts, simulator, end to end, a change over two real Gerrits, layout
	cargo test --workspace --locked
	$(GERRIT) cargo test --locked --package lockstep-tests --test gerrit a_change_is_reviewed_over_two_sites -- --ignored

sim: tools ## The simulator over many seeds, or a replay of one: make sim SEEDS=1000, make sim SEED=7
	LOCKSTEP_SIM_SEED=$(or $(SEED),1) LOCKSTEP_SIM_SEEDS=$(SEEDS) cargo test --locked --package lockstep-tests --test sim -- --nocapture

crash: tools ## Kills at every failpoint and moment, pauses, power cuts: make crash ROUNDS=20, make crash SEED=7
	LOCKSTEP_CRASH_SEED=$(or $(SEED),1) LOCKSTEP_CRASH_ROUNDS=$(ROUNDS) \
	  cargo test --locked --package lockstep-tests --test e2e -- --nocapture --test-threads 1 crash:: power_cut::

soak: tools ## Simulator and crashes with ever new seeds: make soak MINUTES=60
	end=$$(( SECONDS + $(MINUTES) * 60 )); from=$$(date +%s); \
	while (( SECONDS < end )); do \
	  echo "soak: seeds $$from to $$(( from + $(SEEDS) - 1 ))"; \
	  make --no-print-directory sim crash SEED=$$from SEEDS=$(SEEDS) ROUNDS=$(ROUNDS); \
	  from=$$(( from + $(SEEDS) )); \
	done

IN_GERRIT = $(filter j k l,$(ONLY))
bench: tools $(if $(ONLY),$(if $(IN_GERRIT),bench-gerrit),bench-gerrit) ## Every figure of docs/performance.md, optimised, one JSON line each (40 minutes and the build); one by ONLY=b
	$(if $(IN_GERRIT),,cargo build --release --locked --package lockstep --package lockstep-loadtest)
	$(if $(IN_GERRIT),,target/release/lockstep-loadtest $(if $(ONLY),--only $(ONLY)))

bench-gerrit: gerrit-parts ## The figures j to l, in a real Gerrit with the bridge and without: make bench-gerrit ONLY=j
	cargo build --release --locked --package lockstep
	cargo build --release --locked --package lockstep-loadtest-gerrit
	$(GERRIT) target/release/lockstep-loadtest-gerrit $(if $(ONLY),--only $(ONLY))

bench-quick: tools ## The figures that take seconds: make bench-quick, or some of all: make bench ONLY=b,e
	cargo build --release --locked --package lockstep --package lockstep-loadtest
	target/release/lockstep-loadtest --quick

bridge: tools bridge-lint ## The Gerrit bridge's jars, held against JGit's contract on a real sidecar, for each Gerrit release
	cargo build --locked --package lockstep-tests --bin lockstep-under-test
	$(MAVEN) --file bridge package

bridge-fmt: $(JAVA_FORMAT_JAR) ## Format the bridge's Java sources
	$(JAVA_FORMAT) --replace $(JAVA_SOURCES)

bridge-lint: $(JAVA_FORMAT_JAR) ## Check the bridge's Java sources: format, 100 columns, licence header
	@$(JAVA_FORMAT) --dry-run --set-exit-if-changed $(JAVA_SOURCES) || \
	  { echo 'these Java files are not formatted: run `make bridge-fmt`'; exit 1; }
	@! grep -nE '^.{101,}' $(JAVA_SOURCES) | grep -vE ':import ' || { echo 'these lines have more than 100 columns'; exit 1; }
	@bare=$$(grep -L '^// Copyright (C) 20.. The Lockstep Authors$$' $(JAVA_SOURCES)) || true; \
	[ -z "$$bare" ] || { echo "no licence header: $$bare"; exit 1; }

gerrit-war: $(WAR) ## A Gerrit for the tests, from Maven Central: make gerrit-war VERSION=3.13.5

gerrit-e2e: gerrit-parts ## Real Gerrits with their sidecars: make gerrit-e2e VERSION=3.13.5
	$(GERRIT) cargo test --locked --package lockstep-tests --test gerrit $(ONLY) -- --ignored --nocapture --test-threads 1 \
	  --skip rolling::

gerrit-e2e-rolling: ## Two sites, upgraded one after the other: make gerrit-e2e-rolling FROM=3.12.0 TO=3.13.5
	make --no-print-directory gerrit-parts VERSION=$(FROM)
	make --no-print-directory gerrit-parts VERSION=$(TO)
	LOCKSTEP_GERRIT_JAVA="$$(bridge/find-jdk)/bin/java" $(call kit,$(FROM),) $(call kit,$(TO),_NEXT) \
	  cargo test --locked --package lockstep-tests --test gerrit rolling:: -- --ignored --nocapture

demo-gerrit: gerrit-parts ## Two sites with a real Gerrit each: a change at one, a vote at the other (needs no cloud)
	cargo build --locked --package lockstep-tests --bin lockstep-under-test --bin gerrit-demo
	$(GERRIT) target/debug/gerrit-demo

# What a Gerrit of the tests is made of: its war, the bridge's jar for it, the tests' plugin.
gerrit-parts: $(WAR) tools
	$(MAVEN) --file bridge --projects $(BRIDGE) -DskipTests package
	$(MAVEN) --file bridge/test-plugin package -Dgerrit.version=$(VERSION)

fmt: ## Format the code
	cargo fmt --all

lint: tools ## Formatting and clippy, warnings refused
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: $(CARGO_DENY) ## Licences, banned crates, sources; advisories where their database can be fetched
	$(CARGO_DENY) --locked check licenses bans sources
	@mkdir -p .cache; \
	if $(CARGO_DENY) --locked check advisories > $(ADVISORIES_LOG) 2>&1; then cat $(ADVISORIES_LOG); \
	elif grep -q 'failed to fetch advisory database' $(ADVISORIES_LOG); then \
	  echo 'advisories SKIPPED: the database of RustSec cannot be fetched from here, so nothing was checked against it.'; \
	else cat $(ADVISORIES_LOG); exit 1; fi

docs: ## The API documentation of the workspace, warnings refused
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --locked

ci: ## What the pipeline runs
	.ci/run

tools: ## Install git, a C compiler and mkfs.ext4 where they are absent
	@missing=''; for tool in git gcc; do command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	command -v mkfs.ext4 > /dev/null || missing="$$missing e2fsprogs"; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; apt-get update -qq; apt-get install -y --no-install-recommends $$missing libc6-dev; fi

$(WAR): bridge/war/pom.xml
	@test -n "$(FRAMEWORK)" || { echo 'there is no Gerrit $(VERSION) for the tests'; exit 1; }
	$(MAVEN) --file bridge/war package -Dgerrit.version=$(VERSION) -Dframework.version=$(FRAMEWORK)
	mkdir -p $(@D) && mv bridge/war/target/gerrit-$(VERSION).jar $@
	rm -rf bridge/war/target

# A debug build: the check takes 2 seconds either way, and this compiles in 1 minute, not 5.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$(TOOLS)/build \
	  cargo install --locked --debug --root $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION) cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(TOOLS)/build

$(JAVA_FORMAT_JAR):
	$(MAVEN) --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory=$(CURDIR)/$(TOOLS) \
	  -Dartifact=com.google.googlejavaformat:google-java-format:$(JAVA_FORMAT_VERSION):jar:all-deps
