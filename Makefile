# `make demo` and `make test` set up all they need; both are safe to repeat.
#
#   TORCH_INDEX      an index with CPU builds of PyTorch (https://download.pytorch.org/whl/cpu) for a machine without a
#                    GPU; empty takes what pip finds, which on Linux may be the CUDA build
#   SYSTEM_PACKAGES  empty leaves the system packages alone

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.SILENT:
.PHONY: help demo test setup ros system lock
.DEFAULT_GOAL := help

TORCH_INDEX ?=
SYSTEM_PACKAGES ?= libegl1 libgl1-mesa-dri libgl1 libglib2.0-0 libusb-1.0-0

PYTHON := .venv/bin/python
STAMP := .venv/robosteer.stamp
ROS_PYTHON := .ros/venv/bin/python
ROS_MODULES := rclpy, colcon_ros, colcon_python_setup_py
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' requirements.lock)
# Packages that only pin, a dependency of franky-sim, needs.
PIN := pin libpinocchio coal libcoal eigenpy cmeel cmeel-.*

help:
	echo "make demo   set up, then show a new task, find its heads, finetune them, run the arm; report in runs/demo/"
	echo "make test   set up, then run the tests"
	echo "make setup  set up alone: .venv on Python 3.11 or 3.12, packages of requirements.lock, system packages"
	echo "make ros    with ROS 2 sourced: the colcon package in .ros/install, on ROS's own Python, for ros2 launch and ros2 run"

demo: setup
	$(PYTHON) launch/demo.py

test: setup
	$(PYTHON) -m pytest

# Comes first, so that who is not root learns what to type before anything is downloaded.
system:
	command -v dpkg-query >/dev/null || exit 0
	missing=()
	for package in $(SYSTEM_PACKAGES); do
		# Ubuntu 24.04 names some packages anew: libglib2.0-0 is libglib2.0-0t64 there.
		found=$$(dpkg-query -W -f='$${db:Status-Status}\n' $$package $${package}t64 2>/dev/null || true)
		grep -qx installed <<< "$$found" || missing+=($$package)
	done
	(($${#missing[@]})) || exit 0
	if [[ $$(id -u) != 0 ]]; then
		echo "robosteer needs system packages. Type this, then the same make again:" >&2
		echo "    sudo apt-get update && sudo apt-get install --yes $${missing[*]}" >&2
		exit 2
	fi
	echo "set-up: system packages: $${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -o DPkg::Lock::Timeout=120 update -q
	apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends -q $${missing[@]}

setup: system
	key=$$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
	if [[ -x $(PYTHON) && -f $(STAMP) && $$(<$(STAMP)) == $$key ]]; then exit 0; fi
	seconds=$$SECONDS
	if [[ ! -e .venv/bin/python ]]; then
		$(call find_python)
		echo "set-up 1/4: .venv on $$($$python --version)"
		$$python -m venv .venv
	fi
	if ! $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then
		echo "expected .venv to hold Python 3.11 or 3.12; found another or a broken one; type: rm -rf .venv, then the same make again" >&2
		exit 2
	fi
	$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip
	$(call install_packages,$(PYTHON))
	echo "set-up 4/4: the command robosteer"
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	echo $$key > $(STAMP)
	echo "set-up: done in $$((SECONDS - seconds)) s"

# Nodes run on the Python that builds them, so colcon runs on one that has ROS's packages and ours.
ros: system
	if [[ -z $${AMENT_PREFIX_PATH:-} ]]; then
		echo "make ros builds for ROS 2, and none is sourced. Type this, then the same make again:" >&2
		echo "    source /opt/ros/jazzy/setup.bash" >&2
		exit 2
	fi
	key=$$( (echo "$$AMENT_PREFIX_PATH"; cat requirements.lock) | sha256sum | cut -d' ' -f1)
	if [[ ! -x $(ROS_PYTHON) || ! -f .ros/stamp || $$(<.ros/stamp) != $$key ]]; then
		$(call find_python,$(ROS_MODULES))
		echo "set-up 1/4: .ros/venv on $$($$python --version), beside the packages of ROS 2 $${ROS_DISTRO:-}"
		$$python -m venv --clear --system-site-packages .ros/venv
		$(call install_packages,$(ROS_PYTHON))
		echo $$key > .ros/stamp
	fi
	echo "set-up 4/4: the colcon package"
	PYTHONWARNINGS=ignore $(ROS_PYTHON) -m colcon --log-base .ros/log build --paths . --build-base .ros/build --install-base .ros/install
	echo "type: source .ros/install/setup.bash; ros2 launch robosteer bringup.launch.py --show-args"

# Sets $python to the first Python in the PATH that can make the environment, and import the modules of the argument.
define find_python
python=
	for name in python3.11 python3.12 python3 python; do
		for candidate in $$(type -ap $$name || true); do
			$$candidate -c 'import sys, ensurepip, venv, $(or $(1),sys); sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || continue
			python=$$candidate
			break 2
		done
	done
	if [[ -z $$python ]]; then
		echo "robosteer needs Python 3.11 or 3.12 with its venv module$(if $(1), that can import $(1)), and found none in the PATH. On Debian and Ubuntu, type:" >&2
		echo "    sudo apt-get install --yes python3 python3-venv$(if $(1), python3-colcon-common-extensions)" >&2
		exit 2
	fi
endef

# Installs the locked packages for the Python of the argument.
define install_packages
	# PyTorch first and alone: what follows then finds it, and no other package chooses its build.
	echo "set-up 2/4: $(TORCH)"
	$(1) -m pip --disable-pip-version-check install $(TORCH) --constraint requirements.lock $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	# The lock is complete, so nothing is resolved; why it leaves pin out, it says itself.
	echo "set-up 3/4: $$(grep -c == requirements.lock) packages of requirements.lock"
	$(1) -m pip --disable-pip-version-check install --no-deps --requirement requirements.lock
endef

# Writes requirements.lock anew from pyproject.toml, in an environment of its own.
lock:
	rm -rf .cache/lock
	$(call find_python)
	$$python -m venv .cache/lock
	torch=$$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
	.cache/lock/bin/python -m pip install $$torch $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	.cache/lock/bin/python -m pip install '.[sim,ros,panda,calibration,tensorboard,dev]'
	{
		grep '^#' requirements.lock
		.cache/lock/bin/python -m pip freeze --all --exclude robosteer --exclude pip |
			sed 's/+cpu$$//' | grep -vixE "($$(tr ' ' '|' <<< '$(PIN)'))==.*"
	} > .cache/requirements.lock
	mv .cache/requirements.lock requirements.lock
	rm -rf .cache/lock
