"""Estimates of the tokens that a call may use: for the hold before the call, and for calls without a final report.

Tokens of text are estimated from bytes (text_tokens.py). What a provider adds to the prompt (instructions for tools and
formats) is half as high again as measured in recorded prompts.
"""

from __future__ import annotations

import binascii
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace as changed

from keys.model_names import fold
from messages_api.process.allowances import Allowances
from messages_api.request import images, pdf, tool_references
from messages_api.request.minted import BEGINNING
from messages_api.request.plain import Plain
from messages_api.request.text_tokens import tokens_of_text
from usage.pricing import BATCH, ModelPrice
from usage.tokens import TokenCounts

# Models up to 4.6 count fewer tokens for the same text. Newer ones count up to 1.35 times as many, Anthropic says
# (https://platform.claude.com/docs/en/about-claude/models/migration-guide), and some more in a recording. An unknown
# model counts as new.
OLDER = re.compile(r"claude-(?:[23]|instant|(?:opus|sonnet|haiku)-4(?:-[0-6])?(?:-20\d{6}|@20\d{6}|$))")
NEWER = 1450
CLAUDE, MINI = "claude", "4o-mini"
# The likely tokens of text, as a part of the ceiling.
LIKELY = 0.75

# Tokens that a provider adds to the prompt.
FOR_ANY = 20
FOR_TOOLS = 550
FOR_EACH_TOOL = 45
FOR_EACH_TOOL_OF_ITS_OWN = 2_500
FOR_A_FORMAT = 300
FOR_THINKING = 60

# In base64 they mean nothing.
SPACES = b" \t\r\n"

# Images and documents in base64: their bytes don't count as text.
ENCODED = re.compile(rb'"data":"([A-Za-z0-9+/=]++)"')
BY_URL = b'"type":"url"'
FILE = b'"file_id":'
ADVISOR_CACHING = b'"caching":'
MINTED = BEGINNING.encode()
WORDS = (b"base64", b"cache_control", b"file_id", b"url", b"signature", tool_references.WORD)
# An image has width x height / 750 tokens; a larger one is scaled down, to about 1,600 or (newer models) 4,784
# (https://docs.claude.com/en/docs/build-with-claude/vision).
PIXELS_PER_TOKEN = 750
IMAGE_TOKENS, NEWER_IMAGE_TOKENS = 1_640, 4_800
# A document has at least this many bytes of base64 for each token of its pictures.
PDF_BYTES_PER_TOKEN = 5
# The most uses of a tool in one call: clients don't wait for more.
MOST_USES = 50


@dataclass(frozen=True, slots=True)
class Uses:
    """How often one of the provider's tools may run, and the tokens of each use; None: the request doesn't say. The
    answer leaves out the uses by the provider's own code of one that is `excluded`."""

    kind: str
    times: int | None = None
    tokens: int | None = None
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Extras:
    """What makes a request cost more than one reading of its prompt by its model.

    Attributes:
        models: other models that may run: the provider's fallbacks, advisors.
        default_fallbacks: the provider chooses fallbacks.
        any_tier: any service tier may answer.
        readings: how often the prompt may be read again.
        answers: how often an answer may be started again (by each fallback).
        compacts: the provider may summarise the conversation besides.
        uses: the tools that run in the provider's loop.
        server_urls: how many MCP servers are named by a URL.
    """

    models: tuple[str, ...] = ()
    default_fallbacks: bool = False
    fast: bool = False
    inference_geo: str = ""
    any_tier: bool = False
    readings: int = 0
    answers: int = 0
    compacts: bool = False
    uses: tuple[Uses, ...] = ()
    server_urls: int = 0

    def loop(self, allowances: Allowances) -> Iterator[tuple[str, int, int]]:
        """Each kind of tool that may run, how often, and the tokens of each use.

        Tools without a limit in the request share one loop: together they run as often as the highest of their
        allowances, the most expensive tool first.
        """
        limited = [one for one in self.uses if one.times is not None]
        unlimited = [one for one in self.uses if one.times is None]
        yield from ((one.kind, min(one.times or 0, MOST_USES), tokens_of(one, allowances)) for one in limited)
        left = max((allowances[one.kind].uses for one in unlimited), default=0)
        for one in sorted(unlimited, key=lambda one: -tokens_of(one, allowances)):
            times = min(left, allowances[one.kind].uses)
            left -= times
            yield one.kind, times, tokens_of(one, allowances)


