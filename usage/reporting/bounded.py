"""All questions of a page: together, they read as many rows as a page may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from usage import questions
from usage.questions import MOST_ROWS, Answer, Question, TooManyRows


class Bounded:
    """Asks what a person may see. `left`: how many rows may still be read."""

    def __init__(self, user: Any, most_rows: int = MOST_ROWS) -> None:
        self.user, self.most_rows, self.left = user, most_rows, most_rows

    def __call__(self, question: Question) -> Answer:
        """The answer.

        Raises:
            Unusable: it can't be answered, or not with the rows that are left.
        """
        try:
            answer = questions.ask(replace(question, most_rows=self.left), self.user)
        except TooManyRows:
            raise TooManyRows(
                f"the page would add up more than {self.most_rows:,} sums: choose a shorter range, longer periods, or "
                "fewer groups"
            ) from None
        self.left -= answer.rows
        return answer
