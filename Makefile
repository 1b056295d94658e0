# Everything sets itself up: the first target you make creates .venv from requirements.lock.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export SAM2_BUILD_CUDA := 0
comma := ,

.PHONY: demo test test-newest test-slow check format setup gl browser lock clean

demo: setup gl
	$(BIN)/python scripts/demo.py

test: setup gl
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

# The newest of all that pyproject.toml allows, on the newest Python that is found, in an environment of its own: what
# differs there are pictures and bytes. Meta-World pins MuJoCo, and is left out; so is the caster, whose floor is that of
# MuJoCo 3.3.0, where MuJoCo 3.17 puts its squares elsewhere. TORCH=torch==2.13.0 chooses one, and TORCH= leaves PyTorch
# out, and the tests that need it.
TORCH ?= torch
NEWEST_PYTHON ?= $(firstword $(shell for found in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python; do \
  $$found -c '' 2>/dev/null && echo $$found; done) $(PYTHON))
NEWEST := build/newest$(if $(TORCH),,-without-torch)
TESTS := versions envs generate clean policies imports exports gymnasium \
  $(if $(TORCH),first_layout transitions masklam_data masklam_objectives masklam_train masklam_evaluate)

test-newest: $(NEWEST)/installed
	$(NEWEST)/bin/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile $(TESTS:%=tests/test_%.py)

$(NEWEST)/installed: pyproject.toml
	rm -rf $(NEWEST) && $(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q $(TORCH) setuptools wheel
	$(NEWEST)/bin/python -m pip install -q --no-build-isolation -e '.[$(if $(TORCH),train$(comma))gym,formats]' \
	  matplotlib pytest pytest-xdist hypothesis
	$(NEWEST)/bin/python -m pip freeze > $@

test-slow: setup gl
	$(BIN)/python -m pytest -q -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: .venv/installed

# torch first and no build isolation: sam2 would otherwise fetch a second torch, with CUDA, only to build itself.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "dmask needs Python 3.11: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $$(grep -E '^(torch|setuptools|wheel)==' requirements.lock)
	$(BIN)/python -m pip install -q --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

# An off-screen OpenGL: a GPU driver's EGL, or Mesa's on the processor.
gl: setup
	@$(BIN)/python -c 'import distractor_data.envs.opengl' 2>/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libegl1 libgl1-mesa-dri >/dev/null; \
	  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then \
	    sudo apt-get update -qq && sudo apt-get install -y -qq libegl1 libgl1-mesa-dri >/dev/null; \
	  fi; \
	  $(BIN)/dmask envs >/dev/null; }

# What the tests of the pages need: a Chromium, and axe-core from npm. Without them those tests are skipped.
browser:
	@command -v chromium >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; }
	@[ -f node_modules/axe-core/axe.min.js ] || npm install --silent --no-save --no-package-lock axe-core@4.14.1

# Exact versions of all that pyproject.toml asks for, free of what belongs to one machine (CPU or CUDA builds).
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -q $$(grep -E '^torch==' requirements.lock) setuptools wheel
	build/lock/bin/python -m pip install -q --no-build-isolation -e '.[dev]'
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude dmask \
	  | sed -E 's/\+(cpu|cu[0-9]+)$$//; /^(nvidia-|triton|cuda-)/d; /^-e /d' > requirements.lock

clean:
	rm -rf .venv build demo .mypy_cache .ruff_cache .pytest_cache
