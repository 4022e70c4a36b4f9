"""What the resources of the REST API have in common: who may do it, what is read and answered, and its documentation.

A resource is a class that says which rows it shows (`queryset`, `serializer_class`) and what creation, change and
removal do (`add`, `change`, `remove`). Further actions are methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404
from rest_framework.exceptions import PermissionDenied as Denied
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from administration import refused
from administration.rest import etags, idempotency, paging
from administration.rest.authentication import ScopeAllows, TokenAuthentication
from administration.rest.errors import answer as error_answer
from administration.rest.filters import Filter, Parameter
from administration.rest.members import Members
from administration.rest.parsing import AlwaysJson, Json
from administration.rest.schema import Schema
from keys import ceilings
from keys.audit.actor import Actor, acting
from keys.uncached import kept_nowhere
from keys.visibility import visible

M = TypeVar("M", bound=Model)
Work = Callable[..., Response]


def written(method: Work) -> Work:
    """Carry out a method of a resource in one transaction, and once for each `Idempotency-Key`."""

    @wraps(method)
    def once(self: Resource, request: Request, **kwargs: Any) -> Response:
        has_secret = self.creation_has_secret if self.action == "create" else self.has_secret
        return idempotency.answer_once(request, lambda: method(self, request, **kwargs), has_secret=has_secret)

    return once


class Resource(GenericViewSet[Any]):
    """A kind of rows that programs read and change.

    Attributes:
        scope: the resource in scopes of tokens; empty: every token may.
        noun: what a row is called in the documentation.
        filters: the parameters of its list.
        newest_first: whether lists begin with the newest row.
        volatile: members that change by themselves, so that they are no part of the ETag.
        new, created, creation_has_secret: the body and the answer of a creation, if they differ from what is shown, and
            whether the answer has a secret.
        takes, returns, success, has_secret, parameters: for actions: the body, the answer, its status, whether it has a
            secret, and the parameters.
    """

    authentication_classes = (TokenAuthentication,)
    permission_classes = (ScopeAllows,)
    parser_classes = (Json,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJson
    schema = Schema()
    http_method_names = ["get", "post", "patch", "delete", "head"]  # noqa: RUF012 (Django declares it so)
    lookup_value_converter = "int"

    scope = ""
    noun = ""
    filters: ClassVar[Mapping[str, Filter]] = {}
    newest_first = False
    volatile: ClassVar[tuple[str, ...]] = ()
    new: type[Members] | None = None
    created: type[Members] | None = None
    creation_has_secret = False
    takes: type[Members] | None = None
    returns: type[Members] | None = None
    success = 200
    has_secret = False
    parameters: ClassVar[Mapping[str, Parameter]] = {}

    # A request

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer a request. What it changes stands under the token and its person in the audit log."""
        with acting(self._actor):
            answer = super().dispatch(request, *args, **kwargs)
        return kept_nowhere(answer)

    def _actor(self) -> Actor:
        address = self.request.META.get("REMOTE_ADDR", "")
        token = getattr(self.request, "_auth", None)
        if token is None:
            return Actor("visitor", address=address)
        return Actor("token", token.ends, token.user_id, address)

    def get_exception_handler(self) -> Any:
        """Errors in the API's own shape."""
        return error_answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the token, its scope, and the parameters."""
        super().initial(request, *args, **kwargs)
        _ = request._request.body  # before DRF reads it as a stream: `idempotency` needs it, too
        known = {*self.filters, "cursor", "limit"} if self.action == "list" else {*self.parameters}
        if unknown := sorted(set(request.query_params) - known):
            raise ValidationError(dict.fromkeys(unknown, "There is no such parameter."))

    def permission_denied(self, request: Request, message: str | None = None, code: str | None = None) -> Any:
        """Raise the error for a token that may not do this."""
        raise Denied(message)

    # What the person may do

    def require(self, action: str, row: Model, permission: str = "") -> None:
        """Check that the token's person may do this to a row, which may be one that isn't saved yet.

        Args:
            action: `add`, `change`, `delete` or another action of a permission on the row's model.
            permission: the permission's name, if it isn't `app.action_model`.

        Raises:
            PermissionDenied: the person may not.
        """
        meta = row._meta
        name = permission or f"{meta.app_label}.{action}_{meta.model_name}"
        if not self.request.user.has_perm(name, row):
            raise PermissionDenied(refused.sentence(name))

    def require_any(self, action: str) -> None:
        """Check that the token's person may do this to any row of the resource at all.

        Raises:
            PermissionDenied: the person may not.
        """
        meta = self.get_queryset().model._meta
        name = f"{meta.app_label}.{action}_{meta.model_name}"
        if not self.request.user.has_perm(name):
            raise PermissionDenied(refused.sentence(name))

    def rows(self, action: str = "view") -> QuerySet[Any]:
        """The rows that the token's person sees."""
        return visible(self.request.user, self.get_queryset(), action)

    def row(self, locked: bool = False) -> Any:
        """The row of the URL.

        Raises:
            Http404: there is no such row, or the person doesn't see it.
        """
        rows = self.rows().filter(pk=self.kwargs["pk"])
        if locked:
            # Of joined tables, no row is locked; and an update of a row that a sign of life refers to needn't wait.
            rows.model._default_manager.select_for_update(no_key=True, of=("self",)).filter(
                pk=self.kwargs["pk"]
            ).first()
        found = rows.first()
        if found is None:
            raise Http404
        return found

    def chosen(self, model: type[M], pk: int | None, member: str) -> M | None:
        """The row that a request refers to by id; None without an id.

        Raises:
            ValidationError: there is no such row, or the person may not choose it.
        """
        if pk is None:
            return None
        found = visible(self.request.user, model._default_manager.filter(pk=pk), "choose").first()
        if found is None:
            raise ValidationError({member: f"There is no {model._meta.verbose_name} {pk}."})
        return found

    # What is read and answered

    def taken(self, takes: type[Members] | None = None) -> dict[str, Any]:
        """The checked values of the body.

        Raises:
            ValidationError: a member is unknown, missing or invalid.
        """
        members = takes or self.body()
        body = members(data=self.request.data, partial=self.action == "partial_update")
        body.is_valid(raise_exception=True)
        values: dict[str, Any] = body.validated_data
        return values

    def given(self) -> dict[str, Any]:
        """The checked values of the parameters that the action takes and the request has.

        Raises:
            ValidationError: one is missing or invalid.
        """
        query = self.request.query_params
        if missing := [name for name, each in self.parameters.items() if each.required and name not in query]:
            raise ValidationError(dict.fromkeys(missing, "This parameter is required."))
        return {name: each.value(name, query[name]) for name, each in self.parameters.items() if name in query}

    def body(self) -> type[Members]:
        """What the body of this action has."""
        new = self.new if self.action == "create" else None
        found: Any = self.takes or new or self.get_serializer_class()
        return found  # type: ignore[no-any-return]

    def represented(self, rows: list[Any]) -> list[dict[str, Any]]:
        """Rows as answers show them."""
        return [dict(each) for each in self.get_serializer_class()(rows, many=True).data]

    def shown(self, row: Any, status: int = 200, **more: Any) -> Response:
        """An answer that shows a row, with its ETag."""
        [data] = self.represented([row])
        headers = {"ETag": etags.of(data, self.volatile)}
        if status == 201:
            headers["Location"] = f"{self.request.path.rstrip('/')}/{data['id']}"
        return Response(data | more, status, headers=headers)

    def again(self, pk: Any) -> Any:
        """A row as it is now, with everything that answers show."""
        return self.get_queryset().get(pk=pk)

    def checked(self) -> Any:
        """The locked row of the URL, if it is still the version that the client knows.

        Raises:
            RestError: 428 or 412, see `etags.check`.
        """
        row = self.row(locked=True)
        [shown] = self.represented([row])
        etags.check(self.request.headers.get("If-Match"), etags.of(shown, self.volatile))
        return row


