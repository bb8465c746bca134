"""Frameworks of Node.js as npm publishes them, each as a small program on a Redis as it is made by
default, with the variables that a link injects and nothing else."""

from collections.abc import Callable, Iterator

import pytest

import npm
from support import Stage

pytestmark = pytest.mark.fortnightly

BULL = """
import Queue from "bull";
const queue = new Queue("mail", process.env.REDIS_URL);
queue.process(2, async (job) => job.data.x + job.data.y);
const global = new Promise((done) => queue.on("global:completed", (id, result) => done(result)));
const job = await queue.add({ x: 2, y: 3 }, { delay: 50, attempts: 2 });
const answer = [await job.finished(), JSON.parse(await global), (await queue.getJobCounts()).completed];
await queue.close();
console.log(JSON.stringify(answer));
process.exit(0);
"""
BULLMQ = """
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const sum = new Worker("sum", async (job) => {
  const parts = Object.values(await job.getChildrenValues());
  return parts.length ? parts.reduce((a, b) => a + b, 0) : job.data.x * 2;
}, { connection });
const events = new QueueEvents("sum", { connection });
await events.waitUntilReady();
const queue = new Queue("sum", { connection });
const alone = await queue.add("one", { x: 21 });
const flow = await new FlowProducer({ connection }).add({
  name: "all", queueName: "sum", data: {},
  children: [1, 2, 3].map((x) => ({ name: "part", queueName: "sum", data: { x } })),
});
const answer = [await alone.waitUntilFinished(events), await flow.job.waitUntilFinished(events)];
console.log(JSON.stringify(answer));
process.exit(0);
"""
SOCKET_IO = """
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io } from "socket.io-client";
const serve = async () => {
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  const server = new Server(http, { adapter: createAdapter(publisher, subscriber) });
  server.on("connection", (socket) => socket.join("room"));
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  return { server, port: http.address().port };
};
const [one, other] = await Promise.all([serve(), serve()]);
const client = io(`http://127.0.0.1:${one.port}`, { transports: ["websocket"] });
await new Promise((done) => client.on("connect", done));
const heard = new Promise((done) => client.on("news", done));
const there = (await other.server.in("room").fetchSockets()).length;
other.server.to("room").emit("news", "hello");
console.log(JSON.stringify([await heard, there]));
process.exit(0);
"""
PATTERNS = """
import { createClient } from "redis";
import { Redis } from "ioredis";
const first = await createClient({ url: process.env.REDIS_URL }).connect();
const ears = await first.duplicate().connect();
const one = new Promise((done) => ears.pSubscribe("news.*", (text, name) => done([name, text])));
const expired = new Promise((done) => ears.pSubscribe("__keyevent@*__:expired", done));
const second = new Redis(process.env.REDIS_URL);
const others = new Redis(process.env.REDIS_URL);
const two = new Promise((done) => others.on("pmessage", (_, name, text) => done([name, text])));
await others.psubscribe("*.today");
await first.set("soon", "1", { PX: 10 });
await second.publish("news.today", "x");
console.log(JSON.stringify([await one, await two, await expired]));
process.exit(0);
"""
PROGRAMS = {
    "bull": (BULL, [5, 5, 1]),
    "bullmq, with a flow": (BULLMQ, [42, 12]),
    "the redis adapter of socket.io": (SOCKET_IO, ["hello", 1]),
    "node-redis and ioredis, patterns of channels and events of keys": (
        PATTERNS,
        [["news.today", "x"], ["news.today", "x"], "soon"],
    ),
}


@pytest.fixture(scope="module")
def app(make_stage: Callable[..., Stage]) -> Iterator[dict[str, str]]:
    with make_stage().serving() as stage:
        stage.furnish({"queue": "redis"}, ["shop"])
        yield stage.variables("shop")


@pytest.mark.parametrize(("program", "answer"), PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: str, answer: list[object], app: dict[str, str]) -> None:
    assert npm.run(program, app) == answer
