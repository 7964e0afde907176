# The commands for newcomers, developers and the pipeline. `make` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first seed and the number of seeds. With SEED alone, only that seed runs: a replay.
SEED ?=
SEEDS ?= $(if $(SEED),1,100)
MINUTES ?= 10
# Rounds of the crash tests in addition to the one of `make test`. Of failovers: all rounds, at least three.
ROUNDS ?= 5
# The kills of `make gerrit-kills`. Each takes about half a minute.
KILLS ?= 5
# The failovers of each kind in `make failover-bench`. A pair takes about half a minute.
FAILOVERS ?= 100
# Tests that run at once: half as many again as processors, because many of them wait for processes.
TEST_THREADS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
# Set if `lockstep-under-test` is built already.
BUILT ?=
# The profile of `make load`, and further arguments, such as ARGS='--set load.factor=2'. Only `smoke` takes a build that
# is not optimised.
PROFILE ?= smoke
ARGS ?=
LOAD_BUILD = $(if $(filter smoke,$(PROFILE)),debug,release)
CARGO_DENY_VERSION := 0.20.2
TOOLS := .cache/tools
CARGO_DENY := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
# The log of the check against RustSec's advisory database. If the database cannot be fetched, `make deny` reports that
# the check was skipped.
ADVISORIES_LOG := .cache/advisories.log

# The Gerrit release of the end-to-end tests (3.11.1, 3.12.0, 3.13.5 and 3.14.2 work), and the acceptance framework on
# Maven Central for it. The framework of 3.12 works with 3.12.0 only.
VERSION ?= 3.13.5
FRAMEWORK_3.11 := 3.11.0
FRAMEWORK_3.12 := 3.12.0
FRAMEWORK_3.13 := 3.13.5
FRAMEWORK_3.14 := 3.13.5
FRAMEWORK := $(FRAMEWORK_$(basename $(VERSION)))
# The framework of 3.13 lacks a binding that the server of 3.14 needs.
EXTRA_MODULE_3.14 := com.google.gerrit.server.config.SendEmailEnabledModule
WAR := .cache/gerrit/gerrit-$(VERSION).war
# The Maven module of the bridge for that release.
BRIDGE := gerrit-$(basename $(VERSION))
# The releases between which `make gerrit-e2e-rolling` upgrades.
FROM ?= 3.12.0
TO ?= 3.13.5
# The environment of the tests: the war of a Gerrit release, with the bridge and the plugin for it. The second argument
# is a suffix of the variables' names.
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

# The emulators of `make example-emulators`.
MINISTACK := .cache/examples/ministack-1.5.33/bin/ministack
KINESIS_MOCK := .cache/examples/kinesis-mock-0.6.2/node_modules/kinesis-local/main.js
# AWS's own DynamoDB Local, for `make contract-emulators`: a folder with its jars and native libraries.
DYNAMODB_LOCAL := .cache/emulators/dynamodb-local-2.6.1

# The folder with the programs of another git, for `make git-newer`. Unset, the newest one is built (`tests/newer-git`).
GIT ?=

# The name of the image, and where its jars are collected.
IMAGE ?= localhost/lockstep:dev
IMAGE_JARS := .cache/image/bridge
BUILD_IMAGE = deploy/image/build --bridge $(IMAGE_JARS) --name $(IMAGE) --out .cache/image/lockstep.tar

# The infrastructure pipeline (deploy/pipelines): the environment, the folder with the estates and their stacks, the
# beginning of the stacks' names, and the sites that are deployed first. The commands get {site}, and {way} for traffic.
ENVIRONMENT ?= prod
INFRA ?= deploy/pulumi/program
ORGANIZATION ?= example
WAVES ?=
REPORT ?=
INFRA_VERIFY ?=
INFRA_DRILL ?=
INFRA_TRAFFIC ?=
export INFRA_VERIFY INFRA_DRILL INFRA_TRAFFIC
# The version that ran before, in a work tree of its own.
INFRA_OLD = .cache/infra/$(ENVIRONMENT)
INFRA_ESTATE = --estate $(INFRA)/$(ENVIRONMENT).yaml
INFRA_STACKS = $(INFRA_ESTATE) --stacks $(ORGANIZATION)/$(ENVIRONMENT)- --policy-pack deploy/pulumi/policy-pack \
  --approvals $(INFRA)/approvals/$(ENVIRONMENT).yaml
INFRA_CHECKS = --verify "$$INFRA_VERIFY" $${INFRA_TRAFFIC:+--traffic "$$INFRA_TRAFFIC"}

