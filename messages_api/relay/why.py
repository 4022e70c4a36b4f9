"""May a virtual key make a call now? The gates that the call has to pass, in order, and the first one that is closed.

Models and provider keys are judged by the code that routes calls, and everything else by `usage_why`
(usage/arbiter/why.sql), which decides as the arbiter does but changes and locks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from django.conf import settings

from keys.connection import BlockingReader, Reader, run_blocking
from keys.cooldowns import Cooldowns, KnownCooldown
from keys.directory import Directory, KnownKey
from keys.models import Credential, CredentialKind, VirtualKey
from messages_api.process.prices import Prices
from messages_api.providers.base import SPOKEN
from messages_api.relay import routing, verdicts, why_words
from messages_api.relay.holds import CallHold, shares_of
from messages_api.relay.incoming import MESSAGES
from messages_api.relay.routing import Plan, Target
from messages_api.relay.why_words import CallGate
from messages_api.request import estimates, markers, max_tokens
from messages_api.server.errors import GatewayError
from usage.arbitration import Admission, Verdict
from usage.request_ids import new_id

# A prompt of a page or two, and a short answer.
INPUT_TOKENS = 1_000
OUTPUT_TOKENS = 1_000
# Beyond any model's window.
MOST_TOKENS = 100_000_000
ASK = "SELECT verdict, detail, bars, needs FROM usage_why(%s::jsonb)"


@dataclass(frozen=True, slots=True)
class Size:
    """A call's size: likely tokens of its prompt, and its `max_tokens` (None: the key's default)."""

    input_tokens: int = INPUT_TOKENS
    max_tokens: int | None = None


@dataclass(slots=True)
class WhyAnswer:
    """Whether a call may be made.

    Attributes:
        verdict: `admitted`; the reason for which the call would be refused; or `depends`, if it would be admitted to
            some of its provider keys only.
        gates: in order; those behind a closed gate are judged, too, where that is possible.
        ceiling: the most USD that the call would hold; `max_tokens`: the ones that it would be made with.
        asked: the admissions that the arbiter was asked about, with its verdicts.
    """

    verdict: str = "admitted"
    gates: list[CallGate] = field(default_factory=list)
    ceiling: Decimal = Decimal(0)
    max_tokens: int = 0
    asked: list[tuple[Admission, Verdict]] = field(default_factory=list)

    @property
    def may_call(self) -> bool:
        """Whether the call would be admitted, whichever of its provider keys it goes to."""
        return self.verdict == "admitted"

    @property
    def first_no(self) -> CallGate | None:
        """The first closed gate."""
        return next((gate for gate in self.gates if not gate.is_open), None)


def newest_secret(virtual_key: VirtualKey) -> Credential | None:
    """The credential that a key calls with: the newest of its own secrets."""
    secrets = Credential.objects.filter(virtual_key=virtual_key).exclude(kind=CredentialKind.GATEWAY_TOKEN)
    return secrets.order_by("-pk").first()


def why(virtual_key: VirtualKey, model: str, size: Size = Size(), credential: Credential | None = None) -> WhyAnswer:
    """Whether this virtual key may call this model now, with one of its credentials (else its newest secret).

    It makes a fixed number of queries on Django's connection. Don't call it while an event loop runs in the thread.

    Raises:
        GatewayError: 503, the key's settings kept changing.
    """
    credential = credential or newest_secret(virtual_key)
    if credential is None:
        return WhyAnswer("unknown", [why_words.no_secret()])
    return run_blocking(_why(BlockingReader(), virtual_key, credential.pk, model, size))


async def _why(reader: Reader, virtual_key: VirtualKey, credential: int, model: str, size: Size) -> WhyAnswer:
    for _ in range(verdicts.TRIES):
        directory, cooldowns = Directory(reader), Cooldowns(reader)
        key = await directory.of_credential(credential)
        if key is None:
            return WhyAnswer("unknown", [why_words.no_secret()])
        prices = Prices(reader, directory)
        await prices.read()
        await cooldowns.read()
        answer = await _judge(reader, virtual_key, key, prices, cooldowns, model, size)
        if answer.verdict != "stale":
            return answer
    raise verdicts.too_fast()


async def _judge(
    reader: Reader,
    virtual_key: VirtualKey,
    key: KnownKey,
    prices: Prices,
    cooldowns: Cooldowns,
    model: str,
    size: Size,
) -> WhyAnswer:
    refused: list[GatewayError] = []
    admissions: list[Admission] = []
    places: list[tuple[Target, KnownCooldown | None]] = []
    most, too_many = output_tokens(key, size)
    try:
        plan = routing.plan(key, (model, *map(markers.meant, key.fallbacks)), SPOKEN, lambda: "")
        places = standings(plan, cooldowns)
        admissions = [admission(key, plan, target, prices, model, most, size) for target, _ in places]
    except GatewayError as error:
        refused.append(error)
    about_model = why_words.model(model, refused[0] if refused else None)
    if too_many is not None:
        refused.append(too_many)
    asked = admissions or [verdicts.nothing(new_id(), key, MESSAGES.name)]
    rows = await reader.fetch(ASK, [msgspec.json.encode(asked).decode()])
    said = [Verdict(verdict, detail) for verdict, detail, _, _ in rows]
    bars = rows[0][2]
    gates = [*why_words.key_gates(virtual_key, bars), about_model]
    if too_many is not None:
        gates.append(why_words.too_many_tokens(key, too_many))
    if admissions:
        gates += why_words.limits_and_budgets(admissions, [needs for _, _, _, needs in rows])
    gates += why_words.provider_keys(places)
    return WhyAnswer(
        verdict=verdict_of(bars, said, refused, places),
        gates=gates,
        ceiling=max((each.ceiling for each in admissions), default=Decimal(0)),
        max_tokens=most,
        asked=list(zip(admissions, said, strict=False)),
    )


def verdict_of(
    bars: Sequence[str],
    said: Sequence[Verdict],
    refused: Sequence[GatewayError],
    places: Sequence[tuple[Target, KnownCooldown | None]],
) -> str:
    """The answer in a word: what is wrong with the key comes first, then with the request, then with its targets."""
    if bars or said[0] in ("stale", "unknown"):
        return bars[0] if bars else str(said[0])
    if refused:
        return refused[0].reason
    if all(cooldown is not None for _, cooldown in places):
        return "cooling"
    found = {str(verdict) for verdict in said if verdict != "cooling"}
    return found.pop() if len(found) == 1 else "depends"


def standings(plan: Plan, cooldowns: Cooldowns) -> list[tuple[Target, KnownCooldown | None]]:
    """The targets that a call may go to, each with what keeps calls from it now: those of the first model that has an
    open one, or else of all models.
    """
    stages = [[(target, cooldowns.of(target.provider_key, target.model)) for target in stage] for stage in plan]
    for stage in stages:
        if any(cooldown is None for _, cooldown in stage):
            return stage
    return [place for stage in stages for place in stage]


def output_tokens(key: KnownKey, size: Size) -> tuple[int, GatewayError | None]:
    """The call's `max_tokens`, and the error if the key may not ask for that many."""
    asked = size.max_tokens or key.default_max_tokens or min(OUTPUT_TOKENS, key.max_tokens or OUTPUT_TOKENS)
    try:
        max_tokens.check(key, "max_tokens", asked)
    except GatewayError as error:
        return asked, error
    return asked, None


