#!/bin/sh
# Makes sure that PostgreSQL's server programs (initdb, postgres) are on this machine.
# Installs them with apt-get or Homebrew where it may; starts no server and makes no cluster.
# Looks in the places where the crate dev-postgres looks (bin_dirs).
set -eu

has_server() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ]
}

found() {
    (
        IFS=:
        for dir in $PATH; do
            has_server "$dir" && exit 0
        done
        exit 1
    ) && return 0
    bindir=$(pg_config --bindir 2>/dev/null) && has_server "$bindir" && return 0
    for dir in /usr/lib/postgresql/*/bin \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
        has_server "$dir" && return 0
    done
    return 1
}

# The package would make a cluster `main` and start it. Its own setting prevents that; the file
# is put back as it was, so that later installations behave as the administrator is used to.
# One script for all that needs root, with sudo or without.
install_with_apt() {
    "$@" env DEBIAN_FRONTEND=noninteractive sh -eu -c '
        conf=/etc/postgresql-common/createcluster.conf
        apt-get update -q
        apt-get install -q -y postgresql-common
        cp -p "$conf" "$conf.saved"
        trap "mv -f \"$conf.saved\" \"$conf\"" EXIT
        trap "exit 1" HUP INT TERM
        echo "create_main_cluster = false" >>"$conf"
        apt-get install -q -y postgresql
    '
}

if [ -n "${CRVS_PG_BIN:-}" ]; then
    has_server "$CRVS_PG_BIN" && exit 0
    echo "CRVS_PG_BIN is $CRVS_PG_BIN, which does not hold initdb and postgres." >&2
    exit 1
fi
found && exit 0

failed=
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ]; then
        echo "Installing PostgreSQL (apt-get install -y postgresql) ..."
        install_with_apt || failed=yes
    elif sudo -n true 2>/dev/null; then
        echo "Installing PostgreSQL (sudo apt-get install -y postgresql) ..."
        install_with_apt sudo -n || failed=yes
    fi
elif command -v brew >/dev/null 2>&1; then
    echo "Installing PostgreSQL (brew install postgresql@17) ..."
    brew install postgresql@17 || failed=yes
fi

if ! found; then
    [ -z "$failed" ] || echo "The installation failed; its messages are above." >&2
    echo "PostgreSQL's server is needed: install it (Debian, Ubuntu: sudo apt-get install postgresql;" \
        "Fedora: sudo dnf install postgresql-server; macOS: brew install postgresql@17)" \
        "or set CRVS_PG_BIN to the folder of initdb and postgres." >&2
    exit 1
fi
