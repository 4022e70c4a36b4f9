"""The token itself: a program finds out what it may do."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, ChoiceField, ListField

from administration.models import ApiToken
from administration.rest import scopes
from administration.rest.members import Members, Moment, Whole
from administration.rest.resource import Resource


class TokenMembers(Members):
    """The token of a request, and its person."""

    id = Whole()
    name = CharField()
    ends = CharField()
    person = CharField(source="user.get_username")
    scopes = ListField(child=ChoiceField(choices=scopes.SCOPES))
    expires_at = Moment()


class Me(Resource):
    """The token that makes the request."""

    noun = "token"
    queryset = ApiToken.objects.all()
    serializer_class = TokenMembers

    def show(self, request: Request) -> Response:
        """Read the token of this request."""
        return Response(TokenMembers(request.auth).data)
