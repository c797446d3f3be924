"""The servers that the peers work with. Each ends with this process, however that ends: it waits for the end of its
input, which the system closes."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

# As `crvs-outbox bench` runs its own cluster: durable, and large enough that no checkpoint falls into a round.
POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "wal_compression": "lz4",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "300",
}

# Redis does not end with its input by itself. Its data goes with it.
TIED = """
data=$1; shift
exec 3<&0
"$@" --dir "$data" </dev/null >&2 &
server=$!
echo $server
cat <&3 >&2
kill $server
wait $server
rm -rf "$data"
"""


class Server:
    """A process that runs until its input ends."""

    def __init__(self, command, log, env=None):
        with open(log, "wb") as file:
            # A session of its own: Ctrl-C is for this program, which then stops everything in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=env,
                start_new_session=True,
            )
        self.log = log

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"{self.process.args[0]} did not start: {Path(self.log).read_text()[-500:]}")
        return text.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Postgres(Server):
    """The cluster of the peers: a throwaway one of this repository's crate dev-postgres."""

    def __init__(self, program, scratch):
        settings = [f"{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
        super().__init__([program, f"{scratch}/pg-{os.getpid()}", "throwaway", *settings], f"{scratch}/postgres.log")
        self.pid = int(self.line())
        self.any_url = self.line()
        self.line()
        bin_dir = Path(os.readlink(f"/proc/{self.pid}/exe")).parent
        self.psql = str(bin_dir / "psql") if (bin_dir / "psql").exists() else "psql"

    def url(self, database):
        return self.any_url.replace("postgres:///postgres?", f"postgres:///{quote(database)}?", 1)

    def sql(self, *statements, database="postgres"):
        command = [self.psql, "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{statements[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def wal(self):
        return int(self.sql("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"))

    def copy(self, database, template):
        drop = f"drop database if exists {database} with (force)"
        self.sql(drop, f"create database {database} template {template}")

    def held_snapshot(self, database):
        return Snapshot(self, database)


class Snapshot:
    """A session that holds a REPEATABLE READ snapshot, so that no vacuum removes what was deleted since."""

    def __init__(self, postgres, database):
        self.command = [postgres.psql, "-qXAt", "-d", postgres.url(database)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write("begin isolation level repeatable read;\nselect txid_current_if_assigned() is null;\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


class Redis(Server):
    """Redis, which flushes each write before it answers."""

    def __init__(self, scratch):
        program, env = redis_program(scratch)
        self.port, data = free_port(), Path(scratch) / f"redis-data-{os.getpid()}"
        data.mkdir(exist_ok=True)
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        super().__init__(["sh", "-c", TIED, "redis", str(data), program, *options], f"{scratch}/redis.log", env)
        self.pid = int(self.line())
        self.ask("PING")

    def ask(self, command):
        """One command in the plainest form of the protocol; patient while the server starts."""
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
                    connection.sendall(f"{command}\r\n".encode())
                    return connection.recv(1024)
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise RuntimeError("Redis does not answer")


def redis_program(scratch):
    """The program and the environment it needs; the installed one comes first."""
    installed = shutil.which("redis-server")
    if installed:
        return installed, None
    unpacked = Path(scratch) / "redis"
    libraries = {str(path.parent) for path in unpacked.glob("usr/lib/**/*.so*")}
    return str(unpacked / "usr/bin/redis-server"), {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
