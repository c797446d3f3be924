// BullMQ: jobs in Redis, which the driver runs with `appendfsync always`. The row of business goes to PostgreSQL
// first, and no transaction holds the two together. Completed jobs are removed.
import { Queue, Worker } from "bullmq";
import { IN_FLIGHT, business } from "./kit.mjs";

const QUEUE = "bench";
const connection = { host: "127.0.0.1", port: Number(process.env.BENCH_REDIS_PORT), maxRetriesPerRequest: null };
const CONCURRENCY = { drain: 200, post: IN_FLIGHT, watch: 50 };

let opened;
const queue = () => (opened ??= new Queue(QUEUE, { connection, defaultJobOptions: { removeOnComplete: true } }));

export default {
  redis: true,

  install() {}, // Redis is emptied by the driver

  open: () => queue().waitUntilReady(),
  add: (_, job) => queue().add("job", job),

  async submit(client, job) {
    await business(client, job);
    await queue().add("job", job);
  },

  fill: (_, jobs) => queue().addBulk(jobs.map((data) => ({ name: "job", data }))),

  async work(handler, pace) {
    const options = { connection, concurrency: CONCURRENCY[pace], removeOnComplete: { count: 0 } };
    const worker = new Worker(QUEUE, async (job) => { await handler.handle(job.data); }, options);
    worker.on("error", (error) => { throw error; });
    await worker.waitUntilReady();
    return () => worker.close();
  },

  async left() {
    const { waiting, active } = await queue().getJobCounts("waiting", "active");
    return waiting + active;
  },
};
