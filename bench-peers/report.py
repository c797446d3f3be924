"""The tables: medians of the rounds with their least and greatest, and each queue's ratio to ours."""

from statistics import median

from contestants import OURS, PEERS
from items import TITLES

# A round in which others used more of the machine than this is told under its table.
DISTURBED = 0.12


def line(record):
    """One round, for who waits."""
    if "rate" not in record:
        return record.get("missing") or record.get("error")
    if "p50_ms" in record and record["item"] == "pickup":
        return "p50 {p50_ms:.2f}  p95 {p95_ms:.2f}  p99 {p99_ms:.2f} ms".format(**record)
    return f"{record['rate']:,.0f} /s"


def markdown(results):
    parts = [heading(results)]
    for item in TITLES:
        rounds = [record for record in results["rounds"] if record["item"] == item]
        if rounds:
            parts.append(table(item, rounds, results))
    parts.append(notes(results))
    return "\n\n".join(parts) + "\n"


def heading(results):
    machine = results.get("machine", {})
    versions = ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items())
    settings = ", ".join(f"`{name}={value}`" for name, value in results.get("settings", {}).items())
    text = (
        "## Other queues, doing the same work\n\n"
        f"Medians of {results['repeats']} interleaved round(s) on one machine with {machine.get('cores')} cores "
        f"({machine.get('processor')}) and {machine.get('memory_gb')} GB, {machine.get('system')}: client, database "
        "and receiver share the cores. Only ratios carry over to other machines, and only within one run.\n\n"
        f"PostgreSQL: {settings}. Redis: `appendonly yes`, `appendfsync always`.\n\nVersions: {versions}."
    )
    if results["scale"] != 1:
        text += (
            f"\n\n**A quick look, not a measurement** (SCALE={results['scale']:g}): queues this small start and end "
            "more than they run."
        )
    return text


def table(item, rounds, results):
    by_name = {}
    for record in rounds:
        by_name.setdefault(record["name"], []).append(record)
    columns = columns_of(item)
    rows = [row(item, name, records, by_name, results) for name, records in by_name.items()]
    # The best first; who has no figure comes last.
    rows.sort(key=lambda row: (row[0] is None, row[0]))
    title = TITLES[item].format(**{name: f"{size:,}" for name, size in results["sizes"].items()})
    lines = [f"### {title}", ""]
    lines += [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 2)} --- |"]
    lines += [f"| {' | '.join(cells)} |" for _, cells in rows]
    disturbed = sum(record.get("foreign", 0) > DISTURBED for record in rounds)
    if disturbed:
        of = f"{disturbed} of {len(rounds)}"
        lines += ["", f"In {of} rounds others used more than {DISTURBED:.0%} of the machine."]
    return "\n".join(lines)


# A backlog is held against the drain of the same queue, a held snapshot against its backlog.
OF_ITS_OWN = {"backlog": "W3", "horizon": "backlog"}
LESS = {peer.name: peer.less for peer in PEERS} | {OURS: "–"}


def columns_of(item):
    if item == "pickup":
        return ["queue", "p50 ms", "p95 ms", "p99 ms", "it ÷ ours (p50)", "lost", "what it does less"]
    of = [f"÷ its {OF_ITS_OWN[item]}"] if item in OF_ITS_OWN else []
    return ["queue", "median /s", "least – most", "ours ÷ it", *of, "CPU µs", "WAL bytes", "what it does less"]


