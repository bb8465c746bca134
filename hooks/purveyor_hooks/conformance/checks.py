"""What is checked: one function for each promise, in an order in which each can rely on those
before it."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic, sleep
from typing import Any, NamedTuple

import msgspec

from purveyor_hooks.conformance.bench import ApiFailed, Bench, halted
from purveyor_hooks.declared import faults, secret_names
from purveyor_hooks.elsewhere import misplaced
from purveyor_hooks.references import parts_of
from purveyor_hooks.types import Account

LOOPBACK = ("127.0.0.1", "::1")
REFUSED_TRIES = 5
GRACE = 20  # seconds
PAUSES = (0.0, 0.05, 0.5)  # seconds from the start of an operation to a kill


class Unclaimed(Exception):
    """The type does not claim this."""


class Outcome(NamedTuple):
    """What came of a check: `seen` is what was seen instead, `hooks` are those to look at."""

    name: str
    promise: str
    hooks: tuple[str, ...]
    seen: str = ""

    @property
    def kept(self) -> bool:
        return not self.seen

    def text(self) -> str:
        return f"promised: {self.promise}\nseen:     {self.seen}\nlook at:  {', '.join(self.hooks)}"


class Check(NamedTuple):
    """One promise. `needs` are hooks without which it is not asked for."""

    name: str
    promise: str
    hooks: tuple[str, ...]
    needs: tuple[str, ...]
    run: Callable[[Bench], str | None]

    def look(self, bench: Bench) -> Outcome:
        """Make the check. Raises `Unclaimed`."""
        lacking = [hook for hook in self.needs if not hasattr(bench.plugin, hook)]
        if lacking:
            raise Unclaimed(
                f"{bench.name} does not claim this: it has no hook {', '.join(lacking)}"
            )
        for earlier in _groundwork(self):
            if earlier.name not in bench.looked:
                with suppress(Unclaimed):
                    outcome = earlier.look(bench)
                    if not outcome.kept:
                        seen = f"before it, {earlier.promise}: {outcome.seen}"
                        return Outcome(self.name, self.promise, outcome.hooks, seen)
        bench.looked.add(self.name)
        try:
            seen = self.run(bench) or ""
        except Unclaimed:
            raise
        except (ApiFailed, AssertionError) as error:
            seen = str(error)
        except Exception as error:  # whatever a driver or a pure hook raises is what was seen
            seen = f"{type(error).__name__}: {error}"
        return Outcome(self.name, self.promise, self.hooks, seen)


CHECKS: list[Check] = []
# these make what all that come after them look at: a service, two projects and their data
GROUNDWORK = ("it_is_created", "ports_are_on_loopback", "projects_are_linked")
Body = Callable[[Bench], str | None]


def promise(text: str, *hooks: str, needs: tuple[str, ...] = ()) -> Callable[[Body], Body]:
    """Register a check. What it answers is what was seen instead of what was promised."""

    def register(body: Body) -> Body:
        CHECKS.append(Check(body.__name__, text, hooks, needs, body))
        return body

    return register


def _groundwork(check: Check) -> list[Check]:
    """The checks without which one has nothing to look at; one that is asked for alone makes
    them first."""
    return [item for item in CHECKS[: CHECKS.index(check)] if item.name in GROUNDWORK]


def run_all(
    bench: Bench, only: Collection[str] = ()
) -> Iterator[tuple[Check, Outcome | Unclaimed]]:
    """All checks, or those of these names, one after the other."""
    for check in CHECKS:
        if only and check.name not in only:
            continue
        try:
            yield check, check.look(bench)
        except Unclaimed as error:
            yield check, error


# ---------------------------------------------------------------- what it is


@promise("the type says how an app uses it, so that its promises can be checked", "exercise")
def an_app_can_use_it(bench: Bench) -> str | None:
    return None if bench.exercise else "there is no hook `exercise`; the checks that need it fail"


@promise("pure hooks give the same answer to the same question", "container", "environment")
def pure_hooks_are_pure(bench: Bench) -> str | None:
    service = bench.value("pure", {})
    one, other = (msgspec.json.encode(bench.plugin.container(service=service)) for _ in range(2))
    return "two calls of `container` gave two different containers" if one != other else None


@promise(
    "each hook that is implemented elsewhere is there, and takes what it is given", "service_type"
)
def what_is_elsewhere_is_there(bench: Bench) -> str | None:
    return " ".join(misplaced(bench.plugin)) or None


@promise("a service is created and serves", "container", "ready")
def it_is_created(bench: Bench) -> str | None:
    bench.create("main")
    health = bench.call("GET", "/external-services/main/health")
    if not health["healthy"]:
        return f"health says: {health['stage']}, {health['detail']}"
    return None if health["version"] else "health tells no version of the server"


@promise(
    "nothing listens on other addresses of the host than its own loopback",
    "container",
    "startup",
    "bind",
)
def ports_are_on_loopback(bench: Bench) -> str | None:
    bench.project("alpha")
    for item in bench.engine.containers(bench.namespace):
        open_to_all = [
            port for port in item.get("Ports", []) if port.get("IP") and port["IP"] not in LOOPBACK
        ]
        if open_to_all:
            return (
                f"{item['Names'][0].lstrip('/')} is published on "
                f"{open_to_all[0]['IP']}:{open_to_all[0].get('PublicPort')}"
            )
    return None


@promise(
    "two projects are linked, and what each is given works",
    "bind",
    "environment",
    needs=("bind", "exercise"),
)
def projects_are_linked(bench: Bench) -> str | None:
    bench.project("beta")
    bench.fill("alpha")
    bench.write(bench.account("beta"), "thing0", "beta's own")
    if lost := bench.missing("alpha"):
        return f"what alpha wrote is not what it reads: {lost[:3]}"
    return None


@promise("apps are told the container's own name, and its own port", "environment", needs=("bind",))
def apps_reach_it_by_name(bench: Bench) -> str | None:
    if bench.kind.uses_api:
        raise Unclaimed("apps use it through the API")
    values = bench.variables("alpha", reach="network").values()
    container = bench.service()["container_name"]
    return None if any(container in value for value in values) else f"no variable names {container}"


@promise("no project is given the administrator's credentials", "environment", needs=("bind",))
def the_administrator_is_not_given_away(bench: Bench) -> str | None:
    given = {**bench.variables("alpha"), **bench.variables("alpha", reach="network")}
    mine = {bench.account("alpha").password, bench.account("beta").password}
    for name, value in given.items():
        if any(secret in value for secret in bench.secrets - mine):
            return f"the variable {name} holds a secret parameter of the service"
    return None


@promise(
    "each project has an account of its own", "bind", "environment", needs=("bind", "exercise")
)
def accounts_differ(bench: Bench) -> str | None:
    alpha, beta = bench.account("alpha"), bench.account("beta")
    if alpha.password == beta.password:
        return "both have the same password"
    if (alpha.host, alpha.port, alpha.resource) == (beta.host, beta.port, beta.resource):
        return f"both are given the same resource: {alpha.resource}"
    return None


@promise(
    "one project reaches nothing of another's with its own credentials",
    "bind",
    needs=("bind", "exercise"),
)
def projects_are_kept_apart(bench: Bench) -> str | None:
    alpha, beta = bench.account("alpha"), bench.account("beta")
    if bench.read(beta, "thing1") is not None:
        return "beta reads with its own credentials what alpha wrote"
    crossed = msgspec.structs.replace(alpha, user=beta.user, password=beta.password)
    try:
        got = bench.read(crossed, "thing1")
    except Exception:  # refused, however its driver puts it
        got = None
    if got is not None:
        return f"beta's credentials read alpha's {alpha.resource}"
    try:
        bench.write(crossed, "thing1", "written by beta")
    except Exception:  # refused
        return None
    return (
        "beta's credentials overwrite alpha's data"
        if bench.read(alpha, "thing1") != bench.items["thing1"]
        else None
    )


# ---------------------------------------------------------------- its life


@promise("stopping and starting keeps the data", "container", needs=("exercise",))
def it_stops_and_starts(bench: Bench) -> str | None:
    bench.call("POST", "/external-services/main/stop")
    bench.call("POST", "/external-services/main/start")
    return _lost(bench, "alpha")


@promise("the data does not depend on the container's life", "container", needs=("exercise",))
def data_outlives_the_container(bench: Bench) -> str | None:
    bench.call("POST", "/external-services/main/stop")
    bench.engine.remove(bench.service()["container_name"])
    bench.call("POST", "/external-services/main/start")
    return _lost(bench, "alpha")


@promise("health says no when the server does not answer", "ready", needs=("ready",))
def health_is_a_real_round_trip(bench: Bench) -> str | None:
    with halted(bench, bench.service()["container_name"]):
        health = bench.call("GET", "/external-services/main/health")
    if health["healthy"]:
        return "health says yes while the server's process is halted"
    bench.eventually(
        lambda: bench.call("GET", "/external-services/main/health")["healthy"],
        "it is healthy again",
    )
    return None


@promise("unlinking ends the access at once and keeps the data; linking again brings it back",
    "unbind", "bind",
         needs=("bind", "unbind", "exercise"))  # fmt: skip
def unlinking_keeps_the_data(bench: Bench) -> str | None:
    before = bench.account("alpha")
    bench.unlink("alpha")
    try:
        if bench.read(before, "thing1") is not None:
            return "the old credentials still read after unlinking"
    except Exception:  # noqa: S110 - refused, as it must be
        pass
    bench.project("alpha")
    return _lost(bench, "alpha")


@promise(
    "purging a link drops that project's data and no other's",
    "purge",
    "bind",
    needs=("purge", "exercise"),
)
def purging_drops_one_projects_data(bench: Bench) -> str | None:
    bench.unlink("beta", purge="true")
    bench.project("beta")
    if bench.read(bench.account("beta"), "thing0") is not None:
        return "what was purged is still there"
    return _lost(bench, "alpha")


EXTRA = "kit"


@promise(
    "one further resource comes with a link, and is dropped alone with its data",
    "bind",
    "purge_extra",
    needs=("bind", "purge_extra", "exercise"),
)
def a_further_one_is_dropped_alone(bench: Bench) -> str | None:
    more = {"project_id": "alpha", "extra_databases": [EXTRA]}
    path = "/external-services/main/projects/alpha/extra-databases"
    bench.call("POST", "/external-services/main/projects", more)
    (name,) = bench.call("DELETE", f"{path}/{EXTRA}", plan="true")["resources"]
    further = msgspec.structs.replace(bench.account("alpha"), resource=name)
    bench.write(further, "thing1", "in the further one")
    if seen := _lost(bench, "alpha"):
        return f"it is no other than the first: {seen}"
    with suppress(ApiFailed):
        bench.call("DELETE", f"{path}/{EXTRA}")
        return "it is dropped without the word that its data goes"
    if bench.read(further, "thing1") != "in the further one":
        return "what was refused took its data"
    bench.call("DELETE", f"{path}/{EXTRA}", purge="true")
    try:
        if bench.read(further, "thing1") is not None:
            return "what was dropped is still there"
    except Exception:  # noqa: S110 - there is nothing of that name
        pass
    bench.call("POST", "/external-services/main/projects", more)
    if bench.read(further, "thing1") is not None:
        return "it comes again with what was in it"
    bench.call("DELETE", f"{path}/{EXTRA}", purge="true")
    return _lost(bench, "alpha")


# ---------------------------------------------------------------- the life of data


@promise(
    "a project gets new credentials: they work, and the old ones end",
    "rotate",
    needs=("rotate", "exercise"),
)
def credentials_are_rotated(bench: Bench) -> str | None:
    old = bench.account("alpha")
    bench.call("POST", "/projects/alpha/environments/production/rotate")
    new = bench.account("alpha")
    if new.password == old.password:
        return "the password is the same as before"
    try:
        if bench.read(old, "thing1") is not None:
            return "the old password still works"
    except Exception:  # noqa: S110 - refused, as it must be
        pass
    return _lost(bench, "alpha")


@promise("what a rotation with a grace replaces works beside the new credentials until then, and ends by itself",
         "rotate", "retire",
         needs=("rotate", "retire", "exercise"))  # fmt: skip
def former_credentials_have_their_time(bench: Bench) -> str | None:
    old = bench.account("alpha")
    bench.call("POST", "/projects/alpha/environments/production/rotate", grace=GRACE)
    began, new = monotonic(), bench.account("alpha")
    if (new.user, new.password) == (old.user, old.password):
        return "the credentials are the same as before"
    if seen := _lost(bench, "alpha"):
        return f"with the new credentials {seen}"
    try:
        worked = bench.read(old, "thing1") == bench.items["thing1"]
    except Exception:
        worked = False
    if not worked and monotonic() - began < GRACE:
        return "the old credentials ended before their time"
    bench.eventually(lambda: _ended(bench, old), "the old credentials end by themselves")
    return _lost(bench, "alpha")


def _ended(bench: Bench, account: Account) -> bool:
    try:
        return bench.read(account, "thing1") is None
    except Exception:  # refused, as it must be
        return True


@promise("the administrator gets new credentials, and no app notices", "rotate_administrator",
         needs=("rotate_administrator", "exercise"))  # fmt: skip
def the_administrator_is_rotated(bench: Bench) -> str | None:
    bench.call("POST", "/external-services/main/rotate")
    if not bench.call("GET", "/external-services/main/health")["healthy"]:
        return "it is not healthy afterwards"
    return _lost(bench, "alpha")


@promise("a backup that is made while it is written to counts what went into it, and is restored into a new service",
         "backup", "restore", "census",
         needs=("backup", "restore", "census", "exercise"))  # fmt: skip
def a_backup_is_restored(bench: Bench) -> str | None:
    with bench.writing("alpha"):
        made = bench.call("POST", "/backups/external-services/main/run")
    if made["state"] != "ok":
        return f"the backup is {made['state']}: {made['error_message']}"
    bench.call("POST", f"/backups/{made['id']}/restore", {"new_name": "again"})
    if seen := bench.outcome("restore").get("differences"):
        return f"what came is not what the backup counted: {'; '.join(seen[:3])}"
    bench.unlink("alpha")
    bench.project("alpha", "again")
    lost = bench.missing("alpha")
    bench.unlink("alpha", "again")
    bench.project("alpha")
    bench.call("DELETE", "/external-services/again", purge="true")
    return (
        f"after the restore {len(lost)} of {len(bench.items)} things are missing or altered"
        if lost
        else None
    )


@promise("a backup of a service that is written to is proven by restoring it, its contents compared where the type tells them",
         "backup", "restore", "census", "contents",
         needs=("backup", "restore", "census", "exercise"))  # fmt: skip
def a_backup_is_proven(bench: Bench) -> str | None:
    deep = hasattr(bench.plugin, "contents")
    with bench.writing("alpha"):
        made = bench.call("POST", "/backups/external-services/main/run")
        bench.call("POST", f"/backups/{made['id']}/verify", deep=deep)
    found = bench.call("GET", f"/backups/{made['id']}")
    if not found["proven_at"]:
        return f"it is not called verified: {found['error_message'] or 'for no reason'}"
    return None if bool(found["metadata"].get("deep")) == deep else "its contents were not compared"


@promise("what a backup holds is told thing by thing: the same of the same data, and otherwise when one value is another",
         "contents",
         needs=("backup", "contents", "exercise"))  # fmt: skip
def contents_are_told(bench: Bench) -> str | None:
    first, second = bench.told(), bench.told()
    if len(first.things) == 0:
        return f"nothing is told of a backup that holds {len(bench.items)} things"
    if other := first.besides(second):
        return f"two backups of the same data tell something else: {other}"
    bench.write(bench.account("alpha"), "thing1", "another value")
    seen = second.besides(bench.told())
    bench.write(bench.account("alpha"), "thing1", bench.items["thing1"])
    return None if seen else "a value that was changed is told as it was before"


@promise("a copy of a service that is written to counts what went into it", "backup",
         "restore", "unbind", needs=("backup", "restore", "census", "exercise"))  # fmt: skip
def it_is_cloned(bench: Bench) -> str | None:
    with bench.writing("alpha"):
        bench.call("POST", "/external-services/main/clone", {"name": "copy"})
    seen = bench.outcome("clone").get("differences")
    bench.call("DELETE", "/external-services/copy", purge="true")
    return (
        f"what came is not what was counted: {'; '.join(seen[:3])}"
        if seen
        else _lost(bench, "alpha")
    )


@promise("restoring in place brings back what was, and keeps what each project has", "restore",
         needs=("backup", "restore", "census", "exercise"))  # fmt: skip
def a_backup_is_restored_in_place(bench: Bench) -> str | None:
    made = bench.call("POST", "/backups/external-services/main/run")
    bench.write(bench.account("alpha"), "thing1", "changed since")
    bench.call("POST", f"/backups/{made['id']}/restore", {"service_id": "main"})
    return _lost(bench, "alpha")


@promise("another image of the same version is taken, and the data goes along", "upgrade_plan",
    "data_major",
         needs=("upgrade_plan", "exercise"))  # fmt: skip
def it_is_upgraded(bench: Bench) -> str | None:
    image = bench.service()["docker_image"]
    parts = parts_of(image)
    repository, tag = parts.repository, parts.tag or "latest"
    other = f"{tag}-kit" if "-kit" not in tag else tag.replace("-kit", "")
    bench.engine.tag(image, repository, other)
    try:
        bench.call(
            "POST", "/external-services/main/upgrade", {"docker_image": f"{repository}:{other}"}
        )
        seen = _lost(bench, "alpha")
        bench.call("POST", "/external-services/main/undo-upgrade")
    finally:
        bench.engine.untag(f"{repository}:{other}")
    return seen or _lost(bench, "alpha")


@promise("whatever a hostile project leaves in its data, every operation goes on, and it can do no more afterwards than before",
         "bind", "backup", "restore", "census",
         needs=("backup", "restore", "exercise"))  # fmt: skip
def a_hostile_project_gains_nothing(bench: Bench) -> str | None:
    hostile = bench.hostile
    if hostile is None:
        raise Unclaimed("its exercise has no `mischief`")
    bench.write(bench.account("beta"), "own", "of beta")
    bench.do(partial(hostile.mischief, bench.account("beta")))
    for verb, work in _verbs(bench):
        try:
            work()
        except ApiFailed as error:
            return f"{verb} does not go on: {error}"
        beta = bench.account("beta")
        if gained := bench.do(partial(hostile.gained, beta)):
            return f"after {verb}: {gained}"
        if bench.read(beta, "own") != "of beta":
            return f"after {verb} the hostile project's own data is gone"
        if seen := _lost(bench, "alpha"):
            return f"after {verb} {seen}"
    return None


def _verbs(bench: Bench) -> Iterator[tuple[str, Callable[[], object]]]:
    """What touches the data of all projects, in an order in which each finds what the one before
    has left."""
    numbers: list[int] = []

    def back_up() -> None:
        made = bench.call("POST", "/backups/external-services/main/run")
        if made["state"] != "ok":
            raise ApiFailed(f"the backup is {made['state']}: {made['error_message']}")
        numbers.append(made["id"])

    def copy() -> None:
        bench.call("POST", "/external-services/main/clone", {"name": "copy"})
        bench.call("DELETE", "/external-services/copy", purge="true")

    yield "a look at its health", lambda: bench.call("GET", "/external-services/main/health")
    yield "a backup", back_up
    yield "a verification", lambda: bench.call("POST", f"/backups/{numbers[0]}/verify")
    yield "a copy", copy
    yield (
        "a restore",
        lambda: bench.call("POST", f"/backups/{numbers[0]}/restore", {"service_id": "main"}),
    )
    if hasattr(bench.plugin, "rotate"):
        yield (
            "a rotation",
            lambda: bench.call("POST", "/projects/beta/environments/production/rotate"),
        )
    yield (
        "a stop and a start",
        lambda: [
            bench.call("POST", f"/external-services/main/{verb}") for verb in ("stop", "start")
        ],
    )


@promise("a container that somebody else made is recognised, proven, used, and left as it was",
    "recognise", "adopt",
         needs=("recognise", "adopt", "exercise"))  # fmt: skip
def a_container_is_adopted(bench: Bench) -> str | None:
    service = bench.value("foreign", {})
    bench.secrets |= {
        str(service.parameters[item.name])
        for item in bench.kind.parameters
        if item.secret and item.generated
    }
    name = f"{bench.namespace}-foreign"
    bench.engine.run(name, bench.plugin.container(service=service))
    found = bench.call("GET", "/external-services/available-containers")
    if bench.name not in [item["service_type"] for item in found if item["container_name"] == name]:
        return "it is not recognised among the containers that can be imported"
    given = {
        item.name: service.parameters[item.name]
        for item in bench.kind.parameters
        if item.generated != "port"
    }
    given = {key: value for key, value in given.items() if value not in (None, "")}
    body = {
        "container_id": name,
        "name": "foreign",
        "service_type": bench.name,
        "parameters": given,
    }
    wrong = {
        item.name: "kit-wrong-secret"
        for item in bench.kind.parameters
        if item.secret and item.generated
    }
    started = bench.engine.inspect(name)["State"]["StartedAt"]
    bench.eventually(lambda: _import(bench, body), "it is imported with its own credentials")
    bench.call("DELETE", "/external-services/foreign")
    if wrong:
        with suppress(ApiFailed):
            _import(bench, {**body, "parameters": {**given, **wrong}})
            return "it is imported with wrong credentials as well"
    bench.call("POST", "/external-services/import", body)
    bench.project("gamma", "foreign")
    bench.write(bench.account("gamma"), "thing", "of gamma")
    if bench.read(bench.account("gamma"), "thing") != "of gamma":
        return "a linked project does not read what it wrote"
    bench.unlink("gamma", "foreign")
    bench.call("DELETE", "/external-services/foreign")
    state = bench.engine.inspect(name)["State"]
    return (
        None
        if state["Running"] and state["StartedAt"] == started
        else "the container was stopped or started anew"
    )


def _import(bench: Bench, body: Mapping[str, object]) -> bool:
    bench.call("POST", "/external-services/import", body)
    return True


# ---------------------------------------------------------------- operations of its own


@promise(
    "each operation that it brings is declared well, runs, and is gone on with after a crash",
    "operations",
    needs=("operations", "exercise"),
)
def its_operations_are_resumed(bench: Bench) -> str | None:
    declared = list(bench.plugin.operations())
    if wrong := "; ".join(faults(declared)):
        return wrong
    for item in declared:
        given = bench.operations().get(item.name, {})
        try:
            arguments = msgspec.convert(given, item.arguments)
        except msgspec.ValidationError as error:
            return f"`operations` of the exercise names nothing that {item.name} takes: {error}"
        bench.secrets |= {
            str(value) for name, value in given.items() if name in secret_names(type(arguments))
        }
        path = f"/external-services/main/operations/{bench.name}.{item.name}"
        plans = [bench.call("POST", path, given, plan="true") for _ in range(2)]
        if plans[0]["steps"] != plans[1]["steps"]:
            return f"two plans of {item.name} have other steps: {plans[0]['steps']}, {plans[1]['steps']}"
        bench.call("POST", path, given)
        for pause in PAUSES:
            number = bench.begin(path, given)
            sleep(pause)
            bench.kill_and_start_again()
            ended = bench.eventually(partial(_over, bench, number), f"{item.name} is gone on with")
            assert ended is not None
            if ended["state"] != "succeeded":
                why = (ended["error"] or {}).get("detail", "")
                return f"{item.name} was killed after {pause} s, and {ended['state']}: {why}"
    return _lost(bench, "alpha")


def _over(bench: Bench, number: int) -> dict[str, Any] | None:
    """An operation that is over, or that waits for what will not come."""
    found: dict[str, Any] = bench.call("GET", f"/operations/{number}")
    if found["waits"]:
        raise AssertionError(f"operation {number} ({found['verb']}) waits: {found['waits']}")
    return found if found["state"] not in ("running", "undoing") else None


# ---------------------------------------------------------------- the end


@promise(
    "deleting keeps the volume; undeleting brings service and data back",
    "container",
    needs=("exercise",),
)
def it_is_deleted_and_comes_back(bench: Bench) -> str | None:
    bench.unlink("alpha")
    bench.unlink("beta")
    bench.call("DELETE", "/external-services/main")
    bench.call("POST", "/external-services/main/undelete")
    bench.project("alpha")
    return _lost(bench, "alpha")


@promise("deleted with its data, nothing of it is left", "container")
def nothing_is_left(bench: Bench) -> str | None:
    for project in ("alpha", "beta"):
        try:
            bench.unlink(project, purge="true")
        except ApiFailed:
            continue
    name = bench.service()["container_name"]
    volumes = [
        item
        for item in bench.call("GET", "/volumes")
        if item["service_id"] == bench.service()["id"]
    ]
    bench.call("DELETE", "/external-services/main", purge="true")
    left = [item["Names"][0] for item in bench.engine.containers(name)]
    left += [item["name"] for item in volumes if item["name"] in bench.engine.volumes(item["name"])]
    return f"left behind: {', '.join(left)}" if left else None


@promise("no secret is in a log, an event or an operation", "bind", "ready", "on_event")
def secrets_are_kept(bench: Bench) -> str | None:
    for where, text in (
        ("the daemon's log", bench.log.read_text()),
        ("the journal", bench.journal()),
    ):
        for secret in bench.secrets:
            if secret and re.search(re.escape(secret), text):
                return f"{where} holds a password or a secret parameter"
    return None


@promise("no hook failed or hung in all this", "all of them")
def no_hook_failed(bench: Bench) -> str | None:
    for plugin in bench.call("GET", "/plugins"):
        if plugin["service_type"] == bench.name and plugin["faults"]:
            return f"{plugin['faults']} faults, the last: {plugin['last_fault']}"
    return None


def _lost(bench: Bench, project: str) -> str | None:
    lost = bench.missing(project)
    return f"{len(lost)} of {len(bench.items)} things are missing or altered" if lost else None
