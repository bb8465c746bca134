"""The curls of the managed services page, run by curl as they are printed, with our host, token and
ids."""

import json
import shlex
import subprocess
from typing import Any

import pytest

from support import POSTGRES, Stage, docker, eventually, free_port

pytestmark = pytest.mark.daily

HOST = "https://your-temps-instance"


@pytest.fixture(scope="module")
def token(house: Stage) -> str:
    return house.cli("token", "create", "curl").strip()


class Curl:
    """Runs a printed command line; the answer is the status and the decoded body."""

    def __init__(self, stage: Stage, token: str) -> None:
        self.stage = stage
        self.token = token

    def __call__(self, printed: str, **ids: object) -> tuple[int, Any]:
        text = printed.replace(HOST, self.stage.address).replace("YOUR_TOKEN", self.token)
        for name, value in ids.items():
            text = text.replace("{" + name + "}", str(value))
        command = [*shlex.split(text.replace("\\\n", " ")), "-sS", "-w", "\n%{http_code}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body) if body else None


def test_every_curl_of_the_page(house: Stage, token: str) -> None:
    curl = Curl(house, token)
    port = free_port()
    created = """curl -X POST "https://your-temps-instance/api/external-services" \\
-H "Authorization: Bearer YOUR_TOKEN" \\
-H "Content-Type: application/json" \\
-d '{
"name": "my-postgres",
"service_type": "postgres",
"parameters": {
"port": "PORT",
"max_connections": "200"
}
}'"""
    status, service = curl(created.replace("PORT", str(port)))
    assert status == 201
    assert service["status"] == "running"
    assert service["port"] == port
    assert "***" in service["connection_info"]
    assert set(service) >= {
        "id", "name", "slug", "service_type", "version", "status", "connection_info", "created_at",
        "updated_at",
    }  # fmt: skip
    number = service["id"]

    project = """curl -X POST "https://your-temps-instance/api/projects" -H "Authorization: Bearer YOUR_TOKEN" -d '{"name": "Shop"}'"""  # noqa: E501
    status, made = curl(project)
    assert (status, made["id"], made["slug"]) == (201, 1, "shop")

    link = """curl -X POST "https://your-temps-instance/api/external-services/{service_id}/projects" \\
-H "Authorization: Bearer YOUR_TOKEN" \\
-H "Content-Type: application/json" \\
-d '{
"project_id": 1
}'"""
    status, linked = curl(link, service_id=number)
    assert status == 201
    assert linked["project"]["slug"] == "shop"
    assert linked["service"]["id"] == number

    status, names = curl(
        """curl "https://your-temps-instance/api/external-services/{service_id}/preview-environment-names" \\
-H "Authorization: Bearer YOUR_TOKEN" """,
        service_id=number,
    )
    assert status == 200
    assert "POSTGRES_URL" in names

    status, masked = curl(
        """curl "https://your-temps-instance/api/external-services/{service_id}/preview-environment-masked" \\
-H "Authorization: Bearer YOUR_TOKEN" """,
        service_id=number,
    )
    assert status == 200
    assert masked["POSTGRES_PASSWORD"] == "***"
    assert ":***@" in masked["POSTGRES_URL"]

    status, values = curl(
        """curl "https://your-temps-instance/api/external-services/{service_id}/projects/{project_id}/environment" \\
-H "Authorization: Bearer YOUR_TOKEN" """,
        service_id=number,
        project_id=1,
    )
    assert status == 200
    assert values["POSTGRES_DATABASE"] == "shop_production"
    assert list(values) == names

    for verb, seen in (("stop", "stopped"), ("start", "running")):
        status, service = curl(
            f"""curl -X POST "https://your-temps-instance/api/external-services/{{id}}/{verb}" \\
-H "Authorization: Bearer YOUR_TOKEN" """,
            id=number,
        )
        assert (status, service["status"]) == (200, seen)

    status, health = curl(
        """curl "https://your-temps-instance/api/external-services/{id}/health" -H "Authorization: Bearer YOUR_TOKEN" """,
        id=number,
    )
    assert (status, health["healthy"]) == (200, True)
    assert set(health) >= {"healthy", "status", "version", "latency_ms", "checked_at", "stage"}

    upgrade = """curl -X POST "https://your-temps-instance/api/external-services/{id}/upgrade" \\
-H "Authorization: Bearer YOUR_TOKEN" \\
-H "Content-Type: application/json" \\
-d '{
"docker_image": "gotempsh/postgres-walg:18-bookworm"
}'"""
    image = "purveyor-test/postgres:18"  # the page's own cannot be had here
    status, service = curl(upgrade.replace("gotempsh/postgres-walg:18-bookworm", image), id=number)
    assert (status, service["docker_image"], service["status"]) == (200, image, "running")
    assert service["version"].startswith("18")

    delete = """curl -X DELETE "https://your-temps-instance/api/external-services/{id}" -H "Authorization: Bearer YOUR_TOKEN" """
    status, problem = curl(delete, id=number)
    assert status == 400
    assert "shop" in problem["detail"]
    unlink = """curl -X DELETE "https://your-temps-instance/api/external-services/{service_id}/projects/{project_id}" \\
-H "Authorization: Bearer YOUR_TOKEN" """
    assert curl(unlink, service_id=number, project_id=1) == (204, None)
    assert curl(delete, id=number) == (204, None)


def test_the_curls_that_import_a_container(house: Stage, token: str) -> None:
    curl = Curl(house, token)
    name = f"{house.namespace}-existing"
    docker("run", "-d", "--name", name, "-e", "POSTGRES_PASSWORD=your-password", POSTGRES)
    listing = """curl "https://your-temps-instance/api/external-services/available-containers" \\
-H "Authorization: Bearer YOUR_TOKEN" """
    status, found = curl(listing)
    assert status == 200
    mine = next(item for item in found if item["container_name"] == name)
    assert set(mine) >= {
        "container_id", "container_name", "image", "version", "service_type", "is_running",
        "exposed_ports",
    }  # fmt: skip
    printed = """curl -X POST "https://your-temps-instance/api/external-services/import" \\
-H "Authorization: Bearer YOUR_TOKEN" \\
-H "Content-Type: application/json" \\
-d '{
"container_id": "abc123...",
"name": "existing-postgres",
"service_type": "postgres",
"parameters": {
"host": "localhost",
"port": "5432",
"database": "postgres",
"username": "postgres",
"password": "your-password"
}
}'"""
    printed = printed.replace("abc123...", mine["container_id"])
    assert curl(printed.replace("your-password", "not-it"))[0] == 400

    def imported() -> Any:
        status, service = curl(printed)
        return service if status == 201 else None

    service = eventually(imported)
    assert (service["name"], service["status"], service["container_name"]) == (
        "existing-postgres",
        "running",
        name,
    )
    assert mine not in curl(listing)[1]


def test_the_rest_of_the_contract(house: Stage, token: str) -> None:
    curl = Curl(house, token)

    def get(path: str) -> Any:
        status, body = curl(f'curl "{HOST}/api{path}" -H "Authorization: Bearer YOUR_TOKEN"')
        assert status == 200, body
        return body

    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = f" -d {shlex.quote(json.dumps(body))}" if body is not None else ""
        return curl(
            f'curl -X {method} "{HOST}/api{path}" -H "Authorization: Bearer YOUR_TOKEN"{data}'
        )

    assert set(get("/external-services/types")) >= {"postgres", "redis"}
    schema = get("/external-services/types/redis/parameters")
    assert schema["properties"]["password"]["x-editable"] is False
    metadata = get("/external-services/providers/metadata")
    assert {"service_type", "display_name", "description", "icon_url", "color"} == set(metadata[0])
    assert get("/external-services/providers/metadata/redis")["display_name"] == "Redis"

    status, service = send(
        "POST", "/external-services", {"name": "The Cache", "service_type": "redis"}
    )
    assert (status, service["slug"]) == (201, "the-cache")
    details = get("/external-services/by-slug/the-cache")
    assert details == get(f"/external-services/{service['id']}") | {"service": details["service"]}
    assert details["current_parameters"]["password"] == "***"
    assert all(isinstance(value, str) for value in details["current_parameters"].values())
    assert details["parameter_schema"]["properties"]["port"]["x-editable"] is True

    status, problem = send(
        "POST", "/external-services", {"name": "the cache", "service_type": "redis"}
    )
    assert (status, problem["errors"]) == (409, {"name": "taken"})
    status, problem = send(
        "PUT", "/external-services/the-cache", {"parameters": {"password": "other"}}
    )
    assert (status, list(problem["errors"])) == (400, ["password"])
    port = free_port()
    status, changed = send("PUT", "/external-services/the-cache", {"parameters": {"port": port}})
    assert (status, changed["port"]) == (200, port)
    assert send("POST", "/external-services/the-cache/restart")[0] == 200

    _, first = send("POST", "/projects", {"name": "one"})
    status, _ = send("POST", "/external-services/the-cache/projects", {"project_id": first["id"]})
    assert status == 201
    assert (
        send("POST", "/external-services/the-cache/projects", {"project_id": first["id"]})[0] == 409
    )
    send("POST", "/external-services", {"name": "second", "service_type": "redis"})
    status, problem = send(
        "POST", "/external-services/second/projects", {"project_id": first["id"]}
    )
    assert status == 409
    assert "purveyor unlink the-cache one" in problem["remedy"]
    assert [link["project"]["slug"] for link in get("/external-services/the-cache/projects")] == [
        "one"
    ]
    assert [
        link["service"]["slug"] for link in get(f"/external-services/projects/{first['id']}")
    ] == ["the-cache"]
    every = get(f"/external-services/projects/{first['id']}/environment")
    assert set(every) == {str(service["id"])}
    one = get(f"/external-services/the-cache/projects/{first['id']}/environment/REDIS_PASSWORD")
    assert one == {
        "name": "REDIS_PASSWORD",
        "value": every[str(service["id"])]["REDIS_PASSWORD"],
        "sensitive": True,
    }
    status, missing = curl(
        "curl "
        f'"{HOST}/api/external-services/the-cache/projects/one/environment?environment=preview-1" '
        '-H "Authorization: Bearer YOUR_TOKEN"'
    )
    assert (status, "no environment" in missing["detail"]) == (404, True), "asking makes nothing"
    house.add_environment("one", "preview-1")
    preview = get(
        f"/external-services/the-cache/projects/{first['id']}/environment?environment=preview-1"
    )
    assert preview["REDIS_USERNAME"] == "one_preview_1"
    status, _ = curl(
        f'curl "{HOST}/api/external-services/second/projects/one/environment" -H "Authorization: '
        'Bearer YOUR_TOKEN"'
    )
    assert status == 404

    with house.http(token) as client:
        page = client.get("/api/external-services", params={"limit": 1})
        assert len(page.json()) == 1
        assert int(page.headers["X-Total-Count"]) >= 2
        begun = client.post(
            "/api/external-services/second/restart", headers={"Prefer": "respond-async"}
        )
        assert begun.status_code == 202
        operation = client.get(begun.headers["Location"]).json()
        assert operation["verb"] == "restart"
        plan = client.post("/api/external-services/second/stop", params={"plan": "true"}).json()
        assert plan["downtime"]
        assert client.get("/api/schema/openapi.json").json()["openapi"].startswith("3.")
