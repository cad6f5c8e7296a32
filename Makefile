# Two commands on a fresh machine with nothing but python3 and make: `make demo` and `make test`.
PY ?= python3
V := .venv
D := .venv-docs

$(V)/bin/python:
	$(PY) -m venv $(V)

$(V)/.demo: pyproject.toml | $(V)/bin/python
	$(V)/bin/pip install -q -e '.[plot]'
	touch $@

$(V)/.test: pyproject.toml | $(V)/bin/python
	$(V)/bin/pip install -q -e '.[test]'
	touch $@ $(V)/.demo

demo: $(V)/.demo ## Crop synthetic 4D-STEM patterns; ends with a picture and a table.
	mkdir -p demo-output
	$(V)/bin/stackalign warmup --dtype uint16
	$(V)/bin/stackalign crop --test-mode --test-patterns 2000 --test-size 256 --output demo-output/airy.npy --overwrite --report demo-output/report.html
	@echo "picture: demo-output/airy_visualization.png, page: demo-output/report.html"

test: $(V)/.test ## Run the test suite, on up to four cores.
	$(V)/bin/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

$(D)/.docs: pyproject.toml
	test -x $(D)/bin/python || $(PY) -m venv $(D)
	$(D)/bin/pip install -q -e '.[docs]'
	touch $@

docs: $(D)/.docs ## Build the site, in an environment of its own; warnings are errors. Needs no network once installed.
	$(D)/bin/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "the site: docs/_build/html/index.html"

pages: $(V)/.test ## Reports, and the site if it is built, in a headless Chromium (apt install chromium).
	$(V)/bin/pip install -q -e '.[browser]'
	$(V)/bin/python -m pytest -q tests/browser

QUICK := tests/conformance/test_contract.py tests/conformance/test_operations.py tests/conformance/test_ops.py \
	tests/ops tests/optimize tests/test_imports.py tests/test_transforms.py tests/test_docs.py

quick: $(V)/.test ## What to run while working: operations on the CPU, two types of pixels; about a minute of CPU time.
	$(V)/bin/python -m pytest -q -n 2 --dist worksteal --backend cpu -m "not slow" \
		-k "not (uint8 or uint32 or int16 or int32 or float64)" $(QUICK)

faults: $(V)/.test ## Kill, fill and cut long runs at many seeded moments: make faults FAULT_POINTS=8 for twice as many.
	FAULT_POINTS=$(or $(FAULT_POINTS),4) $(V)/bin/python -m pytest -q tests/faults

lint: $(V)/.test ## Lint, formats, types and import contracts.
	$(V)/bin/ruff check
	$(V)/bin/ruff format --check
	$(V)/bin/mypy
	$(V)/bin/lint-imports
	$(V)/bin/clang-format --dry-run -Werror kernels/stackalign_kernels/cuda/*.cu kernels/stackalign_kernels/cuda/*.cuh

benchmarks: $(V)/.test ## Measure, and write benchmarks/results/.
	$(V)/bin/python benchmarks/bench_radial.py
	$(V)/bin/python benchmarks/bench_crop.py
	$(V)/bin/python benchmarks/bench_affine.py
	$(V)/bin/python benchmarks/bench_masked_ncc.py
	$(V)/bin/python benchmarks/bench_resample.py
	$(V)/bin/python benchmarks/report.py

fuzz: $(V)/.test ## Damage files of every format and read them: make fuzz COUNT=100000 SEED=1.
	$(V)/bin/python tests/fuzz/run.py --total $(or $(COUNT),100000) --seed $(or $(SEED),1)

wheels: $(V)/.test ## Packages that a machine with a GPU and no package index may lack, see benchmarks/on_gpu.sh.
	$(V)/bin/pip download -q -d wheels --only-binary :all: array-api-compat lazy-loader threadpoolctl h5py tifffile zarr typer rich pytest hypothesis gudhi scikit-image

trust: $(V)/.test ## How often each pipeline is right, flagged, or wrong without a flag.
	$(V)/bin/python benchmarks/bench_trust.py

gallery: $(V)/.test ## Figures of diffraction on one page: make gallery DATA=FOLDER.
	$(V)/bin/python benchmarks/gallery.py $(DATA) gallery-output

.PHONY: demo test quick docs pages faults fuzz lint benchmarks trust wheels gallery
