#!/bin/sh
# Installs the peers into the scratch folder $1, and nothing anywhere else; quick when they are there already.
# What cannot be installed is told and left out: bench.py then shows that peer as missing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
mkdir -p "$dir"

# part NAME MANIFEST COMMAND ...: runs the command unless it already did with this manifest.
part() {
    name=$1 manifest=$2
    shift 2
    cmp -s "$manifest" "$dir/$name.done" && return 0
    echo "Installing $name (log: $dir/$name.log) ..." >&2
    if "$@" >"$dir/$name.log" 2>&1; then
        cp "$manifest" "$dir/$name.done"
    else
        echo "$name could not be installed; the end of its log:" >&2
        tail -n 5 "$dir/$name.log" >&2
    fi
}

node_packages() {
    (cd "$dir/node" && npm install --no-audit --no-fund --no-package-lock)
}

python_packages() {
    python3 -m venv --clear "$dir/venv" &&
        "$dir/venv/bin/python" -m pip install --disable-pip-version-check -r "$here/python/requirements.txt"
}

# Where no Redis is installed: the distribution's packages, unpacked instead of installed. That needs no root, starts
# no service and leaves the machine as it is. The libraries that are missing come with them.
redis_packages() (
    command -v redis-server >/dev/null 2>&1 && exit 0
    command -v apt-get >/dev/null 2>&1 || { echo "no redis-server, and no apt-get to fetch it with"; exit 1; }
    rm -rf "$dir/redis" && mkdir -p "$dir/redis/debs" && cd "$dir/redis/debs" || exit 1
    wanted="redis-server redis-tools"
    for library in $(apt-cache depends --important redis-tools | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }'); do
        dpkg -s "$library" >/dev/null 2>&1 || wanted="$wanted $library"
    done
    # shellcheck disable=SC2086 # a list of package names
    apt-get download $wanted || exit 1
    for package in *.deb; do
        dpkg -x "$package" "$dir/redis" || exit 1
    done
)

# Always: their sources are ours and change without their manifests. With their times, which Cargo goes by.
cp -Rp "$here/node" "$here/rust" "$here/python" "$dir/"

part node "$here/node/package.json" node_packages
part python "$here/python/requirements.txt" python_packages
part redis "$here/node/package.json" redis_packages
CARGO_TARGET_DIR="$dir/target" nice -n 10 cargo build --release --manifest-path "$dir/rust/Cargo.toml" >&2 ||
    echo "The peers in Rust could not be built." >&2
