"""docs/security.md says what the tests assert."""

from __future__ import annotations

from tests.e2e.security_page import PAGE, doubled, page


def test_the_tables_of_the_page_are_those_that_are_tested() -> None:
    """Run `python -m tests.e2e.security_page` after a change to one of them."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text)
    assert text.count("<!-- table: ") == text.count("<!-- end -->") == 3


def test_each_row_has_a_name_of_its_own() -> None:
    """So that the page and a failing test lead to each other."""
    assert doubled() == set()
