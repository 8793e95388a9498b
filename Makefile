# make install                      set up: the plain package, into .venv
# make run                          set up, then HRNN Init beside RNN, PPOP and Item-KNN on simulated data
# make run FLAGFILE=journey.flags   the same on real data; or on your own log, with your own flag file
# make reproduce-table3             set up, then Table 3 with all that comes with it: report.html
# make reproduce                    the same and Table 5, the large data set
# make check-table3                 compare a fresh Table 3 with the shipped one
# make leaderboard                  tune, run and compare all models on journey; LOGS="..." on other logs, ROWS="..." some rows
# make leaderboard-page             only writes the shipped page again, from its CSV files; FROM="..." from yours
# make comparison                   make leaderboard, by its earlier name
# make comparison-table             make leaderboard-page, by its earlier name
# make benchmark-peers              the same work in RecBole and RecTools, which it installs; LOGS="..."
# make tune EVENTS=my_log.csv       set up with the extra tune, then search a model's settings; FLAGS="--trials=20"
# make run-distributed PROCESSES=2  set up, then one small run of several processes on this machine
# make serve                        set up, then serve the newest run, with a page; RUN=FOLDER another
# make check-gpu                    on a machine with a GPU: set up, reproduce recorded steps on it, and measure
# make test                         set up, then all tests
# make fault-test SEEDS=10000       live states on a disk that fails, then in a database; SEED=17 one run again, STATES=file
# make check                        what CI adds: ruff, the type checker, the import rules, the docs' links
# make docs                         build the documentation's site and serve it on this machine; SERVE=0 only builds
# make help                         print these lines
# make clean                        remove all that is made here; asks first where runs would be lost

# Large pages, on Linux: rows of large tables are found faster, by a few percent of a step.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

PYTHON ?= python3
FLAGFILE ?= video.flags
# Each run goes to a folder of its own in out/runs, and is finished rather than repeated.
TRAIN = .venv/bin/python -m experiments.run --flagfile=$(FLAGFILE) --resume --output_dir=

# What to reproduce: seeds of small networks and, of the large ones that are repeated, on the paper's
# two data sets; sizes; of all rows, which (ROWS=ppop,rnn_large), and of all data sets
# (COLUMNS=journey); own logs in place of the simulated ones, further logs (EXTRA="name=path.parquet:recipe ..."), runs side by side, and the share of
# VIDEOXXL's users.
SEEDS ?= 10
LARGE_SEEDS ?= 3
SIZES ?= small,large
ROWS ?=
# Plainly =, as shells and tests have a COLUMNS of their own in the environment.
COLUMNS =
XING_EVENTS ?=
VIDEO_EVENTS ?=
EXTRA ?=
JOBS ?=
SCALE ?= 0.15
REPRODUCE = .venv/bin/python -m experiments.reproduce --n_seeds=$(SEEDS) \
	--large_seeds=$(LARGE_SEEDS) --sizes=$(SIZES) $(if $(ROWS),--rows="$(ROWS)") \
	$(if $(COLUMNS),--data_sets="$(COLUMNS)") --xing_events="$(XING_EVENTS)" \
	--video_events="$(VIDEO_EVENTS)" --extra="$(EXTRA)" $(if $(JOBS),--jobs=$(JOBS)) --scale=$(SCALE)

# What to compare on (LOGS="name=path.parquet:recipe journey"), the budgets (TRIALS="20 journey=8"),
# and, of all rows, which (ROWS="sr,hrnn_plus"); SEEDS and JOBS as above, but 5 seeds.
LOGS ?= journey
TRIALS ?= 20
EPOCHS ?= 10
leaderboard: SEEDS = 5
# Logs of make benchmark-peers, in the same form; video is the simulated log.
benchmark-peers: LOGS = journey video
# The folder of CSV files whose page make leaderboard-page writes; make leaderboard writes its own to
# out/comparison/results.
FROM ?= experiments/results/comparison

# The run folder to serve, by default the newest run of a network; the log to tune on; and flags of
# what serve, tune and check-gpu start.
RUN ?=
EVENTS ?=
FLAGS ?=

# One seed of make fault-test, in place of the first SEEDS; and where its states are, by default in a
# file and then in a database.
SEED ?=
STATES ?=

# What check-gpu runs on; cpu tries the check out, in small sizes. The Python that has JAX for it is
# one of those set up here, or yours: CHECK_PYTHON=python3.
DEVICE ?= cuda
CHECK_PYTHON ?= $(if $(filter cpu,$(DEVICE)),.venv,.venv-gpu)/bin/python

# A plain installation is enough for make run. Other targets add the extras of setup.cfg that they need.
EVALUATION = .venv/with-journey,report,tune
ALL = .venv/with-bench,journey,report,serve,test,tune

.PHONY: help install run run-distributed tune serve reproduce reproduce-table3 check-table3 leaderboard leaderboard-page comparison comparison-table benchmark-peers check-gpu \
	driver test fault-test check docs clean
.DEFAULT_GOAL = run

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

install: .venv/installed

TIME = : one to two minutes on two fast and idle cores, ten on slow or busy ones
# HRNN Init is trained last: it is then the newest run, which make serve takes.
run: .venv/installed $(if $(findstring journey,$(FLAGFILE)),.venv/with-journey)
	@echo 'Item-KNN and PPOP count, RNN and HRNN Init train$(if $(filter video.flags,$(FLAGFILE)),$(TIME))'
	$(TRAIN) --model=item_knn
	$(TRAIN) --model=ppop
	$(TRAIN) --flagfile=rnn_small.flags
	$(TRAIN) --model=hrnn_init
	@.venv/bin/python -m experiments.compare

