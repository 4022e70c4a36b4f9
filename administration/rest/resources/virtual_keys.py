"""Virtual keys: issue, change, rotate, pause and revoke them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, DictField, ListField, SerializerMethodField

from administration.rest import filters
from administration.rest.members import Flag, Members, Moment, Text, Whole, number, texts
from administration.rest.resource import Changed, Listed, written
from administration.rest.resources.budgets import BudgetTerms, LimitTerms, put_budget, put_limit
from administration.rest.resources.customers import Pausable
from administration.rest.resources.why import Explained
from keys import ceilings, issuing, key_terms
from keys.models import MOST_TOKENS, Credential, CredentialKind, Customer, ProviderKey, Team, VirtualKey
from usage import new_keys
from usage.new_keys import MOST_AT_ONCE

MOST_ROUTES = 50
MOST_TERMS = 20
VIEW_CREDENTIAL = "keys.view_credential"


class RouteMembers(Members):
    """A provider key that a virtual key maps to. The weight sets its share of the calls."""

    provider_key_id = number()
    provider_key = CharField(read_only=True, source="provider_key.name")
    weight = Whole(required=False, default=1, min_value=1, max_value=issuing.MAX_WEIGHT)


class SecretMembers(Members):
    """A secret of a virtual key, as people recognise it."""

    ends = CharField(source="__str__")
    created_at = Moment()
    expires_at = Moment(allow_null=True)


class KeyMembers(Members):
    """The terms of a caller: who pays, and which models and provider keys it may use."""

    FIXED = ("customer_id",)

    id = Whole(read_only=True)
    name = Text()
    customer_id = number()
    customer = CharField(read_only=True, source="customer.name")
    team_id = number(required=False, allow_null=True)
    team = CharField(read_only=True, source="team.name", allow_null=True, default=None)
    owner = Text(required=False, allow_blank=True, help_text="The person or service that answers for it.")
    allowed_models = texts(required=False, help_text="Names and patterns (claude-*). Empty: all that are served.")
    denied_models = texts(required=False, help_text="They win over the allowed ones.")
    fallback_models = texts(required=False, most=issuing.MAX_FALLBACKS)
    adaptive_weights = Flag(required=False)
    max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_TOKENS)
    default_max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=MOST_TOKENS)
    expires_at = Moment(required=False, allow_null=True)
    labels = DictField(child=Text(allow_blank=True), required=False)
    routes = RouteMembers(many=True, required=False, help_text="Without any, a new key uses all active provider keys.")
    state = SerializerMethodField(help_text="`active`, `paused`, `expired` or `revoked`.")
    secrets = SecretMembers(
        many=True,
        read_only=True,
        source="live_secrets",
        help_text="Those that still work. Empty for roles that may not see the ends of secrets.",
    )
    created_at = Moment(read_only=True)
    revoked_at = Moment(read_only=True, allow_null=True)
    revoke_reason = CharField(read_only=True, help_text="Empty: none was given.")

    def get_state(self, row: VirtualKey) -> str:
        """`active`, `paused`, `expired` or `revoked`."""
        return row.state

    def validate_routes(self, routes: list[Any]) -> list[Any]:
        """At most some routes.

        Raises:
            ValidationError: there are more.
        """
        if len(routes) > MOST_ROUTES:
            raise ValidationError(f"At most {MOST_ROUTES} routes are allowed.")
        return routes


class NewKey(KeyMembers):
    """A new virtual key, with its budgets and limits."""

    budgets = ListField(
        child=BudgetTerms(),
        required=False,
        write_only=True,
        max_length=MOST_TERMS,
        help_text="Without this member: what the team's rules say.",
    )
    limits = ListField(child=LimitTerms(), required=False, write_only=True, max_length=MOST_TERMS)


class IssuedKey(KeyMembers):
    """A virtual key with its new secret, which no other answer shows."""

    secret = CharField(help_text="Shown once: the gateway keeps no copy.")


class NewKeys(Members):
    """Several new virtual keys: all are issued, or none."""

    keys = ListField(child=NewKey(), min_length=1, max_length=MOST_AT_ONCE)


class IssuedKeys(Members):
    """New virtual keys with their secrets."""

    data = IssuedKey(many=True)  # type: ignore[assignment]


class Rotation(Members):
    """How long older secrets work beside the new one."""

    overlap_seconds = Whole(required=False, default=0, min_value=0, max_value=int(issuing.MAX_OVERLAP.total_seconds()))


class Revocation(Members):
    """Why, and whether open streams end, too."""

    cut_streams = Flag(required=False, default=False)
    reason = Text(
        required=False,
        default="",
        allow_blank=True,
        help_text="Kept with the key. Of a key that was revoked for another reason, it is a 409.",
    )


class VirtualKeys(Explained, Pausable, Listed, Changed):
    """Credentials of callers: who pays, and which models and provider keys they may use."""

    scope = "virtual_keys"
    noun = "virtual keys"
    queryset = VirtualKey.objects.filter(passthrough=False)
    serializer_class = KeyMembers
    filters: ClassVar = {
        "customer_id": filters.by_id("customer"),
        "team_id": filters.by_id("team"),
        "provider_key_id": filters.by_id("routes__provider_key"),
        "name": filters.by_text("name"),
        "owner": filters.by_text("owner"),
        "revoked": filters.by_flag(lambda rows, revoked: rows.filter(revoked_at__isnull=not revoked)),
    }
    volatile = ("state", "secrets")
    new = NewKey
    created = IssuedKey
    creation_has_secret = True

    def get_queryset(self) -> QuerySet[VirtualKey]:
        """The keys, with all that answers show."""
        live = Credential.objects.filter(
            Q(expires_at=None) | Q(expires_at__gt=timezone.now()), kind=CredentialKind.VIRTUAL_KEY, revoked_at=None
        ).order_by("-pk")
        return (
            super()
            .get_queryset()
            .select_related("customer", "team")
            .prefetch_related("routes__provider_key", Prefetch("credentials", live, to_attr="live_secrets"))
        )

    def represented(self, rows: list[VirtualKey]) -> list[dict[str, Any]]:
        """The keys, with the ends of their secrets for those who may see them."""
        shown = super().represented(rows)
        for row, data in zip(rows, shown, strict=True):
            if not self.request.user.has_perm(VIEW_CREDENTIAL, row):
                data["secrets"] = []
        return shown

    def routes(self, given: list[dict[str, Any]]) -> list[tuple[ProviderKey, int]]:
        """The provider keys that a request names, with their weights."""
        found = []
        for number_, route in enumerate(given):
            key = self.chosen(ProviderKey, route["provider_key_id"], f"routes[{number_}].provider_key_id")
            assert key is not None
            found.append((key, route["weight"]))
        return found

    def issue(self, values: dict[str, Any]) -> tuple[VirtualKey, str]:
        """Issue a key with its budgets and limits. Returns it and its plain text."""
        budgets, limits = values.pop("budgets", None), values.pop("limits", [])
        customer = self.chosen(Customer, values.pop("customer_id"), "customer_id")
        team = self.chosen(Team, values.pop("team_id", None), "team_id")
        given = values.pop("routes", None)
        routes = self.routes(given) if given is not None else issuing.all_routes()
        row = VirtualKey(customer=customer, team=team, **values)
        self.require("issue", row)
        issued = new_keys.issue(
            row,
            routes,
            budgets=None if budgets is None else [partial(self.put, put_budget, terms) for terms in budgets],
            limits=[partial(self.put, put_limit, pace) for pace in limits],
            hold=partial(ceilings.hold, self.request.user),
        )
        return row, issued.plain

    def put(self, create: Callable[..., Any], terms: dict[str, Any], row: VirtualKey) -> Any:
        """Put a budget or limit of a new key in force, if the person may."""
        found = create(row, terms, new_owner=True)
        self.require("add", found)
        return found

    @written
    def create(self, request: Request) -> Response:
        """Issue a virtual key."""
        row, plain = self.issue(self.taken())
        return self.shown(self.again(row.pk), 201, secret=plain)

    @action(detail=False, methods=["post"], takes=NewKeys, returns=IssuedKeys, success=201, has_secret=True)
    @written
    def bulk(self, request: Request) -> Response:
        """Issue several keys at once: all of them, or none."""
        issued = [self.issue(values) for values in self.taken()["keys"]]
        rows = self.get_queryset().in_bulk([row.pk for row, _ in issued])
        shown = self.represented([rows[row.pk] for row, _ in issued])
        return Response(
            {"data": [{**data, "secret": plain} for data, (_, plain) in zip(shown, issued, strict=True)]}, 201
        )

    def change(self, row: VirtualKey, values: dict[str, Any]) -> None:
        """Save these terms."""
        given = values.pop("routes", None)
        if "team_id" in values:
            values["team"] = self.chosen(Team, values.pop("team_id"), "team_id")
        if "team" in values and values["team"] != row.team:
            moved = VirtualKey.objects.get(pk=row.pk)
            moved.team = values["team"]
            self.require("change", moved)
            ceilings.hold_move(self.request.user, moved)
        key_terms.change(row, values, self.routes(given) if given is not None else None)

    @action(detail=True, methods=["post"], takes=Rotation, returns=IssuedKey, has_secret=True)
    @written
    def rotate(self, request: Request, pk: Any) -> Response:
        """Make a new secret. Older ones work until the overlap ends."""
        overlap = timedelta(seconds=self.taken()["overlap_seconds"])
        row = self.row(locked=True)
        self.require("rotate", row)
        plain = issuing.rotate(row, overlap)
        return self.shown(self.again(row.pk), 200, secret=plain)

    @action(detail=True, methods=["post"], takes=Revocation)
    @written
    def revoke(self, request: Request, pk: Any) -> Response:
        """Refuse its calls permanently, in every process from the next request on. Of a revoked key, cut streams."""
        terms = self.taken()
        row = self.row(locked=True)
        self.require("revoke", row)
        issuing.revoke_once(row, terms["cut_streams"], terms["reason"])
        return self.shown(self.again(row.pk))
