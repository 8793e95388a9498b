# make run                          set up, then HRNN Init beside RNN, PPOP and Item-KNN on simulated data
# make run FLAGFILE=journey.flags   the same on real data; or on your own log, with your own flag file
# make reproduce-table3             set up, then Table 3 with all that comes with it: report.html
# make reproduce                    the same and Table 5, the large data set
# make check-table3                 compare a fresh Table 3 with the shipped one
# make comparison                   tune, run and compare all models on journey; LOGS="..." on other logs
# make comparison-table             the shipped report again, from its CSV files; FROM="..." from yours
# make benchmark-peers              the same work in RecBole and RecTools, which it installs; LOGS="..."
# make serve RUN=out/run            set up, then serve recommendations from a run folder, and a page
# make check-gpu                    on a machine with a GPU: set up, reproduce recorded steps on it, and measure
# make test                         set up, then all tests
# make check                        what CI adds: ruff, the type checker, the import rules, the docs' links
# make docs                         build the documentation's site and serve it on this machine; SERVE=0 only builds

# Large pages, on Linux: rows of large tables are found faster, by a few percent of a step.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

PYTHON ?= python3
FLAGFILE ?= video.flags
# Runs of each flag file go to a folder of their own, and are finished rather than repeated.
RUNS = out/runs/$(basename $(notdir $(FLAGFILE)))
TRAIN = .venv/bin/python -m experiments.run --flagfile=$(FLAGFILE) --resume

# What to reproduce: seeds of small networks and, of the large ones that are repeated, on the paper's
# two data sets; sizes; of all rows, which (ROWS=ppop,rnn_large), and of all data sets
# (COLUMNS=journey); own logs in place of the simulated ones, further logs (EXTRA="name=path.parquet:recipe ..."), runs side by side, and the share of
# VIDEOXXL's users.
SEEDS ?= 10
LARGE_SEEDS ?= 3
SIZES ?= small,large
ROWS ?=
COLUMNS ?=
XING_EVENTS ?=
VIDEO_EVENTS ?=
EXTRA ?=
JOBS ?=
SCALE ?= 0.15
REPRODUCE = .venv/bin/python -m experiments.reproduce --n_seeds=$(SEEDS) \
	--large_seeds=$(LARGE_SEEDS) --sizes=$(SIZES) $(if $(ROWS),--rows="$(ROWS)") \
	$(if $(COLUMNS),--columns="$(COLUMNS)") --xing_events="$(XING_EVENTS)" \
	--video_events="$(VIDEO_EVENTS)" --extra="$(EXTRA)" $(if $(JOBS),--jobs=$(JOBS)) --scale=$(SCALE)

# What to compare on (LOGS="name=path.parquet:recipe journey"), the budgets (TRIALS="20 journey=8"),
# and, of all rows, which (ROWS="sr,hrnn_plus"); SEEDS and JOBS as above, but 5 seeds.
LOGS ?= journey
TRIALS ?= 20
EPOCHS ?= 10
comparison: SEEDS = 5
# Logs of make benchmark-peers, in the same form; video is the simulated log.
benchmark-peers: LOGS = journey video
# The folder of CSV files whose report make comparison-table writes; make comparison writes its own
# to out/comparison/results.
FROM ?= experiments/results/comparison

# What to serve, by default what make run trained, and flags of experiments.serve (or, for
# make check-gpu, of experiments.check_gpu).
RUN ?= $(RUNS)/hrnn_init
FLAGS ?=

# What check-gpu runs on; cpu tries the check out, in small sizes. The Python that has JAX for it is
# one of those set up here, or yours: CHECK_PYTHON=python3.
DEVICE ?= cuda
CHECK_PYTHON ?= $(if $(filter cpu,$(DEVICE)),.venv,.venv-gpu)/bin/python

.PHONY: run serve reproduce reproduce-table3 check-table3 comparison comparison-table benchmark-peers check-gpu \
	driver test check docs clean

run: .venv/installed
	$(TRAIN) --output_dir=$(RUNS)/hrnn_init --model=hrnn_init
	$(TRAIN) --output_dir=$(RUNS)/rnn --flagfile=rnn_small.flags
	$(TRAIN) --output_dir=$(RUNS)/ppop --model=ppop
	$(TRAIN) --output_dir=$(RUNS)/item_knn --model=item_knn
	@.venv/bin/python -m experiments.compare $(RUNS)/hrnn_init $(RUNS)/rnn $(RUNS)/ppop $(RUNS)/item_knn

serve: .venv/installed
	.venv/bin/python -m experiments.serve --run=$(RUN) $(FLAGS)

reproduce: .venv/installed
	$(REPRODUCE) --target=all

reproduce-table3: .venv/installed
	$(REPRODUCE) --target=table3

check-table3: reproduce-table3
	.venv/bin/python -m experiments.check

comparison: .venv/installed
	.venv/bin/python -m experiments.comparison --logs="$(LOGS)" --trials="$(TRIALS)" \
		--epochs="$(EPOCHS)" --n_seeds=$(SEEDS) $(if $(ROWS),--rows="$(ROWS)") $(if $(JOBS),--jobs=$(JOBS))

comparison-table: .venv/installed
	.venv/bin/python -m experiments.comparison --from=$(FROM)

benchmark-peers: .venv/installed
	.venv/bin/python -m experiments.benchmark --only=peers --logs="$(LOGS)"

check-gpu: BEGAN := $(shell date +%s)
check-gpu: $(patsubst %/bin/python,%/installed,$(filter .venv/% .venv-gpu/%,$(CHECK_PYTHON)))
	$(CHECK_PYTHON) -m experiments.check_gpu --device=$(DEVICE) --began=$(BEGAN) \
		$(if $(filter cpu,$(DEVICE)),--trial) $(FLAGS)

driver: # before gigabytes are installed for it
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null || { \
		echo "no GPU found: NVIDIA's driver (libcuda.so.1) is missing; make check-gpu DEVICE=cpu tries the check without it"; \
		exit 2; }

test: .venv/installed
	.venv/bin/python -m pytest

check: .venv/installed .venv/docs-installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/python -m tests.imports
	$(SITE) build

# Any warning is an error. Without a terminal, in CI for example, the site is only built.
SITE = NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet
SERVE ?= $(if $(MAKE_TERMOUT),1,0)
docs: .venv/installed .venv/docs-installed
	$(SITE) build
	@echo "built: out/site/index.html"
ifneq ($(SERVE),0)
	@echo "serving it at http://127.0.0.1:8001 until ctrl-C"
	$(SITE) serve --dev-addr=127.0.0.1:8001
endif

.venv/installed: EXTRAS = bench,journey,report,serve,test,tune
.venv-gpu/installed: EXTRAS = gpu,test
.venv-gpu/installed: SIZE = , 5 GB: minutes
.venv-gpu/installed: | driver
.venv/installed .venv-gpu/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo 'installing into $(@D)$(SIZE)'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

.venv/docs-installed: .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-gpu out build *.egg-info
