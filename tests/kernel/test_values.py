"""Names, parameters, masking and settings: pure functions, tried with what people and attackers
give."""

import asyncio
import string
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kernel import naming as names
from purveyor.kernel import redact
from purveyor.projects import naming as project_naming
from purveyor.services import parameters
from purveyor.settings import FILE as SETTINGS_FILE
from purveyor.settings import Settings
from purveyor.settings import load as load_settings
from purveyor_hooks import BadInput, Binding, Image, Naming, Scope, Service, ServiceType, Variable
from purveyor_postgres import accounts
from purveyor_postgres import plugin as postgres
from purveyor_redis import plugin as redis

POSTGRES: ServiceType = postgres.service_type()
REDIS: ServiceType = redis.service_type()
NAMING = Naming(separator="_", limit=63)
BUCKET = Naming(separator="-", limit=63, minimum=3)
slugs = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("given_name", "slug"),
    [("main", "main"), ("My Shop", "my-shop"), ("a.b_c", "a-b-c"), ("2nd", "2nd")],
)
def test_a_name_becomes_a_slug(given_name: str, slug: str) -> None:
    assert names.slug_of(given_name) == slug


HOSTILE = [
    "",
    " ",
    "a" * 300,
    "x'; DROP TABLE services; --",
    "../../etc",
    "a/b",
    "a@b",
    "50%",
    "na\nme",
    "naïve",
    "日本",
    "-x",
    "7",
    "7-",
    "8 .",
    "$(id)",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_name_is_refused_with_its_field(hostile: str) -> None:
    with pytest.raises(BadInput) as caught:
        names.slug_of(hostile)
    assert "name" in caught.value.errors
    assert caught.value.remedy


@given(slugs, slugs)
def test_resources_are_valid_identifiers_within_the_limit(project: str, environment: str) -> None:
    for naming in (NAMING, BUCKET):
        name = project_naming.resource(project, environment, naming, set())
        assert len(name) <= naming.limit
        assert set(name) <= set(string.ascii_lowercase + string.digits + naming.separator)
    assert not project_naming.resource(project, environment, NAMING, set())[:1].isdigit()


@given(st.lists(st.tuples(slugs, slugs), min_size=2, max_size=8, unique=True))
def test_two_scopes_never_meet_in_one_resource(scopes: list[tuple[str, str]]) -> None:
    taken: set[str] = set()
    for project, environment in scopes:
        name = project_naming.resource(project, environment, NAMING, taken)
        assert name not in taken
        taken.add(name)


def test_long_names_are_told_apart_by_a_hash() -> None:
    first = project_naming.resource("p" * 40, "e" * 40 + "1", NAMING, set())
    second = project_naming.resource("p" * 40, "e" * 40 + "2", NAMING, set())
    assert len(first) == len(second) == 63
    assert first != second


def test_a_leading_digit_is_prefixed() -> None:
    assert project_naming.resource("1shop", "production", NAMING, set()) == "p_1shop_production"


def fresh(kind: ServiceType = POSTGRES, **given_values: Any) -> dict[str, Any]:
    return parameters.for_new_service(kind, Settings(), given_values, set())


def test_defaults_are_those_of_the_contract() -> None:
    values = fresh()
    assert values["docker_image"] == "gotempsh/postgres-walg:18-bookworm"
    assert (values["max_connections"], values["ssl_mode"]) == (100, "disable")
    assert (values["database"], values["username"]) == ("postgres", "postgres")
    assert len(values["password"]) == 16
    assert values["port"] >= 5432
    assert fresh(REDIS)["docker_image"] == "gotempsh/redis-walg:8-bookworm"
    assert fresh(REDIS)["port"] >= 6379
    editable = {
        name: item["x-editable"]
        for name, item in parameters.schema(POSTGRES, Settings())["properties"].items()
    }
    # beside those of the contract
    own = {"project_connections", "project_temp_files", "project_disk"}
    assert {name: told for name, told in editable.items() if name not in own} == {
        "port": True, "docker_image": True, "max_connections": True, "ssl_mode": True,
        "database": False, "username": False, "password": False,
    }  # fmt: skip
    assert own < {name for name, told in editable.items() if told}


def test_what_does_not_say_has_what_was_before_the_parameter() -> None:
    """A new Redis has a server for each environment; one of before, or of somebody else's, not."""
    assert fresh(REDIS)["channels"] == "open"
    assert parameters.for_imported_service(REDIS, {})["channels"] == "divided"
    before = {name: value for name, value in fresh(REDIS).items() if name != "channels"}
    assert redis.data_major(Image(reference="redis:8"), before) == ""
    assert parameters.change_parameters(REDIS, Settings(), before, {"channels": "divided"}, set())
    with pytest.raises(BadInput):
        parameters.change_parameters(REDIS, Settings(), before, {"channels": "open"}, set())
    copied = parameters.alike(REDIS, before, {"port", "password", "docker_image"})
    assert fresh(REDIS, **copied)["channels"] == "divided"


@pytest.mark.parametrize(("changes", "told"), [
    ({"parameters": {"channels": "open"}}, ()),
    ({"parameters": {"channels": "divided"}}, ("purveyor upgrade cache -p channels=open",)),
    ({"parameters": {}}, ("purveyor upgrade cache -p channels=open",)),
    ({"parameters": {"channels": "divided"}, "imported": True}, ("create redis", "Database 0")),
    ({"parameters": {"channels": "open"}, "imported": True}, ("Database 0",)),
])  # fmt: skip
def test_what_is_said_of_a_redis_is_true_of_it(
    changes: dict[str, Any], told: tuple[str, ...]
) -> None:
    found = redis.notes(msgspec.structs.replace(service(REDIS), slug="cache", **changes))
    assert len(found) == len(told)
    assert all(part in note for part, note in zip(told, found, strict=True)), found


def test_numbers_are_taken_as_text_too() -> None:
    assert fresh(max_connections="200")["max_connections"] == 200


@pytest.mark.parametrize(("name", "value"), [
    ("port", "abc"), ("port", 0), ("port", 70000), ("port", -1), ("port", True), ("port", 1.5),
    ("port", None), ("port", [1]),
    ("max_connections", "many"), ("max_connections", 1), ("max_connections", 10**9),
    ("ssl_mode", "maybe"),
    ("database", "a b"), ("database", "x;y"), ("username", "a" * 64), ("username", ""),
    ("password", ""), ("password", "a\nb"),
    ("password", "a\0b"), ("password", 5), ("docker_image", "UPPER CASE"), ("docker_image", "a b"),
    ("docker_image", ""),
    ("docker_image", "x" * 300), ("nonsense", 1),
])  # fmt: skip
def test_a_bad_parameter_is_named(name: str, value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        fresh(**{name: value})
    assert list(caught.value.errors) == [name]


def test_all_bad_parameters_are_named_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        fresh(port="x", ssl_mode="y", nonsense="z")
    assert set(caught.value.errors) == {"port", "ssl_mode", "nonsense"}


def test_read_only_parameters_may_be_repeated_and_not_changed() -> None:
    current = fresh()
    assert (
        parameters.change_parameters(POSTGRES, Settings(), current, {"username": "postgres"}, set())
        == current
    )
    with pytest.raises(BadInput) as caught:
        parameters.change_parameters(
            POSTGRES, Settings(), current, {"username": "root", "password": "x", "port": 1}, set()
        )
    assert set(caught.value.errors) == {"username", "password"}


@pytest.mark.parametrize(
    ("version", "image"),
    [
        ("17", "gotempsh/postgres-walg:17-bookworm"),
        ("16.4", "gotempsh/postgres-walg:16.4-bookworm"),
    ],
)
def test_a_version_chooses_the_tag(version: str, image: str) -> None:
    assert parameters.image_for(POSTGRES, Settings(), version) == image


@pytest.mark.parametrize(("reference", "environment", "major"), [
    ("postgres:17", {}, "17"), ("gotempsh/postgres-walg:18-bookworm", {}, "18"),
    ("pgvector/pgvector:pg16", {}, "16"),
    ("localhost:5000/postgres:15.3-alpine", {}, "15"), ("own:latest", {"PG_MAJOR": "14"}, "14"),
    ("postgres:latest", {}, ""),
])  # fmt: skip
def test_the_major_of_an_image_is_told_from_itself(
    reference: str, environment: dict[str, str], major: str
) -> None:
    assert postgres.data_major(Image(reference=reference, environment=environment), {}) == major


def test_an_image_whose_major_cannot_be_told_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        postgres.data_major(Image(reference="own:latest", id="sha256:1"), {})
    assert "docker_image" in caught.value.errors


def service(kind: ServiceType, major: str = "17", **changes: Any) -> Service:
    values = {
        "port": 1,
        "database": "postgres",
        "username": "postgres",
        "password": "pw",
        "max_connections": 100,
        "ssl_mode": "disable",
    }
    return Service(
        id=1, name="main", slug="main", service_type=kind.name, parameters=values | changes,
        secrets={},
        image=Image(reference="x:17"), host="purveyor-main", major=major,
    )  # fmt: skip


def binding(**changes: Any) -> Binding:
    values: dict[str, Any] = {
        "id": 7,
        "resource": "shop_production",
        "account": "shop_production",
        "password": "pw",
        "slot": 3,
    }
    return Binding(scope=Scope(project="shop", environment="production"), **(values | changes))


def test_the_variables_are_those_of_the_contract() -> None:
    found = [variable.name for variable in postgres.environment(service(POSTGRES), binding())]
    assert found == [
        "POSTGRES_URL",
        "POSTGRES_HOST",
        "POSTGRES_PORT",
        "POSTGRES_NAME",
        "POSTGRES_DATABASE",
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
        "DATABASE_URL",
    ]
    found = [variable.name for variable in redis.environment(service(REDIS), binding())]
    assert found == [
        "REDIS_URL",
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_DATABASE",
        "REDIS_USERNAME",
        "REDIS_PASSWORD",
    ]


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()))
def test_any_password_survives_its_url(password: str) -> None:
    for plugin, kind in ((postgres, POSTGRES), (redis, REDIS)):
        url = plugin.environment(service(kind), binding(password=password))[0].value
        parts = urlsplit(url)
        assert unquote(parts.password or "") == password
        assert parts.hostname == "purveyor-main"


