"""Access keys limited to one bucket, as each server makes them. Every call may be repeated after a
crash."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio.to_thread
import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from purveyor_hooks import Access, Binding, Service, certificates
from purveyor_s3 import encrypted, flavours
from purveyor_s3.driver import administrator, code, config
from purveyor_s3.flavours import REGION

TIMEOUT = 10.0
# what would open the bucket to others, take it away from under the binding, shut the administrator
# and the backups out, or keep it from being emptied for years
NOT_ALLOWED = [
    "s3:CreateBucket", "s3:DeleteBucket", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
    "s3:PutBucketObjectLockConfiguration", "s3:PutObjectRetention", "s3:PutObjectLegalHold",
    "s3:BypassGovernanceRetention",
]  # fmt: skip
# MinIO has no such action, and refuses a policy that names it
WRITES = ["s3:PutObject"]  # parts of uploads, copies and forms are no other action
RUSTFS_NOT_ALLOWED = [*NOT_ALLOWED, "s3:PutBucketAcl"]
# SeaweedFS knows no Deny, so all that a project may do is named; it has no names for lifecycle and
# encryption (seen on 4.48)
SEAWEED_ALLOWED = [
    "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectVersionTagging",
    "s3:GetObjectAcl",
    "s3:GetObjectRetention", "s3:GetObjectLegalHold", "s3:PutObject", "s3:PutObjectTagging",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion", "s3:DeleteObjectTagging", "s3:CreateMultipartUpload", "s3:UploadPart",
    "s3:CompleteMultipartUpload",
    "s3:AbortMultipartUpload", "s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:PutBucketVersioning", "s3:GetBucketCors", "s3:PutBucketCors", "s3:DeleteBucketCors",
    "s3:GetBucketTagging",
    "s3:PutBucketTagging", "s3:GetBucketAcl", "s3:GetBucketPolicy",
    "s3:GetBucketObjectLockConfiguration",
]  # fmt: skip


SEAWEED_WRITES = [
    "s3:PutObject", "s3:PutObjectTagging", "s3:CreateMultipartUpload", "s3:UploadPart",
    "s3:CompleteMultipartUpload",
]  # fmt: skip


class KeysFailed(Exception):
    """The server's account API refused or did not answer; the text holds no secret."""


def policy(
    bucket: str, allowed: Sequence[str] = ("s3:*",), denied: Sequence[str] = NOT_ALLOWED
) -> dict[str, Any]:
    """Actions in one bucket, and in no other."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statements = [{"Effect": "Allow", "Action": list(allowed), "Resource": resources}]
    if denied:
        statements.append({"Effect": "Deny", "Action": list(denied), "Resource": resources})
    return {"Version": "2012-10-17", "Statement": statements}


def _is_of(document: Any, bucket: str) -> bool:
    """Whether a policy is that of a key of a bucket."""
    statements = document.get("Statement") if isinstance(document, dict) else None
    first = statements[0] if isinstance(statements, list) and statements else {}
    return f"arn:aws:s3:::{bucket}" in (first.get("Resource") or ())


class Keys(Protocol):
    """The account API of a server."""

    async def version(self) -> str:
        """The server's version, "" when it does not say."""

    async def exists(self, account: str) -> bool:
        """Whether the server has such a user."""

    async def grant(self, binding: Binding, *, writes: bool = True) -> None:
        """The binding's key works, on its bucket alone."""

    async def allow(self, bucket: str, *, writes: bool) -> None:
        """All keys of a bucket may write, or may not."""

    async def revoke(self, account: str) -> None:
        """No key of this user works any more."""


def of(service: Service, access: Access) -> Keys:
    """The account API of a service."""
    made: dict[str, Callable[[Service, Access], Keys]] = {
        flavours.MINIO: MinioKeys,
        flavours.RUSTFS: RustfsKeys,
        flavours.SEAWEEDFS: SeaweedKeys,
    }
    return made[flavours.of(service).name](service, access)


