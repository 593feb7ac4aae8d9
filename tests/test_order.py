"""The book reads from front to back, its layers do not know too much, and it asks its reader."""

from pathlib import Path

import book
import pytest


@pytest.mark.parametrize(
    "rule",
    [
        book.order_complaints,
        book.layer_complaints,
        book.name_complaints,
        book.title_complaints,
        book.comparison_complaints,
        book.practice_complaints,
    ],
)
def test_rule(rule, root: Path):
    complaints = rule(root / "nbs")
    assert not complaints, "\n".join(complaints)
