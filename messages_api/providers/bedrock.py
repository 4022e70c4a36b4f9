"""Claude on Amazon Bedrock: InvokeModel and its event stream, whose events are Anthropic's own.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import httpx
import msgspec

from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.model_names import fold
from keys.provider_kinds import check_object, object_of
from keys.timeouts import Timeouts
from messages_api.json_text import byte_edits
from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode
from messages_api.process import long_bodies
from messages_api.providers import attribution, cloud_errors, paths, unsupported
from messages_api.providers.access_tokens import Token, TokenCache, TokenRefused, check_machine, http_client
from messages_api.providers.anthropic import BILLED_REFUSALS
from messages_api.providers.base import (
    COUNT_TOKENS,
    JSON,
    Outgoing,
    Provider,
    Whole,
    add_request_id,
    counting_probe,
    speaks,
)
from messages_api.providers.bedrock_events import HIDDEN, BedrockEvents
from messages_api.server import headers
from messages_api.upstream.client import Answer, Headers, UpstreamClient, UpstreamError, plain

VERSION = b'"anthropic_version":"bedrock-2023-05-31"'
REQUEST_IDS = (b"x-amzn-requestid",)
# Members that InvokeModel has in another form in its body, or in its address.
MOVED = frozenset(("model", "stream", "anthropic_version", *unsupported.IN_BODY))
# The part of a name that is an inference profile: CountTokens knows models only.
PROFILE = re.compile(r"^(?:.*/)?(?:[a-z-]+\.)?(?=anthropic\.)")
# Bedrock's messages if it can't count tokens for a model (BerriAI/litellm#34272, claude-code#86628, November 2026).
UNCOUNTED = re.compile(
    r"support(?:ed)? (?:for )?(?:counting tokens|count.?tokens|token counting)|counttokens|model identifier is invalid"
    r"|on-demand throughput|inference profile|^model: ",
    re.IGNORECASE,
)
# An ARN, and the region of an inference profile. The price list has one entry for all regions but `global.`.
IN_A_REGION = re.compile(r"^(?:.*/)?(?:(?!global\.)[a-z-]+\.)?(?=(?:global\.)?anthropic\.)")
VENDOR = re.compile(r"^(?:.*/)?(?:[a-z-]+\.)?anthropic\.")
# The model whose tokens a check counts, and the right that this needs. A key may lack it and still call models.
# https://docs.aws.amazon.com/bedrock/latest/userguide/count-tokens.html
SOME_MODEL = "anthropic.claude-haiku-4-5-20251001-v1:0"
COUNTING_RIGHT = "bedrock:counttokens"
# The members of a secret that describe a role, and their form.
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
ROLE = {
    "role_arn": re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}"),
    "external_id": re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}"),
    "session_name": re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}"),
}
SESSION_NAME = "claude-gateway"
# Credentials without an expiry are read again after this time (seconds), because files change.
LASTING = 3600.0


@speaks
class Bedrock(Provider):
    """Changes the framing of requests and streams; their contents pass unchanged."""

    name = "bedrock"
    label = "Amazon Bedrock"
    own_hosts = re.compile(r"bedrock-runtime\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
    takes_region = True
    # The gateway can't know which inference profiles a region has.
    sells_claude = False
    price_lists = ("aws",)
    guesses = ("anthropic",)
    regional_lists = ("aws",)
    # Anthropic's page names Bedrock; Amazon's page says, without exceptions, that refusals before inference begins are
    # not billed (read in November 2026).
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-anthropic-claude-fable-5.html
    billed_refusals = dict.fromkeys(BILLED_REFUSALS, "refusal_billed")
    keeps_caches_as_asked = True

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.temporary = TokenCache(fetch)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        if secret.startswith("{"):
            check_identity(secret)
        else:
            super().check_secret(secret)

    @classmethod
    def sold_as(cls, region: str, asked: str, answered: str) -> str:
        """The name with the inference profile of the request, which answers leave out."""
        name = super().sold_as(region, asked, answered)
        if not name.startswith("claude"):
            return name
        profile, vendor, _ = asked.rpartition("anthropic.")
        return f"{profile}{vendor}{name}"

    @classmethod
    def listed(cls, sold: str) -> tuple[str, str, bool]:
        name = IN_A_REGION.sub("", fold(sold))
        return name, VENDOR.sub("", name), not name.startswith("global.")

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Count tokens, which is free. The list of models has another address than calls."""
        return await self.send(counting_probe(key, SOME_MODEL, timeouts))

    def refuses_probe_only(self, message: str) -> bool:
        return COUNTING_RIGHT in message.lower()

    async def send(self, call: Outgoing) -> Answer:
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        model, counts = call.model, call.path == COUNT_TOKENS
        body, streams = await long_bodies.run(made_over, body, headers.beta_list(call.headers), counts=counts)
        action = "invoke-with-response-stream" if streams else "invoke"
        if counts:
            model, action = PROFILE.sub("", model), "count-tokens"
        url = f"{address(call.provider_key)}/model/{paths.model(model)}/{action}"
        # The import takes a tenth of a second, and only this provider needs it.
        if "botocore.eventstream" not in sys.modules or "botocore.auth" not in sys.modules:
            await asyncio.to_thread(load_botocore)
        try:
            signing = await self.credentials(call.provider_key)
        except TokenRefused:
            return cloud_errors.no_token()
        sent = [(name, value) for name, value in headers.to_cloud(call.headers) if not name.startswith(b"anthropic-")]
        sent += [JSON, *authorization(call.provider_key, signing, url, body)]
        answer = add_request_id(
            plain(await self.client.send("POST", url, sent, body, call.on_write, call.timeouts)), REQUEST_IDS
        )
        if answer.status >= 400:
            reshaped = await cloud_errors.reshape(answer, call)
            return uncounted(reshaped) if action == "count-tokens" else reshaped
        if action == "count-tokens":
            return await read_count(answer, call)
        if headers.value_of(answer.headers, b"content-type").startswith("application/vnd.amazon.eventstream"):
            return BedrockEvents(answer)
        return answer

    async def credentials(self, key: KnownProviderKey) -> Any:
        """The credentials that sign calls; None: the secret is an API key.

        Raises:
            TokenRefused: AWS gives no credentials for the secret.
            UpstreamError: there was no answer.
        """
        if not key.secret.startswith("{"):
            return None
        return static(key.secret) or await self.temporary.get(CredentialKey(key.secret, key.region))


