#!/bin/sh
# Makes sure that Valgrind is on this machine where it can be (Linux on x86_64): it counts instructions.
# Installs it with apt-get where it may. What counts says itself that Valgrind is not there (xtask/src/instructions.rs).
set -eu

found() {
    command -v valgrind >/dev/null 2>&1
}

install_with_apt() {
    "$@" env DEBIAN_FRONTEND=noninteractive sh -eu -c '
        apt-get update -q
        apt-get install -q -y --no-install-recommends valgrind
    '
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || exit 0
found && exit 0

failed=
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ]; then
        echo "Installing Valgrind (apt-get install -y valgrind) ..."
        install_with_apt || failed=yes
    elif sudo -n true 2>/dev/null; then
        echo "Installing Valgrind (sudo apt-get install -y valgrind) ..."
        install_with_apt sudo -n || failed=yes
    fi
fi
[ -z "$failed" ] || echo "The installation failed; its messages are above." >&2
