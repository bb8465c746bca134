"""What an S3 server holds, to be looked at and taken: buckets, objects."""

from purveyor_hooks import Access, Listing, NotFound, Service, Sink
from purveyor_s3.server import OWN_BUCKET, connection

PAGE, CHUNK = 100, 256 * 1024


async def browse(service: Service, access: Access, path: tuple[str, ...], cursor: str) -> Listing:
    async with connection(service, access) as client:
        if not path:
            found = (await client.list_buckets()).get("Buckets", [])
            buckets = tuple(
                (item["Name"], str(item["CreationDate"])[:19])
                for item in found
                if item["Name"] != OWN_BUCKET
            )
            return Listing(columns=("bucket", "since"), rows=buckets, opens=True)
        given = {"ContinuationToken": cursor} if cursor else {}
        answer = await client.list_objects_v2(Bucket=path[0], MaxKeys=PAGE, **given)
        rows = tuple(
            (item["Key"], str(item["Size"]), str(item["LastModified"])[:19])
            for item in answer.get("Contents", [])
        )
        more = answer.get("NextContinuationToken", "") if answer.get("IsTruncated") else ""
        return Listing(
            columns=("object", "bytes", "changed"), rows=rows, cursor=more, downloads=True
        )


async def download(service: Service, access: Access, path: tuple[str, ...], sink: Sink) -> None:
    from botocore.exceptions import ClientError

    if len(path) != 2:
        raise NotFound(
            "path is a bucket and the name of an object in it.",
            remedy="Browse the bucket for its objects.",
        )
    bucket, name = path
    async with connection(service, access) as client:
        try:
            found = await client.get_object(Bucket=bucket, Key=name)
        except ClientError:
            raise NotFound(
                f"There is no object {name!r} in {bucket}.",
                remedy="Browse the bucket for its objects.",
            ) from None
        body = found["Body"]
        async with body:
            async for chunk in body.iter_chunks(CHUNK):
                await sink.write(chunk)
