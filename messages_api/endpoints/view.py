"""The endpoints, as DRF views that are coroutines from the socket to the provider. DRF's own steps (authentication,
parsing, negotiation, exceptions) only use memory. Nothing here waits for a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, update_wrapper
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from messages_api.callers import guesses
from messages_api.callers.authentication import CredentialAuthentication, Presented
from messages_api.relay import call_log, runtime
from messages_api.relay.caller import Caller
from messages_api.server import errors
from messages_api.server.handler import ApiRequest
from usage.figures import HERE

# Statuses of errors that describe a mistake in the request.
ABOUT_THE_REQUEST = (400, 404, 413)


class OneAnswer(BaseContentNegotiation):
    """Ignores `Accept`: the SDKs send `application/json` for streams too, and `application/binary`."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type or ""


ONE_ANSWER = OneAnswer()


class ApiView(APIView):
    """An APIView whose `dispatch` is a coroutine. All its errors have Anthropic's shape."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (CredentialAuthentication,)
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = OneAnswer
    endpoint = ""
    # The request without DRF's wrapping, and its credential.
    http: ApiRequest
    presented: Presented

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "get" in vars(cls) and "head" in cls.http_method_names:
            cls.head = cls.get  # type: ignore[attr-defined]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:  # type: ignore[override]
        """The view function, without the steps that Django and DRF add for other kinds of views."""
        made = super().as_view(**initkwargs)

        async def view(request: ApiRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return await cls(**initkwargs).dispatch(request, *args, **kwargs)

        return update_wrapper(view, made)

    def initialize_request(self, request: ApiRequest, *args: Any, **kwargs: Any) -> Request:  # type: ignore[override]
        """DRF's request. It gets no parsers, because no view lets DRF read a body."""
        each = authenticators(type(self))  # type: ignore[arg-type]
        made = Request(request, authenticators=each, negotiator=ONE_ANSWER)
        made.parser_context = {}  # for parsers, and it refers to the request, which only the garbage collector undoes
        return made

    async def dispatch(self, request: ApiRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        self.args, self.kwargs, self.headers, self.http = args, kwargs, {}, request
        self.request = drf_request = self.initialize_request(request, *args, **kwargs)
        try:
            handler = getattr(self, (request.method or "").lower(), None)
            if handler is None or request.method == "OPTIONS":
                raise errors.wrong_method(self.allowed_methods)
            self.initial(drf_request, *args, **kwargs)
            self.presented = drf_request.auth  # type: ignore[assignment]
            request.credential_hint = self.presented.hint
            response: HttpResponseBase = await handler(drf_request, *args, **kwargs)
            return response
        except Exception as error:
            return self.handle_exception(await self.what_comes_first(error))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Only authenticate: there is one version and one form of answers, and the arbiter decides who may call."""
        self.perform_authentication(request)

    def perform_authentication(self, request: Any) -> None:
        """Give DRF's request its credential, instead of letting it ask each class for one on first use.

        Raises:
            GatewayError: 401, as `present`.
        """
        for authenticator in request.authenticators or ():
            request.user, request.auth = authenticator.authenticate(request)

    async def caller(self, *, free: bool = True, own_limits: bool = True) -> Caller:
        """Identify the caller without asking the arbiter whether it may call.

        Args:
            free: the call costs nothing.
            own_limits: the key's own limits apply to such calls, in addition to the deployment's.

        Raises:
            GatewayError: 401, the credential is unknown; 429, the caller makes too many free calls, or too many with a
                provider's own key; 503, the credential isn't cached and the database is unavailable.
        """
        caller = await Caller.of(runtime.current(), self.http, self.presented)
        if free or caller.key.passthrough:
            caller.enter(own_limits=own_limits)
        return caller

    async def what_comes_first(self, error: Exception) -> Exception:
        """The error to answer with: only callers that may call get an error about their request."""
        ours = errors.ours(error)
        if ours is None or ours.status_code not in ABOUT_THE_REQUEST:
            return error
        try:
            await (await self.caller()).permit(self.endpoint)
        except errors.GatewayError as sooner:
            return sooner if sooner.status_code == 401 or sooner.reason == guesses.REASON else error
        return error

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], HttpResponse | None]:
        return self.render_error

    def render_error(self, error: Exception, context: dict[str, Any]) -> HttpResponse | None:
        """The answer to an error that the caller may see."""
        ours = errors.ours(error)
        if ours is None:
            return None
        return refuse(self.http, ours, self.endpoint)


@cache
def authenticators(kind: type[ApiView]) -> list[BaseAuthentication]:
    """The authenticators of a view. They have no state, so requests share them."""
    return [each() for each in kind.authentication_classes]


def refuse(http: ApiRequest, error: errors.GatewayError, endpoint: str) -> HttpResponse:
    """The answer to a refused call, which is added to the log of refusals."""
    here = runtime.current()
    if not http.called:
        HERE.refusals[error.reason, str(error.status_code)] += 1
        if here.logs_calls:
            call_log.refused(http, error, endpoint)
    here.refusals.note(
        http.id,
        http_status=error.status_code,
        error_type=error.kind,
        reason=error.reason,
        message=error.message,
        endpoint=endpoint,
        credential_hint=http.credential_hint,
        virtual_key=http.virtual_key,
        requested_model=http.requested_model,
        facts=error.facts,
    )
    return errors.response(error, http.id)


OFFERED = (
    "This gateway offers POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/quota, GET /v1/usage, and what is"
    " below /v1/messages/batches, /v1/files and /v1/models."
)


class NotFoundView(ApiView):
    """Everything else."""

    authentication_classes = ()
    endpoint = "unknown"

    async def dispatch(self, request: ApiRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        message = f"{request.path[:200]}: There is no such endpoint. {OFFERED}"
        return refuse(request, errors.not_found(message, reason="no_endpoint"), self.endpoint)