def check_identity(secret: str) -> None:
    """Refuse a JSON secret that is neither an access key nor the machine's identity, with or without a role.

    Raises:
        Unusable: it is neither.
    """
    members = object_of(secret)
    if members.keys() <= ROLE.keys() and "role_arn" in members:
        raise Unusable('the secret has a role_arn without an access key or {"identity": "machine"} to assume it with')
    if "identity" in members:
        check_machine(secret, ROLE)
    else:
        check_object(secret, ("access_key_id", "secret_access_key"), ("session_token", *ROLE))
    if wrong := [name for name, pattern in ROLE.items() if name in members and not pattern.fullmatch(members[name])]:
        raise Unusable(f"the secret's {wrong[0]} has a form that AWS doesn't accept")
    if not members.keys().isdisjoint(ROLE) and "role_arn" not in members:
        raise Unusable("the secret has an external_id or a session_name without a role_arn")


def address(key: KnownProviderKey) -> str:
    """The address of the region's models."""
    domain = "amazonaws.com.cn" if key.region.startswith("cn-") else "amazonaws.com"
    return key.base_url or f"https://bedrock-runtime.{key.region}.{domain}"


def made_over(body: bytes, betas: list[str], *, counts: bool) -> tuple[bytes, bool]:
    """A Messages request in Bedrock's form, and whether it asks for a stream.

    Args:
        betas: those of the header.
        counts: the request is to count tokens.
    """
    members = byte_edits.members_of.decode(body)
    betas = unsupported.betas(Bedrock.name, unsupported.named_betas(betas, members))
    taken = attribution.without(unsupported.without(Bedrock.name, body, betas))
    if taken is not body:
        body, members = taken, byte_edits.members_of.decode(taken)
    if counts:
        return counting(body, members, betas), False
    return invoking(body, members, betas), bytes(members.get("stream", b"")) == b"true"


