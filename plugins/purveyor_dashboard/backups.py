"""Copies of what a service holds: backups, schedules, continuous archiving, and the ways back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from litestar import Response, get, post

from purveyor_dashboard.pages import BACKUPS, SERVICES, Choice, Pages, Req, choice, part, typed
from purveyor_hooks import ApiClient, BadInput, PurveyorError

ARCHIVES, SOURCES, SCHEDULES = (
    f"{BACKUPS}/archives",
    f"{BACKUPS}/s3-sources",
    f"{BACKUPS}/schedules",
)
SWITCHES = ("enable", "disable")


def handlers(pages: Pages) -> Sequence[Any]:
    @get("/services/{slug:str}/backups")
    async def backups(request: Req, slug: str) -> Response[str]:
        async with pages.api(pages.session(request)) as client:
            service = (await client.call("GET", f"{SERVICES}/{slug}"))["service"]
            found = await part(client, request, BACKUPS, service=slug)
            schedules = await client.call("GET", SCHEDULES)
            places = await client.call("GET", SOURCES)
            archive = await _archive(client, service["slug"])
            offered = archive is not None or await _can_archive(client, service["service_type"])
        mine = [
            item
            for item in schedules
            if not item["service_ids"] or service["id"] in item["service_ids"]
        ]
        named = {item["id"]: item["name"] for item in places}
        return await pages.tab(
            request, slug, "backups", "backups.html", backups=found.items, part=found,
            schedules=mine, places=places, named=named,
            archive=archive, offered=offered,
        )  # fmt: skip

    @post("/services/{slug:str}/backups")
    async def back_up(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{BACKUPS}/external-services/{slug}/run"
            return await pages.begin(
                request, client, "POST", path, f"/services/{slug}/backups", json=_place(form)
            )

    @post("/services/{slug:str}/schedule")
    async def schedule(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {
                "name": form.get("name", ""),
                "schedule_expression": form.get("when", ""),
                "retention_period": _days(form),
                "verify": form.get("verify") in ("yes", "deep"),
                "verify_deep": form.get("verify") == "deep",
                "service_ids": [slug],
                **_place(form),
            }
            await client.call("POST", SCHEDULES, json=body)
        return pages.to(request, f"/services/{slug}/backups")

    @post("/services/{slug:str}/schedules/{number:int}/{word:str}")
    async def change_schedule(request: Req, slug: str, number: int, word: str) -> Response[Any]:
        async with pages.change(request) as (_, client):
            if word == "delete":
                await client.call("DELETE", f"{SCHEDULES}/{number}")
            elif word in SWITCHES:
                await client.call("POST", f"{SCHEDULES}/{number}/{word}")
            else:
                raise BadInput(f"Unknown action: {word}.")
        return pages.to(request, f"/services/{slug}/backups")

    # ---------------------------------------------------------------- every moment

    @post("/services/{slug:str}/archive")
    async def begin_archive(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {"service_id": slug, "keep_days": _days(form), **_place(form)}
            if form.get("encrypt") == "yes":
                body["encrypt"] = True
            return await pages.begin(
                request, client, "POST", ARCHIVES, f"/services/{slug}/backups", json=body
            )

    @post("/services/{slug:str}/archive/end")
    async def end_archive(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path, back = f"{ARCHIVES}/{slug}", f"/services/{slug}/backups"
            return await pages.interrupt(request, form, client, "DELETE", path, back)

    async def moment_page(
        request: Req, slug: str, form: dict[str, str], error: PurveyorError | None
    ) -> Response[str]:
        async with pages.api(pages.session(request)) as client:
            archive = await _archive(client, slug)
        if archive is None:
            raise BadInput(
                f"{slug} is not archived.",
                remedy="Begin it on its page of backups: from then on each moment is kept.",
            )
        return await pages.tab(
            request,
            slug,
            "backups",
            "moment.html",
            error.status if error else 200,
            archive=archive,
            given=form,
            error=error,
        )

    @get("/services/{slug:str}/moment")
    async def moment(request: Req, slug: str) -> Response[str]:
        return await moment_page(request, slug, {}, None)

    @post("/services/{slug:str}/moment")
    async def to_moment(request: Req, slug: str) -> Response[Any]:
        session = pages.session(request)
        form = await pages.form(request, session)
        body = (
            {"service_id": slug}
            if form.get("where") == "in-place"
            else {"new_name": form.get("new_name", "")}
        )
        where = f"/services/{slug}" if form.get("where") == "in-place" else "/services"
        try:
            if form.get("at"):
                body["at"] = _utc(form["at"])
            async with pages.api(session) as client:
                return await pages.begin(
                    request, client, "POST", f"{ARCHIVES}/{slug}/restore", where, json=body
                )
        except PurveyorError as error:
            return await moment_page(request, slug, form, error)

    # ---------------------------------------------------------------- one backup

    @get("/backups/{number:int}/restore")
    async def restore_page(request: Req, number: int) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            backup = await client.call("GET", f"{BACKUPS}/{number}")
            services = await choice(
                client, f"{SERVICES}/", service_type=backup["service_type"], sort="name"
            )
        fitting = Choice([item for item in services.items if not item["imported"]], services.whole)
        origin = request.query_params.get("from", "")
        return pages.page(
            "restore.html",
            session,
            here="/services",
            backup=backup,
            services=fitting,
            origin=origin,
        )

    @post("/backups/{number:int}/restore")
    async def restore(request: Req, number: int) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {name: form[name] for name in ("new_name", "service_id") if form.get(name)}
            where = f"/services/{form['service_id']}" if form.get("service_id") else "/services"
            return await pages.begin(
                request, client, "POST", f"{BACKUPS}/{number}/restore", where, json=body
            )

    @post("/backups/{number:int}/verify")
    async def verify(request: Req, number: int) -> Response[Any]:
        async with pages.change(request) as (_, client):
            asked = {"deep": "true"} if request.query_params.get("deep") else {}
            return await pages.begin(
                request, client, "POST", f"{BACKUPS}/{number}/verify", _back(request), params=asked
            )

    @post("/backups/{number:int}/delete")
    async def delete(request: Req, number: int) -> Response[Any]:
        async with pages.change(request) as (form, client):
            backup = await client.call("GET", f"{BACKUPS}/{number}")
            typed(form, backup["backup_id"])
            return await pages.begin(
                request, client, "DELETE", f"{BACKUPS}/{number}", _back(request)
            )

    return [
        backups, back_up, schedule, change_schedule, begin_archive, end_archive, moment, to_moment,
        restore_page, restore, verify,
        delete,
    ]  # fmt: skip


async def _archive(client: ApiClient, slug: str) -> Any:
    found = await client.call("GET", ARCHIVES, params={"service": slug})
    return found[0] if found else None


async def _can_archive(client: ApiClient, service_type: str) -> bool:
    plugins = await client.call("GET", "/api/plugins")
    return any(
        item["service_type"] == service_type and "archive_helper" in item["hooks"]
        for item in plugins
    )


def _back(request: Req) -> str:
    origin = request.query_params.get("from", "")
    return f"/services/{origin}/backups" if origin else "/services"


def _place(form: dict[str, str]) -> dict[str, Any]:
    """The chosen bucket, or nothing: this host."""
    given = form.get("place", "")
    if given and not given.isdecimal():
        raise BadInput(
            "There is no such place for backups.", errors={"place": "one of those that are listed"}
        )
    return {"s3_source_id": int(given)} if given else {}


def _utc(given: str) -> str:
    """A moment of a form, which has no time zone and leaves seconds out that are 0; the form's
    label says UTC."""
    try:
        return datetime.fromisoformat(given).replace(tzinfo=UTC).isoformat()
    except ValueError:
        raise BadInput(
            "Invalid date and time.",
            remedy="Like this: 2026-01-31T12:00:00",
            errors={"at": "date and time"},
        ) from None


def _days(form: dict[str, str]) -> int:
    given = form.get("days", "")
    if not given.isdecimal():
        raise BadInput("The days have to be a whole number.", errors={"days": "a whole number"})
    return int(given)
