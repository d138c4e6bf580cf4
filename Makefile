# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every target makes ready what it needs, also on a bare Debian 12 or 13, as root or as a user with sudo.
# ARGS="..." is passed on: make test ARGS="-k guard".

.DEFAULT_GOAL := help
ARGS :=
PREFIX := /usr/local
DESTDIR :=
# Of Python modules; empty: where the system's Python looks below PREFIX.
PYTHONDIR :=
# Who installs: one that finds the modules vici and wgconfig; empty: this tree's .venv, which is made for it.
PYTHON :=
BUILDER = $(or $(PYTHON),.venv/bin/python3)
IKE_SUITE := $(patsubst %,tests/netns/test_%.py,ike ike_life life tampering roaming dns access network induced bus soak_ike) tests/audits/test_attacks.py

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

.PHONY: setup
setup: ## install what this needs from Debian, and our programs into .venv/bin
	@tools/setup

.PHONY: deb
deb: setup ## build the package for Debian 12 and 13: sudo apt install ./aovpnd_*.deb
	@.venv/bin/python3 -m tools.deb $(ARGS)

.PHONY: install
install: ## put it on a system that has no package of it: PREFIX=/usr/local, DESTDIR=, PYTHONDIR=
	@[ -n "$(PYTHON)" ] || tools/setup --venv-only
	@$(BUILDER) -m tools.install install --destdir "$(DESTDIR)" --prefix "$(PREFIX)" --modules "$(PYTHONDIR)"

.PHONY: uninstall
uninstall: ## take away what `make install` has put there; refused while the machine is blocked
	@[ -n "$(PYTHON)" ] || tools/setup --venv-only
	@$(BUILDER) -m tools.install uninstall --destdir "$(DESTDIR)"

.PHONY: demo
demo: ## a laptop's day in namespaces: home, café, portal, crashes, flushes; a table and a picture of what leaked
	@tools/in-lab python3 -m tests.lab.demo $(ARGS)

.PHONY: demo-shell
demo-shell: ## a shell on the laptop of that demo
	@tools/in-lab python3 -m tests.lab.demo --shell $(ARGS)

.PHONY: test
test: ## everything: unit tests, the lab, containers, virtual machines; at most half an hour
	@tools/in-lab --all timeout --foreground --signal=INT --kill-after=60 45m python3 -m pytest -n 3 $(ARGS)

.PHONY: test-ike
test-ike: ## the leak suite and the attacks again, with a tunnel of IKE by strongSwan instead of WireGuard
	@tools/in-lab env AOVPND_BACKEND=strongswan python3 -m pytest $(IKE_SUITE) $(ARGS)

.PHONY: check
check: ## linters and unit tests, some minutes, no root
	@tools/check $(ARGS)

.PHONY: test-vm
test-vm: ## booted laptops, many times: boots, broken boots, ends, upgrades, sleep, power cuts; writes docs/lives.md
	@tools/in-lab --vm-all python3 -m tests.vm.lives --write docs/lives.md $(ARGS)

.PHONY: test-vm-smoke
test-vm-smoke: ## only the virtual machines: Debian 12's and 13's kernels from power-on
	@tools/in-lab --vm python3 -m pytest tests/vm $(ARGS)

.PHONY: test-vm-kernel
test-vm-kernel: ## the leak suite's core on kernels with WireGuard and ESP of their own; hours, goes on where it was; docs/kernels.md
	@tools/in-lab --vm-kernel python3 -m tests.vm.kernels --write docs/kernels.md $(ARGS)

.PHONY: test-containers
test-containers: ## only the containers: whole Debians 12 and 13 with their systemd, D-Bus, polkit, resolved
	@tools/in-lab --container python3 -m pytest tests/container $(ARGS)

.PHONY: test-neighbours
test-neighbours: ## other programs beside ours, as Debian packages them: network managers, guests, tunnels, printers
	@tools/in-lab --neighbours env AOVPND_NEIGHBOURS=all python3 -m pytest tests/neighbours $(ARGS)

.PHONY: test-exhaustive
test-exhaustive: setup ## the small world whole, all 70,000 situations of it; make test asks about some
	@AOVPND_EXHAUSTIVE=1 .venv/bin/python3 -m pytest -n 2 tests/unit/test_no_leak.py tests/unit/test_convergence.py $(ARGS)

.PHONY: test-rollback
test-rollback: ## versions that break the tunnel: the one before returns; more of them than make test has time for
	@tools/in-lab --container env AOVPND_ROLLBACK=all python3 -m pytest tests/container/test_rollback.py $(ARGS)

.PHONY: test-release
test-release: ## a connected laptop of Debian 12 becomes one of Debian 13: apt full-upgrade of a whole system
	@tools/in-lab --release env AOVPND_RELEASE=1 python3 -m pytest tests/container/test_release.py $(ARGS)

.PHONY: mutants
mutants: ## weaken ruleset, permits, guard and plan on purpose, and show which test notices
	@tools/in-lab python3 -m tests.mutants $(ARGS)

.PHONY: soak
soak: ## a thousand transitions and hundreds of kills under a flood of packets
	@tools/in-lab python3 -m tests.soak --write docs/soak.md $(ARGS)

.PHONY: week
week: ## a replayed week of a booted laptop, an hour or more: networks, sleep, portals, reboots, an upgrade; writes docs/week.md
	@tools/in-lab --vm-all python3 -m tests.week --write docs/week.md $(ARGS)

.PHONY: audit
audit: ## every published attack of tests/audits, in every phase, many times; writes docs/audit.md
	@tools/in-lab python3 -m tests.audits --write docs/audit.md $(ARGS)

.PHONY: faults
faults: ## every call to the outside fails in every way, in every phase; writes docs/faults.md
	@tools/in-lab python3 -m tests.faults --write docs/faults.md $(ARGS)

.PHONY: storm
storm: ## a hundred thousand calls over D-Bus: what they cost, and what they leave behind
	@tools/in-lab python3 -m tests.bus.storm $(ARGS)

.PHONY: fuzz
fuzz: setup ## a hundred thousand damaged inputs for every border of the program; writes docs/fuzz.md
	@.venv/bin/python3 -m tests.fuzz --write docs/fuzz.md $(ARGS)

.PHONY: bench
bench: ## times, memory, wake-ups and throughput; writes docs/bench.md
	@tools/in-lab python3 -m tools.bench $(ARGS)

.PHONY: bench-ike
bench-ike: ## an IKE tunnel beside charon and swanctl alone: start, roam, throughput; writes docs/bench-ike.md
	@tools/in-lab python3 -m tools.bench_ike --write docs/bench-ike.md $(ARGS)

.PHONY: bench-vm
bench-vm: ## a call that roams, on booted laptops: aovpnd, wg-quick, NetworkManager; a quarter of an hour; writes docs/bench-vm.md
	@tools/in-lab --vm-bench python3 -m tools.bench_vm --write docs/bench-vm.md $(ARGS)

.PHONY: bench-boot
bench-boot: ## from power-on to the first packet through the tunnel: aovpnd, wg-quick@, NetworkManager; writes docs/bench-boot.md
	@tools/in-lab --vm-bench python3 -m tools.bench_boot --write docs/bench-boot.md $(ARGS)

.PHONY: coverage
coverage: ## branch coverage of the unit tests; the core must have all of it
	@tools/coverage $(ARGS)

.PHONY: format
format: setup ## format the Python files
	@.venv/bin/ruff format $(ARGS)

.PHONY: lock
lock: ## renew the versions in requirements/dev.txt
	@tools/lock