class MinioKeys:
    """MinIO's admin API, whose bodies are encrypted: its own library does that, in a thread."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._address = access.address(flavours.PORT)

    async def _ask(self, name: str, *arguments: Any, **options: Any) -> str:
        return await anyio.to_thread.run_sync(lambda: self._asked(name, arguments, options))

    def _asked(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
        import urllib3
        from minio import MinioAdmin
        from minio.credentials.providers import StaticProvider
        from minio.error import MinioAdminException

        values, secure = self._service.parameters, encrypted.on(self._service)
        verifying = certificates.trusting(self._service) if secure else None
        with urllib3.PoolManager(timeout=TIMEOUT, retries=False, ssl_context=verifying) as pool:
            admin = MinioAdmin(
                endpoint=f"{self._address.host}:{self._address.port}",
                credentials=StaticProvider(values["access_key"], values["secret_key"]),
                region=REGION,
                secure=secure,
                http_client=pool,
            )
            try:
                return str(getattr(admin, name)(*arguments, **options))
            except MinioAdminException as error:
                raise KeysFailed(f"MinIO refused {name}: {_code(str(error))}") from None
            except urllib3.exceptions.HTTPError as error:
                raise KeysFailed(f"MinIO did not answer {name}: {type(error).__name__}") from None

    async def version(self) -> str:
        servers = json.loads(await self._ask("info")).get("servers") or [{}]
        return str(servers[0].get("version", ""))

    async def exists(self, account: str) -> bool:
        try:
            await self._ask("user_info", account)
        except KeysFailed as error:
            if "NoSuchUser" in str(error):
                return False
            raise
        return True

    def _policy(self, bucket: str, writes: bool) -> dict[str, Any]:
        return policy(bucket, denied=NOT_ALLOWED if writes else [*NOT_ALLOWED, *WRITES])

    async def allow(self, bucket: str, *, writes: bool) -> None:
        for name, document in json.loads(await self._ask("policy_list")).items():
            if _is_of(document, bucket):
                await self._ask("policy_add", name, policy=self._policy(bucket, writes))

    async def grant(self, binding: Binding, *, writes: bool = True) -> None:
        await self._ask(
            "policy_add", binding.account, policy=self._policy(binding.resource, writes)
        )
        await self._ask("user_add", binding.account, binding.password)
        await self._ask("policy_set", binding.account, user=binding.account)

    async def revoke(self, account: str) -> None:
        for name, missing in (("user_remove", "NoSuchUser"), ("policy_remove", "NoSuchPolicy")):
            try:
                await self._ask(name, account)
            except KeysFailed as error:
                if missing not in str(error):
                    raise


def _code(text: str) -> str:
    """The error code out of an answer's JSON, wherever it stands in the text."""
    start = text.find("{")
    try:
        return str(json.loads(text[start:])["Code"])
    except (ValueError, KeyError):
        return text.partition(",")[0][:200]


class RustfsKeys:
    """RustFS's admin API: signed calls with JSON in clear."""

    def __init__(self, service: Service, access: Access) -> None:
        address = access.address(flavours.PORT)
        self._server = encrypted.endpoint(service, address)
        self._verify = encrypted.context(service)
        self._root = f"{self._server}/rustfs/admin/v3"
        self._credentials = Credentials(
            service.parameters["access_key"], service.parameters["secret_key"]
        )

    async def _ask(
        self, method: str, name: str, query: Mapping[str, str], body: Any = None
    ) -> httpx.Response:
        data = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method=method, url=f"{self._root}/{name}", params=query, data=data)
        S3SigV4Auth(self._credentials, "s3", REGION).add_auth(request)
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=self._verify) as client:
            try:
                return await client.request(
                    method,
                    request.url,
                    params=query,
                    content=data,
                    headers=dict(request.headers.items()),
                )
            except httpx.HTTPError as error:
                raise KeysFailed(f"RustFS did not answer {name}: {type(error).__name__}") from None

    async def _must(
        self,
        method: str,
        name: str,
        query: Mapping[str, str],
        body: Any = None,
        *,
        missing: bool = False,
    ) -> None:
        answer = await self._ask(method, name, query, body)
        if answer.is_error and not (missing and answer.status_code == 404):
            raise KeysFailed(f"RustFS refused {name}: {answer.status_code}")

    async def version(self) -> str:
        """What it says of itself to whoever asks for its health."""
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=self._verify) as client:
            try:
                answer = (await client.get(f"{self._server}/health")).json()
            except (httpx.HTTPError, ValueError) as error:
                raise KeysFailed(f"RustFS did not answer health: {type(error).__name__}") from None
        return str(answer.get("version", "")) if isinstance(answer, dict) else ""

    async def exists(self, account: str) -> bool:
        answer = await self._ask("GET", "user-info", {"accessKey": account})
        if answer.is_error and answer.status_code != 404:
            raise KeysFailed(f"RustFS refused user-info: {answer.status_code}")
        return not answer.is_error

    async def _write_policy(self, name: str, bucket: str, writes: bool) -> None:
        denied = RUSTFS_NOT_ALLOWED if writes else [*RUSTFS_NOT_ALLOWED, *WRITES]
        await self._must("PUT", "add-canned-policy", {"name": name}, policy(bucket, denied=denied))

    async def allow(self, bucket: str, *, writes: bool) -> None:
        answer = await self._ask("GET", "list-canned-policies", {})
        if answer.is_error:
            raise KeysFailed(f"RustFS refused list-canned-policies: {answer.status_code}")
        for name, document in answer.json().items():
            if _is_of(document, bucket):
                await self._write_policy(name, bucket, writes)

    async def grant(self, binding: Binding, *, writes: bool = True) -> None:
        await self._write_policy(binding.account, binding.resource, writes)
        user = {"secretKey": binding.password, "status": "enabled"}
        await self._must("PUT", "add-user", {"accessKey": binding.account}, user)
        attached = {
            "policyName": binding.account,
            "userOrGroup": binding.account,
            "isGroup": "false",
        }
        await self._must("PUT", "set-user-or-group-policy", attached)

    async def revoke(self, account: str) -> None:
        await self._must("DELETE", "remove-user", {"accessKey": account}, missing=True)
        await self._must("DELETE", "remove-canned-policy", {"name": account}, missing=True)


