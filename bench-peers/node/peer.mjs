// The commands of a contestant on Node: node peer.mjs graphile-worker|pg-boss|bullmq COMMAND, see ../README.md.
// A fault of any kind ends the process with a message: a broken round has no figure.
import { Driver, Handler, connect, newJob, say, sleep, wall } from "./kit.mjs";

const CLIENTS = 8; // that submit at the same time
const BATCH = 1000; // jobs of one call that fills
const PATIENCE = 600_000; // ms that a drain may take before it counts as hung
const LAST = 30_000; // ms that its last completions may

const [name, command, ...args] = process.argv.slice(2);
const { default: queue } = await import(`./${name}.mjs`);

const times = (n, make) => Promise.all(Array.from({ length: n }, (_, i) => make(i)));
// Redis peers need no connection per client of ours; the others get one each.
const clients = (n) => times(n, () => connect());

const commands = {
  install: () => queue.install(),

  async fill(count) {
    let next = 0;
    const total = Number(count);
    const fillers = queue.redis ? [null, null] : await clients(2);
    await Promise.all(fillers.map(async (client) => {
      while (next < total) {
        const first = next;
        next = Math.min(total, first + BATCH);
        await queue.fill(client, Array.from({ length: next - first }, (_, i) => newJob(first + i)));
      }
    }));
  },

  async submit(seconds) {
    const driver = new Driver();
    const all = await clients(CLIENTS);
    const one = (client) => queue.submit(client, newJob(++made));
    let made = 0;
    await Promise.all(all.map(one)); // the first of a connection prepares its statements
    await driver.ready();
    const started = performance.now();
    let n = 0;
    await Promise.all(all.map(async (client) => {
      while (performance.now() - started < seconds * 1000) {
        await one(client);
        n += 1;
      }
    }));
    await driver.done({ n, seconds: (performance.now() - started) / 1000 });
  },

  async drain(count, how, until) {
    const driver = new Driver();
    const wanted = Number(count);
    const handler = new Handler({ wanted, postTo: how === "http" ? process.env.BENCH_SINK : undefined });
    const looker = queue.redis ? null : await connect();
    await driver.ready();
    const stop = await queue.work(handler, how === "http" ? "post" : "drain");
    const up = performance.now(); // checking its tables is no part of a drain; some handle jobs before they say so
    const hung = sleep(PATIENCE).then(() => { throw new Error(`handled ${handler.handled} of ${wanted}`); });
    await Promise.race([handler.reached, hung]);
    const last = performance.now() + LAST;
    while (until === "all" && (await queue.left(looker)) > 0) {
      if (performance.now() > last) throw new Error(`${await queue.left(looker)} jobs stay behind`);
      await sleep(2);
    }
    const seconds = (performance.now() - Math.min(up, handler.first)) / 1000;
    await driver.done({ n: wanted, seconds, handled: handler.handled });
    await stop();
  },

  async watch() {
    const driver = new Driver();
    const handler = new Handler({ noting: true });
    const stop = await queue.work(handler, "watch");
    await driver.ready();
    await driver.end();
    say({ starts: handler.starts });
    await stop();
  },

  async send(rate, seconds) {
    const driver = new Driver();
    const all = queue.redis ? [null] : await clients(4);
    const sent = [];
    await queue.open?.();
    await driver.ready();
    const started = performance.now();
    const sending = [];
    for (let id = 1; id <= rate * seconds; id++) {
      await sleep(started + (id * 1000) / rate - performance.now());
      sending.push((async () => {
        const job = newJob(id);
        const before = wall();
        await queue.add(all[id % all.length], job);
        sent.push([id, before, wall()]);
      })());
    }
    await Promise.all(sending);
    await driver.done({ n: sent.length, seconds: (performance.now() - started) / 1000, sent });
  },
};

await commands[command](...args);
process.exit(0); // pools and queues of a worker that is done