.PHONY: help demo test sim crash soak git-newer load load-gerrit bench bench-gerrit bench-quick failover-bench \
  bridge bridge-fmt bridge-lint console-test image image-jars image-test deploy-test pulumi-test k8s-e2e gerrit-war \
  gerrit-e2e gerrit-e2e-rolling gerrit-failover gerrit-kills gerrit-parts demo-gerrit examples example-git \
  example-gerrit example-emulators example-parts contract-emulators aws-acceptance fmt lint deny docs ci tools \
  infra-lint infra-unit infra-policy infra-preview infra-promote infra-verify infra-drill infra-rollback

help: ## List all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Run three sites on this machine and replicate pushes between them (needs no cloud)
	cargo run --locked --package lockstep -- demo

test: gerrit-parts ## Run every test but those of a real Gerrit, and one of these: a review over two Gerrits
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --locked --no-fail-fast
	$(GERRIT) cargo test --locked --workspace --test gerrit a_change_is_reviewed_over_two_sites -- --ignored

sim: tools ## Run the simulator over many seeds, or replay one: make sim SEEDS=1000, make sim SEED=7
	LOCKSTEP_SIM_SEED=$(or $(SEED),1) LOCKSTEP_SIM_SEEDS=$(SEEDS) \
	  cargo test --locked --package lockstep-tests --test sim -- --nocapture

deploy-test: ## Test what is in deploy/: chart, Kustomize, schemas, rules, dashboards, and pulumi-test (needs go, python3)
	cargo build --locked --package lockstep-tests --bin lockstep-under-test --package lockstep --example shared-emulators
	deploy/test/run
	deploy/pulumi/run

console-test: ## Check the console in headless Chromium, and write its screenshots: docs/console (needs python3)
	cargo build --locked --package lockstep
	tests/console/run target/debug/lockstep docs/console

pulumi-test: ## Test deploy/pulumi without an engine: format, lint, types, components, rules, rollout (needs go, python3)
	cargo build --locked --package lockstep-tests --bin lockstep-under-test
	deploy/pulumi/run

infra-lint: ## Pipeline: check format, lint and types of the infrastructure's program (needs python3)
	deploy/pulumi/run lint

infra-unit: ## Pipeline: test the infrastructure's program, without an engine (needs python3, go)
	deploy/pulumi/run -k "not rules"

infra-policy: ## Pipeline: hold the rules against their cases and against the estates
	deploy/pulumi/run -k rules

infra-preview: ## Pipeline: preview an environment; the blast radius goes to REPORT. Losses need approval (needs pulumi)
	deploy/pulumi/run deploy preview $(INFRA_STACKS) --new $(INFRA) $(if $(REPORT),--report $(REPORT))

infra-promote: ## Pipeline: deploy to an environment, verify each site, go back on a failure (needs pulumi)
	deploy/pipelines/deployed checkout $(ENVIRONMENT) now $(INFRA_OLD)
	deploy/pulumi/run deploy rollout $(INFRA_STACKS) $(INFRA_CHECKS) --new $(INFRA) \
	  $$([ ! -d $(INFRA_OLD) ] || echo --old $(INFRA_OLD)/$(INFRA)) $(foreach wave,$(WAVES),--wave $(wave))
	deploy/pipelines/deployed record $(ENVIRONMENT)

infra-verify: ## Pipeline: check every site of an environment by INFRA_VERIFY
	deploy/pulumi/run deploy verify $(INFRA_ESTATE) --verify "$$INFRA_VERIFY"

infra-drill: ## Pipeline: take a drill of a failover in an environment by INFRA_DRILL
	deploy/pulumi/run deploy drill $(INFRA_ESTATE) --drill "$$INFRA_DRILL"

infra-rollback: ## Pipeline: deploy the version before to an environment, and verify each site (needs pulumi)
	deploy/pipelines/deployed checkout $(ENVIRONMENT) before $(INFRA_OLD)
	deploy/pulumi/run deploy rollback $(INFRA_STACKS) $(INFRA_CHECKS) --old $(INFRA_OLD)/$(INFRA)
	deploy/pipelines/deployed record $(ENVIRONMENT) back

crash: tools ## Run the crash tests (kills, pauses, power cuts, failovers, moves): make crash ROUNDS=20, make crash SEED=7
	LOCKSTEP_CRASH_SEED=$(or $(SEED),1) LOCKSTEP_CRASH_ROUNDS=$(ROUNDS) \
	  cargo test --locked --package lockstep-tests --test e2e -- --nocapture --test-threads 1 \
	  crash:: power_cut:: failover_rounds:: move_refdb::

