"""Both sides of one hour (or day), provider key, model and mode, for the rules of causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from reconciliation.ours import Ours
from reconciliation.reads import TOKEN_TYPES
from reconciliation.reports.rows import EXACT
from reconciliation.theirs import ZERO, Theirs, add

# Of a quotient, as many as reports have: a smaller part of a cent is lost to the cause that comes last.
PLACES = Decimal(1).scaleb(-28)


@dataclass(frozen=True, slots=True)
class Cell:
    """Both sides.

    Attributes:
        ours: our calls by their beginnings; `dated`: by the time to which the provider counts them.
        first: what the provider reported at first; None: the same as now.
        search_price: USD of a web search in our price book.
        rate: USD of a token of a type, for what the report has no tokens of in this cell.
    """

    theirs: Theirs
    ours: Ours
    dated: Ours
    first: Theirs | None = None
    search_price: Decimal = ZERO
    rate: Callable[[str], Decimal] = field(default=lambda token_type: ZERO)

    @property
    def difference(self) -> Decimal:
        """How much more the provider charges than the ledger has."""
        return EXACT.subtract(self.theirs.amount, self.ours.cost)

    @property
    def exact_token_cost(self) -> Decimal:
        """What the ledger has for tokens of calls that aren't estimates."""
        searches = self.dated.searches - self.dated.estimated_searches
        return self.dated.cost - self.dated.estimated_cost - searches * self.search_price

    @property
    def estimated_token_cost(self) -> Decimal:
        """What the ledger has for tokens of estimates."""
        return self.dated.estimated_cost - self.dated.estimated_searches * self.search_price

    def paid(self, token_type: str, tokens: int) -> Decimal:
        """What the provider charges for these tokens of a type: exactly its amount, if they are all that it counts."""
        return self._share(self.theirs.amounts[token_type], token_type, tokens)

    def listed(self, token_type: str, tokens: int) -> Decimal:
        """The same by its list price; what it charges, if the report doesn't say."""
        listed = self.theirs.listed or self.theirs.amounts
        return self._share(listed[token_type], token_type, tokens)

    def _share(self, amount: Decimal, token_type: str, tokens: int) -> Decimal:
        theirs = self.theirs.tokens[token_type]
        if not tokens:
            return ZERO
        if theirs:
            return EXACT.divide(EXACT.multiply(amount, Decimal(tokens)), Decimal(theirs))
        return EXACT.multiply(self.rate(token_type), Decimal(tokens))

    def sum_of(self, value: Callable[[str, int], Decimal], tokens: Callable[[str], int]) -> Decimal:
        """The sum over the types of tokens."""
        found = ZERO
        for name in TOKEN_TYPES:
            found = add(found, value(name, tokens(name)))
        return EXACT.quantize(found, PLACES)