# The processes that train together, each with lanes of its own; the first prints. The shell starts
# them so that they ignore ctrl-C, and ends them.
PROCESSES ?= 2
run-distributed: .venv/installed
	@port=$$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'); \
	started=; failed=0; trap 'kill $$started; exit 130' INT TERM; \
	for process in $$(seq 0 $$(($(PROCESSES) - 1))); do \
		$(TRAIN) --simulate_scale=0.05 --epochs=2 --lane_groups=$(PROCESSES) --batch_size=$$((25 * $(PROCESSES))) \
			--coordinator=127.0.0.1:$$port --processes=$(PROCESSES) --process=$$process $(FLAGS) & \
		started="$$started $$!"; \
	done; \
	for each in $$started; do wait $$each || failed=$$?; done; exit $$failed

tune: .venv/with-tune $(if $(findstring journey,$(FLAGFILE)),.venv/with-journey)
	.venv/bin/python -m experiments.tune --flagfile=$(FLAGFILE) $(if $(EVENTS),--events=$(EVENTS)) $(FLAGS)

serve: .venv/with-serve
	.venv/bin/python -m experiments.serve $(if $(RUN),--run=$(RUN)) $(FLAGS)

reproduce: $(EVALUATION)
	$(REPRODUCE) --target=all

reproduce-table3: $(EVALUATION)
	$(REPRODUCE) --target=table3

check-table3: reproduce-table3
	.venv/bin/python -m experiments.check

comparison: leaderboard
comparison-table: leaderboard-page

leaderboard: $(EVALUATION)
	.venv/bin/python -m experiments.comparison --logs="$(LOGS)" --trials="$(TRIALS)" \
		--epochs="$(EPOCHS)" --n_seeds=$(SEEDS) $(if $(ROWS),--rows="$(ROWS)") $(if $(JOBS),--jobs=$(JOBS))

leaderboard-page: .venv/with-report
	.venv/bin/python -m experiments.comparison --from=$(FROM)

benchmark-peers: .venv/with-bench,journey
	.venv/bin/python -m experiments.benchmark --only=peers --logs="$(LOGS)"

check-gpu: BEGAN := $(shell date +%s)
check-gpu: $(if $(filter .venv/%,$(CHECK_PYTHON)),.venv/with-test)
check-gpu: $(if $(filter .venv-gpu/%,$(CHECK_PYTHON)),.venv-gpu/installed)
	$(CHECK_PYTHON) -m experiments.check_gpu --device=$(DEVICE) --began=$(BEGAN) \
		$(if $(filter cpu,$(DEVICE)),--trial) $(FLAGS)

driver: # before gigabytes are installed for it
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null || { \
		echo "no GPU found: NVIDIA's driver (libcuda.so.1) is missing; make check-gpu DEVICE=cpu tries the check without it"; \
		exit 2; }

test: $(ALL)
	.venv/bin/python -m pytest

fault-test: SEEDS = 1000
fault-test: .venv/with-test
	.venv/bin/python -m tests.fault_simulator $(if $(SEED),--seed=$(SEED),--seeds=$(SEEDS)) $(if $(STATES),--states=$(STATES))

check: $(ALL) .venv/with-docs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/python -m tests.imports
	$(SITE) build

# Any warning is an error. Without a terminal, in CI for example, the site is only built.
SITE = NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet
SERVE ?= $(if $(MAKE_TERMOUT),1,0)
docs: .venv/with-docs
	$(SITE) build
	@echo "built: out/site/index.html"
ifneq ($(SERVE),0)
	@echo "serving it at http://127.0.0.1:8001 until ctrl-C"
	$(SITE) serve --dev-addr=127.0.0.1:8001
endif

# pip shows its progress on a terminal, and nothing in a pipe.
PIP = if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	$(@D)/bin/python -m pip install $$quiet --disable-pip-version-check --editable

.venv/installed: WHAT = .
.venv/installed: SIZE = 0.2 GB to download, 0.9 GB on disk: one to three minutes
.venv-gpu/installed: WHAT = .[gpu,test]
.venv-gpu/installed: SIZE = 5 GB: minutes
.venv-gpu/installed: | driver
.venv/installed .venv-gpu/installed: setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo 'installing into $(@D), $(SIZE)'
	@$(PYTHON) -m venv $(@D)
	@$(PIP) '$(WHAT)'
	@touch $@

.venv/with-%: .venv/installed
	@echo 'installing into $(@D) the extras $*'
	@$(PIP) '.[$*]'
	@touch $@

clean:
	@if [ -z '$(FORCE)' ] && runs=$$(find out -name recipe.json 2>/dev/null | wc -l) && [ $$runs -gt 0 ]; then \
		if [ ! -t 0 ]; then \
			echo "out/ holds $$runs runs and studies: make clean FORCE=1 removes them" >&2; exit 2; \
		fi; \
		printf 'out/ holds %s runs and studies. Remove them, .venv and all else that was made here? [y/N] ' $$runs; \
		read answer; \
		case $$answer in y|Y|yes) ;; *) echo 'nothing was removed'; exit 0;; esac; \
	fi; \
	rm -rf .venv .venv-gpu out build *.egg-info
