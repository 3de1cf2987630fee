#!/bin/sh
# Makes a virtual environment with the first Python >= 3.11 on this machine, or says what to install.
# Usage: sh scripts/venv.sh .venv        (PYTHON=/path/to/python3.12 chooses one)
set -eu
target=$1
[ -x "$target/bin/python" ] && exit 0

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "potstill needs Python 3.11 or newer; found: $(python3 --version 2>&1 || echo none)." >&2
    echo "Type: apt-get install python3 python3-venv   (macOS: brew install python@3.12), or make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq "$version-venv" >/dev/null
    else
        echo "$python has no venv module. Type: sudo apt-get install $version-venv" >&2
        exit 1
    fi
fi
echo "making $target with $("$python" --version)" >&2
"$python" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