class Listed(Resource):
    """A resource that can be listed and read."""

    def list(self, request: Request) -> Response:
        """A page of rows. A person who may see no row of this kind is refused, instead of shown an empty list."""
        self.require_any("view")
        rows = self.rows()
        for name, filter_ in self.filters.items():
            if name in request.query_params:
                rows = filter_.apply(rows, name, request.query_params[name])
        found, cursor = paging.page(rows, request.query_params, newest_first=self.newest_first)
        return Response({"data": self.represented(found), "next_cursor": cursor})

    def retrieve(self, request: Request, pk: Any) -> Response:
        """One row."""
        return self.shown(self.row())


class Added(Resource):
    """A resource whose rows can be created."""

    @written
    def create(self, request: Request) -> Response:
        """Create a row."""
        row = self.add(self.taken())
        ceilings.hold(self.request.user, row)
        return self.shown(self.again(row.pk), 201)

    def add(self, values: dict[str, Any]) -> Model:
        """Save a new row with these values."""
        raise NotImplementedError


class Changed(Resource):
    """A resource whose rows can be changed."""

    @written
    def partial_update(self, request: Request, pk: Any) -> Response:
        """Change the members that are given."""
        row = self.checked()
        self.require("change", row)
        self.change(row, self.taken())
        found = self.again(row.pk)
        ceilings.hold(self.request.user, found)
        return self.shown(found)

    def change(self, row: Any, values: dict[str, Any]) -> None:
        """Save these values of a row."""
        raise NotImplementedError


class Removed(Resource):
    """A resource whose rows can be removed."""

    @written
    def destroy(self, request: Request, pk: Any) -> Response:
        """Remove a row."""
        row = self.checked() if "If-Match" in request.headers else self.row(locked=True)
        self.remove(row)
        ceilings.hold(self.request.user, row)
        return Response(status=204)

    def remove(self, row: Any) -> None:
        """Take a row away."""
        raise NotImplementedError


def assign(row: Model, values: Mapping[str, Any]) -> None:
    """Set values of a row without saving it."""
    for name, value in values.items():
        setattr(row, name, value)