soak: tools ## Run simulator and crash tests with new seeds for a given time: make soak MINUTES=60
	cargo test --locked --package lockstep-tests --test e2e -- --ignored --nocapture --test-threads 1 \
	  large:: throttled:: silent:: power_cut:: seed::
	end=$$(( SECONDS + $(MINUTES) * 60 )); from=$$(date +%s); \
	while (( SECONDS < end )); do \
	  echo "soak: seeds $$from to $$(( from + $(SEEDS) - 1 ))"; \
	  make --no-print-directory sim crash SEED=$$from SEEDS=$(SEEDS) ROUNDS=$(ROUNDS); \
	  from=$$(( from + $(SEEDS) )); \
	done

# The tests whose outcome depends on git. Cargo itself keeps the PATH: another one would build parts anew.
git-newer: tools ## Run the tests that depend on git with another one: make git-newer GIT=/opt/git/bin (or it is built)
	bin=$$(realpath "$(or $(GIT),$$(tests/newer-git .cache))"); "$$bin/git" --version; failed=0; \
	run() { cargo test --locked --no-fail-fast \
	  --config "target.'cfg(all())'.runner = ['env', 'PATH=$$bin:$$PATH']" --package "$$@" || failed=1; }; \
	run lockstep-proto --test bad_names; \
	run lockstep-tests --test odd_objects --test git_local --test hooks; \
	run lockstep-tests --test e2e -- --include-ignored odd_objects:: receive:: seed::; \
	exit $$failed

load: tools ## Run the load test on this machine: make load (a minute), make load PROFILE=100k (10 minutes and the build)
	cargo build $(if $(filter release,$(LOAD_BUILD)),--release) --locked --package lockstep --package lockstep-loadtest
	target/$(LOAD_BUILD)/lockstep-loadtest run $(PROFILE) $(ARGS) --out .cache/load/$(PROFILE)-$$(date +%s)

load-gerrit: gerrit-parts ## Run the load test on three real Gerrits: make load-gerrit (2 minutes), make load-gerrit PROFILE=100k
	cargo build $(if $(filter release,$(LOAD_BUILD)),--release) --locked --package lockstep
	cargo build $(if $(filter release,$(LOAD_BUILD)),--release) --locked --package lockstep-loadtest-gerrit
	$(GERRIT) target/$(LOAD_BUILD)/lockstep-loadtest-gerrit run $(PROFILE) $(ARGS) \
	  --out .cache/load/gerrit-$(PROFILE)-$$(date +%s)

IN_GERRIT = $(filter j k l,$(ONLY))
BEFORE_BENCH = $(if $(ONLY),$(if $(IN_GERRIT),bench-gerrit),bench-gerrit)
bench: tools $(BEFORE_BENCH) ## Measure all figures of docs/performance.md (an hour and the build), or some: ONLY=b,e
	$(if $(IN_GERRIT),,cargo build --release --locked --package lockstep --package lockstep-loadtest)
	$(if $(IN_GERRIT),,target/release/lockstep-loadtest bench $(if $(ONLY),--only $(ONLY)))

failover-bench: tools ## Measure failovers of three sites under load, planned and forced: make failover-bench FAILOVERS=100
	cargo build --release --locked --package lockstep --package lockstep-loadtest
	FAILOVERS=$(FAILOVERS) target/release/lockstep-loadtest bench --only o

bench-gerrit: gerrit-parts ## Measure figures j to l in a real Gerrit, with the bridge and without: ONLY=j
	cargo build --release --locked --package lockstep
	cargo build --release --locked --package lockstep-loadtest-gerrit
	$(GERRIT) target/release/lockstep-loadtest-gerrit $(if $(ONLY),--only $(ONLY))

bench-quick: tools ## Measure the figures that take seconds, r to u with tiny sizes; or some: ONLY=r
	cargo build --release --locked --package lockstep --package lockstep-loadtest
	target/release/lockstep-loadtest bench --quick $(if $(ONLY),--only $(ONLY))

bridge: tools bridge-lint ## Build the bridge for each Gerrit release, and test it against JGit's contract on a real sidecar
	$(if $(BUILT),,cargo build --locked --package lockstep-tests --bin lockstep-under-test)
	$(MAVEN) --threads 2 --file bridge package

bridge-fmt: $(JAVA_FORMAT_JAR) ## Format the bridge's Java sources
	$(JAVA_FORMAT) --replace $(JAVA_SOURCES)

