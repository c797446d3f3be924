"""The same work for other queues and for ours, in interleaved rounds: see README.md. `make bench-peers` calls this."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import items
import report
import versions
from contestants import OURS, PEERS, NotAvailable, ours
from servers import POSTGRES_SETTINGS, Postgres, Redis, Server, redis_program

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROUND = {"W1": items.w1, "W3": items.w3, "W4": items.w4, "pickup": items.pickup}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="write the tables to this file instead of printing them")
    parser.add_argument("--raw", type=Path, help="write every round to this file, as JSON")
    parser.add_argument("--figures", type=Path, help="put the figures of full runs into this file, one a line")
    parser.add_argument("--from-raw", type=Path, help="only make the tables, from such a file")
    parser.add_argument("--program", type=Path, help="our program; built if not given")
    return parser.parse_args()


def words(name):
    return [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]


def build(program):
    """Our own two programs: the one that is measured, and the one that holds the peers' cluster."""
    command = ["cargo", "build", "--release", "--locked", "-p", "dev-postgres", "--bin", "dev-postgres-try"]
    if not program:
        command += ["-p", "crvs-outbox", "--bin", "crvs-outbox"]
    subprocess.run(command, cwd=ROOT, check=True)
    metadata = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]
    described = subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    release = Path(json.loads(described)["target_directory"]) / "release"
    return str(program or release / "crvs-outbox"), str(release / "dev-postgres-try")


class Run:
    """The rounds, and what they gave."""

    def __init__(self, lab, program, peers, only_peers, results, save):
        self.lab, self.program, self.peers, self.results, self.save = lab, program, peers, results, save
        self.with_ours = not only_peers
        self.broken = set()

    def measure(self, item, number, name, work):
        if (item, name) in self.broken:
            return
        record = {"item": item, "round": number, "name": name}
        try:
            record |= work()
        except NotAvailable as why:
            record["missing"] = str(why)
        except (RuntimeError, OSError, ValueError) as why:
            record["error"] = str(why)
        if "rate" not in record:
            self.broken.add((item, name))
        self.results["rounds"].append(record)
        self.save()
        print(f"{item:<8} {number}  {name:<24} {report.line(record)}", file=sys.stderr, flush=True)

    def ours(self, item, number):
        if not self.with_ours:
            return
        sizes = self.lab.sizes
        options = {
            "W1": ["--size", 8, "--seconds", sizes["submit_seconds"]],
            "W3": ["--size", sizes["drain"]],
            "W4": ["--size", sizes["post"]],
            "pickup": ["--rate", sizes["pickup_rate"], "--seconds", sizes["pickup_seconds"]],
            "backlog": ["--size", sizes["pending"]],  # it drains 15% of them
            "horizon": ["--size", sizes["pending"]],  # it drains all of them
        }[item]
        self.measure(item, number, OURS, lambda: ours(self.program, item, options))

    def plain(self, item, rounds):
        for number in range(1, rounds + 1):
            self.ours(item, number)
            for peer in self.peers:
                self.measure(item, number, peer.name, lambda peer=peer: ROUND[item](self.lab, peer))

    def backlogs(self, wanted, rounds):
        """Both on the same large queues, in turn."""
        queues = {}
        for number in range(1, rounds + 1):
            for item in wanted:
                self.ours(item, number)
                for peer in self.peers:
                    if peer.redis and item == "horizon":
                        continue  # it has no snapshots
                    self.measure(item, number, peer.name, lambda peer=peer: self.backlog(queues, peer, item))

    def backlog(self, queues, peer, item):
        if peer not in queues:
            queues[peer] = items.Backlog(self.lab, peer)
        return queues[peer].round(item == "horizon")


def installed(scratch, results):
    """The peers that can take part."""
    subprocess.run([HERE / "install.sh", scratch], check=True)
    only, present = words("ONLY"), []
    for peer in PEERS:
        if only and not any(word in (peer.key, peer.name) for word in only):
            continue
        if not (Path(scratch) / peer.needs).exists():
            results["absent"][peer.name] = "could not be installed"
        elif peer.redis and not Path(redis_program(scratch)[0]).exists():
            results["absent"][peer.name] = "there is no Redis here, and none could be fetched"
        else:
            present.append(peer)
    return present, bool(only) and OURS not in only


def main():
    args = arguments()
    if args.from_raw:
        return publish(json.loads(args.from_raw.read_text()), args)
    # A stop by any signal is an exit, so that the servers are stopped.
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    scratch = os.environ.get("BENCH_PEERS_DIR") or f"{tempfile.gettempdir()}/crvs-outbox-bench-peers"
    Path(scratch).mkdir(parents=True, exist_ok=True)
    scale, rounds = float(os.environ.get("SCALE") or 1), int(os.environ.get("ROUNDS") or 3)
    wanted = words("ITEMS") or list(items.TITLES)
    own = {name: os.environ[f"BENCH_{name.upper()}"] for name in items.FULL if f"BENCH_{name.upper()}" in os.environ}
    sizes = items.sizes(scale, own)

    program, holder = build(args.program)
    results = {"absent": {}, "rounds": [], "sizes": sizes, "repeats": rounds, "scale": scale}
    peers, only_peers = installed(scratch, results)
    results["settings"] = POSTGRES_SETTINGS

    def save():
        if args.raw:
            args.raw.parent.mkdir(parents=True, exist_ok=True)
            args.raw.write_text(json.dumps(results, indent=1))

    started = time.monotonic()
    with ExitStack() as servers:
        postgres = servers.enter_context(Postgres(holder, scratch))
        redis = servers.enter_context(Redis(scratch)) if any(peer.redis for peer in peers) else None
        sink = servers.enter_context(Server([f"{scratch}/target/release/bench-peers", "sink"], f"{scratch}/sink.log"))
        url = json.loads(sink.line())["url"]
        lab = items.Lab(scratch, postgres, redis, url, sink.process.pid, sizes, os.cpu_count())
        results |= {"machine": versions.machine(), "versions": versions.all(scratch, postgres, program)}
        run = Run(lab, program, peers, only_peers, results, save)
        for peer in list(peers):
            try:
                items.install(lab, peer)
            except RuntimeError as why:
                results["absent"][peer.name] = str(why)
                peers.remove(peer)
        for item in ROUND:
            if item in wanted:
                run.plain(item, rounds)
        run.backlogs([item for item in ("backlog", "horizon") if item in wanted], rounds)
    results["minutes"] = round((time.monotonic() - started) / 60, 1)
    save()
    return publish(results, args)


def publish(results, args):
    text = report.markdown(results)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text)
        print(f"Written: {args.markdown}", file=sys.stderr)
    else:
        print(text)
    if args.figures:
        keep(report.figures(results, items.FULL), args.figures)
    return 0


def keep(by_item, file):
    """Writes figures to a file, in which those of other items stay."""
    old = file.read_text().splitlines() if file.exists() else []
    old = [line for line in old if json.loads(line)["variant"].split(":")[0] not in by_item]
    new = [json.dumps(figure) for figures in by_item.values() for figure in figures]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in old + new))
    which = ", ".join(by_item) or "none: that takes full size, 3 rounds, and all queues in each"
    print(f"Figures in {file} that are new: {which}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