def row(item, name, records, by_name, results):
    """Its place in the order, and its cells."""
    less = LESS[name]
    if item == "pickup" and name == OURS:
        less = "otherwise: from the answer over HTTP to the request's arrival at the receiver"
    good = [record for record in records if "rate" in record]
    bad = [record.get("missing") or record.get("error") for record in records if "rate" not in record]
    why = " ".join(bad[0].replace("|", "/").split()) if bad else ""
    if not good:
        return None, [name, *["–"] * (len(columns_of(item)) - 2), f"**no figure**: {why}"]
    if bad:
        less += f"; **broke in a round**: {why}"
    if item == "pickup":
        own, other = middle(by_name.get(OURS, []), "p50_ms"), middle(good, "p50_ms")
        cells = [digits(middle(good, f"p{percent}_ms"), 2) for percent in (50, 95, 99)]
        lost = "–" if name == OURS else str(sum(record.get("lost", 0) for record in good))
        return other, [name, *cells, ratio(other, own), lost, less]
    own, other = middle(by_name.get(OURS, []), "rate"), middle(good, "rate")
    rates = [record["rate"] for record in good]
    cells = [f"{other:,.0f}", f"{min(rates):,.0f} – {max(rates):,.0f}", ratio(own, other)]
    if item in OF_ITS_OWN:
        base = [record for record in results["rounds"] if record["item"] == OF_ITS_OWN[item]]
        before = [record for record in base if record["name"] == name]
        cells.append(ratio(other, middle(before, "rate")))
    cells += [digits(middle(good, "cpu_us_per_item"), 1), digits(middle(good, "wal_bytes_per_item"), 0)]
    return -other, [name, *cells, less]


def figures(results, full):
    """Each queue's figures as `crvs-outbox bench --json` writes them, and by item. Only of items of full size in which all
    took part in every round: what is best of some is not the best."""
    if results["sizes"] != full or results["repeats"] < 3:
        return {}
    by_item = {}
    for item in TITLES:
        rounds = [record for record in results["rounds"] if record["item"] == item]
        member = "p50_ms" if item == "pickup" else "rate"
        by_name = {name: [r for r in rounds if r["name"] == name] for name in (OURS, *(peer.name for peer in PEERS))}
        complete = [len(of) == results["repeats"] and all(r.get(member) for r in of) for of in by_name.values()]
        if all(complete):
            by_item[item] = [figure(item, name, by_name, member, results) for name in by_name]
    return by_item


def figure(item, name, by_name, member, results):
    records = by_name[name]
    values, own = [record[member] for record in records], middle(by_name[OURS], member)
    beside = {} if name == OURS else {"limit": own, "ratio": median(values) / own}
    return {
        "scenario": "peers", "variant": f"{item}: {name}", "value": median(values),
        "unit": "ms, the median wait" if item == "pickup" else "/s", "low": min(values), "high": max(values), **beside,
        "wal_bytes_per_item": middle(records, "wal_bytes_per_item"),
        "cpu_us_per_item": middle(records, "cpu_us_per_item"), "cores": results["machine"]["cores"],
        "note": f"{results['versions'].get(name, '')}; {LESS[name]}".strip("; –"),
    }


def middle(records, member):
    values = [record[member] for record in records if record.get(member) is not None]
    return median(values) if values else None


def ratio(of, to):
    return f"{of / to:.2f}" if of and to else "–"


def digits(value, count):
    return "–" if value is None else f"{value:,.{count}f}"


def notes(results):
    lines = [
        "### How to read this",
        "",
        "- CPU and WAL are per item: client and database together, without the receiver. Redis writes no WAL; its own "
        "log is not counted.",
        "- A drain ends when the queue's own tables hold nothing that is not completed. Of a backlog a part is "
        "drained, which ends with its last handler; what was fetched beyond that is not counted.",
        "- The peers hand their handlers parsed JSON, except pgmq's client and pgqueuer, which pass it on as it is. "
        "Ours signs each request and keeps its history.",
        "- Ours throws a round away before the one that counts; a peer's process is a new one each round. The CPU of "
        "ours includes its receiver. Its horizon drains all that is pending, the others' a part, as of their backlog.",
        "- The HTTP client is part of W4: hyper for Rust, undici for Node, aiohttp for Python.",
        "- The peers' settings are their documented ones for throughput; sizes of batches and of concurrency come from "
        "trying around those, once.",
        "- Finished jobs beside a backlog are made by the peer itself, where it keeps them "
        f"({', '.join(peer.name for peer in PEERS if peer.keeps)}).",
    ]
    for name, why in results["absent"].items():
        lines.append(f"- **{name} did not take part**: {why}")
    return "\n".join(lines)
