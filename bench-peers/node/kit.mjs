// What every contestant on Node needs: its talk with the driver, its jobs, and their handler.
// The counterpart of ../rust/src/kit.rs and job.rs.
import { createInterface } from "node:readline";
import pg from "pg";
import { Pool } from "undici";

export const IN_FLIGHT = 64; // jobs that are posted at the same time
const BYTES = 1024; // the length of a job's JSON

export const url = process.env.BENCH_DATABASE_URL;
// Milliseconds since 1970, as processes of one machine can compare them.
export const wall = () => performance.timeOrigin + performance.now();
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

export async function connect() {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

// The row that stands for the work of the application (the driver made its table).
export const business = (client, job) =>
  client.query({ name: "business", text: "insert into business (payload) values ($1::jsonb)", values: [job] });

// Without a driver there is nothing to do, and its Redis is gone, which a client would wait for without end.
let answered = false;
process.stdin.on("end", () => answered || process.exit(1)).resume();

// The driver's side of the talk: it says when to go, and ends its input when the result was taken.
export class Driver {
  #lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

  // Between this and `done` lies what is measured.
  async ready() {
    say({ ready: true });
    if ((await this.#lines.next()).done) throw new Error("the driver left");
  }
  async done(result) {
    answered = true;
    say(result);
    await this.end();
  }
  async end() {
    answered = true; // a watcher has its end from the driver
    while (!(await this.#lines.next()).done);
  }
}

// JSON of 1 kB, another one each time: the texts differ, so that no compression makes much of them.
const letters = () => Math.random().toString(36).slice(2, 12).padEnd(10, "x");
const TEXTS = Array.from({ length: 256 }, () => Array.from({ length: 100 }, letters).join(""));
export function newJob(id) {
  const job = { id, topic: "birth.declared", text: "" };
  const length = BYTES - JSON.stringify(job).length;
  job.text = (letters() + letters() + TEXTS[id & 255]).slice(0, length);
  return job;
}

// The handler of the jobs: counts them, posts them where there is an address, notes when they start.
export class Handler {
  handled = 0;
  starts = [];
  #pool;
  #resolve;
  reached = new Promise((resolve) => (this.#resolve = resolve));

  constructor({ wanted = Infinity, postTo, noting = false }) {
    Object.assign(this, { wanted, noting, http: Boolean(postTo) });
    if (postTo) this.#pool = new Pool(new URL(postTo).origin, { connections: IN_FLIGHT, pipelining: 1 });
  }
  #count() {
    if (++this.handled === this.wanted) this.#resolve();
  }
  // A promise only where there is something to wait for.
  handle(job) {
    this.first ??= performance.now();
    if (this.noting) this.starts.push([job.id, wall()]);
    return this.http ? this.#post(job) : this.#count();
  }
  async #post(job) {
    const headers = { "content-type": "application/json" };
    const request = { method: "POST", path: "/", headers, body: JSON.stringify(job) };
    const { statusCode, body } = await this.#pool.request(request);
    await body.dump();
    if (statusCode >= 300) throw new Error(`the receiver answered ${statusCode}`);
    this.#count();
  }
}
