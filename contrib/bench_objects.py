"""The measurement of `contrib/bench` on many small objects: what one of them costs in a list, a
count, a backup and a restore, while their number grows."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from bench_stage import RUSTFS, NotToBeHad, Row, Sizes, Stage, docker, resident, stage

PLAIN = "UNSIGNED-PAYLOAD"
WRITERS = 12  # connections that write side by side
PAGE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
BODY = b"x" * 100
GOAL = "≤ 1.5: not super-linear"


class Client:
    """One connection that stays open. A client library takes longer for a request than the server
    does."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._bucket, self._region = variables["S3_BUCKET"], variables["S3_REGION"]
        self._access, self._secret = variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"]
        self._host = urlsplit(variables["S3_ENDPOINT"]).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=120)

    def put(self, key: str) -> None:
        self._ask("PUT", f"/{self._bucket}/{quote(key)}", {}, BODY)

    def every_key(self) -> Iterator[str]:
        """All of them, page by page."""
        query = {"list-type": "2"}
        while True:
            page = ElementTree.fromstring(self._ask("GET", f"/{self._bucket}", query))
            yield from (item.findtext(f"{PAGE}Key") or "" for item in page.iter(f"{PAGE}Contents"))
            following = page.findtext(f"{PAGE}NextContinuationToken")
            if not following:
                return
            query["continuation-token"] = following

    def _ask(self, method: str, path: str, query: dict[str, str], body: bytes = b"") -> bytes:
        text = urlencode(sorted(query.items()), quote_via=quote, safe="")
        headers = self._signed(method, path, text)
        self._connection.request(method, f"{path}?{text}" if text else path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    def _signed(self, method: str, path: str, query: str) -> dict[str, str]:
        """Signature version 4, without the body: see docs.aws.amazon.com on its authentication."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        headers = {"host": self._host, "x-amz-content-sha256": PLAIN, "x-amz-date": now}
        names = ";".join(headers)
        told = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"{method}\n{path}\n{query}\n{told}\n{names}\n{PLAIN}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        credential = f"AWS4-HMAC-SHA256 Credential={self._access}/{scope}"
        return {
            **headers,
            "Authorization": f"{credential},SignedHeaders={names},Signature={signature}",
        }


def objects(sizes: Sizes) -> list[Row]:
    if not docker("images", "-q", RUSTFS):
        raise NotToBeHad(f"there is no image {RUSTFS}")
    with stage() as made, made.serving():
        parameters = {"docker_image": RUSTFS}
        made.call(
            "POST", "/external-services", name="many", service_type="s3", parameters=parameters
        )
        made.call("POST", "/projects", name="shop")
        made.call("POST", "/external-services/many/projects", project_id="shop")
        variables = made.variables("shop")
        times: dict[str, list[float]] = {}
        done = 0
        for number in sizes.objects:
            _timed(times, "write", number - done, partial(_write, variables, done, number))
            done = number
            for what, work in _looks(made, variables, number):
                _timed(times, what, number, work)
        most = f"{resident(made.pid, 'VmHWM'):.0f} MB"
        return [*_rows(times, sizes.objects), Row(what="daemon's memory at most", ours=most)]


def _timed(times: dict[str, list[float]], what: str, number: int, work: Callable[[], Any]) -> None:
    begun = time.monotonic()
    work()
    times.setdefault(what, []).append((time.monotonic() - begun) / number)


def _write(variables: dict[str, str], first: int, last: int) -> None:
    def write(part: int) -> None:
        client = Client(variables)
        for number in range(first + part, last, WRITERS):
            client.put(f"photos/{number % 100:02}/{number:07}.jpg")

    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(write, range(WRITERS)):
            pass


def _looks(
    made: Stage, variables: dict[str, str], number: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is done with so many, each as it is asked for."""

    def listed() -> None:
        found = sum(1 for _ in Client(variables).every_key())
        if found != number:
            raise RuntimeError(f"{found} are listed of {number}")

    answers: dict[str, Any] = {}
    run = "/backups/external-services/many/run"
    yield "list", listed
    yield "backup", lambda: answers.update(made.call("POST", run, keep_days=1))
    restore = f"/backups/{answers['id']}/restore"
    yield "restore", lambda: made.call("POST", restore, new_name="again")
    made.call("DELETE", "/external-services/again?purge=true")
    made.call("DELETE", f"/backups/{answers['id']}")


def _rows(times: dict[str, list[float]], numbers: tuple[int, ...]) -> Iterator[Row]:
    first = numbers[0]
    for what, found in times.items():
        for number, took in zip(numbers, found, strict=True):
            yield Row(
                what=f"{what} of {number} objects, each",
                ours=f"{took * 1e6:.0f} µs",
                beside=f"with {first}",
                peer=f"{found[0] * 1e6:.0f} µs",
                ratio=took / found[0],
                goal=GOAL if number > first else "",
            )
