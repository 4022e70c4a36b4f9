"""May a virtual key make a call? The answer of the key's page and of `manage.py why`, for programs."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BooleanField, CharField

from administration.rest.errors import RestError
from administration.rest.filters import Parameter, a_text, a_whole_number
from administration.rest.members import Amount, Members, Moment, Whole
from administration.rest.resource import Resource
from messages_api.relay.why import MOST_TOKENS, Size, WhyAnswer, why
from messages_api.server.errors import GatewayError


class GateMembers(Members):
    """A condition for the call."""

    kind = CharField(help_text="`key`, `expiry`, `pause`, `model`, `max_tokens`, `limit`, `budget` or `provider_key`.")
    title = CharField()
    is_open = BooleanField()
    says = CharField(help_text="Its state in a sentence.")
    change = CharField(help_text="What would open it; empty for an open one.")
    until = Moment(allow_null=True, help_text="When it changes by itself; null: it doesn't.")


class WhyMembers(Members):
    """Whether a virtual key may make a call now."""

    may_call = BooleanField()
    verdict = CharField(
        help_text="`admitted`; `depends`: only at some of its provider keys; or the reason why it would be refused."
    )
    ceiling = Amount(help_text="The most USD that the call would hold.")
    max_tokens = Whole(help_text="The `max_tokens` that it would be made with.")
    gates = GateMembers(many=True, help_text="In the order in which the call has to pass them.")


class Explained(Resource):
    """A resource of callers."""

    WHY: ClassVar = {
        "model": Parameter(*a_text("The model, as the call would name it."), required=True),
        "input_tokens": Parameter(*a_whole_number(MOST_TOKENS, "The prompt's size; a page or two without it.")),
        "max_tokens": Parameter(*a_whole_number(MOST_TOKENS, "The call's `max_tokens`; the key's default without it.")),
    }

    @action(detail=True, methods=["get"], returns=WhyMembers, parameters=WHY)
    def why(self, request: Request, pk: Any) -> Response:
        """Say whether it may make a call now, and why not. Nothing is held or changed."""
        row, given = self.row(), self.given()
        size = Size(given.get("input_tokens") or Size().input_tokens, given.get("max_tokens"))
        try:
            answer = why(row, given["model"], size)
        except GatewayError as error:
            raise RestError(error.status_code, error.message) from None
        return Response(shown(answer))


def shown(answer: WhyAnswer) -> dict[str, Any]:
    """The answer as JSON."""
    return dict(WhyMembers(answer).data)
