"""The description of the REST API for its OpenAPI document, from what each resource declares."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from administration.rest import idempotency, paging
from administration.rest.members import Members

# What each status means. docs/rest.md lists the codes.
ERRORS = {
    400: "A member or parameter is unknown, missing or invalid; `fields` names it.",
    401: "The token is missing, unknown, expired or revoked.",
    403: "The token's scopes or its person's roles don't allow this.",
    404: "There is no such row, or the person may not see it.",
    409: "A request with this `Idempotency-Key` is still running, or its answer had a secret; or there is one already, "
    "or the key is revoked.",
    412: "The row has changed since the version in `If-Match`.",
    413: "The body is too large.",
    415: "The body isn't JSON.",
    422: "Another request had this `Idempotency-Key`.",
    428: "`If-Match` is missing.",
    429: "This network has sent too many wrong tokens.",
    503: "The gateway is busy, or its database is unavailable.",
}
VERBS = {"list": "List", "retrieve": "Read one of", "create": "Create", "partial_update": "Change", "destroy": "Remove"}


class Fault(Members):
    """What is wrong."""

    code = serializers.CharField()
    message = serializers.CharField()
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()), help_text="Messages by the path of the member."
    )


class Error(Members):
    """The answer to a request that failed."""

    error = Fault()


class Schema(AutoSchema):
    """Describes an operation of a `Resource`."""

    view: Any

    def get_operation_id(self) -> str:
        """Like `virtual_keys_rotate`."""
        return f"{self.view.basename.replace('-', '_')}_{self.view.action.replace('partial_update', 'change')}"

    def get_tags(self) -> list[str]:
        """The group on the page."""
        return [self.view.basename.replace("-", " ")]

    def get_summary(self) -> str:
        """A few words."""
        if self.view.action in VERBS:
            noun = self.view.noun
            return f"{VERBS[self.view.action]} {'the ' if self.view.action == 'retrieve' else ''}{noun}"
        return str(getattr(self.view, self.view.action).__doc__).partition("\n")[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]
        """What the resource's class says."""
        return str(type(self.view).__doc__)

    def get_auth(self) -> list[dict[str, list[str]]]:
        """A token."""
        return [{"token": []}]

    def get_override_parameters(self) -> list[Any]:
        """Filters, the page, and the headers that matter."""
        found = []
        if self.view.action == "list":
            found += [
                OpenApiParameter(name, filter_.schema, description=f"Only those: {filter_.expected}.")
                for name, filter_ in self.view.filters.items()
            ]
            limit = {"type": "integer", "minimum": 1, "maximum": paging.MOST, "default": paging.DEFAULT}
            found.append(OpenApiParameter("limit", limit, description="The most rows of a page."))
            found.append(
                OpenApiParameter("cursor", {"type": "string"}, description="The `next_cursor` of the page before.")
            )
        found += [
            OpenApiParameter(name, each.schema, required=each.required, description=each.description)
            for name, each in self.view.parameters.items()
        ]
        if self.method == "POST" and self._is_written():
            key = {"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST_KEY, "pattern": "^[!-~]+$"}
            description = "A repetition with this key within 24 hours gets the first answer."
            found.append(OpenApiParameter(idempotency.HEADER, key, OpenApiParameter.HEADER, description=description))
        if self.method in ("PATCH", "DELETE"):
            required = self.method == "PATCH"
            description = "The ETag of the version that is changed."
            found.append(
                OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, required=required, description=description)
            )
        return found

    def get_request_serializer(self) -> Any:
        """The body."""
        if self.method not in ("POST", "PATCH"):
            return None
        return self.view.body()(partial=self.method == "PATCH")

    def get_response_serializers(self) -> Any:
        """The answer, and the errors that this operation can have."""
        action = self.view.action
        success = {"create": 201, "destroy": 204}.get(action, self.view.success)
        created = self.view.created if action == "create" else None
        returns = self.view.returns or created or self.view.get_serializer_class()
        if action == "destroy":
            answers: dict[int, Any] = {204: OpenApiResponse(description="It is removed.")}
        elif action == "list":
            answers = {200: OpenApiResponse(page_of(returns), description="A page.")}
        else:
            answers = {success: OpenApiResponse(returns, description="The row.")}
        return answers | {status: OpenApiResponse(Error, description=ERRORS[status]) for status in self._statuses()}

    def _statuses(self) -> list[int]:
        found = {400, 401, 403, 413, 429, 503}
        if "{" in self.path:
            found.add(404)
        if self.method in ("POST", "PATCH", "DELETE"):
            found |= {409, 415, 422}
        if self.method in ("PATCH", "DELETE"):
            found |= {412, 428}
        return sorted(found)

    def _is_written(self) -> bool:
        return hasattr(getattr(self.view, self.view.action), "__wrapped__")

    def _is_list_view(self, serializer: Any = None) -> bool:
        # `page_of` describes lists.
        return False


def page_of(rows: type[Members]) -> type[Members]:
    """The answer of a list."""
    members = {
        "data": rows(many=True),
        "next_cursor": serializers.CharField(
            allow_null=True, help_text="For the next page, as `cursor`; null: this is the last page."
        ),
    }
    members |= {name: make() for name, make in getattr(rows, "of_page", {}).items()}
    return type(f"{rows.__name__}Page", (Members,), members)
