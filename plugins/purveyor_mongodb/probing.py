"""The steps of `purveyor doctor` on MongoDB, from a container of its own image: mongosh, or pymongo
where there is none."""

from urllib.parse import quote

from purveyor_hooks import Binding, Command, Probe, Service
from purveyor_mongodb import tls

PORT = 27017

SHELL = (
    'if command -v mongosh >/dev/null; then exec mongosh --quiet --nodb --eval "$1"; else exec '
    'python3 -c "$2"; fi'
)


def _asked(shell: str, python: str, url: str) -> Command:
    script = f"db = connect(process.env.PURVEYOR_URL); {shell}"
    code = (
        "import os, pymongo; db = "
        f"pymongo.MongoClient(os.environ['PURVEYOR_URL']).get_default_database(); {python}"
    )
    return Command(argv=("sh", "-c", SHELL, "sh", script, code), environment={"PURVEYOR_URL": url})


def probes(service: Service, binding: Binding) -> list[Probe]:
    account, password, database = (
        quote(text, safe="") for text in (binding.account, binding.password, binding.resource)
    )
    url = f"mongodb://{account}:{password}@{service.host}:{PORT}/{database}?directConnection=true&serverSelectionTimeoutMS=5000"
    url += tls.unverified(service)
    tcp = Command(argv=("bash", "-c", f"exec 3<>/dev/tcp/{service.host}/{PORT} && echo open"))
    user = "db.runCommand({connectionStatus: 1}).authInfo.authenticatedUsers[0].user"
    python_user = "db.command('connectionStatus')['authInfo']['authenticatedUsers'][0]['user']"
    written = "db.getCollection('purveyor_probe')"
    return [
        Probe(name="tcp", command=tcp),
        Probe(
            name="login",
            command=_asked(
                f"print('logged in as ' + {user})", f"print('logged in as', {python_user})", url
            ),
        ),
        Probe(
            name="query",
            command=_asked(
                "print('collections: ' + db.getCollectionNames().length)",
                "print('collections:', len(db.list_collection_names()))",
                url,
            ),
        ),
        Probe(
            name="write",
            command=_asked(
                f"{written}.insertOne({{}}); {written}.drop(); print('wrote a document')",
                "db.purveyor_probe.insert_one({}); db.purveyor_probe.drop(); print('wrote a "
                "document')",
                url,
            ),
        ),
    ]
