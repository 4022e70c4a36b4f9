"""Whatever both sides say, the causes and the rest sum to the difference exactly, and each keeps to its rule."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from reconciliation.causes.cell import Cell
from reconciliation.causes.explained import Explained, explain
from reconciliation.comparisons import CAUSES
from reconciliation.ours import Ours
from reconciliation.reads import TOKEN_TYPES
from reconciliation.theirs import Theirs, total

amounts = st.decimals(0, 10_000, places=12)
counts = st.integers(0, 10**9)
of_types = st.fixed_dictionaries(dict.fromkeys(TOKEN_TYPES, amounts))
tokens = st.fixed_dictionaries(dict.fromkeys(TOKEN_TYPES, counts))
few = st.integers(0, 5)


@st.composite
def ours(draw: st.DrawFn) -> Ours:
    """Our side, of which a part is estimates."""
    guessed, exact = draw(tokens), draw(tokens)
    cost, estimated_cost, estimated = draw(amounts), draw(amounts), draw(few)
    return Ours(
        requests=draw(few) + estimated,
        estimated=estimated,
        tokens={name: exact[name] + (guessed[name] if estimated else 0) for name in TOKEN_TYPES},
        estimated_tokens=guessed if estimated else dict.fromkeys(TOKEN_TYPES, 0),
        searches=draw(few),
        cost=cost + (estimated_cost if estimated else 0),
        estimated_cost=estimated_cost if estimated else Decimal(0),
        room=draw(amounts),
    )


theirs = st.builds(
    Theirs,
    requests=st.none() | few,
    tokens=tokens,
    amounts=of_types,
    listed=st.none() | of_types,
    fees=amounts,
)
cells = st.builds(
    Cell, theirs=theirs, ours=ours(), dated=ours(), first=st.none() | theirs, search_price=st.just(Decimal("0.01"))
)


def parts(found: Explained) -> list[Decimal]:
    return [*(getattr(found, name) for name in CAUSES), found.unexplained]


@given(cells)
def test_the_parts_sum_to_the_difference(cell: Cell) -> None:
    assert total(parts(explain(cell))) == cell.difference


@given(cells)
def test_each_cause_keeps_to_its_rule(cell: Cell) -> None:
    found = explain(cell)
    counted = cell.theirs.requests
    assert found.unsent_requests == max(0, (counted or 0) - cell.dated.requests)
    assert found.other_use >= 0
    assert not found.other_use or found.unsent_requests
    assert not found.estimates or cell.dated.estimated
    assert not found.adjustable or (counted == cell.dated.requests and cell.dated.estimated)
    assert not found.late_revision or cell.first is not None
    assert not found.discount or cell.theirs.listed is not None
    if counted is not None and counted == cell.dated.requests and cell.dated.estimated:
        assert found.unexplained == found.late_revision == 0


@given(cells)
def test_equal_sides_have_no_difference_to_explain(cell: Cell) -> None:
    their = Theirs(requests=cell.dated.requests, tokens=cell.dated.tokens, amounts=cell.theirs.amounts)
    cost = their.token_amount
    same = Ours(requests=cell.dated.requests, tokens=cell.dated.tokens, cost=cost)
    # An amount for tokens that no side has stays unexplained.
    if all(their.tokens[name] or not their.amounts[name] for name in TOKEN_TYPES):
        assert parts(explain(Cell(theirs=their, ours=same, dated=same))) == [0] * (len(CAUSES) + 1)
