// pg-boss: batches of 1000, two of them at a time, fetched again at once while they are full; woken by NOTIFY.
import { PgBoss } from "pg-boss";
import { IN_FLIGHT, business, url } from "./kit.mjs";

const QUEUE = "bench";
const WORKERS = 2;

async function start(options) {
  const boss = new PgBoss({ connectionString: url, max: 10, schedule: false, supervise: false, ...options });
  boss.on("error", (error) => { throw error; });
  await boss.start();
  return boss;
}

let started;
const producer = () => (started ??= start({}));
// Statements of pg-boss on the connection of the caller, so in its transaction.
const on = (client) => ({ db: { executeSql: (text, values) => client.query(text, values) } });

async function add(client, job) {
  await (await producer()).send(QUEUE, job, on(client));
}

// A batch is one call: its HTTP requests are limited here.
async function each(jobs, handler, atATime) {
  let next = 0;
  await Promise.all(Array.from({ length: atATime }, async () => {
    while (next < jobs.length) await handler.handle(jobs[next++].data);
  }));
}

export default {
  async install() {
    const boss = await start({});
    await boss.createQueue(QUEUE, { notify: true });
    await boss.stop({ graceful: false });
  },

  open: producer,
  add,

  async submit(client, job) {
    await client.query("begin");
    await business(client, job);
    await add(client, job);
    await client.query("commit");
  },

  fill: async (client, jobs) => (await producer()).insert(QUEUE, jobs.map((data) => ({ data })), on(client)),

  async work(handler, pace) {
    const boss = await start({ useListenNotify: true });
    const base = { pollingIntervalSeconds: 0.5 };
    const options = pace === "watch"
      ? { ...base, batchSize: 1, localConcurrency: 4 }
      : { ...base, batchSize: 1000, localConcurrency: WORKERS, burstWhenBatchFull: true };
    await boss.work(QUEUE, options, async (jobs) => {
      if (pace === "post") await each(jobs, handler, IN_FLIGHT / WORKERS);
      else for (const job of jobs) handler.handle(job.data);
    });
    return () => boss.stop({ graceful: true, timeout: 20_000 });
  },

  left: async (client) =>
    (await client.query("select count(*)::int as n from pgboss.job where name = $1 and state < 'completed'", [QUEUE]))
      .rows[0].n,
};
