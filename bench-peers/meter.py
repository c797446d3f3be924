"""What a round cost: CPU time from /proc, WAL from PostgreSQL. Both are read by the driver, outside of the contestant,
the same way for all of them."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def process(pid):
    """CPU seconds of a process and of its children that have ended."""
    return sum(int(ticks) for ticks in fields(pid)[11:15]) / TICK


def tree(pid):
    """CPU seconds of PostgreSQL: the first process, its ended children, and those that run."""
    total = process(pid)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                values = fields(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile, and the first process has its time
            if int(values[1]) == pid:
                total += (int(values[11]) + int(values[12])) / TICK
    return total


def machine():
    """CPU seconds that all cores were busy."""
    values = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / TICK


def fields(pid):
    # The name in parentheses may hold spaces.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


class Meter:
    """Reads all meters at the two ends of a round."""

    def __init__(self, postgres, redis, sink_pid, contestant_pid):
        self.postgres, self.redis, self.sink_pid, self.pid = postgres, redis, sink_pid, contestant_pid

    def __enter__(self):
        self.wal = self.postgres.wal()
        self.before = self.read()
        return self

    def __exit__(self, broken, *_):
        if broken:
            return  # what the contestant said matters, and its process is gone
        after = self.read()
        self.wal = self.postgres.wal() - self.wal
        spent = {name: after[name] - self.before[name] for name in after}
        self.cpu = spent["postgres"] + spent["redis"] + spent["contestant"]
        own = self.cpu + spent["sink"] + spent["driver"]
        self.foreign = max(0.0, spent["machine"] - own)

    def read(self):
        return {
            "postgres": tree(self.postgres.pid),
            "redis": process(self.redis.pid) if self.redis else 0.0,
            "contestant": process(self.pid),
            "sink": process(self.sink_pid),
            "driver": sum(os.times()[:4]),
            "machine": machine(),
        }

    def costs(self, items):
        """Per item: database and client together, without the receiver."""
        costs = {"cpu_us_per_item": 1e6 * self.cpu / items}
        if not self.redis:
            costs["wal_bytes_per_item"] = self.wal / items
        return costs