def test_a_container_s_description_is_the_same_each_time_and_holds_no_secret_in_its_environment() -> (
    None
):
    for plugin, kind in ((postgres, POSTGRES), (redis, REDIS)):
        spec = plugin.container(service(kind, password="s3cret-word"))
        assert spec == plugin.container(service(kind, password="s3cret-word"))
        assert "s3cret-word" not in repr((spec.command, spec.entrypoint, spec.environment))


@pytest.mark.parametrize("major", ["15", "16", "17", "18"])
def test_every_major_has_the_one_layout(major: str) -> None:
    spec = postgres.container(service(POSTGRES, major))
    assert spec.mount is not None
    assert spec.mount.target == "/var/lib/postgresql"
    assert spec.environment["PGDATA"] == f"/var/lib/postgresql/{major}/docker"
    assert spec.shared_memory >= 256 * 1024 * 1024


def test_a_password_verifier_is_salted_and_does_not_hold_the_password() -> None:
    first, second = accounts.verifier("password"), accounts.verifier("password")
    assert first != second
    assert first.startswith("SCRAM-SHA-256$4096:")
    assert "password" not in first


@given(
    st.integers(1, 40),
    st.lists(st.sampled_from(["hunter-22-secret", "plain", "\n", " and "]), max_size=30),
)
def test_a_secret_is_masked_however_a_stream_is_cut(size: int, words: list[str]) -> None:
    text = "".join(words)

    async def pieces() -> AsyncGenerator[str, None]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def told() -> str:
        return "".join([line async for line in redact.scrub_stream(pieces(), ["hunter-22-secret"])])

    assert asyncio.run(told()) == text.replace("hunter-22-secret", "***")


