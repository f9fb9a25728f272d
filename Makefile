# Commands on a fresh clone; they need python3, python3-venv and make:
#   make demo   record demonstrations, train, distill, validate, over ROS; writes runs/demo/report.html
#   make test   the whole test suite, then colcon build and colcon test
#   make docs   the documentation site; writes build/docs/index.html
# For developers:
#   make lint   formatting, rules and types: ruff and pyright
PYTHON ?= python3
VENV ?= .venv
# Index of the PyTorch builds without CUDA, a tenth of the default size; used if it is reachable.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Extra with ROS as wheels.
ROS := ros
COLCON := $(abspath $(VENV))/bin/colcon --log-base $(VENV)/colcon/log
COLCON_BASES := --build-base $(VENV)/colcon/build --install-base $(VENV)/colcon/install

JAZZY ?= .venv-jazzy

.PHONY: demo docs test lint test-jazzy test-installation colcon install clean
.DEFAULT_GOAL := demo

# Continues an interrupted run.
demo: $(VENV)/installed
	@$(VENV)/bin/vdd demo --resume

docs: $(VENV)/docs
	@$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo 'build/docs/index.html'

$(VENV)/docs: $(VENV)/installed requirements/docs.txt
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/docs.txt
	@touch $@

# With WORKERS, tests that measure real time run one at a time in the first, and all others beside (test/conftest.py).
WORKERS ?= 0
test: $(VENV)/installed $(VENV)/robosuite
	@$(VENV)/bin/python -m pytest -n $(WORKERS)
	@$(MAKE) --no-print-directory colcon

# The tools are installed in the same environment; pyright reads the types of installed packages.
LINTED := vdd_ros test benchmarks launch examples setup.py
lint: $(VENV)/lint
	@$(VENV)/bin/ruff format --check --quiet $(LINTED)
	@$(VENV)/bin/ruff check --quiet $(LINTED)
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

%/lint: %/installed requirements/lint.txt
	@$*/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements/lint.txt
	@touch $@

# Checks that the package builds, installs and runs tests as a ROS package.
colcon: $(VENV)/installed
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) build $(COLCON_BASES)
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) test $(COLCON_BASES) --return-code-on-test-failure \
		--event-handlers console_direct+ --pytest-args test/launch

# Robot models of other makers for tests of the bridge, without the outdated requirements of robosuite.
%/robosuite: %/installed
	@$*/bin/python -m pip --disable-pip-version-check install --quiet --no-deps robosuite==1.5.2
	@touch $@

# Wheels of the previous ROS distribution, in a separate environment.
test-jazzy: $(JAZZY)/installed $(JAZZY)/robosuite
	@$(JAZZY)/bin/python -m pytest test/ros test/launch

test-installation:
	@test/installation/fresh_root

install: $(VENV)/installed

# The stamp is written last, so that an interrupted installation is continued.
$(JAZZY)/installed: ROS = ros-jazzy
%/installed: setup.py setup.cfg $(wildcard requirements/*.txt)
	@echo 'Setting up $*: about 400 MB of wheels, one to three minutes on a fast line.'
	@set -e; began=$$(date +%s); \
	$(PYTHON) -m venv $*; \
	index=; if $*/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \
		$(TORCH_INDEX)/torch/ 2>/dev/null; then index='--extra-index-url $(TORCH_INDEX)'; fi; \
	$*/bin/python -m pip --disable-pip-version-check install $$index --editable '.[$(ROS),train,sim,test]'; \
	echo $$(( $$(date +%s) - began )) > $*/install_seconds; \
	touch $@

clean:
	rm -rf $(VENV) $(JAZZY) build *.egg-info