bridge-lint: $(JAVA_FORMAT_JAR) ## Check the bridge's Java sources: format, 100 columns, licence header
	@$(JAVA_FORMAT) --dry-run --set-exit-if-changed $(JAVA_SOURCES) || \
	  { echo 'these Java files are not formatted: run `make bridge-fmt`'; exit 1; }
	@! grep -nE '^.{101,}' $(JAVA_SOURCES) | grep -vE ':import ' || \
	  { echo 'these lines have more than 100 columns'; exit 1; }
	@bare=$$(grep -L '^// Copyright (C) 20.. The Lockstep Authors$$' $(JAVA_SOURCES)) || true; \
	[ -z "$$bare" ] || { echo "no licence header: $$bare"; exit 1; }

gerrit-war: $(WAR) ## Assemble a Gerrit for the tests from Maven Central: make gerrit-war VERSION=3.13.5

gerrit-e2e: gerrit-parts ## Run the tests of real Gerrits with their sidecars: make gerrit-e2e VERSION=3.13.5
	$(GERRIT) cargo test --locked --package lockstep-tests --test gerrit $(ONLY) -- \
	  --ignored --nocapture --test-threads 1 --skip rolling:: --skip kills::

gerrit-kills: gerrit-parts ## Kill real Gerrits at random while users edit: make gerrit-kills KILLS=200 SEED=7
	LOCKSTEP_CRASH_SEED=$(or $(SEED),1) LOCKSTEP_KILLS=$(KILLS) $(GERRIT) cargo test --locked --package lockstep-tests \
	  --test gerrit kills:: -- --ignored --nocapture

gerrit-failover: gerrit-parts ## Fail over between real Gerrits under load: make gerrit-failover ROUNDS=4 SEED=7
	LOCKSTEP_CRASH_SEED=$(or $(SEED),1) LOCKSTEP_ROUNDS=$(ROUNDS) $(GERRIT) cargo test --locked \
	  --package lockstep-tests --test gerrit failover::users -- --ignored --nocapture

gerrit-e2e-rolling: ## Test a rolling upgrade of two sites: make gerrit-e2e-rolling FROM=3.12.0 TO=3.13.5
	make --no-print-directory gerrit-parts VERSION=$(FROM)
	make --no-print-directory gerrit-parts VERSION=$(TO)
	LOCKSTEP_GERRIT_JAVA="$$(bridge/find-jdk)/bin/java" $(call kit,$(FROM),) $(call kit,$(TO),_NEXT) \
	  cargo test --locked --package lockstep-tests --test gerrit rolling:: -- --ignored --nocapture

demo-gerrit: gerrit-parts ## Run two sites with a real Gerrit each: change at one, vote at the other (needs no cloud)
	cargo build --locked --package lockstep-tests --bin lockstep-under-test --bin gerrit-demo
	$(GERRIT) target/debug/gerrit-demo

examples: example-git example-gerrit example-emulators ## Every example of examples/, each checks its own result

example-git: example-parts ## Two plain git sites on this machine; STAY=1 keeps them running
	examples/git/run

example-gerrit: example-parts gerrit-parts ## Two Gerrit sites on this machine; STAY=1 keeps them running
	$(GERRIT) examples/gerrit/run

example-emulators: example-parts gerrit-parts $(MINISTACK) $(KINESIS_MOCK) ## Both over emulators in processes of their own
	MINISTACK=$(CURDIR)/$(MINISTACK) KINESIS_MOCK=$(CURDIR)/$(KINESIS_MOCK) $(GERRIT) examples/emulators/run

contract-emulators: tools $(DYNAMODB_LOCAL) $(KINESIS_MOCK) ## Run the contract suites over DynamoDB Local and kinesis-mock: ONLY=slots
	cargo build --locked --package lockstep-tests --bin aws-acceptance
	DYNAMODB_LOCAL=$(CURDIR)/$(DYNAMODB_LOCAL) KINESIS_MOCK=$(CURDIR)/$(KINESIS_MOCK) \
	  LOCKSTEP_AWS_ACCEPTANCE_ONLY="$(ONLY)" tests/emulators/run

aws-acceptance: ## Run the contract suites over real AWS: LOCKSTEP_AWS_ACCEPTANCE_PREFIX=acme-test-, YES=1 (docs/emulators.md)
	@test -n "$$LOCKSTEP_AWS_ACCEPTANCE_PREFIX" || { echo 'refused: LOCKSTEP_AWS_ACCEPTANCE_PREFIX is not set'; exit 64; }
	cargo build --locked --package lockstep-tests --bin aws-acceptance
	LOCKSTEP_AWS_ACCEPTANCE_ONLY="$(ONLY)" target/debug/aws-acceptance