@given(
    st.text(min_size=4, max_size=30)
    .filter(str.isprintable)
    .filter(lambda secret: secret not in "postgresql://user:@host/db")
)
def test_secrets_are_scrubbed_also_when_encoded(secret: str) -> None:
    text = f"failed at {secret} and at postgresql://user:{quote(secret, safe='')}@host/db"
    scrubbed = redact.scrub(text, [secret])
    assert (
        quote(secret, safe="") not in scrubbed.replace("***", "")
        or secret in "failed at and postgresql://user:@host/db"
    )
    assert "user:***@host" in scrubbed


def test_previews_hide_what_is_secret() -> None:
    assert redact.mask_variable(Variable(name="A", value="plain")) == "plain"
    assert redact.mask_variable(Variable(name="A", value="secret", secret=True)) == "***"
    assert (
        redact.mask_variable(Variable(name="A", value="redis://u:p%40@h:1/2", secret=True))
        == "redis://u:***@h:1/2"
    )


@pytest.mark.parametrize(("text", "word"), [
    ("listen = 5", "listen"), ("unknown = 1", "unknown"), ("= =", "TOML"),
    ('listen = "nowhere"', "HOST:PORT"),
    ('namespace = "A B"', "namespace"), ('listen = "127.0.0.1:99999"', "HOST:PORT"),
    ("history-days = 0", "history-days"), ("history-events = 999", "history-events"),
    ("health-samples = 10001", "health-samples"),
])  # fmt: skip
def test_a_bad_settings_file_is_named_with_its_field(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(BadInput) as caught:
        load_settings(tmp_path)
    assert str(tmp_path / SETTINGS_FILE) in caught.value.detail
    assert word in caught.value.detail


def test_a_settings_file_of_an_editor_that_marks_its_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b'\xef\xbb\xbfnamespace = "marked"\n')
    assert load_settings(tmp_path).namespace == "marked"
