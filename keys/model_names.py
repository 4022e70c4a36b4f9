"""Which model a name means. Upper and lower case never make another model of a name, nor does where it is sold:

    claude-opus-4-5 · Claude-Opus-4-5 · claude-opus-4-5@20251101 · anthropic/claude-opus-4.5 (OpenRouter)
    us.anthropic.claude-opus-4-5-20251101-v1:0 · arn:aws:bedrock:…:inference-profile/us.anthropic.claude-opus-4-5-…
    anthropic--claude-4.5-opus (SAP) · system.ai.databricks-claude-opus-4-5 (Unity Catalog)

What this file says budgets and limits go by in SQL, too: usage/sql/model_names.sql is its twin, function by function.
Only ASCII is folded, so that no locale and no look-alike makes one name of two in one of them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
# What is longer is nobody's name for a model: it means itself.
LONGEST = 200
# Names and patterns that are remembered with what they mean: callers choose names.
REMEMBERED = 4096

# What a resource's path says before the model's own name: models/…, publishers/anthropic/models/…, an ARN.
RESOURCE = re.compile(r"(^|/)(?:arn:.*/|(?:projects|publishers|accounts|models)/(?:.*/)?)", re.DOTALL)
# What a cloud writes before a Claude's name: us.anthropic.…, anthropic--…, system.ai.databricks-….
SELLER = re.compile(r"^(?:.*(?:[.:]|--))?(?:databricks-)?claude-", re.DOTALL)
VERSION = re.compile(r"(?:-v[0-9]+|-latest|-default)+(?=(?:-[0-9]{8})?\Z)")
DATE = re.compile(r"-([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
DATED = re.compile(r"-[0-9]{8}\Z")
# Claude 4 and later have the family before the version, Claude 3 after it, and sellers write either of either.
VERSION_FIRST = re.compile(r"^claude-([0-9]{1,2})((?:-[0-9]{1,2})?)-([a-z]+)(?=-|\Z)")
FAMILY_FIRST = re.compile(r"^claude-([a-z]+)-([0-9]{1,2})((?:-[0-9]{1,2})?)(?=-|\Z)")
PUNCTUATION = str.maketrans(".@", "--")


def fold(name: str) -> str:
    """The name without upper case."""
    return name.lower() if name.isascii() else name.translate(LOWER)


@lru_cache(maxsize=REMEMBERED)
def identity(name: str) -> str:
    """The model that a name means: of a Claude, one name for it, its family before its version, by its date if the name
    has one; of any other, the name. A vendor or provider before it (`anthropic/…`) stays."""
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
    """What a model goes by: its identity with a vendor or provider before it and without, and of each what else it is
    called: a Claude with its version before its family, any other without what follows a colon (`gpt-5:online`)."""
    path, slash, own = meant.rpartition("/")
    claude = own.startswith("claude-")
    other = FAMILY_FIRST.sub(r"claude-\2\3-\1", own) if claude else own.partition(":")[0]
    return tuple(dict.fromkeys((meant, own, path + slash + other, other)))


def own_name(meant: str) -> str:
    """What a model is called without a vendor or provider before it."""
    return meant.rpartition("/")[2]


def same(one: str, other: str) -> bool:
    """Whether two identities may be of one model: a name without a date means any of its dates."""
    if one == other:
        return True
    (name, date), (other_name, other_date) = undated(one), undated(other)
    return name == other_name and (date == other_date or not date or not other_date)


def undated(meant: str) -> tuple[str, str]:
    """A name without its date, and that date. Of a Claude, `claude-opus-4-0` is `claude-opus-4`."""
    claude = own_name(meant).startswith("claude-")
    found = (DATED if claude else DATE).search(meant)
    name, date = (meant[: found.start()], found[0]) if found else (meant, "")
    return name.removesuffix("-0") if claude else name, date


@lru_cache(maxsize=REMEMBERED)
def pattern_identity(pattern: str) -> str:
    """A pattern with stars, written as identities are. A region that it names is meant: `us.anthropic.claude-*` stands
    for the models of that region's profiles alone."""
    pattern = re.sub(r"(^|/)anthropic(?:\.|--)claude", r"\1claude", fold(pattern), count=1)
    at = pattern.find("claude")
    return pattern if at < 0 else pattern[:at] + pattern[at:].translate(PUNCTUATION)