NO_EXTRAS = Extras()


def tokens_of(one: Uses, allowances: Allowances) -> int:
    allowed = allowances[one.kind].tokens
    if one.tokens is None:
        return allowed
    # A limit on what is fetched doesn't apply to PDFs, says Anthropic's SDK (`max_content_tokens`).
    return max(one.tokens, allowed) if one.kind == "web_fetch" else one.tokens


class Prompt(Struct, frozen=True, gc=False):
    """The most that a call may read.

    Attributes:
        tokens: read in all steps together.
        longest: read in the longest step.
        besides: written besides the answer, by advisors and by fallbacks that start the answer again.
        searches: how many web searches cost a fee.
    """

    tokens: int
    longest: int
    besides: int = 0
    searches: int = 0


class Estimate(Struct, frozen=True):
    """Tokens of a request's input.

    Attributes:
        likely: the probable number.
        ceiling: the highest possible number.
        writes: the request asks for cache writes; `hour_writes`: for those of an hour.
        references: files and pages of unknown length that the request names.
        image_tokens: what each of them has at least, if it may be an image for a model that counts more than others.
        read: the files among them that a model reads, by their ids, and how often each.
        sized: of those whose size is known, how often each is read, and its tokens.
    """

    likely: int
    ceiling: int
    writes: bool
    hour_writes: bool
    references: int = 0
    image_tokens: int = 0
    read: tuple[tuple[str, int], ...] = ()
    sized: tuple[tuple[int, int], ...] = ()

    def with_files(self, tokens: Mapping[str, int]) -> Estimate:
        """The estimate with files of known size.

        Args:
            tokens: of each file, by its id.
        """
        if not tokens or not self.read:
            return self
        return changed(self, sized=tuple((times, tokens[name]) for name, times in self.read if name in tokens))

    def ceiling_cost(
        self,
        max_tokens: int,
        *prices: ModelPrice,
        allowances: Allowances,
        extras: Extras = NO_EXTRAS,
        batch: bool = False,
    ) -> Decimal:
        """The most that the call is expected to cost its owner, in USD, at the highest of these prices."""
        prompt = self.prompt(max_tokens, extras, allowances)
        output = max_tokens + prompt.besides
        return max([self._cost(prompt, output, price.charged or price, extras, batch) for price in prices])

    def prompt(self, max_tokens: int, extras: Extras, allowances: Allowances) -> Prompt:
        """The most that the call reads, and writes besides the answer."""
        besides = max_tokens * extras.answers
        if extras.compacts:
            summary = allowances["compaction"]
            besides += summary.uses * summary.tokens
        file = allowances["file"]
        each = max(file.uses * file.tokens, self.image_tokens)
        once = self.ceiling + self.references * each + sum(n * max(0, tokens - each) for n, tokens in self.sized)
        if not extras.uses:
            return Prompt(once * (1 + extras.readings), once, besides)
        steps = found = searches = readings = 0
        for kind, times, tokens in extras.loop(allowances):
            if kind == "advisor":
                # An advisor reads the prompt, and the model reads what the advisor writes.
                besides += times * tokens
                readings += 2 * times
            elif kind == "thread":
                once += times * tokens
            else:
                steps += times
                found += times * tokens
                searches += times if kind == "web_search" else 0
        # Each step reads what all steps before it found.
        tokens = once * (1 + extras.readings + readings + steps) + found * (steps + 1) // 2
        return Prompt(tokens, once + found, besides, searches)

    def _cost(self, prompt: Prompt, output: int, price: ModelPrice, extras: Extras, batch: bool) -> Decimal:
        rates = price.at(prompt.longest)
        write = rates.cache_write_1h if self.hour_writes else rates.cache_write_5m
        written = prompt.tokens if (self.writes or price.writes) and write > rates.input else 0
        cost = price.cost(
            TokenCounts(
                input_tokens=prompt.tokens - written,
                output_tokens=output,
                cache_creation_5m_input_tokens=0 if self.hour_writes else written,
                cache_creation_1h_input_tokens=written if self.hour_writes else 0,
                web_search_requests=prompt.searches,
            ),
            speed="fast" if extras.fast else "",
            service_tier=price.dearest_tier if extras.any_tier else "",
            inference_geo=extras.inference_geo,
            steps=max(1, prompt.tokens // max(1, prompt.longest)),
        )
        return (cost * BATCH if batch else cost) + price.flat

    def likely_cost(self, price: ModelPrice) -> Decimal:
        """The probable cost of the input for the owner, in USD."""
        return ((price.charged or price).at(self.likely).input * self.likely).scaleb(-6)


NOTHING = Estimate(likely=0, ceiling=0, writes=False, hour_writes=False)


def of_size(tokens: int) -> Estimate:
    """The estimate of a request of this many likely tokens of text, which isn't there to be read."""
    return Estimate(likely=tokens, ceiling=math.ceil(tokens / LIKELY), writes=False, hour_writes=False)


class Contents(Struct, frozen=True):
    """The contents of a request, before the model is known.

    Attributes:
        text: tokens of its text, for an older model.
        shown: tokens of its images and documents, for an older model; `newer_shown`: for a newer one;
            `shown_elsewhere`: for a model that isn't Claude; `shown_to_mini`: for gpt-4o-mini.
        files: how many files it names; `pages`: how many URLs; `read`: the files that the model reads, and how often.
        writes: it asks for cache writes; `hour_writes`: for those of an hour.
        minted: it may have thinking with a signature that the gateway made (minted.py).
    """

    text: int = 0
    shown: int = 0
    newer_shown: int = 0
    shown_elsewhere: int = 0
    shown_to_mini: int = 0
    files: int = 0
    pages: int = 0
    read: tuple[tuple[str, int], ...] = ()
    writes: bool = False
    hour_writes: bool = False
    minted: bool = False


EMPTY = Contents()


def contents(said: Plain, steps: pdf.Steps, *, advised: bool = False) -> Contents:
    """
    Args:
        steps: how much of its PDFs is read.
        advised: it has an advisor.
    """
    text, shown = said.text, (0, 0, 0, 0)
    words = said.those_in(WORDS)
    if b"base64" in words:
        parts, end = [], 0
        to_see = Counter[bytes]()
        for kind, data in shown_in(said.members.get("messages")):
            to_see[data] += 1
            older, newer, elsewhere, to_mini = map(sum, zip(shown, tokens_of_data(data, kind, steps), strict=True))
            shown = older, newer, elsewhere, to_mini
        for match in ENCODED.finditer(text):
            if not to_see[match[1]]:  # base64 that the model reads as text, like the input of a tool
                continue
            to_see[match[1]] -= 1
            parts.append(text[end : match.start(1)])
            end = match.end(1)
        text = b"".join((*parts, text[end:]))
    # An advisor caches what it reads if its tool has `caching`.
    writes = b"cache_control" in words or (advised and ADVISOR_CACHING in said.text)
    return Contents(
        tokens_of_text(text) + (tool_references.tokens(said) if tool_references.WORD in words else 0),
        *shown,
        files=text.count(FILE) if b"file_id" in words else 0,
        pages=text.count(BY_URL) if b"url" in words else 0,
        read=tuple(Counter(files_in(said.members.get("messages"))).items()) if b"file_id" in words else (),
        writes=writes,
        hour_writes=writes and said.has(b"1h"),
        minted=b"signature" in words and text.rfind(MINTED) >= 0,
    )


class Showing(Struct):
    """A turn, a block or a source, with the members that may hold an image or a document.

    The input of a tool is not among them: the model reads it as text, even if it looks like an image.
    """

    type: Any = None
    source: Any = None
    content: Any = None


showing = msgspec.json.Decoder(list[Showing])


def shown_in(messages: Raw | None) -> Iterator[tuple[str, bytes]]:
    """Each image and document in base64 in the turns of a request: `image` or `document`, and its base64."""
    for block in showings(messages):
        match block:
            case Showing(type="image" | "document" as kind, source={"type": "base64", "data": str(data)}):
                yield kind, data.encode()


def files_in(messages: Raw | None) -> Iterator[str]:
    """The id of each file that a model reads in the turns of a request. One that is only loaded into a container is
    not among them."""
    for block in showings(messages):
        match block:
            case Showing(source={"type": "file", "file_id": str(name)}):
                yield name


def showings(messages: Raw | None) -> Iterator[Showing]:
    """The turns of a request and all blocks in them that may show something."""
    try:
        inside: list[Any] = list(showing.decode(messages or b"[]"))
    except (msgspec.ValidationError, RecursionError):
        return
    while inside:
        one = inside.pop()
        if isinstance(one, Showing):
            yield one
        match one:
            case Showing(source={"type": "content"} as source):
                inside.append(source.get("content"))
            case Showing(content=list() | dict() as content):
                inside.append(content)
            case list() as blocks:
                inside += blocks
            case dict() as block:
                inside.append(Showing(block.get("type"), block.get("source"), block.get("content")))


def estimate(
    contents: Contents,
    model: str,
    added: int = FOR_ANY,
    extras: Extras = NO_EXTRAS,
    *,
    others: Collection[str] = (),
) -> Estimate:
    """Estimate a request's input for its model, and for all others in `extras`.

    Args:
        added: tokens that the provider adds to the prompt.
        others: further models that may answer: the gateway's fallbacks, and what aliases stand for.
    """
    names = (model, *extras.models, *others)
    older = all(map(is_older, names)) and not extras.default_fallbacks
    tokens = contents.text if older else contents.text * NEWER // 1000
    seen = contents.shown if older else contents.newer_shown
    mini = False
    if not all(map(is_claude, names)):
        mini = any(MINI in fold(name) for name in names)
        seen = max(seen, contents.shown_elsewhere, contents.shown_to_mini if mini else 0)
    # The URL of an MCP server is counted as a page, too, but MCP servers have their own allowance.
    pages = contents.pages - extras.server_urls
    return Estimate(
        likely=round(tokens * LIKELY) + added + seen,
        ceiling=tokens + added + seen,
        writes=contents.writes,
        hour_writes=contents.hour_writes,
        references=contents.files + max(0, pages),
        read=contents.read,
        image_tokens=images.MINI * images.tokens_of_tiles(0, 0) if mini else 0,
    )


# A deployment's calls name few models.
@lru_cache(maxsize=1000)
def is_older(name: str) -> bool:
    """Whether a model counts fewer tokens for the same text."""
    return OLDER.match(name) is not None


@lru_cache(maxsize=1000)
def is_claude(name: str) -> bool:
    """Whether a model counts images as Claude does."""
    return CLAUDE in fold(name)


def tokens_of_data(encoded: bytes, kind: str, steps: pdf.Steps) -> tuple[int, int, int, int]:
    """The most tokens of an `image` or a `document` in base64: for an older model, for a newer one, for a model that
    isn't Claude, for gpt-4o-mini.

    Providers may read base64 that the standard doesn't allow, so its contents count at the most.
    """
    written = encoded.translate(None, SPACES)
    try:
        data = binascii.a2b_base64(
            written if kind == "document" else written[: images.HEAD * 4 // 3 // 4 * 4], strict_mode=True
        )
    except ValueError:
        data = b""
    if kind == "document":
        tokens = max(len(encoded) // PDF_BYTES_PER_TOKEN, pdf.tokens(data, steps))
        return tokens, tokens, tokens, tokens
    width, height = images.size(data)
    tokens = -(-width * height // PIXELS_PER_TOKEN) + FOR_ANY if width and height else NEWER_IMAGE_TOKENS
    elsewhere, tiles = images.tokens_elsewhere(width, height), images.tokens_of_tiles(width, height)
    return min(tokens, IMAGE_TOKENS), min(tokens, NEWER_IMAGE_TOKENS), elsewhere, tiles * images.MINI
