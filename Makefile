# Two commands on a fresh clone, with nothing but python3, python3-venv and make:
#   make demo   record demonstrations, train, distill, validate, over ROS; writes runs/demo/report.html
#   make test   the whole test suite, then colcon build and colcon test
PYTHON ?= python3
VENV ?= .venv
# Where PyTorch publishes its builds without CUDA, a tenth of the default one's size; used where it can be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
COLCON := $(abspath $(VENV))/bin/colcon --log-base $(VENV)/colcon/log
COLCON_BASES := --build-base $(VENV)/colcon/build --install-base $(VENV)/colcon/install

.PHONY: demo test colcon install clean
.DEFAULT_GOAL := demo

# Goes on where an interrupted one stopped.
demo: $(VENV)/installed
	@$(VENV)/bin/vdd demo --resume

test: $(VENV)/installed $(VENV)/robosuite
	@$(VENV)/bin/python -m pytest
	@$(MAKE) --no-print-directory colcon

# The suite has just run; what colcon adds is whether the package builds, installs and tests as ROS packages do.
colcon: $(VENV)/installed
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) build $(COLCON_BASES)
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(COLCON) test $(COLCON_BASES) --return-code-on-test-failure \
		--event-handlers console_direct+ --pytest-args test/launch

# Models of other makers to try the bridge on. Without what robosuite itself needs: it would replace mink by a release of 2024.
$(VENV)/robosuite: $(VENV)/installed
	@$(PIP) install --quiet --no-deps robosuite==1.5.2
	@touch $@

install: $(VENV)/installed

# The stamp is written last: an interrupted installation is taken up again, a complete one costs nothing.
$(VENV)/installed: setup.py setup.cfg
	@echo 'Setting up $(VENV): about 400 MB of wheels, one to three minutes on a fast line.'
	@set -e; began=$$(date +%s); \
	$(PYTHON) -m venv $(VENV); \
	index=; if $(VENV)/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \
		$(TORCH_INDEX)/torch/ 2>/dev/null; then index='--extra-index-url $(TORCH_INDEX)'; fi; \
	$(PIP) install $$index --editable '.[ros,train,sim,test]'; \
	echo $$(( $$(date +%s) - began )) > $(VENV)/install_seconds; \
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
