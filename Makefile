# The everyday commands. Each one sets up what it needs first; see scripts/setup.sh.
# TORCH=2.15.0 make test   uses another release of torch, beside the pinned one.
.DEFAULT_GOAL := help
.PHONY: help demo test test-trainers test-arm cuda cuda-wheel wheels test-wheels bench fuzz gates lint format clean distclean

help:
	@echo 'make demo       set up, build, and train: every sample against InfoBatch (about 4 minutes)'
	@echo 'make test       set up, build, and run every test'
	@echo 'make test-trainers  install Lightning, Transformers and Accelerate beside torch, and train inside them;'
	@echo '                ALL=1: then in every other trainer, each in an environment of its own (8 GB free)'
	@echo 'make test-arm   cross-compile the engine for aarch64, and run its tests under qemu'
	@echo 'make cuda       compile the kernels with nvcc; run their tests where there is a GPU'
	@echo 'make cuda-wheel  the same, and infobatch-cuda into build/wheels'
	@echo 'make wheels     build the Python wheels, x86-64 and aarch64, into build/wheels'
	@echo 'make test-wheels  try them: Python 3.10 to 3.13, several torches; FULL=1: every pair and test (5 GB free)'
	@echo 'make bench      set up, build, and run the benchmarks; results in build/bench/*.json'
	@echo 'make fuzz       half a minute of random calls, states and configs each, with Clang'
	@echo 'make gates      the engine under sanitizers, clang-tidy and on aarch64; headers alone, exported symbols'
	@echo 'make lint       check format, layers, spelling'
	@echo 'make format     format every C and C++ file'
	@echo 'make clean      remove build/'
	@echo 'make distclean  remove build/ and everything that set-up installed into the checkout'
	@echo 'Variables: TORCH=<release>, PYTHON=<path>, OFFICIAL=<folder>; Torch_DIR or CMAKE_PREFIX_PATH name a libtorch to use.'

demo:
	@scripts/setup.sh demo
	@scripts/build.sh infobatch_train_link
	build/infobatch-train --interleave --json build/demo.json

test:
	@scripts/setup.sh test
	@scripts/build.sh
	@scripts/wheels.sh "$$(uname -m)"
	@status=0; scripts/test.sh || status=1; scripts/test_python.sh || status=1; exit $$status

test-trainers:
	@scripts/setup.sh test-trainers
	@scripts/wheels.sh "$$(uname -m)"
	@scripts/test_trainers.sh $(if $(ALL),all)

wheels:
	@scripts/setup.sh wheels
	@scripts/wheels.sh

test-wheels:
	@scripts/setup.sh test-wheels
	@scripts/wheels.sh
	@scripts/test_wheels.py

bench:
	@scripts/setup.sh bench
	@scripts/build.sh run_benchmarks

fuzz:
	@scripts/setup.sh fuzz
	@.ci/fuzz.sh

test-arm:
	@scripts/setup.sh test-arm
	@.ci/engine.sh arm

cuda-wheel: cuda
	@scripts/setup.sh wheels
	@scripts/wheels.sh "$$(uname -m)" cuda

cuda:
	@scripts/setup.sh cuda
	@scripts/cuda.sh

gates:
	@.ci/gates.sh

lint:
	@.ci/lint.sh

format:
	@.ci/lint.sh --fix

clean:
	rm -rf build

distclean: clean
	rm -rf .cache .venv .venv-*
