#!/bin/sh
# Installs system packages that tests need where it may (root on Debian); else says the command and goes on, because the
# tests that need them are then skipped. Usage: sh scripts/apt.sh COMMAND:PACKAGE ...
set -eu
missing=
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    # shellcheck disable=SC2086  # a list of package names
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "some tests will be skipped. To run them, type: sudo apt-get install$missing (macOS: xcode-select --install, brew install zstd)" >&2
fi