def invoking(body: bytes, members: dict[str, msgspec.Raw], betas: list[str], *more: bytes) -> bytes:
    """The body of an InvokeModel. It names the betas, which Anthropic's API has in a header."""
    first = [VERSION, *more]
    if betas:
        first.append(b'"anthropic_beta":' + msgspec.json.encode(betas))
    return byte_edits.edited(body, members, without=MOVED, first=b",".join(first))


def counting(body: bytes, members: dict[str, msgspec.Raw], betas: list[str]) -> bytes:
    """The body of a CountTokens. It contains that of an InvokeModel, which must be valid: with `max_tokens`."""
    more = [] if "max_tokens" in members else [b'"max_tokens":1']
    return b'{"input":{"invokeModel":{"body":"%b"}}}' % b64encode(invoking(body, members, betas, *more))


def uncounted(refusal: Whole) -> Whole:
    """A refusal by CountTokens. It is a 404 if CountTokens doesn't support the model: to clients, that is a missing
    endpoint, and they count tokens themselves.

    https://docs.aws.amazon.com/bedrock/latest/userguide/count-tokens.html (November 2026): models that exist only as an
    inference profile are not supported.
    """
    message = cloud_errors.words(refusal.body)
    if refusal.status not in (400, 404) or not UNCOUNTED.search(message):
        return refusal
    message = f"count_tokens: not available with this model at Amazon Bedrock. {message}"
    return Whole(404, refusal.headers, cloud_errors.in_shape("not_found_error", message))


async def read_count(answer: Answer, call: Outgoing) -> Whole:
    """The answer of a CountTokens in Anthropic's format.

    Raises:
        UpstreamError: the answer has no count.
    """
    found = mapping(decode(await cloud_errors.read(answer, call.timeouts.between_bytes)))
    if type(found.get("inputTokens")) is not int:
        raise UpstreamError("bad_answer", sent=True)
    kept = [header for header in answer.headers if header[0] not in HIDDEN]
    return Whole(200, [*kept, JSON], b'{"input_tokens":%d}' % found["inputTokens"])


def authorization(key: KnownProviderKey, signing: Any, url: str, body: bytes) -> Headers:
    """The headers that carry the provider key's secret: an API key, or else the request's signature."""
    if signing is None:
        return [(b"authorization", b"Bearer " + key.secret.encode())]
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    # The signature covers this header besides host, date and body.
    request = AWSRequest("POST", url, {"content-type": "application/json"}, body)
    SigV4Auth(signing, "bedrock", key.region).add_auth(request)
    return [
        (name.lower().encode(), value.encode())
        for name, value in request.headers.items()
        if name.lower() != "content-type"
    ]


@lru_cache(maxsize=64)
def static(secret: str) -> Any:
    """The access key in a secret, in botocore's form; None: calls are signed with credentials that AWS gives out."""
    members = json.loads(secret)
    return None if members.keys() & {"identity", "role_arn"} else access_key(members)


def access_key(members: dict[str, str]) -> Any:
    """The access key in a secret, in botocore's form."""
    from botocore.credentials import ReadOnlyCredentials

    return ReadOnlyCredentials(
        members["access_key_id"], members["secret_access_key"], members.get("session_token"), None
    )


class CredentialKey(NamedTuple):
    """The key of temporary credentials: a secret and a region, because a role is assumed in the region of the call."""

    secret: str
    region: str


async def fetch(asked: CredentialKey) -> Token[Any]:
    """Get credentials that expire, of a role or of the machine.

    Raises:
        TokenRefused, UpstreamError: as `tokens.Fetch`.
    """
    # botocore blocks its thread.
    return await asyncio.to_thread(fetched, asked)


