"""Operations that a service's plugin brings: a form for each, made from the schema of what it takes."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from litestar import Response, get, post

from purveyor_dashboard.pages import AGREED, SERVICES, Pages, Req
from purveyor_hooks import ApiClient, Application, BadInput, NotFound, PurveyorError

PREFIX = "a."  # of the fields that are arguments
SEALED = "sealed"  # the field that carries the secret ones past the page that asks whether to go on
BOOLEANS = {"true": True, "false": False}


class Field(NamedTuple):
    """An argument as a form asks for it. `input` is text, number, password, choice, lines or
    hidden-lines: a list has a line for each item."""

    name: str
    label: str
    input: str
    help: str
    needed: bool
    value: str
    choices: Sequence[str]
    limits: Mapping[str, Any]


def handlers(pages: Pages, app: Application) -> Sequence[Any]:
    @get("/services/{slug:str}/operations")
    async def listed(request: Req, slug: str) -> Response[str]:
        return await page(request, slug)

    async def page(
        request: Req,
        slug: str,
        tried: str = "",
        form: Mapping[str, str] | None = None,
        error: PurveyorError | None = None,
    ) -> Response[str]:
        """All of them. What was `tried` has what was given, but for secrets, and why that cannot
        be."""
        async with pages.api(pages.session(request)) as client:
            offers = await client.call("GET", f"{SERVICES}/{slug}/operations")
        forms = {
            offer["type"]: fields(offer["arguments"], form if offer["type"] == tried else None)
            for offer in offers
        }
        status = error.status if error else 200
        return await pages.tab(
            request, slug, "operations", "brought.html", status, forms=forms, tried=tried,
            error=error, errors=error.errors if error else {}, prefix=PREFIX,
        )  # fmt: skip

    @post("/services/{slug:str}/operations/{kind:str}")
    async def run(request: Req, slug: str, kind: str) -> Response[Any]:
        """Ask with the plan whether to go on, and then go on."""
        async with pages.change(request) as (form, client):
            offer = await offered(client, slug, kind)
            try:
                return await _run(request, slug, offer, form, client)
            except PurveyorError as error:
                if error.status >= 500:
                    raise
                return await page(request, slug, kind, form, error)

    async def _run(
        request: Req, slug: str, offer: Mapping[str, Any], form: dict[str, str], client: ApiClient
    ) -> Response[Any]:
        session, schema = pages.session(request), offer["arguments"]
        path = f"{SERVICES}/{slug}/operations/{offer['type']}"
        back = f"/services/{slug}/operations"
        place = [session.csrf, path]
        hidden = {
            f"{PREFIX}{name}" for name, shape in schema["properties"].items() if "x-secret" in shape
        }
        if form.get(AGREED) == "yes":
            body = arguments_of(schema, {**form, **unseal(form.get(SEALED, ""), place)})
            return await pages.begin(request, client, "POST", path, back, json=body)
        plan = await client.call(
            "POST", path, params={"plan": "true"}, json=arguments_of(schema, form)
        )
        told = {name: value for name, value in form.items() if name not in (*hidden, SEALED)}
        if secrets := {name: form[name] for name in hidden if form.get(name)}:
            told[SEALED] = app.core.seal(json.dumps([place, secrets]))
        heading = f"{title(offer['name'])} {plan['subject']}"
        return pages.confirm(request, told, heading, back, plan=plan)

    def unseal(sealed: str, place: Sequence[str]) -> dict[str, str]:
        """What was given for the secret arguments at the form, by this very session, for this very
        operation."""
        if not sealed:
            return {}
        try:
            of, secrets = json.loads(app.core.unseal(sealed))
        except (PurveyorError, ValueError, TypeError):
            of, secrets = None, {}
        if of != place:
            raise BadInput("This form is too old.", remedy="Fill it in again.")
        return dict(secrets)

    return [listed, run]


async def offered(client: ApiClient, slug: str, kind: str) -> Mapping[str, Any]:
    """An operation of a service's plugin. Raises `NotFound`."""
    found = await client.call("GET", f"{SERVICES}/{slug}/operations")
    for offer in found:
        if offer["type"] == kind:
            return dict(offer)
    raise NotFound(f"{slug} has no operation {kind!r}.", remedy="Its page Operations lists them.")


