"""Python frameworks as they are published, each as a small program with the variables that a link
injects and nothing else."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pip
from support import Stage


@pytest.fixture(scope="module")
def app(make_stage: Callable[..., Stage]) -> Iterator[dict[str, str]]:
    """The variables of a project with a PostgreSQL and a Redis of its own."""
    with make_stage().serving() as stage:
        stage.call("POST", "/projects", json={"name": "shop"})
        for name, kind, values in (
            ("main", "postgres", {}),
            ("queue", "redis", {}),
        ):
            stage.call(
                "POST",
                "/external-services",
                json={"name": name, "service_type": kind, "parameters": values},
            )
            extra = {"extra_databases": ["test"]} if kind == "postgres" else {}
            stage.call(
                "POST", f"/external-services/{name}/projects", json={"project_id": "shop", **extra}
            )
        yield stage.variables("shop")


@contextmanager
def working(*argv: str, folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """A worker beside."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
    with open(folder / "worker.log", "w") as log:
        worker = subprocess.Popen(
            [pip.installed() / argv[0], *argv[1:]],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        except AssertionError as error:
            error.add_note((folder / "worker.log").read_text())
            raise
        finally:
            os.killpg(worker.pid, signal.SIGTERM)
            worker.wait(60)


CELERY = """
import os
from celery import Celery, chord, group
app = Celery("tasks", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])

@app.task
def add(x, y):
    return x + y

@app.task
def total(numbers):
    return sum(numbers)

if __name__ == "__main__":
    assert add.delay(2, 3).get(timeout=120) == 5
    assert chord(group(add.s(n, n) for n in range(3)))(total.s()).get(timeout=120) == 6
    answers = app.control.inspect(timeout=20).ping()
    assert [answer["ok"] for answer in answers.values()] == ["pong"], answers
"""


def test_celery_with_chords_and_inspect(app: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(CELERY)
    with working(
        "celery",
        "-A",
        "tasks",
        "worker",
        "--pool",
        "threads",
        "-c",
        "2",
        folder=tmp_path,
        variables=app,
    ):
        pip.run("python", "tasks.py", folder=tmp_path, variables=app)


KOMBU = """
import os
from kombu import Connection
with Connection(os.environ["REDIS_URL"]) as connection:
    queue = connection.SimpleQueue("simple")
    queue.put("word")
    message = queue.get(timeout=60)
    assert message.payload == "word"
    message.ack()
"""
RQ = """
import os, redis, rq, operator
connection = redis.from_url(os.environ["REDIS_URL"])
job = rq.Queue(connection=connection).enqueue(operator.add, 2, 3)
rq.SimpleWorker([rq.Queue(connection=connection)], connection=connection).work(burst=True)
assert job.return_value() == 5
"""
DRAMATIQ = """
import os, dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
url = os.environ["REDIS_URL"]
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=url)))
dramatiq.set_broker(broker)

@dramatiq.actor(store_results=True)
def add(x, y):
    return x + y

worker = dramatiq.Worker(broker, worker_timeout=100)
worker.start()
assert add.send(2, 3).get_result(block=True, timeout=120_000) == 5
worker.stop()
"""
CHANNELS = """
import asyncio, os
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

async def work():
    for kind in (RedisChannelLayer, RedisPubSubChannelLayer):
        layer = kind(hosts=[os.environ["REDIS_URL"]])
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.group_send("room", {"type": "chat", "text": "hello"})
        said = await asyncio.wait_for(layer.receive(name), 60)
        assert said == {"type": "chat", "text": "hello"}, said
        await layer.group_discard("room", name)
        if hasattr(layer, "flush"):
            await layer.flush()

asyncio.run(work())
"""
PUBSUB = """
import os, redis
with redis.from_url(os.environ["REDIS_URL"]) as client:
    ears = client.pubsub()
    ears.psubscribe("news.*")
    assert ears.get_message(timeout=60)["type"] == "psubscribe"
    client.publish("news.today", "x")
    assert ears.get_message(timeout=60)["data"] == b"x"
"""
SQLALCHEMY = """
import os, sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
engine = sa.create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))

class Base(DeclarativeBase):
    pass

class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Row(text="x"))
    session.commit()
    assert session.scalars(sa.select(Row.text)).all() == ["x"]
Base.metadata.drop_all(engine)
"""
PROGRAMS = {
    "kombu": KOMBU,
    "rq": RQ,
    "dramatiq": DRAMATIQ,
    "channels_redis, both layers": CHANNELS,
    "redis-py, patterns of channels": PUBSUB,
    "sqlalchemy": SQLALCHEMY,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: str, app: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    pip.run("python", "program.py", folder=tmp_path, variables=app)


def test_alembic(app: dict[str, str], tmp_path: Path) -> None:
    pip.run("alembic", "init", "migrations", folder=tmp_path, variables=app)
    environment = tmp_path / "migrations/env.py"
    url = (
        'config.set_main_option("sqlalchemy.url", '
        '__import__("os").environ["DATABASE_URL"].replace("ql:", "ql+psycopg:"))'
    )
    environment.write_text(
        environment.read_text().replace(
            "config = context.config", f"config = context.config\n{url}"
        )
    )
    pip.run("alembic", "revision", "-m", "first", folder=tmp_path, variables=app)
    (made,) = (tmp_path / "migrations/versions").glob("*.py")
    steps = made.read_text().replace(
        "pass", 'op.create_table("made", sa.Column("x", sa.Integer))', 1
    )
    made.write_text(steps.replace("pass", 'op.drop_table("made")', 1))
    for argv in (("upgrade", "head"), ("downgrade", "base")):
        pip.run("alembic", *argv, folder=tmp_path, variables=app)


DJANGO = """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["POSTGRES_DATABASE"],
    "USER": os.environ["POSTGRES_USER"],
    "PASSWORD": os.environ["POSTGRES_PASSWORD"],
    "HOST": os.environ["POSTGRES_HOST"],
    "PORT": os.environ["POSTGRES_PORT"],
    "TEST": {"NAME": os.environ["POSTGRES_TEST_DATABASE"]},
}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]}}
"""
CACHED = (
    "from django.core.cache import cache; cache.set('k', [1]); assert cache.get('k') == [1]; "
    "cache.clear()"
)


DJANGO_TESTS = """
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase, TransactionTestCase

class Rows(TestCase):
    def test_rows(self):
        assert connection.settings_dict["NAME"].endswith("_test")
        User.objects.create(username="ada")
        assert User.objects.count() == 1

class Flushed(TransactionTestCase):
    def test_rows(self):
        User.objects.create(username="ada")
        assert User.objects.count() == 1
"""


def test_django_runs_its_tests_in_the_second_database(app: dict[str, str], tmp_path: Path) -> None:
    """Without CREATEDB, twice: what the first run has left is no trouble."""
    (tmp_path / "chosen.py").write_text(DJANGO)
    (tmp_path / "test_rows.py").write_text(DJANGO_TESTS)
    variables = {**app, "DJANGO_SETTINGS_MODULE": "chosen"}
    for _ in range(2):
        pip.run(
            "django-admin", "test", "--keepdb", "test_rows", folder=tmp_path, variables=variables
        )


def test_django_migrates_and_caches(app: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "chosen.py").write_text(DJANGO)
    variables = {**app, "DJANGO_SETTINGS_MODULE": "chosen"}
    for argv in (("migrate", "-v", "0"), ("shell", "-v", "0", "-c", CACHED)):
        pip.run("django-admin", *argv, folder=tmp_path, variables=variables)
