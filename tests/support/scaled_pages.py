"""The pages, lists, searches and filters that must stay fast in a deployment of tests/support/scale.py."""

from __future__ import annotations

from keys.models import VirtualKey
from usage import request_ids
from usage.models import LedgerEntry

CUSTOMER, SMALL_CUSTOMER, TEAM = 1_000_001, 1_000_004, 1_000_003


def pages() -> list[str]:
    """Their URLs, each with a frequent and a rare value where that may make a difference."""
    key = VirtualKey.objects.get(pk=1_000_042)
    entry = LedgerEntry.objects.order_by("id")[10]
    calls = [
        "",
        f"key={key.pk}",
        f"team={TEAM}",
        f"customer={CUSTOMER}",
        f"customer={SMALL_CUSTOMER}",
        f"customer={CUSTOMER}&stop_reason=refusal",
        "provider_key=1000002",
        "model=claude-haiku-5-5",
        "model=*haiku*",
        "model=gpt-x",
        "status=failed",
        "status=client_disconnected",
        "status=completed",
        "stop_reason=refusal",
        "stop_reason=never",
        "stream=yes",
        "price=estimated",
        "price=unpriced",
        "price=similar",
        "session=session-11",
        "label=project%3Datlas",
        "label=project%3Dnone",
        "cost_above=0.1",
        "cost_above=1000",
        "seconds_above=4.9",
        "seconds_above=1000",
        "since=2026-01-01T00:00",
        "until=2020-01-01T00:00",
        f"before={request_ids.request_id(entry.pk)}",
    ]
    lists = [
        "keys/virtualkey/",
        "keys/virtualkey/?p=100",
        # A whole name, the beginning of its last word, words that many have, beginnings of many words, and none.
        f"keys/virtualkey/?q={key.name}",
        f"keys/virtualkey/?q={key.name[-8:-2]}",
        "keys/virtualkey/?q=atlas+prod",
        "keys/virtualkey/?q=p",
        "keys/virtualkey/?q=nothing+like+it",
        "keys/virtualkey/?q=person4711",
        "keys/virtualkey/?q=project%3Dp17",
        # Last characters.
        "keys/virtualkey/?q=abcd",
        "keys/virtualkey/?q=cd",
        "keys/virtualkey/?state=active",
        "keys/virtualkey/?state=revoked",
        "keys/virtualkey/?state=paused",
        "keys/virtualkey/?state=expired",
        f"keys/virtualkey/?customer__id__exact={CUSTOMER}",
        f"keys/virtualkey/?team__id__exact={TEAM}",
        "keys/virtualkey/?provider_keys__id__exact=1000002",
        "keys/team/",
        "keys/team/?q=Customer+17",
        f"keys/team/?q={str(key.team)[-9:]}",
        "keys/team/?q=nothing",
        f"keys/team/?customer__id__exact={CUSTOMER}",
        "keys/team/?paused__exact=1",
        "keys/customer/",
        "keys/customer/?q=Customer+17",
        "keys/customer/?q=nothing",
        "usage/refusal/",
        # A reason that most refusals have is read from the table, until as many are found as a list counts.
        "usage/refusal/?why=expired",
        "usage/refusal/?p=100",
        f"usage/refusal/?q={request_ids.request_id(entry.pk)}",
        "keys/gatewaytoken/",
        "keys/gatewaytoken/?q=atlas",
        "usage/budget/",
        "usage/budget/?q=atlas",
        "usage/budget/?q=nothing",
        "usage/budget/?owner=virtual_key",
        "usage/budget/?owner=team",
        "usage/budget/?state=any",
        "usage/budget/?state=off",
        "usage/budget/?state=deleted",
        "usage/budget/?period__exact=day",
        "usage/budget/?unit__exact=tokens",
        "usage/budget/?enforcement__exact=soft",
        "usage/limit/",
        "usage/limit/?q=Customer+17",
        "usage/limit/?kind__exact=parallel",
        "usage/alert/",
        "usage/override/",
        "usage/ledgerentry/",
        "keys/auditevent/",
        f"keys/auditevent/?q=keys_virtualkey:{key.pk}",
        "keys/providerkey/",
    ]
    pickers = [
        f"autocomplete/?app_label=usage&model_name=ledgerentry&field_name={field}&term={term}"
        for field in ("customer", "team", "virtual_key", "provider_key")
        for term in ("", "17", "nothing")
    ]
    reports = [
        "",
        "group=model&group=status",
        "group=provider_key&since=2020-01-01",
        f"customer={SMALL_CUSTOMER}",
        f"team={TEAM}&group=key",
        f"key={key.pk}&group=model",
    ]
    owners = [
        "",
        "provider-key/1000002/",
        f"key/{key.pk}/",
        f"key/{key.pk}/?model=claude-opus-5-5",
        f"team/{TEAM}/",
        f"customer/{CUSTOMER}/",
        f"customer/{SMALL_CUSTOMER}/",
        f"calls/{request_ids.request_id(entry.pk)}/",
    ]
    paths = [*owners, *(f"calls/?{query}" for query in calls), *lists, *pickers]
    return [f"/admin/{path}" for path in (*paths, *(f"usage/report/?{query}" for query in reports))]


def scoped_pages() -> list[str]:
    """The URLs of lists that people see a part of."""
    calls = ("", "status=failed", "status=interrupted", "price=unpriced", "stop_reason=never")
    lists = [
        *("keys/virtualkey/", "keys/virtualkey/?state=paused", "keys/virtualkey/?q=atlas+prod"),
        *("usage/budget/", "usage/budget/?state=any", "usage/budget/?q=atlas", "usage/limit/"),
        *("usage/alert/", "usage/override/", "usage/refusal/", "usage/hold/"),
    ]
    pickers = [
        f"autocomplete/?app_label=usage&model_name=ledgerentry&field_name={field}&term={term}"
        for field in ("team", "virtual_key")
        for term in ("", "17")
    ]
    return [f"/admin/{path}" for path in ("", *lists, *(f"calls/?{query}" for query in calls), *pickers)]
