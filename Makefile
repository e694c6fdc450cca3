# One short command per task. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
E2E := cargo run --quiet --package tierce-e2e --
# The layers of `make test`: what waits beside what computes, unit tests beside guests and clusters beside guests.
LAYERS := test-unit+test-sanity test-lab+test-cluster,test-guests

.PHONY: help
help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The harness itself, with Cargo saying how far it is: on a new machine that takes minutes.
.PHONY: harness
harness:
	@cargo build --package tierce-e2e

.PHONY: setup
setup: ## Install the Debian packages and build the cluster tools (as root; else it says what to run)
	@e2e/setup.sh
	@$(MAKE) --no-print-directory harness
	@$(E2E) tools

# Said before the set-up, which takes minutes and which the program's own check comes after.
.PHONY: root
root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'this needs root, for namespaces, mounts and loop devices: run it with sudo' >&2; exit 1; }

.PHONY: demo
demo: root setup ## The main job on a real local Kubernetes, told in at most 60 lines
	@$(E2E) demo

.PHONY: demo-lvm
demo-lvm: root setup ## A volume group on a node with a kernel of its own: encryption, a snapshot, an accident, the way back
	@$(E2E) demo --disks

.PHONY: check
check: ## Formatting, lints, licences of dependencies, generated files, the chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo 'skipped: licences and sources of dependencies: cargo-deny is missing (cargo install --locked cargo-deny)'; fi
	@if cargo tree --package tierce-csi --package tierce-controller --edges normal,features | grep 'fail feature "failpoints"'; \
	then echo 'the fault points of the tests would be built into the programs'; exit 1; fi
	cargo test --quiet --workspace --test generated
	@$(E2E) tools helm && HELM="$$($(E2E) tools --print-dir)/helm" charts/tierce/check.sh

.PHONY: package
package: ## The chart as one file in target/, for `helm push` to a registry of yours
	@$(E2E) tools helm && "$$($(E2E) tools --print-dir)/helm" package charts/tierce --destination target

.PHONY: test
test: ## Every layer that this machine can run; each skipped one is named; ends with a table of seconds, and how busy the cores were
	@e2e/stages.sh --table setup programs $(LAYERS)

# Before the layers, which would wait for Cargo's lock.
.PHONY: programs
programs: ## Build all that the tests start
	@$(E2E) programs

.PHONY: test-unit
test-unit: ## Pure tests, handlers over the simulator; as root also images, filesystems and mounts on this kernel
	@$(E2E) unit

.PHONY: test-crash
test-crash: ## The long run of faults at every side effect: 12,000 over the simulator, and as root 960 over images
	TIERCE_FAULT_TIMES=20 cargo test --package tierce-engine --test faults -- --nocapture

.PHONY: test-crash-lvm
test-crash-lvm: ## The long run of faults over LVM, plain and encrypted, in guests: 384 (half an hour)
	TIERCE_FAULT_TIMES=30 $(E2E) lab suite lab::lvm_faults

.PHONY: test-lab
test-lab: ## The engine and the host's volumes on kernels of user-mode Linux guests: device-mapper, LVM, encryption; 52 power cuts
	@$(E2E) lab suite
	@$(E2E) lab power-cuts

.PHONY: test-sharing
test-sharing: ## Volumes that other nodes mount: the kernel's NFS server and client in guests, of this machine's Linux and of the lab's newer one
	@$(E2E) lab suite lab::sharing
	@TIERCE_LAB_KERNEL=installed $(E2E) lab suite lab::sharing

.PHONY: test-sanity
test-sanity: ## csi-sanity against the real programs, etcd and kube-apiserver: over the simulator, LVM in guests, and as root images
	@$(E2E) sanity

.PHONY: test-sanity-lvm
test-sanity-lvm: ## csi-sanity over LVM thin and thick, each access type plain and encrypted, instead of each pair
	@$(E2E) sanity --over lvm --every

.PHONY: test-power
test-power: ## 200 power cuts in the middle of the engine's operations, over LVM and LUKS
	@$(E2E) lab power-cuts --cuts 200

.PHONY: test-archives
test-archives: ## Every writer of archives × dialect × content × verb × filesystem × user × compression, instead of each pair (root; half an hour)
	TIERCE_MATRIX=full cargo test --package tierce --test archive_matrix -- --nocapture

.PHONY: test-long
test-long: ## The five long runs, with the counts that each must reach: faults at every side effect, over LVM too, power cuts, archives, csi-sanity (three hours)
	@e2e/stages.sh --table setup test-crash test-crash-lvm test-power test-archives test-sanity-lvm

.PHONY: test-cluster
test-cluster: ## The suite on a real Kubernetes with two nodes (root)
	@$(E2E) suite --dev

.PHONY: test-guests
test-guests: ## The suite on two nodes with kernels of their own: volume groups, encryption, keys, a power cut (root)
	@$(E2E) suite --guests --dev

# OF=COMMIT: of an earlier version, by the same measurements. FIGURE=io is one part, FIGURE='io/4K random write' the figures of a part with this in their names.
.PHONY: bench
bench: root setup ## Measure, and print one table; FIGURE=… for a part, SAVE=FILE to keep the figures for bench-compare, OF=COMMIT for an earlier version
	@$(E2E) bench $(if $(FIGURE),--only '$(FIGURE)') $(if $(SAVE),--save '$(SAVE)') $(if $(OF),--of '$(OF)')

.PHONY: bench-compare
bench-compare: ## What differs between the figures that were kept in BEFORE=FILE and AFTER=FILE
	@$(E2E) bench compare '$(BEFORE)' '$(AFTER)'

.PHONY: generate
generate: ## Write the CRDs anew from the types, and the command's reference from its help
	TIERCE_GENERATE=1 cargo test --quiet --workspace --test generated --test reference

.PHONY: fuzz
fuzz: ## Feed each parser of input from outside with nonsense, a minute each (needs nightly Rust and cargo-fuzz)
	@for target in quantity parameters mountinfo compose; do cargo +nightly fuzz run "$$target" -- -max_total_time=60 || exit 1; done

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
