"""The work: how each item is prepared for a peer, and measured."""

import statistics
from dataclasses import dataclass

from contestants import Running
from meter import Meter

# At SCALE=1. Counts and seconds become smaller with it, rates do not.
FULL = {
    "submit_seconds": 5,  # W1
    "warm": 20_000,  # jobs that are there before W1
    "drain": 100_000,  # W3
    "post": 30_000,  # W4
    "pickup_seconds": 20,
    "pickup_rate": 50,
    "pending": 1_000_000,  # backlog and horizon: what is there,
    "finished": 2_000_000,  # what was finished before, where the peer keeps it,
    "backlog": 150_000,  # and what a round drains of it
}
LEAST = {"submit_seconds": 1, "warm": 500, "drain": 500, "post": 500, "pickup_seconds": 2, "backlog": 500}

TITLES = {
    "W1": "W1: a row of business (1 kB) and a job in one transaction, 8 clients",
    "W3": "W3: draining {drain} jobs that do nothing, one worker process",
    "W4": "W4: draining {post} jobs, each one HTTP POST of 1 kB, 64 in flight",
    "pickup": "Pickup: {pickup_rate} jobs a second on an idle system, from the answer to the commit to the start of the handler",
    "backlog": "Backlog: {backlog} jobs drained of {pending} pending, beside {finished} finished where they are kept",
    "horizon": "Horizon: the same while another session holds a REPEATABLE READ snapshot",
}


def sizes(scale, own):
    """The sizes of a run; `own` names those that are set one by one."""
    scaled = {}
    for name, full in FULL.items():
        size = full if name == "pickup_rate" else max(LEAST.get(name, 1), round(full * scale))
        scaled[name] = int(own.get(name, size))
    scaled["pending"] = max(scaled["pending"], 2 * scaled["backlog"])
    return scaled


@dataclass
class Lab:
    """What the rounds run on."""

    scratch: str
    postgres: object
    redis: object
    sink_url: str
    sink_pid: int
    sizes: dict
    cores: int

    def settle(self, database):
        """The same ground for each round: statistics that are right, no dead rows, no checkpoint that is due."""
        self.postgres.sql("vacuum analyze", "checkpoint", database=database)

    def run(self, peer, args, database):
        """A command that is not measured."""
        with Running(self, peer, args, database) as running:
            running.process.wait()

    def clean(self, peer):
        """An empty queue: a copy of the peer's installation."""
        self.postgres.copy(peer.key, f"{peer.key}_clean")
        if peer.redis:
            self.redis.ask("FLUSHALL")

    def measured(self, peer, args, database):
        """Runs a command between two readings of the meters."""
        with Running(self, peer, args, database) as running:
            running.line()
            with Meter(self.postgres, self.redis if peer.redis else None, self.sink_pid, running.process.pid) as meter:
                running.go()
                result = running.line()
        count, seconds = result["n"], result["seconds"]
        foreign = meter.foreign / (self.cores * seconds)
        return {**result, "rate": count / seconds, "foreign": round(foreign, 3), **meter.costs(count)}


def install(lab, peer):
    """The peer's tables, once, in a database that the rounds copy."""
    clean = f"{peer.key}_clean"
    lab.postgres.sql(f"drop database if exists {clean} with (force)", f"create database {clean}")
    business = "create table business (id bigserial primary key, payload jsonb not null, at timestamptz default now())"
    lab.postgres.sql(business, database=clean)
    lab.run(peer, ["install"], clean)


def w1(lab, peer):
    lab.clean(peer)
    lab.run(peer, ["fill", lab.sizes["warm"]], peer.key)
    lab.settle(peer.key)
    return lab.measured(peer, ["submit", lab.sizes["submit_seconds"]], peer.key)


def drain(lab, peer, count, how):
    lab.clean(peer)
    lab.run(peer, ["fill", count], peer.key)
    lab.settle(peer.key)
    return lab.measured(peer, ["drain", count, how, "all"], peer.key)


def w3(lab, peer):
    return drain(lab, peer, lab.sizes["drain"], "noop")


def w4(lab, peer):
    return drain(lab, peer, lab.sizes["post"], "http")


def pickup(lab, peer):
    lab.clean(peer)
    seconds, rate = lab.sizes["pickup_seconds"], lab.sizes["pickup_rate"]
    with Running(lab, peer, ["watch"], peer.key) as watcher:
        watcher.line()
        watcher.go()
        result = lab.measured(peer, ["send", rate, seconds], peer.key)
        # The last jobs may still be on their way; what does not come in this time counts as lost.
        lab.postgres.sql("select pg_sleep(0.5)")
        watcher.process.stdin.close()
        starts = {}
        for number, at in watcher.line()["starts"]:
            starts.setdefault(number, at)
        watcher.process.wait()
    sent = result.pop("sent")
    waits = [starts[number] - committed for number, _, committed in sent if number in starts]
    if not waits:
        raise RuntimeError("no job was started")
    result["lost"] = len(sent) - len(waits)
    result["from_call_p50_ms"] = statistics.median(starts[n] - called for n, called, _ in sent if n in starts)
    for name in ("cpu_us_per_item", "wal_bytes_per_item"):
        result.pop(name, None)  # of the sender alone
    return {**result, **{f"p{percent}_ms": percentile(waits, percent) for percent in (50, 95, 99)}}


def percentile(values, percent):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(1, -(-len(ordered) * percent // 100)) - 1]


class Backlog:
    """The large queue of a peer, filled once; each round drains a part of it and is topped up for the next."""

    def __init__(self, lab, peer):
        self.lab, self.peer, self.missing = lab, peer, lab.sizes["pending"]
        lab.clean(peer)
        finished = lab.sizes["finished"] if peer.keeps else 0
        if finished:
            # Finished by the peer itself, so that they are what it keeps.
            lab.run(peer, ["fill", finished], peer.key)
            lab.measured(peer, ["drain", finished, "noop", "all"], peer.key)

    def round(self, held):
        lab, peer = self.lab, self.peer
        if self.missing:
            lab.run(peer, ["fill", self.missing], peer.key)
            lab.settle(peer.key)
        command = ["drain", lab.sizes["backlog"], "noop", "part"]
        if held:
            with lab.postgres.held_snapshot(peer.key):
                result = lab.measured(peer, command, peer.key)
        else:
            result = lab.measured(peer, command, peer.key)
        self.missing = result["handled"]
        return result