def admission(
    key: KnownKey, plan: Plan, target: Target, prices: Prices, model: str, most: int, size: Size
) -> Admission:
    """The question to the arbiter, as relay/holds.py asks it for a request that isn't there.

    Raises:
        GatewayError: as `Prices.now`.
    """
    estimate = estimates.of_size(size.input_tokens)
    provider_key = target.provider_key
    price = prices.now(provider_key.provider, target.sold_as() or model, key)
    places = [each for stage in plan for each in stage if each.model]
    others = [prices.now(each.provider_key.provider, each.sold_as(), key) for each in places]
    allowances = settings.CONFIGURATION.allowances
    ceiling = estimate.ceiling_cost(most, price, *others, allowances=allowances)
    held = CallHold(price, ceiling, estimate.likely, estimate.likely_cost(price), most, input_ceiling=estimate.ceiling)
    return Admission(
        id=new_id(),
        credential=key.credential,
        revision=key.revision,
        catalogue_revision=key.catalogue_revision,
        hold=True,
        endpoint=MESSAGES.name,
        requested_model=model,
        provider=provider_key.provider,
        provider_key=provider_key.id,
        ceiling=ceiling,
        input_tokens=held.input_tokens,
        input_cost=held.input_cost,
        input_ceiling=held.input_ceiling,
        max_tokens=most,
        output_price=price.owed.output,
        price_version=price.owed.version,
        shares=shares_of(target.model or model, model, (target.asked or model,), held),
    )
