#!/bin/sh
# Makes sure that PgBouncer is on this machine: the tests run the service through the real one.
# Installs it with apt-get or Homebrew where it may; starts nothing.
# Looks in the places where the tests look (tests/it/pgbouncer.rs).
set -eu

found() {
    command -v pgbouncer >/dev/null 2>&1 && return 0
    for program in /usr/sbin/pgbouncer /opt/homebrew/bin/pgbouncer /usr/local/bin/pgbouncer; do
        [ -x "$program" ] && return 0
    done
    return 1
}

# The package would start a service. A policy of "no" (policy-rc.d, exit 101) prevents that; what was
# there before is put back, so that later installations behave as the administrator is used to.
# One script for all that needs root, with sudo or without.
install_with_apt() {
    "$@" env DEBIAN_FRONTEND=noninteractive sh -eu -c '
        policy=/usr/sbin/policy-rc.d
        apt-get update -q
        if [ -e "$policy" ]; then
            mv "$policy" "$policy.saved"
            trap "mv -f \"$policy.saved\" \"$policy\"" EXIT
        else
            trap "rm -f \"$policy\"" EXIT
        fi
        trap "exit 1" HUP INT TERM
        printf "#!/bin/sh\nexit 101\n" >"$policy"
        chmod 755 "$policy"
        apt-get install -q -y --no-install-recommends pgbouncer
    '
}

found && exit 0

failed=
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ]; then
        echo "Installing PgBouncer (apt-get install -y pgbouncer) ..."
        install_with_apt || failed=yes
    elif sudo -n true 2>/dev/null; then
        echo "Installing PgBouncer (sudo apt-get install -y pgbouncer) ..."
        install_with_apt sudo -n || failed=yes
    fi
elif command -v brew >/dev/null 2>&1; then
    echo "Installing PgBouncer (brew install pgbouncer) ..."
    brew install pgbouncer || failed=yes
fi

if ! found; then
    [ -z "$failed" ] || echo "The installation failed; its messages are above." >&2
    echo "PgBouncer is needed by the tests: install it (Debian, Ubuntu: sudo apt-get install pgbouncer;" \
        "Fedora: sudo dnf install pgbouncer; macOS: brew install pgbouncer)." >&2
    exit 1
fi