# The parts of every example: the command, and the emulators of `[embedded]` as a program of their own.
example-parts: tools
	cargo build --locked --package lockstep --bin lockstep --example shared-emulators

# The parts of a Gerrit for the tests: its war, the bridge's jar, and the plugin of the tests.
gerrit-parts: $(WAR) tools
	$(MAVEN) --file bridge --projects $(BRIDGE) -DskipTests package
	$(MAVEN) --file bridge/test-plugin package -Dgerrit.version=$(VERSION)

image: image-jars ## Build the OCI image of the sidecar, .cache/image/lockstep.tar: make image IMAGE=registry/lockstep:1
	program=$$(deploy/image/binary); $(BUILD_IMAGE) --program "$$program"

image-test: image-jars ## Check the image: two builds have one digest, no shell, no emulators, no rights, a read-only root
	program=$$(deploy/image/binary); deploy/image/test "$$program" $(IMAGE_JARS)

image-jars: tools
	$(MAVEN) --file bridge -DskipTests package
	mkdir -p $(IMAGE_JARS) && rm -f $(IMAGE_JARS)/*.jar
	cp bridge/gerrit-*/target/lockstep-bridge-gerrit-*.jar $(IMAGE_JARS)/

k8s-e2e: image-jars gerrit-parts ## Run sites on a real Kubernetes on this machine, as root: make k8s-e2e ONLY=outage STAY=1
	$(GERRIT) deploy/k8s-e2e/run $(if $(ONLY),-k $(ONLY))

fmt: ## Format the code
	cargo fmt --all

lint: tools ## Check formatting, and run clippy; every warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: $(CARGO_DENY) ## Check licences, banned crates and sources, and advisories if their database can be fetched
	$(CARGO_DENY) --locked check licenses bans sources
	@mkdir -p .cache; \
	if $(CARGO_DENY) --locked check advisories > $(ADVISORIES_LOG) 2>&1; then cat $(ADVISORIES_LOG); \
	elif grep -q 'failed to fetch advisory database' $(ADVISORIES_LOG); then \
	  echo 'advisories SKIPPED: the RustSec database cannot be fetched from here, so advisories were not checked.'; \
	else cat $(ADVISORIES_LOG); exit 1; fi

docs: ## Build the API documentation of the workspace; every warning is an error
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --locked

ci: ## Run the pipeline
	.ci/run

tools: ## Install git, a C compiler, mkfs.ext4 and mkfs.xfs if they are missing
	@missing=''; for tool in git gcc; do command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	command -v mkfs.ext4 > /dev/null || missing="$$missing e2fsprogs"; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; apt-get update -qq; \
	  apt-get install -y --no-install-recommends $$missing libc6-dev; \
	fi
	@command -v mkfs.xfs > /dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends xfsprogs; } || \
	  echo 'xfsprogs cannot be installed: the test of copies by reflink will say NOT RUN'

$(WAR): bridge/war/pom.xml
	@test -n "$(FRAMEWORK)" || { echo 'VERSION=$(VERSION): the tests need a Gerrit of 3.11 to 3.14'; exit 1; }
	$(MAVEN) --file bridge/war package -Dgerrit.version=$(VERSION) -Dframework.version=$(FRAMEWORK)
	mkdir -p $(@D) && mv bridge/war/target/gerrit-$(VERSION).jar $@
	rm -rf bridge/war/target

# A debug build compiles in 1 minute, a release build in 5. The check takes 2 seconds with either.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$(TOOLS)/build \
	  cargo install --locked --debug --root $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION) cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(TOOLS)/build

$(MINISTACK): examples/emulators/requirements.txt
	python3 -m venv .cache/examples/ministack-1.5.33
	.cache/examples/ministack-1.5.33/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(KINESIS_MOCK):
	npm install --silent --no-save --prefix .cache/examples/kinesis-mock-0.6.2 kinesis-local@0.6.2

$(DYNAMODB_LOCAL): tests/emulators/pom.xml
	rm -rf $@ $@.part
	$(MAVEN) --quiet --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$@.part
	touch $@.part && mv $@.part $@

$(JAVA_FORMAT_JAR):
	$(MAVEN) --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory=$(CURDIR)/$(TOOLS) \
	  -Dartifact=com.google.googlejavaformat:google-java-format:$(JAVA_FORMAT_VERSION):jar:all-deps
