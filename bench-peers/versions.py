"""What was measured with what: versions as installed, and the machine."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from servers import redis_program


def said(*command, env=None):
    """The first line that a program prints, if it can be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    except OSError:
        return "none"
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else "unknown"


def npm(scratch, package):
    manifest = Path(scratch) / "node/node_modules" / package / "package.json"
    return json.loads(manifest.read_text())["version"] if manifest.exists() else "none"


def crate(scratch, name):
    lock = Path(scratch) / "rust/Cargo.lock"
    found = re.findall(rf'name = "{name}"\nversion = "([^"]+)"', lock.read_text() if lock.exists() else "")
    return ", ".join(found) or "none"


def all(scratch, postgres, program):
    redis, env = redis_program(scratch)
    metadata = "from importlib.metadata import version; print(version('pgqueuer'))"
    return {
        "crvs-outbox": f"{said(program, '--version').split()[-1]} ({commit()})",
        "graphile_worker (Rust)": crate(scratch, "graphile_worker"),
        "graphile-worker (Node)": npm(scratch, "graphile-worker"),
        "pgmq": f"the SQL of its crate {crate(scratch, 'pgmq')}",
        "pg-boss": npm(scratch, "pg-boss"),
        "pgqueuer": said(f"{scratch}/venv/bin/python", "-c", metadata),
        "awa": crate(scratch, "awa"),
        "BullMQ": npm(scratch, "bullmq"),
        "PostgreSQL": postgres.sql("show server_version"),
        "Redis": (re.findall(r"v=(\S+)", said(redis, "--version", env=env)) or ["none"])[0],
        "Node": said("node", "--version"),
        "Python": said(f"{scratch}/venv/bin/python", "--version").removeprefix("Python "),
        "Rust": said("rustc", "--version").removeprefix("rustc "),
    }


def commit():
    root = Path(__file__).resolve().parent
    return said("git", "-C", str(root), "describe", "--always", "--dirty")


def machine():
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) / 1024**2),
        "processor": model[1] if model else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }
