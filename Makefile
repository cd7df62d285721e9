# The front door. Everything here can also be done by hand: cmake --preset release && cmake --build build
# Dependencies are installed by third_party/install.sh where they are missing (Debian; root or sudo).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
# Objects compiled in one checkout serve every other one: a fresh clone builds from the cache.
export CCACHE_NOHASHDIR := 1
export CCACHE_BASEDIR := $(CURDIR)

.PHONY: help deps test-deps build demo test test-isa test-asan bench freezing-table pruning-table format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | while IFS=$$'\t' read -r name text; do \
	  printf '  make %-14s %s\n' "$$name" "$$text"; done

deps:  ## install what is missing (Debian packages; nothing is asked)
	@third_party/install.sh

test-deps:
	@third_party/install.sh tests

build: deps  ## the tools, optimised, in build/bin; with the CUDA library where nvcc and cuDNN are
	@cmake --preset release
	@cmake --build build -j $(JOBS) --target frost_tools
	@echo "The tools are in build/bin."

# The demo waits for what it runs alone: its own tools, and the CUDA library only where a driver could use it.
DRIVER := $(wildcard /dev/nvidiactl /dev/dxg)
# A first build is the demo's: what is compiled for it is kept, and the tests add theirs.
FIRST := $(if $(wildcard build/CMakeCache.txt),,-D FROST_PCH=ON)
demo: deps  ## learn, transfer with freezing, prune, compare: the story in two minutes on two cores, after four of compiling
	@cmake --preset release $(FIRST)
	@cmake --build build -j $(JOBS) --target frost_demo $(if $(DRIVER),frost_backends)
	@tools/demo.sh build/bin build/demo

test: test-deps  ## build everything and run all tests
	@cmake --preset release
	@cmake --build build -j $(JOBS)
	@tests/run.sh build

test-isa: test-deps  ## the tests of numbers, once for each instruction set of oneDNN
	@cmake --preset release
	@cmake --build build -j $(JOBS)
	@tests/test_isa.sh build

test-asan: test-deps  ## the same tests under AddressSanitizer and UndefinedBehaviorSanitizer, in build/asan
	@cmake --preset asan
	@cmake --build build/asan -j $(JOBS)
	@OMP_NUM_THREADS=1 tests/run.sh build/asan -j $(JOBS)

bench: deps  ## time inference and training steps beside their convolutions alone
	@cmake --preset release
	@cmake --build build -j $(JOBS) --target frost-bench
	@build/bin/frost-bench

# The table of docs/freezing.md. Runs that are finished are not repeated; nothing else should run meanwhile.
FREEZING ?= build/freezing
FREEZING_EPOCHS ?= 30
FREEZING_RUNS := freeze0 freeze10-running freeze10-batch freeze24-running freeze24-batch
SHARED ?= ../shared
freezing-table: build  ## train a YOLOv5n on BCCD with freeze 0, 10, 24 and print the table of docs/freezing.md (10 minutes)
	@for run in $(FREEZING_RUNS); do \
	  test -f $(FREEZING)/$$run/summary.json && continue; \
	  layers=$${run#freeze}; bn=running; case $$layers in *-*) bn=$${layers#*-}; layers=$${layers%-*};; esac; \
	  build/bin/yolo-train --weights $(SHARED)/weights/yolov5n.pt --data $(SHARED)/data/bccd/bccd.yaml --imgsz 320 \
	    --batch-size 16 --epochs $(FREEZING_EPOCHS) --freeze $$layers --frozen-bn $$bn --cache ram --noplots \
	    --project $(FREEZING) --name $$run --exist-ok; \
	done
	@build/bin/frost-compare $(addprefix $(FREEZING)/,$(FREEZING_RUNS)) --markdown --roles --labels \
	  "freeze 0" "freeze 10, running" "freeze 10, batch" "freeze 24, running" "freeze 24, batch" \
	  --reference tests/golden/bccd_reference.json

pruning-table: freezing-table  ## prune that YOLOv5n, train it on and print the tables of docs/pruning.md (8 minutes more)
	@tools/measure_pruning.sh build/bin $(SHARED)/data/bccd/bccd.yaml $(SHARED)/weights/yolov5n.pt build/pruning $(FREEZING)/freeze0

format:  ## clang-format over our own code
	@git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

clean:  ## forget the build
	@rm -rf build
