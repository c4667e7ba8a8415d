# make setup | run | test | test-all | lint | clean
#   SOURCE=  walk.mp4, a rosbag2, webcam:0, topic:/my/camera/image_raw or synthetic; empty: the clip in this repository
#   REFINE=1 start the refiner too
#   TELEOP=  talos, g1, jvrc1 or a mapping of your own: a simulated robot follows, its operator is played
#   INTERFACE=eth0  network for ROS beside this machine's own; all: every one; empty: none
#   FOR=     stop after so many seconds, print a JSON summary     VIEW=0  no web view     ARGS=  options of hsr.bringup
#   PYTHON=  the Python (3.10 to 3.12) that .venv is made from            PIP_ARGS=  more options of pip install

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint clean

SOURCE ?=
FOR ?=
VIEW ?= 1
REFINE ?=
TELEOP ?=
INTERFACE ?=
ARGS ?=
PYTHON ?=
PIP_ARGS ?=
TESTS ?=
# Most tests of nodes wait for other processes: two at a time take little more than half as long.
PARALLEL ?= -n 2 --dist loadfile

# A sourced ROS installation would mix its packages with those of .venv.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

help:
	@sed -n '1,7p' Makefile

setup:
	@for python in "$(PYTHON)" python3 python3.11 python3.12 python3.10; do \
	  if [ -n "$$python" ] && "$$python" -c "" 2>/dev/null; then \
	    PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" exec "$$python" ros2_ws/bootstrap.py; fi; done; \
	echo "make setup: no Python found: sudo apt install python3 python3-venv python3-dev" >&2; exit 1

run: setup
	@exec .venv/bin/python -m hsr.bringup --source "$(SOURCE)" $(if $(FOR),--for $(FOR) --json) \
	  $(if $(filter 0,$(VIEW)),--no-view) $(if $(filter 1,$(REFINE)),--refine) \
	  $(if $(TELEOP),--teleop "$(TELEOP)") \
	  $(if $(INTERFACE),--interface $(INTERFACE)) $(ARGS)

test: setup
	.venv/bin/python -m pytest $(PARALLEL) $(TESTS)

test-all: setup
	.venv/bin/python -m pytest -m "slow or not slow" $(PARALLEL) $(TESTS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check hsr_core ros2_ws/src ros2_ws/bootstrap.py launch tests

clean:
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log
