#!/bin/sh
# Makes sure that target/interop-venv holds a Python with the packages of tests/interop/requirements.txt: other
# people's implementations, which the tests hold ours against. Quick when it is there already.
# Installs Python's venv with apt-get where it may.
set -eu
cd "$(dirname "$0")/.."

wanted=tests/interop/requirements.txt
venv=target/interop-venv

has_packages() {
    "$1" -c '
from importlib.util import find_spec
wanted = "cryptography", "schemathesis", "standardwebhooks"
raise SystemExit(not all(map(find_spec, wanted)))' 2>/dev/null
}

has_venv() {
    command -v python3 >/dev/null 2>&1 && python3 -c 'import ensurepip, venv' 2>/dev/null
}

install_with_apt() {
    "$@" env DEBIAN_FRONTEND=noninteractive sh -eu -c '
        apt-get update -q
        apt-get install -q -y python3 python3-venv
    '
}

if [ -n "${CRVS_INTEROP_PYTHON:-}" ]; then
    has_packages "$CRVS_INTEROP_PYTHON" && exit 0
    echo "CRVS_INTEROP_PYTHON is $CRVS_INTEROP_PYTHON, which is no Python with the packages of $wanted." >&2
    exit 1
fi
# The list is copied last, so it stands for a complete installation.
cmp -s "$wanted" "$venv/requirements.txt" && has_packages "$venv/bin/python" && exit 0

if ! has_venv && command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ]; then
        echo "Installing Python's venv (apt-get install -y python3-venv) ..."
        install_with_apt || echo "The installation failed; its messages are above." >&2
    elif sudo -n true 2>/dev/null; then
        echo "Installing Python's venv (sudo apt-get install -y python3-venv) ..."
        install_with_apt sudo -n || echo "The installation failed; its messages are above." >&2
    fi
fi
if ! has_venv; then
    echo "Python 3.10 or newer with its venv is needed for the tests: install it (Debian, Ubuntu: sudo apt-get install" \
        "python3-venv; Fedora: sudo dnf install python3; macOS: brew install python3) or set CRVS_INTEROP_PYTHON to a" \
        "Python that has the packages of $wanted." >&2
    exit 1
fi

echo "Installing the packages of $wanted into $venv ..."
mkdir -p target
new=$venv.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
if ! { python3 -m venv "$new" && "$new/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted"; }; then
    echo "The packages of $wanted cannot be installed (pip's message is above): the tests need the Python package" \
        "index once, or CRVS_INTEROP_PYTHON set to a Python that has the packages." >&2
    exit 1
fi
cp "$wanted" "$new/requirements.txt"
rm -rf "$venv"
mv "$new" "$venv"
