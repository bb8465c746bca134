"""What a MongoDB holds, to be looked at: databases, collections, documents."""

from bson import json_util

from purveyor_hooks import Access, Listing, Service
from purveyor_mongodb.server import connection

PAGE, LONGEST = 50, 1000


async def browse(service: Service, access: Access, path: tuple[str, ...], cursor: str) -> Listing:
    async with connection(service, access) as client:
        if not path:
            names = sorted(await client.list_database_names())
            return Listing(columns=("database",), rows=tuple((name,) for name in names), opens=True)
        if len(path) == 1:
            names = sorted(await client[path[0]].list_collection_names())
            rows = tuple(
                [
                    (name, str(await client[path[0]][name].estimated_document_count()))
                    for name in names
                ]
            )
            return Listing(columns=("collection", "documents, estimated"), rows=rows, opens=True)
        skip = int(cursor or 0)
        found = await client[path[0]][path[1]].find().skip(skip).limit(PAGE + 1).to_list(PAGE + 1)
        shown = tuple(
            (str(item.get("_id")), json_util.dumps(item, ensure_ascii=False)[:LONGEST])
            for item in found[:PAGE]
        )
        return Listing(
            columns=("_id", "document"),
            rows=shown,
            cursor=str(skip + PAGE) if len(found) > PAGE else "",
        )