def title(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").capitalize()


def fields(schema: Mapping[str, Any], given: Mapping[str, str] | None) -> list[Field]:
    """The form of an operation, with what was `given` at the last try."""
    return [
        _field(name, shape, name in schema.get("required", ()), given)
        for name, shape in schema["properties"].items()
    ]


def _field(
    name: str, shape: Mapping[str, Any], needed: bool, given: Mapping[str, str] | None
) -> Field:
    kind, default = kind_of(shape), shape.get("default")
    secret = "x-secret" in shape
    choices = [str(item) for item in kind.get("enum", ())]
    if kind.get("type") == "boolean":
        choices = [*BOOLEANS]
    if choices and (nullable(shape) or default is None):  # nobody chooses by not looking
        choices = ["", *choices]
    many = kind.get("type") == "array"
    number = kind.get("type") in ("integer", "number")
    plain = "lines" if many else "number" if number else "text"
    hidden = "hidden-lines" if many else "password"
    way = "choice" if choices else hidden if secret else plain
    value = "" if secret else _shown(default)
    if given is not None and not secret:
        value = given.get(f"{PREFIX}{name}", value)
    of = {"minLength": "minlength", "maxLength": "maxlength", "minimum": "min", "maximum": "max"}
    limits = {of[key]: kind[key] for key in of if key in kind}
    if number:
        limits["step"] = "1" if kind["type"] == "integer" else "any"
    if not needed:  # what is left empty is not given
        limits.pop("minlength", None)
    told = [shape.get("description") or kind.get("description", "")]
    told += ["One on each line."] if many else []
    told += ["May be left empty."] if not (needed or value or choices) else []
    can_be_empty = many or not (secret or number or choices or "minlength" in limits)
    return Field(
        name, title(name), way, " ".join(filter(None, told)), needed and not can_be_empty,
        value, choices, limits,
    )  # fmt: skip


def kind_of(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a value is that is given at all."""
    choices = [item for item in shape.get("anyOf", ()) if item.get("type") != "null"]
    found: Mapping[str, Any] = choices[0] if choices else shape
    return found


def nullable(shape: Mapping[str, Any]) -> bool:
    return any(item.get("type") == "null" for item in shape.get("anyOf", ()))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def arguments_of(schema: Mapping[str, Any], form: Mapping[str, str]) -> dict[str, Any]:
    """What a form gives, as the kinds that the operation takes; what is left empty is left out,
    where that can be. Raises `BadInput`."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, shape in schema["properties"].items():
        text, kind = form.get(f"{PREFIX}{name}"), kind_of(shape)
        needed = name in schema.get("required", ())
        if text is None or (not text.strip() and kind.get("type") != "string"):
            text = ""
        if text or (needed and kind.get("type") in ("string", "array")):
            try:
                found[name] = _value(kind, text)
            except (ValueError, KeyError):
                errors[name] = f"not {kind.get('type', 'one of the choices')}"
        elif needed:
            errors[name] = "needed"
        elif f"{PREFIX}{name}" in form and not shape.get("x-secret"):
            found |= _emptied(name, shape, kind)
    if errors:
        listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
        raise BadInput(f"The form cannot be used: {listed}.", errors=errors)
    return found


def _emptied(name: str, shape: Mapping[str, Any], kind: Mapping[str, Any]) -> dict[str, Any]:
    """An argument that has a default, which somebody took out of its field."""
    if shape.get("default") in (None, "", []):
        return {}
    if nullable(shape):
        return {name: None}
    nothing: Mapping[str, Any] = {"array": [], "string": ""}
    return {name: nothing[kind["type"]]} if kind.get("type") in nothing else {}


def _value(kind: Mapping[str, Any], text: str) -> Any:
    of = kind.get("type")
    if of == "array":
        return [_value(kind.get("items", {}), line) for line in text.splitlines() if line.strip()]
    if of == "integer":
        return int(text)
    if of == "number":
        if not math.isfinite(number := float(text)):
            raise ValueError(text)
        return number
    return BOOLEANS[text] if of == "boolean" else text
