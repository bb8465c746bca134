"""Clients that people already have, as npm publishes them: @upstash/redis,
@upstash/ratelimit, @vercel/kv, @vercel/blob."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import npm
from distributions import Clean
from support import Stage

pytestmark = pytest.mark.fortnightly

PAGE = Path(__file__).resolve().parents[2] / "docs/kv.md"

UPSTASH = """
import { Redis } from "@upstash/redis";
const redis = Redis.fromEnv(%s);
"""
VERCEL = """
import { kv as redis } from "@vercel/kv";
"""
CLIENTS = {
    "upstash": UPSTASH % "",
    "upstash without base64": UPSTASH % "{ responseEncoding: false }",
    "upstash without pipelining": UPSTASH % "{ enableAutoPipelining: false }",
    "vercel": VERCEL,
}


@pytest.fixture(scope="module")
def apps(house: Stage) -> dict[str, dict[str, str]]:
    """The variables of two projects that use KV and Blob."""
    house.cli("kv", "enable")
    house.cli("blob", "enable")
    for project in ("alpha", "beta"):
        house.cli("project", "create", project)
        house.cli("link", "kv", project)
        house.cli("link", "blob", project)
    return {project: house.variables(project) for project in ("alpha", "beta")}


@pytest.fixture(params=CLIENTS)
def run(request: pytest.FixtureRequest, apps: dict[str, dict[str, str]]) -> Any:
    """Runs a script's body in alpha's environment with `redis` connected; the answer is what it
    returns."""

    def run(body: str) -> Any:
        script = (
            f"{CLIENTS[request.param]}\nconst work = async () => {{ await redis.flushdb(); "
            f"{body} }};"
        )
        return npm.run(
            f"{script}\nconsole.log(JSON.stringify(await work() ?? null));", apps["alpha"]
        )

    return run


def test_strings_and_objects_come_back(run: Any) -> None:
    found = run("""
        await redis.set("text", "grün 💚");
        await redis.set("object", { a: [1, 2, { b: null }] });
        await redis.set("number", 41);
        await redis.set("lone", "OK");
        return [await redis.get("text"), await redis.get("object"), await redis.incr("number"), await redis.get("none"),
                await redis.get("lone")];
    """)
    assert found == ["grün 💚", {"a": [1, 2, {"b": None}]}, 42, None, "OK"]


def test_subscribers_hear_what_is_published(run: Any) -> None:
    found = run("""
        const one = redis.subscribe(["news", "sport"]), all = redis.psubscribe("n*w*");
        const heard = [];
        const began = (name, number) => new Promise((done) =>
            (name === "subscribe" ? one : all).on(name, () => { if (--number === 0) done(); }));
        await Promise.all([began("subscribe", 2), began("psubscribe", 1)]);
        const ended = new Promise((done) => {
            const note = (text) => { heard.push(text); if (heard.length === 4) done(); };
            one.on("message", (it) => note(["message", it.channel, it.message]));
            one.on("message:sport", (it) => note(["sport", it.channel, it.message]));
            all.on("pmessage", (it) => note([it.pattern, it.channel, it.message]));
        });
        const reached = [await redis.publish("news", { a: [1, "grün"] }), await redis.publish("nobody", 1),
                         await redis.publish("sport", "one,two")];
        await ended;
        await one.unsubscribe();
        await all.unsubscribe();
        return [reached, heard.sort()];
    """)
    assert found[0] == [2, 1, 2]  # the one who listens to a pattern is counted each time
    assert found[1] == sorted([
        ["message", "news", {"a": [1, "grün"]}], ["n*w*", "news", {"a": [1, "grün"]}],
        ["message", "sport", "one,two"], ["sport", "sport", "one,two"],
    ])  # fmt: skip


def test_expiry_and_conditions(run: Any) -> None:
    found = run("""
        const first = await redis.set("k", "v", { nx: true, ex: 100 });
        const again = await redis.set("k", "w", { nx: true });
        return [first, again, (await redis.ttl("k")) > 90, await redis.getdel("k"), await redis.exists("k")];
    """)
    assert found == ["OK", None, True, "v", 0]


def test_the_other_kinds_of_values(run: Any) -> None:
    found = run("""
        await redis.hset("h", { a: 1, b: "two", OK: "OK" });
        await redis.rpush("l", "x", "y", "OK");
        await redis.sadd("s", "m");
        await redis.zadd("z", { score: 2, member: "b" }, { score: 1, member: "a" });
        return [await redis.hgetall("h"), await redis.lrange("l", 0, -1), await redis.smembers("s"),
                await redis.zrange("z", 0, -1, { withScores: true }), await redis.mget("none", "none")];
    """)
    assert found == [
        {"a": 1, "b": "two", "OK": "OK"},
        ["x", "y", "OK"],
        ["m"],
        ["a", 1, "b", 2],
        [None, None],
    ]


def test_pipelines_and_transactions(run: Any) -> None:
    found = run("""
        const piped = await redis.pipeline().set("a", 1).incr("a").get("a").exec();
        const all = await redis.multi().set("b", "x").get("b").lpush("c", 1, 2).lrange("c", 0, -1).exec();
        const together = await Promise.all([redis.get("a"), redis.get("b"), redis.set("d", 4)]);
        return [piped, all, together];
    """)
    assert found == [["OK", 2, 2], ["OK", "x", 2, [2, 1]], [2, "x", "OK"]]


def test_scripts_and_scans(run: Any) -> None:
    found = run("""
        await redis.mset({ "user:1": 1, "user:2": 2, other: 3 });
        const sum = await redis.eval("return redis.call('GET', KEYS[1]) + redis.call('GET', KEYS[2])", ["user:1", "user:2"], []);
        const hello = await redis.createScript("return ARGV[1]").exec([], ["hello"]);
        let cursor = "0", keys = [];
        do {
            const [next, found] = await redis.scan(cursor, { match: "user:*" });
            cursor = next;
            keys.push(...found);
        } while (cursor !== "0");
        return [sum, hello, keys.sort()];
    """)
    assert found == [3, "hello", ["user:1", "user:2"]]


def test_upstash_ratelimit_counts_by_each_of_its_ways(run: Any) -> None:
    found = run("""
        const { Ratelimit } = await import("@upstash/ratelimit");
        const ways = [Ratelimit.fixedWindow(2, "1 d"), Ratelimit.slidingWindow(2, "1 d"), Ratelimit.tokenBucket(1, "1 d", 2)];
        const said = [];
        for (const [number, limiter] of ways.entries()) {
            const limit = new Ratelimit({ redis, limiter, prefix: `rl${number}`, ephemeralCache: false });
            const answers = [];
            for (const who of ["ada", "ada", "ada", "bob"]) answers.push((await limit.limit(who)).success);
            await limit.resetUsedTokens("ada");
            said.push([...answers, (await limit.limit("ada")).success]);
        }
        return said;
    """)
    assert found == [[True, True, False, True, True]] * 3


def test_errors_reach_the_caller(run: Any) -> None:
    found = run("""
        const said = [];
        for (const attempt of [() => redis.incr("text"), () => redis.lpush("text", 1), () => redis.flushall(),
                               () => redis.eval("return redis.call('SELECT', 18)", [], [])]) {
            await redis.set("text", "word");
            try { await attempt(); said.push("went through"); } catch (error) { said.push(error.message); }
        }
        return said;
    """)
    assert "not an integer" in found[0]
    assert "WRONGTYPE" in found[1]
    assert "no permissions" in found[2]
    assert "no permissions" in found[3]


def test_a_token_reaches_its_own_project_only(apps: dict[str, dict[str, str]]) -> None:
    write = 'await redis.set("secret", "mine"); console.log("null");'
    read = "console.log(JSON.stringify([await redis.get('secret'), await redis.keys('*')]));"
    for project in ("alpha", "beta"):
        npm.run(f"{UPSTASH % ''} await redis.flushdb(); console.log('null');", apps[project])
    npm.run(f"{UPSTASH % ''} {write}", apps["beta"])
    assert npm.run(f"{UPSTASH % ''} {read}", apps["alpha"]) == [None, []]


def test_a_wrong_token_is_said(apps: dict[str, dict[str, str]]) -> None:
    body = (
        "try { await redis.get('a'); } catch (error) { "
        "console.log(JSON.stringify(error.message)); }"
    )
    said = npm.run(f"{UPSTASH % ''} {body}", {**apps["alpha"], "KV_REST_API_TOKEN": "wrong"})
    assert "unknown, expired or revoked" in said


# ---------------------------------------------------------------- @vercel/blob

BLOB = """
import { put, head, list, copy, del, rename, createMultipartUpload, uploadPart, completeMultipartUpload } from "@vercel/blob";
const access = "public";
const tried = async (what) => { try { return await what(); } catch (error) { return `${error.name}: ${error.message}`; } };
const headers = { authorization: `Bearer ${process.env.BLOB_READ_WRITE_TOKEN}` };
const fetched = async (url) => (await fetch(url, { headers })).text();
const work = async () => {
  for (const { url } of (await list()).blobs) await del(url);
  %s
};
console.log(JSON.stringify(await work() ?? null));
"""
UNTOUCHED = BLOB.replace("for (const", "if (false) for (const")


@pytest.fixture
def vercel(apps: dict[str, dict[str, str]]) -> Any:
    def run(body: str, project: str = "alpha") -> Any:
        return npm.run(BLOB % body, apps[project])

    return run


def test_vercel_blob_puts_and_reads(vercel: Any) -> None:
    made, known, text = vercel("""
        const made = await put("docs/grün 1.txt", "hello", { access, cacheControlMaxAge: 60 });
        return [made, await head(made.url), await fetched(made.url)];
    """)
    assert (made["pathname"], made["contentType"], text) == (
        "docs/grün 1.txt",
        "text/plain",
        "hello",
    )
    assert (known["size"], known["cacheControl"], known["etag"]) == (5, "max-age=60", made["etag"])
    assert known["downloadUrl"] == f"{made['url']}?download=1"


def test_vercel_blob_does_not_overwrite_unless_allowed(vercel: Any) -> None:
    refused, text, again, suffixed = vercel("""
        const first = await put("a.txt", "one", { access });
        const refused = await tried(() => put("a.txt", "two", { access }));
        const text = await fetched(first.url);
        await put("a.txt", "three", { access, allowOverwrite: true });
        const suffixed = await put("a.txt", "four", { access, addRandomSuffix: true });
        return [refused, text, await fetched(first.url), suffixed.pathname];
    """)
    assert "already" in refused
    assert (text, again) == ("one", "three")
    assert suffixed.startswith("a-")


def test_vercel_blob_writes_only_what_it_has_read(vercel: Any) -> None:
    stale, text = vercel("""
        const first = await put("a.txt", "one", { access });
        const second = await put("a.txt", "two", { access, ifMatch: first.etag });
        const stale = await tried(() => put("a.txt", "three", { access, ifMatch: first.etag }));
        return [stale, await fetched(second.url)];
    """)
    assert "Precondition" in stale
    assert text == "two"


def test_vercel_blob_lists_and_folds(vercel: Any) -> None:
    pages, folded = vercel("""
        for (const name of ["a/1", "a/2", "b/1", "c"]) await put(name, "x", { access });
        let cursor, pages = [];
        do {
            const page = await list({ limit: 3, cursor });
            pages.push(page.blobs.map((blob) => blob.pathname));
            cursor = page.cursor;
        } while (cursor);
        const folded = await list({ mode: "folded" });
        return [pages, [folded.folders, folded.blobs.map((blob) => blob.pathname)]];
    """)
    assert pages == [["a/1", "a/2", "b/1"], ["c"]]
    assert folded == [["a/", "b/"], ["c"]]


def test_vercel_blob_copies_renames_and_deletes(vercel: Any) -> None:
    names, missing = vercel("""
        const made = await put("a.txt", "x", { access });
        await copy(made.url, "b.txt", { access });
        await rename("b.txt", "c.txt", { access });
        await del(["a.txt", "none"]);
        return [(await list()).blobs.map((blob) => blob.pathname),
                [await tried(() => head("b.txt")), await tried(() => copy("none", "d", { access }))]];
    """)
    assert names == ["c.txt"]
    assert all("does not exist" in said for said in missing)


def test_vercel_blob_uploads_in_parts(vercel: Any) -> None:
    sizes, begin, end = vercel("""
        const part = Buffer.alloc(9 * 1024 * 1024, "x");
        const automatic = await put("auto.bin", Buffer.concat([part, part]), { access, multipart: true });
        const { key, uploadId } = await createMultipartUpload("by hand.bin", { access });
        const first = await uploadPart("by hand.bin", part, { access, key, uploadId, partNumber: 1 });
        const second = await uploadPart("by hand.bin", Buffer.from("end"), { access, key, uploadId, partNumber: 2 });
        const done = await completeMultipartUpload("by hand.bin", [second, first], { access, key, uploadId });
        const text = await fetched(done.url);
        return [[(await head("auto.bin")).size, (await head("by hand.bin")).size], text.slice(0, 3), text.slice(-5)];
    """)
    assert sizes == [18 * 1024 * 1024, 9 * 1024 * 1024 + 3]
    assert (begin, end) == ("xxx", "xxend")


def test_vercel_blob_refuses_what_is_no_name_and_what_is_another_s(
    vercel: Any, apps: dict[str, dict[str, str]]
) -> None:
    foreign = vercel('return (await put("secret", "x", { access })).url;', "beta")
    said = vercel(f"""
        return [await tried(() => put("../x", "x", {{ access }})), await tried(() => head("{foreign}")),
                await tried(() => copy("{foreign}", "loot", {{ access }})), await tried(() => del("{foreign}")),
                (await list()).blobs.length];
    """)
    assert said[4] == 0
    assert all(text.startswith(("BlobError", "Error: Vercel Blob")) for text in said[:4])
    assert npm.run(UNTOUCHED % 'return (await head("secret")).size;', apps["beta"]) == 1


CLIENT = 'import { generateClientTokenFromReadWriteToken } from "@vercel/blob/client";'


def test_vercel_blob_is_told_what_there_is_none_of(apps: dict[str, dict[str, str]]) -> None:
    """Empty folders, and tokens for browsers: the second its own SDK refuses."""
    script = (
        BLOB.replace("import { put", "import { createFolder, put")
        % """
        return [await tried(() => createFolder("made/here")),
                await tried(() => generateClientTokenFromReadWriteToken({ pathname: "c.txt" })),
                (await list({ mode: "folded" })).folders];
    """
    )
    folder, token, folders = npm.run(CLIENT + script, apps["alpha"])
    assert "begins or ends with /" in folder
    assert "Invalid `BLOB_READ_WRITE_TOKEN`" in token
    assert folders == []


def test_vercel_blob_with_a_wrong_token_is_refused(apps: dict[str, dict[str, str]]) -> None:
    variables = {**apps["alpha"], "BLOB_READ_WRITE_TOKEN": "vercel_blob_rw_x_y"}
    assert "Access denied" in npm.run(UNTOUCHED % 'return await tried(() => head("a"));', variables)


def test_the_app_of_the_page_runs_as_it_is_printed_with_the_sdks_alone(
    apps: dict[str, dict[str, str]], wheels: dict[str, Path], clean: Clean
) -> None:
    python = clean(wheels["purveyor-kv"], wheels["purveyor-blob"])
    (app,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    environment = {"PATH": os.environ["PATH"], **apps["beta"]}
    done = subprocess.run(
        [python, "-I", "-c", app], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("42 b'all is well' http"), done.stderr
