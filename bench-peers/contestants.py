"""Who takes part: the peers as processes that understand the same commands, and this repository's own program."""

import json
import os
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 900  # seconds until a contestant counts as hung


@dataclass(frozen=True)
class Peer:
    """Another queue."""

    name: str
    key: str  # of its databases
    command: tuple  # in the scratch folder
    needs: str  # the file that its installation leaves there
    less: str  # what it does less than ours, or otherwise
    redis: bool = False
    keeps: bool = False  # finished jobs
    env: tuple = ()  # settings that it reads from its environment


RUST = "target/release/bench-peers"
PEERS = [
    Peer("graphile_worker (Rust)", "graphile_rs", (RUST, "graphile"), RUST,
         "no history: a finished job is deleted"),
    Peer("graphile-worker (Node)", "graphile_node", ("node", "node/peer.mjs", "graphile-worker"),
         "node/node_modules/graphile-worker/package.json", "no history: a finished job is deleted"),
    Peer("pgmq", "pgmq", (RUST, "pgmq"), RUST,
         "no history, no backoff: what is not deleted comes again; SQL alone, the client is ours"),
    Peer("pg-boss", "pgboss", ("node", "node/peer.mjs", "pg-boss"), "node/node_modules/pg-boss/package.json",
         "keeps the finished job, not its attempts", keeps=True),
    Peer("pgqueuer", "pgqueuer", ("venv/bin/python", "python/pgqueuer_peer.py"), "python.done",
         "no retry unless asked for; keeps a log row per job, not its payload", keeps=True),
    Peer("awa", "awa", (RUST, "awa"), RUST,
         "history of completed jobs for seconds only: 16 partitions, emptied in turn",
         env=(("AWA_COMPLETION_BATCH_SIZE", "2000"), ("AWA_COMPLETION_FLUSH_MS", "5"), ("AWA_COMPLETION_SHARDS", "1"))),
    Peer("BullMQ", "bullmq", ("node", "node/peer.mjs", "bullmq"), "node/node_modules/bullmq/package.json",
         "not atomic: the row is in PostgreSQL, the job in Redis; no history (removed when completed)", redis=True),
]


class Running:
    """A contestant's process, and the talk with it: lines of JSON out, a line to go, the end of input to end."""

    def __init__(self, lab, peer, args, database):
        env = {**os.environ, **dict(peer.env), "BENCH_SINK": lab.sink_url}
        env["BENCH_DATABASE_URL"] = lab.postgres.url(database)
        if lab.redis:
            env["BENCH_REDIS_PORT"] = str(lab.redis.port)
        self.log = Path(lab.scratch) / f"{peer.key}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*peer.command, *map(str, args)], cwd=lab.scratch, env=env, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        self.what = f"{peer.name} {args[0]}"
        self.timer = threading.Timer(PATIENCE, self.process.kill)
        self.timer.daemon = True
        self.timer.start()

    def line(self):
        text = self.process.stdout.readline()
        while text and not text.startswith("{"):
            text = self.process.stdout.readline()  # a peer's own words
        return json.loads(text) if text else self.fail()

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def fail(self):
        self.process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"{self.what} ended with {self.process.returncode}: {' '.join(lines[-3:])[-400:]}")

    def end(self):
        """Lets it end in order."""
        self.process.stdin.close()
        if self.process.wait() != 0:
            self.fail()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.timer.cancel()
        if kind is None:
            self.end()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# Ours: the scenario for each item, and which of its variants is the same work as the peers'.
OURS = "crvs-outbox"
SCENARIOS = {
    "W1": ("submit", r"^a business row"),
    "W3": ("drain", r"^to nowhere$"),
    "W4": ("drain-http", r"^signed"),
    "pickup": ("pickup", r"answer to arrival"),
    "backlog": ("backlog", r"finished"),
    "horizon": ("horizon", r"snapshot"),
}


class NotAvailable(Exception):
    """This program has no such scenario, or no such variant of it."""


def said(command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def ours(program, item, options):
    """One round of ours. It runs a cluster of its own, set up alike, and measures itself."""
    scenario, wanted = SCENARIOS[item]
    command = [program, "bench", scenario, "--json", "--rounds", "1", *map(str, options)]
    done = said(command + ["--no-limit"])
    if done.returncode == 2 and "'--no-limit'" in done.stderr:
        done = said(command)  # it measures its limit as well, which only takes longer
    if done.returncode == 2:  # it does not understand the request
        raise NotAvailable(f"`bench {scenario}`: {done.stderr.strip().splitlines()[0].removeprefix('error: ')}")
    if done.returncode:
        raise RuntimeError(f"bench {scenario}: {' '.join(done.stderr.split())[-400:]}")
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for figure in figures:
        if re.search(wanted, figure["variant"]):
            return {**figure, "rate": figure["value"], "figures": figures}
    raise NotAvailable(f"`bench {scenario}` has no variant for this: {[f['variant'] for f in figures]}")
