"""Finds the model that a name means. One model has many names: case and seller differ, the model is the same.

    claude-opus-4-5 · Claude-Opus-4-5 · claude-opus-4-5@20251101 · anthropic/claude-opus-4.5 (OpenRouter)
    us.anthropic.claude-opus-4-5-20251101-v1:0 · arn:aws:bedrock:…:inference-profile/us.anthropic.claude-opus-4-5-…
    anthropic--claude-4.5-opus (SAP) · system.ai.databricks-claude-opus-4-5 (Unity Catalog)

Budgets and limits use the same rules in SQL: usage/arbiter/model_names.sql is the twin of this file, function by
function. Only ASCII letters are folded: no locale or look-alike letter may merge two names in one twin and not in the
other.
"""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
# Names of models are shorter; a longer text is its own identity.
LONGEST = 200
# Results kept in each cache. Callers choose the names, so the caches need a bound.
REMEMBERED = 4096

# The part of a resource's path before the model's own name: models/…, publishers/anthropic/models/…, an ARN.
RESOURCE = re.compile(r"(^|/)(?:arn:.*/|(?:projects|publishers|accounts|models)/(?:.*/)?)", re.DOTALL)
# What sellers put before the name of a Claude model: us.anthropic.…, anthropic--…, system.ai.databricks-….
SELLER = re.compile(r"^(?:.*(?:[.:]|--))?(?:databricks-)?claude-", re.DOTALL)
VERSION = re.compile(r"(?:-v[0-9]+|-latest|-default)+(?=(?:-[0-9]{8})?\Z)")
DATE = re.compile(r"-([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
DATED = re.compile(r"-[0-9]{8}\Z")
# Claude 4 and later have the family before the version, Claude 3 after it. Sellers write both in both orders.
VERSION_FIRST = re.compile(r"^claude-([0-9]{1,2})((?:-[0-9]{1,2})?)-([a-z]+)(?=-|\Z)")
FAMILY_FIRST = re.compile(r"^claude-([a-z]+)-([0-9]{1,2})((?:-[0-9]{1,2})?)(?=-|\Z)")
PUNCTUATION = str.maketrans(".@", "--")
FAST = re.compile(r"[-_.:]fast(?![a-z0-9])", re.IGNORECASE)


def fold(name: str) -> str:
    """The name in lower case; only ASCII letters change."""
    return name.lower() if name.isascii() else name.translate(LOWER)


@lru_cache(maxsize=REMEMBERED)
def identity(name: str) -> str:
    """The one name that stands for the model that `name` means.

    A Claude model's identity has the family before the version, and the date if the name has one. Any other model's
    identity is its name in lower case. A vendor or provider in front (`anthropic/…`) stays.
    """
    name = fold(name)
    if len(name) > LONGEST:
        return name
    name = RESOURCE.sub(r"\1", name, count=1)
    path, slash, own = name.rpartition("/")
    own = SELLER.sub("claude-", own)
    if not own.startswith("claude-"):
        return name
    own = own.partition(":")[0].partition("[")[0].translate(PUNCTUATION)
    shorter = VERSION.sub("", own)
    if any(digit in shorter for digit in "0123456789"):
        own = shorter
    own = DATE.sub(r"-\1\2\3", own)
    return path + slash + VERSION_FIRST.sub(r"claude-\3-\1\2", own)


@lru_cache(maxsize=REMEMBERED)
def names(meant: str) -> tuple[str, ...]:
    """All names of the model with this identity, with and without the vendor or provider in front.

    A Claude model also has a name with the version before the family. Any other model also has one without what
    follows a colon (`gpt-5:online`).
    """
    path, slash, own = meant.rpartition("/")
    claude = own.startswith("claude-")
    other = FAMILY_FIRST.sub(r"claude-\2\3-\1", own) if claude else own.partition(":")[0]
    return tuple(dict.fromkeys((meant, own, path + slash + other, other)))


@lru_cache(maxsize=REMEMBERED)
def is_fast(name: str) -> bool:
    """Whether a name stands for a Claude model in fast mode, which some sellers have as a model of its own:
    `claude-opus-5-5-fast`."""
    return "claude" in fold(name) and FAST.search(name) is not None


def without_fast(name: str) -> str:
    """The name of the model that has fast mode under this name."""
    return FAST.sub("", name)


def own_name(meant: str) -> str:
    """The name without the vendor or provider in front."""
    return meant.rpartition("/")[2]


def same(one: str, other: str) -> bool:
    """Whether two identities may mean one model. A name without a date means every date."""
    if one == other:
        return True
    (name, date), (other_name, other_date) = undated(one), undated(other)
    return name == other_name and (date == other_date or not date or not other_date)


def undated(meant: str) -> tuple[str, str]:
    """A name without its date, and the date. For Claude models, `claude-opus-4-0` is the same as `claude-opus-4`."""
    claude = own_name(meant).startswith("claude-")
    found = (DATED if claude else DATE).search(meant)
    name, date = (meant[: found.start()], found[0]) if found else (meant, "")
    return name.removesuffix("-0") if claude else name, date


@lru_cache(maxsize=REMEMBERED)
def pattern_identity(pattern: str) -> str:
    """A pattern with stars in the spelling of identities.

    A region in the pattern stays: `us.anthropic.claude-*` matches only the models of that region's profiles.
    """
    pattern = re.sub(r"(^|/)anthropic(?:\.|--)claude", r"\1claude", fold(pattern), count=1)
    at = pattern.find("claude")
    return pattern if at < 0 else pattern[:at] + pattern[at:].translate(PUNCTUATION)
