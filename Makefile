# Two commands on a fresh clone, with nothing but python3, python3-venv and make:
#   make demo   record demonstrations, train, distill, validate, over ROS; writes runs/demo/report.html
#   make test   the whole test suite, then colcon build and colcon test
#   make docs   the documentation site; writes build/docs/index.html
# and, for whoever changes the code:
#   make lint   formatting, rules and types: ruff and pyright
PYTHON ?= python3
VENV ?= .venv
# Where PyTorch publishes its builds without CUDA, a tenth of the default one's size; used where it can be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Which extra brings ROS, as wheels.
ROS := ros
COLCON := $(abspath $(VENV))/bin/colcon --log-base $(VENV)/colcon/log
COLCON_BASES := --build-base $(VENV)/colcon/build --install-base $(VENV)/colcon/install

JAZZY ?= .venv-jazzy

.PHONY: demo docs test lint test-jazzy test-installation colcon install clean
.DEFAULT_GOAL := demo

# Goes on where an interrupted one stopped.
demo: $(VENV)/installed
	@$(VENV)/bin/vdd demo --resume

docs: $(VENV)/docs
	@$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo 'build/docs/index.html'

$(VENV)/docs: $(VENV)/installed requirements/docs.txt
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/docs.txt
	@touch $@

test: $(VENV)/installed $(VENV)/robosuite
	@$(VENV)/bin/python -m pytest
	@$(MAKE) --no-print-directory colcon

# The tools are installed beside the package; pyright reads the types of what is installed.
LINTED := vdd_ros test benchmarks launch examples setup.py
lint: $(VENV)/lint
	@$(VENV)/bin/ruff format --check --quiet $(LINTED)
	@$(VENV)/bin/ruff check --quiet $(LINTED)
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

%/lint: %/installed requirements/lint.txt
	@$*/bin/python -m pip --disable-pip-version-check install --quiet --requirement requirements/lint.txt
	@touch $@

# The suite has just run; what colcon adds is whether the package builds, installs and tests as ROS packages do.
colcon: $(VENV)/installed
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) build $(COLCON_BASES)
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) test $(COLCON_BASES) --return-code-on-test-failure \
		--event-handlers console_direct+ --pytest-args test/launch

# Models of other makers to try the bridge on, without what robosuite itself needs: these releases are old.
%/robosuite: %/installed
	@$*/bin/python -m pip --disable-pip-version-check install --quiet --no-deps robosuite==1.5.2
	@touch $@

# The same wheels of the distribution before, in an environment of their own: both cannot be in one.
test-jazzy: $(JAZZY)/installed $(JAZZY)/robosuite
	@$(JAZZY)/bin/python -m pytest test/ros test/launch

test-installation:
	@test/installation/fresh_root

install: $(VENV)/installed

# The stamp is written last: an interrupted installation is taken up again, a complete one costs nothing.
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
