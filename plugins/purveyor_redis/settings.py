"""What somebody set by CONFIG SET: Redis keeps it nowhere, so that a backup carries what is no
danger to set again.

What is not as the program has it by itself is found by asking one: the same program, started for a
moment on nothing.
"""

import re
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from purveyor_hooks import Access, Command, Finding, Service
from purveyor_redis.server import CONFIG, MAXMEMORY, SETTINGS_FILE, maxmemory, tool

# What is set again: how data is kept, how much, what is told about it. None of them names a file,
# an address or a program.
CARRIED = frozenset({
    "acllog-max-len", "active-expire-effort", "activedefrag", "appendfsync",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage", "busy-reply-threshold", "client-output-buffer-limit",
    "client-query-buffer-limit",
    "dynamic-hz", "hash-max-listpack-entries", "hash-max-listpack-value", "hll-sparse-max-bytes",
    "hz",
    "latency-monitor-threshold", "latency-tracking", "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del", "lazyfree-lazy-user-del", "lazyfree-lazy-user-flush",
    "lfu-decay-time", "lfu-log-factor",
    "list-compress-depth", "list-max-listpack-size", "maxclients", "maxmemory", "maxmemory-clients",
    "maxmemory-eviction-tenacity", "maxmemory-policy", "maxmemory-samples",
    "no-appendfsync-on-rewrite",
    "notify-keyspace-events", "proto-max-bulk-len", "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value", "slowlog-log-slower-than", "slowlog-max-len",
    "stop-writes-on-bgsave-error",
    "stream-node-max-bytes", "stream-node-max-entries", "tcp-keepalive", "timeout",
    "tracking-table-max-keys",
    "zset-max-listpack-entries", "zset-max-listpack-value",
})  # fmt: skip
# What says where and as what a server runs: the new one has its own.
PLACE = re.compile(
    r"(?:port|bind|dir|dbfilename|logfile|loglevel|pidfile|daemonize|databases|save|supervised|unixsocket|unixsocketperm|requirepass"
    r"|protected-mode|aclfile|appendonly|appendfilename|appenddirname|slaveof|replicaof|masterauth|masteruser|tcp-backlog"
    r"|sanitize-dump-payload|io-threads|repl-.*|replica-.*|slave-.*|min-.*|cluster-.*|tls-.*|rdb.*|oom-.*|proc-title.*|.*[-_]cpulist"
    r"|.*-ziplist-.*|lua-time-limit|syslog-.*|shutdown-.*|crash-.*|enable-.*|aof-.*|bind-.*|set-proc-title|ignore-warnings)"
)
PLAIN = re.compile(r"[\w .,:%+-]*")
SOCKET_WAIT = 100  # times 50 ms


async def changed(
    service: Service, access: Access, client: Any
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """What is carried of what was set, and what is named instead."""
    why = ""
    try:
        now: dict[str, str] = await client.config_get("*")
    except RedisError as error:  # its owner has taken CONFIG away
        why = f"they cannot be read, so none is carried: {error}"
    usual = {} if why else await _usual(service, access)
    if usual is None:
        why = "what the program has by itself cannot be told, so none is carried"
    if why or usual is None:
        return {}, (Finding(where="", what="settings", why=why, notice=True),)
    if not service.imported:
        usual |= {name: now[name] for name in _ours() if name in now} | {
            "maxmemory": str(maxmemory(service))
        }
    differ = {name: value for name, value in now.items() if name in usual and usual[name] != value}
    carried = {name: value for name, value in differ.items() if name in CARRIED}
    others = sorted(name for name in differ if name not in CARRIED and not PLACE.fullmatch(name))
    return carried, tuple(
        Finding(where="", what=f"setting {name}", why="it is not carried", notice=True)
        for name in others
    )


def _ours() -> Iterator[str]:
    """What our own configuration says; the limit of memory apart, which is a parameter."""
    return (
        line.split()[0]
        for line in CONFIG.splitlines()
        if line.split()[0] not in ("include", "maxmemory")
    )


async def _usual(service: Service, access: Access) -> dict[str, str] | None:
    """What the program has by itself: one is started without a port, asked and ended."""
    server, cli = tool(service, "server"), tool(service, "cli")
    script = (
        f"d=$(mktemp -d) || exit 1; {server} --port 0 --unixsocket $d/s --dir $d --save '' "
        ">/dev/null 2>&1 & p=$!; "
        f"i=0; until {cli} -s $d/s CONFIG GET '*' >$d/told 2>/dev/null; do i=$((i + 1)); [ $i -lt "
        f"{SOCKET_WAIT} ] || break; "
        "sleep 0.05; done; kill -9 $p; wait $p 2>/dev/null; cat $d/told; rm -rf $d"
    )
    told = await access.exec(Command(argv=("sh", "-c", f"{{ {script}; }} 2>/dev/null")))
    lines = told.stdout.split("\n")
    found = dict(zip(lines[::2], lines[1::2], strict=False))
    return found if "maxmemory" in found else None


async def apply(
    service: Service, access: Access, client: Any, carried: dict[str, str], skipped: tuple[str, ...]
) -> tuple[Finding, ...]:
    """Set again what a backup carries, and write it down for the next start. What the server does
    not take is answered.

    The limit of memory is a parameter: one that is larger than that is not set, and none is written
    down.
    """
    findings, kept = [], []
    for name, value in sorted(carried.items()):
        if name not in CARRIED or name in skipped:
            continue
        limit = maxmemory(service)
        if (
            name == MAXMEMORY.name
            and limit
            and (not value.isdecimal() or not 0 < int(value) <= limit)
        ):
            why = f"it was {value} bytes, and the parameter of {service.name} allows {limit}"
            findings.append(Finding(where="", what=f"setting {name}", why=why))
            continue
        try:
            await client.config_set(name, value)
        except RedisError as error:
            findings.append(
                Finding(where="", what=f"setting {name}", why=f"it is not taken: {error}")
            )
            continue
        if name != MAXMEMORY.name and PLAIN.fullmatch(value):
            kept.append(f"{name} {value}" if value.strip() else f'{name} ""')
    script = f'printf %s "$KEPT" >{SETTINGS_FILE}.new && mv {SETTINGS_FILE}.new {SETTINGS_FILE}'
    script = script if kept else f"rm -f {SETTINGS_FILE}"
    text = "".join(f"{line}\n" for line in kept)
    await access.exec(Command(argv=("sh", "-c", script), environment={"KEPT": text}))
    return tuple(findings)