class SeaweedKeys:
    """SeaweedFS answers AWS's IAM API on the S3 port. Unlike AWS it takes the key that it is told
    (seen on 4.48)."""

    POLICY = "bucket"

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    @asynccontextmanager
    async def _iam(self, binding: Binding | None = None) -> Any:
        chosen = config(TIMEOUT, signature="v4")
        async with administrator(self._service, self._access, chosen, "iam") as opened:
            if binding is not None:

                def told(params: dict[str, Any], **_: Any) -> None:
                    params["body"] |= {
                        "AccessKeyId": binding.account,
                        "SecretAccessKey": binding.password,
                    }

                opened.meta.events.register("before-call.iam.CreateAccessKey", told)
            try:
                yield opened
            except ClientError as error:
                raise KeysFailed(
                    f"SeaweedFS refused {error.operation_name}: {code(error) or 'denied'}"
                ) from None

    async def version(self) -> str:
        return ""

    async def _keys(self, iam: Any, account: str) -> list[str] | None:
        """The user's keys, None without such a user."""
        try:
            found = await iam.list_access_keys(UserName=account)
        except ClientError as error:
            if "NoSuchEntity" in str(error):
                return None
            raise
        return [key["AccessKeyId"] for key in found["AccessKeyMetadata"]]

    async def exists(self, account: str) -> bool:
        async with self._iam() as iam:
            try:
                await iam.get_user(UserName=account)
            except ClientError as error:
                if "NoSuchEntity" in str(error):
                    return False
                raise
            return True

    async def _write_policy(self, iam: Any, account: str, bucket: str, writes: bool) -> None:
        allowed = [name for name in SEAWEED_ALLOWED if writes or name not in SEAWEED_WRITES]
        document = json.dumps(policy(bucket, allowed, ()))
        await iam.put_user_policy(UserName=account, PolicyName=self.POLICY, PolicyDocument=document)

    async def allow(self, bucket: str, *, writes: bool) -> None:
        async with self._iam() as iam:
            for user in (await iam.list_users()).get("Users", []):
                try:
                    held = await iam.get_user_policy(
                        UserName=user["UserName"], PolicyName=self.POLICY
                    )
                except ClientError as error:
                    if "NoSuchEntity" in str(error):  # the administrator, or one of theirs
                        continue
                    raise
                document = held["PolicyDocument"]
                document = json.loads(document) if isinstance(document, str) else document
                if _is_of(document, bucket):
                    await self._write_policy(iam, user["UserName"], bucket, writes)

    async def grant(self, binding: Binding, *, writes: bool = True) -> None:
        if not await self.exists(binding.account):
            async with self._iam() as iam:
                await iam.create_user(UserName=binding.account)
        async with self._iam(binding) as iam:
            await self._write_policy(iam, binding.account, binding.resource, writes)
            if binding.account in (await self._keys(iam, binding.account) or []):
                await iam.delete_access_key(UserName=binding.account, AccessKeyId=binding.account)
            await iam.create_access_key(UserName=binding.account)

    async def revoke(self, account: str) -> None:
        """Also the keys that the project made for itself."""
        if not await self.exists(account):
            return
        async with self._iam() as iam:
            for key in await self._keys(iam, account) or []:
                await iam.delete_access_key(UserName=account, AccessKeyId=key)
            await iam.delete_user_policy(UserName=account, PolicyName=self.POLICY)
            await iam.delete_user(UserName=account)
