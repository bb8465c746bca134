#!/usr/bin/env python3
"""Find out which operations and clients hold on which S3 server, with a project's key, and write
docs/s3-operations.md.

    contrib/s3/run.py                             probes and clients; what is known of ceph's s3-tests stays
    contrib/s3/run.py --s3-tests CHECKOUT         those as well: a checkout of github.com/ceph/s3-tests
    contrib/s3/run.py --python PYTHON             with the interpreter that has its requirements (default: this one)
    contrib/s3/run.py --server seaweedfs          on this server alone; what is known of the others stays
    contrib/s3/run.py --page                      the page alone, from the results of before

It needs a Docker Engine with the images of contrib/images, minio among them. S3FS and rclone are
run where they are here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENV = ROOT / ".venv/bin/python"
if __name__ == "__main__" and VENV.exists() and Path(sys.prefix) != VENV.parent.parent:
    os.execv(VENV, [str(VENV), *sys.argv])
sys.path[:0] = [str(HERE.parent), str(ROOT / "tests")]

from s3 import operations  # noqa: E402

RESULTS, PAGE = HERE / "results.json", ROOT / "docs/s3-operations.md"
LABELS = {"rustfs": "RustFS 1.0.1", "minio": "MinIO 2026-02-12", "seaweedfs": "SeaweedFS 4.48"}
PROJECTS = ("alpha", "beta")
CLIENTS = ("boto3", "@aws-sdk/client-s3", "minio", "s3fs", "rclone")
# what is asked of a project: nothing that makes buckets, opens them to others or locks them, nor
# what Ceph alone has
LEFT_OUT = (
    "fails_on_aws", "bucket_logging", "bucket_logging_cleanup", "cloud_transition", "cloud_restore",
    "lifecycle_expiration",
    "lifecycle_transition", "bucket_policy", "object_lock", "encryption", "sse_s3",
    "object_ownership", "s3website", "auth_aws2",
    "user_policy", "session_policy",
)  # fmt: skip
LEFT_OUT_NAMES = (
    "copy_enc", "acl", "anon", "bucket_create", "account", "website", "logging", "public", "tenant",
    "sse_kms", "ownership",
)  # fmt: skip
OUTCOMES = ("passed", "failed", "denied", "skipped")
# seconds for the suite on one server; each test has a limit of its own in project_suite.py
SUITE = 3600.0


def measure(stage: Any, server: str) -> dict[str, Any]:
    """Operations and clients on a server of a stage that has a project of its own for each."""
    return {
        "operations": operations.probe(stage.variables(f"{server}-{PROJECTS[0]}")),
        "clients": operations.visit(stage.variables(f"{server}-{PROJECTS[1]}")),
    }


def furnish(stage: Any, server: str, image: str) -> None:
    stage.call(
        "POST",
        "/external-services",
        json={"name": server, "service_type": "s3", "parameters": {"docker_image": image}},
    )
    for project in PROJECTS:
        stage.call("POST", "/projects", json={"name": f"{server}-{project}"})
        stage.call(
            "POST",
            f"/external-services/{server}/projects",
            json={"project_id": f"{server}-{project}"},
        )


def suite(stage: Any, server: str, checkout: Path, python: str) -> dict[str, str]:
    """The outcome of each of ceph's tests, in a project's one bucket."""
    main, other = (stage.variables(f"{server}-{project}") for project in PROJECTS)
    asked = stage.call("GET", f"/external-services/{server}/client")["client"]["environment"]
    with tempfile.TemporaryDirectory() as folder:
        results, said, configured = (
            Path(folder, name) for name in ("results.json", "project.json", "s3tests.conf")
        )
        said.write_text(
            json.dumps(
                {
                    "endpoint": main["S3_ENDPOINT"],
                    "administrator": [asked["AWS_ACCESS_KEY_ID"], asked["AWS_SECRET_ACCESS_KEY"]],
                    "main": [main["S3_ACCESS_KEY"], main["S3_SECRET_KEY"]],
                    "buckets": {item["S3_ACCESS_KEY"]: item["S3_BUCKET"] for item in (main, other)},
                    "results": str(results),
                }
            )
        )
        configured.write_text(configuration(main, other))
        environment = {
            **os.environ,
            "S3_PROJECT": str(said),
            "S3TEST_CONF": str(configured),
            "PYTHONPATH": str(HERE),
        }
        argv = [
            python,
            "-m",
            "pytest",
            "-q",
            "--tb=no",
            "-p",
            "project_suite",
            "-p",
            "no:cacheprovider",
        ]
        for option, names in (("-m", LEFT_OUT), ("-k", LEFT_OUT_NAMES)):
            argv += [option, " and ".join(f"not {name}" for name in names)]
        files = ["s3tests/functional/test_headers.py", "s3tests/functional/test_s3.py"]
        subprocess.run([*argv, *files], cwd=checkout, env=environment, check=False, timeout=SUITE)
        found: dict[str, str] = json.loads(results.read_text())
        return found


def configuration(main: Mapping[str, str], other: Mapping[str, str]) -> str:
    """What s3-tests wants to know; the other users that it has are the other project."""
    lines = [
        "[DEFAULT]",
        f"host = {main['S3_HOST']}",
        f"port = {main['S3_PORT']}",
        "is_secure = False",
        "[fixtures]",
    ]
    lines.append("bucket prefix = p-{random}-")
    users = {
        "s3 main": main,
        "s3 alt": other,
        "s3 tenant": other,
        "iam": main,
        "iam root": main,
        "iam alt root": other,
    }
    for section, user in users.items():
        lines += [
            f"[{section}]",
            "display_name = x",
            "email = x@example.org",
            "tenant = x",
            f"user_id = {user['S3_ACCESS_KEY']}",
        ]
        lines += [f"access_key = {user['S3_ACCESS_KEY']}", f"secret_key = {user['S3_SECRET_KEY']}"]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- the page


def page(results: Mapping[str, Any]) -> str:
    servers = [server for server in LABELS if server in results]
    head = ["", *(LABELS[server] for server in servers)]
    lines = [
        "# S3: what holds on which server",
        "",
        "Written by `contrib/s3/run.py` from its last run, with a project's key. *denied*: a "
        "project may not do it there. The",
        "servers run as Purveyor starts them: MinIO and SeaweedFS without a key service.",
        "",
        "## Operations",
        "",
        *table(
            head,
            [
                [name, *(results[server]["operations"][name] for server in servers)]
                for name in operations.OPERATIONS
            ],
        ),
        "",
        "## Clients",
        "",
        "Each writes, reads, lists and deletes, an object in parts among them.",
        "",
        *table(
            head,
            [[name, *(results[server]["clients"][name] for server in servers)] for name in CLIENTS],
        ),
    ]
    if tested := [server for server in servers if "suite" in results[server]]:
        lines += ["", "## Ceph's s3-tests", "", *counted(results, tested)]
    return "\n".join(lines) + "\n"


def counted(results: Mapping[str, Any], servers: list[str]) -> list[str]:
    rows = [
        [
            outcome,
            *(str(list(results[server]["suite"].values()).count(outcome)) for server in servers),
        ]
        for outcome in OUTCOMES
    ]
    text = [
        "Run as a project, in its one bucket (`contrib/s3/project_suite.py`), without what makes, "
        "opens or locks buckets and",
        "what Ceph alone has. *skipped*: needs a second bucket. Each test's outcome is in "
        "`contrib/s3/results.json`.",
        "",
        *table(["", *(LABELS[server] for server in servers)], rows),
    ]
    for server in servers:
        failed = sorted(
            name.partition("::")[2]
            for name, outcome in results[server]["suite"].items()
            if outcome == "failed"
        )
        text += [
            "",
            f"Failed on {LABELS[server]}: {', '.join(f'`{name}`' for name in failed) or 'none'}.",
        ]
    return text


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(row)} |".replace("|  |", "| |")
        for row in [head, ["---"] * len(head), *rows]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--s3-tests", type=Path, metavar="CHECKOUT", default=os.environ.get("S3_TESTS")
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--server", choices=LABELS, action="append")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not given.page:
        from support import MINIO, RUSTFS, SEAWEEDFS, Stage

        images = {"rustfs": RUSTFS, "minio": MINIO, "seaweedfs": SEAWEEDFS}
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(Path(folder), f"pvs3-{os.getpid()}")
            try:
                with stage.serving():
                    for server in given.server or LABELS:
                        furnish(stage, server, images[server])
                        before = results.get(server, {})
                        results[server] = before | measure(stage, server)
                        if given.s3_tests:
                            results[server]["suite"] = suite(
                                stage, server, given.s3_tests.resolve(), given.python
                            )
                        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            finally:
                stage.clean()
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
