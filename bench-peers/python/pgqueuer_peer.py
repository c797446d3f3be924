"""The contestant pgqueuer: python pgqueuer_peer.py COMMAND, see ../README.md.

Its durable tables, its own autovacuum settings, uvloop and asyncpg: what its documentation recommends. A fault of any
kind ends the process with a traceback: a broken round has no figure.
"""

import asyncio
import json
import os
import random
import string
import sys
import time

import aiohttp
import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

ENTRYPOINT = "job"
CLIENTS = 8  # that submit at the same time
IN_FLIGHT = 64  # jobs that are posted at the same time
BATCH = 1000  # jobs of one call that fills
BYTES = 1024  # the length of a job's JSON
PATIENCE = 600  # seconds that a drain may take before it counts as hung
LAST = 30  # seconds that its last completions may

URL = os.environ["BENCH_DATABASE_URL"]
BUSINESS = "insert into business (payload) values ($1::jsonb)"
LEFT = "select count(*) from pgqueuer where status in ('queued', 'picked')"

TEXTS = ["".join(random.choices(string.ascii_lowercase, k=BYTES)) for _ in range(256)]


def new_job(number):
    """JSON of 1 kB, another one each time."""
    head = f'{{"id":{number},"topic":"birth.declared","text":"'
    text = f"{random.getrandbits(160):040x}{TEXTS[number & 255]}"
    return f'{head}{text[: BYTES - len(head) - 2]}"}}'


def wall():
    """Milliseconds since 1970, as processes of one machine can compare them."""
    return time.time() * 1000


def connect():
    return asyncpg.connect(URL)


def say(line):
    print(json.dumps(line), flush=True)


class Driver:
    """The driver's side of the talk: it says when to go, and ends its input when the result was taken."""

    async def ready(self):
        say({"ready": True})
        if not await asyncio.to_thread(sys.stdin.readline):
            raise EOFError("the driver left")

    async def done(self, result):
        say(result)
        await self.end()

    async def end(self):
        await asyncio.to_thread(sys.stdin.read)


async def install():
    connection = await connect()
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    if hasattr(queries, "optimize_autovacuum"):
        await queries.optimize_autovacuum()
    await connection.close()


async def fill(count):
    queries = Queries(AsyncpgDriver(await connect()))
    for first in range(0, count, BATCH):
        jobs = [new_job(n).encode() for n in range(first, min(count, first + BATCH))]
        await queries.enqueue([ENTRYPOINT] * len(jobs), jobs, [0] * len(jobs))


async def submit(seconds):
    driver = Driver()
    connections = [await connect() for _ in range(CLIENTS)]
    done = 0

    async def one(connection, queries):
        nonlocal done
        job = new_job(done)
        async with connection.transaction():
            await connection.execute(BUSINESS, job)
            await queries.enqueue(ENTRYPOINT, job.encode())
        done += 1

    async def client(connection, queries):
        while time.monotonic() < started + seconds:
            await one(connection, queries)

    clients = [(connection, Queries(AsyncpgDriver(connection))) for connection in connections]
    await asyncio.gather(*(one(*c) for c in clients))  # the first of a connection prepares its statements
    await driver.ready()
    started, done = time.monotonic(), 0
    await asyncio.gather(*(client(*c) for c in clients))
    await driver.done({"n": done, "seconds": time.monotonic() - started})


async def start_worker(handle, batch):
    """Starts the worker; what is returned stops it."""
    queue = PgQueuer(AsyncpgDriver(await connect()))

    @queue.entrypoint(ENTRYPOINT)
    async def job(job):
        await handle(job.payload)

    running = asyncio.create_task(queue.run(batch_size=batch))

    async def stop():
        queue.shutdown.set()
        await asyncio.wait_for(running, LAST)

    return running, stop


async def drain(count, http, everything):
    driver = Driver()
    handled, reached, first = 0, asyncio.Event(), None
    looker = await connect()

    def counted():
        nonlocal handled, first
        first = first or time.monotonic()
        handled += 1
        if handled == count:
            reached.set()

    if http:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT))
        sink, headers = os.environ["BENCH_SINK"], {"content-type": "application/json"}

        async def handle(payload):
            async with session.post(sink, data=payload, headers=headers) as response:
                response.raise_for_status()
            counted()
    else:
        session = None

        async def handle(_):
            counted()

    await driver.ready()
    running, stop = await start_worker(handle, 500)
    up = time.monotonic()  # checking its tables is no part of a drain
    waiting = asyncio.create_task(reached.wait())
    await asyncio.wait({waiting, running}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if not reached.is_set():
        raise RuntimeError(f"handled {handled} of {count}")
    last = time.monotonic() + LAST
    while everything and (left := await looker.fetchval(LEFT)):
        if time.monotonic() > last:
            raise RuntimeError(f"{left} jobs stay behind")
        await asyncio.sleep(0.002)
    seconds = time.monotonic() - min(up, first)
    await driver.done({"n": count, "seconds": seconds, "handled": handled})
    await stop()
    if session:
        await session.close()


async def watch():
    driver, starts = Driver(), []

    async def handle(payload):
        now = wall()
        starts.append((json.loads(payload)["id"], now))

    _, stop = await start_worker(handle, 10)
    await driver.ready()
    await driver.end()
    say({"starts": starts})
    await stop()


async def send(rate, seconds):
    driver, sent = Driver(), []
    pool = await asyncpg.create_pool(URL, min_size=4, max_size=4)
    queries = Queries(AsyncpgPoolDriver(pool))

    async def one(number):
        job = new_job(number).encode()
        before = wall()
        await queries.enqueue(ENTRYPOINT, job)
        sent.append((number, before, wall()))

    await driver.ready()
    started, sending = time.monotonic(), []
    for number in range(1, int(rate * seconds) + 1):
        await asyncio.sleep(max(0, started + number / rate - time.monotonic()))
        sending.append(asyncio.create_task(one(number)))
    await asyncio.gather(*sending)
    await driver.done({"n": len(sent), "seconds": time.monotonic() - started, "sent": sent})


def main(command, *args):
    match command, args:
        case "install", ():
            return install()
        case "fill", (count,):
            return fill(int(count))
        case "submit", (seconds,):
            return submit(float(seconds))
        case "drain", (count, how, until):
            return drain(int(count), how == "http", until == "all")
        case "watch", ():
            return watch()
        case "send", (rate, seconds):
            return send(float(rate), float(seconds))
    raise SystemExit("no such command")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