def fetched(asked: CredentialKey) -> Token[Any]:
    """As `fetch`, but blocking."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
    )
    from botocore.parsers import ResponseParserError

    members = json.loads(asked.secret)
    try:
        with http_client() as http:
            session = session_over(http, asked.region)
            first = machine(session) if "identity" in members else Token(access_key(members), time.time() + LASTING)
            return assumed(session, first.value, members, asked.region) if "role_arn" in members else first
    except ClientError as error:
        if is_passing(error.response):
            raise UpstreamError("no_token", sent=False) from None
        raise TokenRefused from None
    except (HTTPClientError, CredentialRetrievalError, MetadataRetrievalError, ResponseParserError):
        raise UpstreamError("no_token", sent=False) from None
    except BotoCoreError:  # an incomplete access key, an unknown profile
        raise TokenRefused from None
    except (OSError, KeyError, ValueError, RuntimeError):  # unreadable files or answers
        raise UpstreamError("no_token", sent=False) from None


def is_passing(response: dict[str, Any]) -> bool:
    """Whether an error of AWS's is temporary, and not a refusal."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 429 or status >= 500 or "Throttl" in response.get("Error", {}).get("Code", "")


def machine(session: Any) -> Token[Any]:
    """The machine's credentials: from its environment, its shared configuration, a web identity, or the role of its
    container or instance.

    https://docs.aws.amazon.com/boto3/latest/guide/credentials.html

    Raises:
        UpstreamError: the machine has none, or can't reach their source; botocore doesn't distinguish these.
        BotoCoreError, ClientError: the credentials are unusable.
    """
    found = session.get_credentials()
    if found is None:
        raise UpstreamError("no_token", sent=False)
    frozen = found.get_frozen_credentials()
    # botocore has no public attribute for the expiry; credentials without an expiry lack this one.
    ends = getattr(found, "_expiry_time", None)
    return Token(frozen, ends.timestamp() if ends else time.time() + LASTING)


def assumed(session: Any, first: Any, members: dict[str, str], region: str) -> Token[Any]:
    """The credentials of a role that is assumed with other credentials.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html

    Raises:
        BotoCoreError, ClientError: AWS gives none.
    """
    from botocore.credentials import ReadOnlyCredentials

    sts = session.create_client(
        "sts",
        region_name=region,
        aws_access_key_id=first.access_key,
        aws_secret_access_key=first.secret_key,
        aws_session_token=first.token,
    )
    terms = {"RoleArn": members["role_arn"], "RoleSessionName": members.get("session_name", SESSION_NAME)}
    if "external_id" in members:
        terms["ExternalId"] = members["external_id"]
    given = sts.assume_role(**terms)["Credentials"]
    role = ReadOnlyCredentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], None)
    return Token(role, given["Expiration"].timestamp())


def session_over(http: httpx.Client, region: str) -> Any:
    """A botocore session that sends its requests through an httpx client. botocore's own HTTP client can trust either
    the public authorities or the deployment's, but not both."""
    from botocore.awsrequest import AWSResponse
    from botocore.config import Config
    from botocore.exceptions import HTTPClientError
    from botocore.session import Session

    def send(request: Any, **_: object) -> Any:
        given = {name: value if isinstance(value, bytes) else value.encode() for name, value in request.headers.items()}
        try:
            answer = http.request(request.method, request.url, content=request.body, headers=given)
        except httpx.HTTPError as error:
            raise HTTPClientError(error=type(error).__name__) from None
        return AWSResponse(request.url, answer.status_code, answer.headers, Content(answer.content))

    session = Session()
    # botocore uses the handler's result as the answer. https://docs.aws.amazon.com/botocore/latest/topics/events.html
    session.register("before-send", send)
    session.set_default_client_config(Config(retries={"total_max_attempts": 2}))
    if session.get_config_variable("region") is None:
        session.set_config_variable("region", region)
    return session


class Content:
    """A complete body with the interface that botocore reads."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.content


def load_botocore() -> None:
    """Import the parts of botocore that a call needs."""
    for name in ("auth", "awsrequest", "credentials", "eventstream"):
        importlib.import_module(f"botocore.{name}")
    # botocore logs failures together with the whole answer of STS. The gateway logs them itself, without it.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
