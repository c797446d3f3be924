// graphile-worker, in the settings that its documentation names for throughput: a local queue and batched completions.
import { Logger, run, runMigrations } from "graphile-worker";
import { IN_FLIGHT, business, url } from "./kit.mjs";

process.env.NO_LOG_SUCCESS = "1"; // a line per job otherwise
const logger = new Logger(() => () => {});

const SETTINGS = {
  drain: { concurrentJobs: 24, localQueue: { size: 2000, refetchDelay: { durationMs: 10 } } },
  post: { concurrentJobs: IN_FLIGHT, localQueue: { size: 2000, refetchDelay: { durationMs: 10 } } },
  // A local queue would only delay the lone job.
  watch: { concurrentJobs: 24, localQueue: { size: -1 } },
};

const add = (client, job) => client.query({
  name: "add",
  text: "select graphile_worker.add_job('job', $1::json)",
  values: [JSON.stringify(job)],
});

export default {
  install: () => runMigrations({ connectionString: url, logger }),

  add,

  async submit(client, job) {
    await client.query("begin");
    await business(client, job);
    await add(client, job);
    await client.query("commit");
  },

  fill: (client, jobs) => client.query({
    name: "fill",
    text: `select from graphile_worker.add_jobs(
             array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json)), false)`,
    values: [JSON.stringify(jobs.map((payload) => ({ identifier: "job", payload })))],
  }),

  async work(handler, pace) {
    const worker = { connectionString: url, maxPoolSize: 25, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
    const runner = await run({
      preset: { worker: { ...worker, ...SETTINGS[pace] } },
      logger,
      noHandleSignals: true,
      taskList: { job: async (payload) => { await handler.handle(payload); } },
    });
    return () => runner.stop();
  },

  left: async (client) =>
    (await client.query("select count(*)::int as n from graphile_worker._private_jobs")).rows[0].n,
};
