# The everyday commands. Each one sets up what it needs first; see scripts/setup.sh.
# TORCH=2.15.0 make test   uses another release of torch, beside the pinned one.
.DEFAULT_GOAL := help
.PHONY: help demo test bench fuzz lint format clean distclean

help:
	@echo 'make demo       set up, build, and train: every sample against InfoBatch (about 4 minutes)'
	@echo 'make test       set up, build, and run every test'
	@echo 'make bench      set up, build, and run the benchmarks; results in build/bench/*.json'
	@echo 'make fuzz       half a minute of random calls, states and configs each, with Clang'
	@echo 'make lint       check format, layers, spelling'
	@echo 'make format     format every C and C++ file'
	@echo 'make clean      remove build/'
	@echo 'make distclean  remove build/ and everything that set-up installed into the checkout'
	@echo 'Variables: TORCH=<release>, PYTHON=<path>; Torch_DIR or CMAKE_PREFIX_PATH name a libtorch to use.'

demo:
	@scripts/setup.sh demo
	@scripts/build.sh infobatch_train_link
	build/infobatch-train --json build/demo.json

test:
	@scripts/setup.sh test
	@scripts/build.sh
	@scripts/test.sh

bench:
	@scripts/setup.sh bench
	@scripts/build.sh run_benchmarks

fuzz:
	@scripts/setup.sh fuzz
	@.ci/fuzz.sh

lint:
	@.ci/lint.sh

format:
	@.ci/lint.sh --fix

clean:
	rm -rf build

distclean: clean
	rm -rf .cache .venv .venv-*
