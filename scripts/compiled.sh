#!/bin/sh
# Installs the extras that compile C code where there is a compiler; else says so, and their tests are skipped.
# Usage: sh scripts/compiled.sh .venv textworld alfworld
set -eu
venv=$1
shift
sh scripts/apt.sh cc:build-essential c++:build-essential make:make
if ! command -v cc >/dev/null 2>&1 || ! command -v c++ >/dev/null 2>&1; then
    echo "no C compiler: the tests of $* are skipped. Type: sudo apt-get install build-essential, then make again" >&2
    exit 0
fi
extras=$(echo "$*" | tr ' ' ',')
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -e ".[$extras]"
