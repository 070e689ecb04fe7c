# make demo | test | test-slow | lint: each sets itself up from nothing but Python 3.11 or newer.
PYTHON ?= python3
# Idle threads give their core away: two programs on the same cores slow each other down tenfold otherwise.
export OMP_WAIT_POLICY ?= PASSIVE
VENV ?= .venv
RUN = $(VENV)/bin/python
DEMO ?= outputs/demo
GENERATED = .cache/generated
WEIGHTS = weights/lite_stcn.safetensors

.PHONY: demo test test-slow lint docs format setup lock clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Trains on generated videos, scores held-out ones beside the floor and the weights of this checkout, which segment one of them.
demo: setup
	$(RUN) -m src.train experiment=demo hydra.run.dir=$(DEMO)/train
	$(RUN) -m src.evaluate model=copy_first data=generated output=$(DEMO)/copy_first
	$(RUN) -m src.evaluate checkpoint=$(DEMO)/train/checkpoints/last.ckpt data=generated output=$(DEMO)/crvos
	$(RUN) -m src.evaluate checkpoint=$(WEIGHTS) data=generated output=$(DEMO)/default
	$(RUN) -m src.segment video=$(GENERATED)/JPEGImages/480p/val_003 mask=$(GENERATED)/Annotations/480p/val_003/00000.png \
	  checkpoint=$(WEIGHTS) output=$(DEMO)/segment
	@echo; echo "held-out generated videos, J&F:"
	@$(RUN) -c "import json; [print(f'  {n:<32}', json.load(open(f'$(DEMO)/{d}/metrics.json'))['J&F-Mean']) for n, d in \
	  (('copy_first', 'copy_first'), ('crvos, trained just now', 'crvos'), ('$(WEIGHTS)', 'default'))]"
	@echo "overlay: $(DEMO)/segment/overlay.mp4   sheets: $(DEMO)/crvos/sheet.jpg $(DEMO)/default/sheet.jpg"

# A file of tests per process; one thread each, as there are as many processes as cores.
test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile

test-slow: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 2 --dist loadfile -m "slow and not nightly"

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The documentation site, in .cache/site.
docs: setup
	$(RUN) -m mkdocs build --strict

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# A fresh environment from the ranges of pyproject.toml, frozen; torch stays at the tested version.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  print(*p['dependencies'], *(r for e in ('dev', 'export', 'docs', 'dashboard', 'annotate', 'pretrained') for r in p['optional-dependencies'][e]), 'torch==2.13.0', sep='\n')" > .lock/ranges.txt
	.lock/bin/python -m pip install --quiet -r .lock/ranges.txt
	.lock/bin/python -m pip freeze | sed 's/+cpu$$//; s/ @ file:.*//' > requirements.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) .cache outputs .mypy_cache .pytest_cache .ruff_cache .hypothesis
