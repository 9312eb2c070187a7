# Everything from a bare clone: `make mount` and work in ./mnt, `make test` to run every test.
# What is missing on the machine is installed by scripts/setup.sh, which says so.

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PYTEST = PATH="$(BIN):$$PATH" $(BIN)/python -m pytest

.PHONY: help mount umount test check lint format docs clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

mount: $(VENV)/.ready-run ## mount the bucket kept in ./.local-bucket on ./mnt
	@scripts/local-mount.sh mount

umount: ## unmount ./mnt, once all is stored
	@scripts/local-mount.sh umount

test: $(VENV)/.ready-test ## run every test
	@$(PYTEST)

check: lint ## format, lint, types, and the tests that need no FUSE
	@$(PYTEST) -m "not mounted"

lint: $(VENV)/.ready-dev ## format, lint and types alone
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.ready-dev ## bring the code into form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.ready-run ## write docs/options.md anew
	@$(BIN)/python -m storefs.cli.reference > docs/options.md

clean: ## unmount, remove what was built; the bucket stays
	@scripts/local-mount.sh umount
	@rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find storefs tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -d mnt ]; then rmdir mnt; fi

$(VENV)/.ready-%: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $*
