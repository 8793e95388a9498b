# make run                          set up, then HRNN Init beside RNN, PPOP and Item-KNN on simulated data
# make run FLAGFILE=journey.flags   the same on real data; or on your own log, with your own flag file
# make test                         set up, then all tests
# make check                        what CI adds: ruff, the type checker, the import rules

PYTHON ?= python3
FLAGFILE ?= video.flags
# Runs of each flag file go to a folder of their own, and are finished rather than repeated.
RUNS = out/runs/$(basename $(notdir $(FLAGFILE)))
RUN = .venv/bin/python -m experiments.run --flagfile=$(FLAGFILE) --resume

.PHONY: run test check clean

run: .venv/installed
	$(RUN) --output_dir=$(RUNS)/hrnn_init --model=hrnn_init
	$(RUN) --output_dir=$(RUNS)/rnn --flagfile=rnn_small.flags
	$(RUN) --output_dir=$(RUNS)/ppop --model=ppop
	$(RUN) --output_dir=$(RUNS)/item_knn --model=item_knn
	@.venv/bin/python -m experiments.compare $(RUNS)/hrnn_init $(RUNS)/rnn $(RUNS)/ppop $(RUNS)/item_knn

test: .venv/installed
	.venv/bin/python -m pytest

check: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/python -m tests.imports

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[journey,test]'
	touch $@

clean:
	rm -rf .venv out build *.egg-info
