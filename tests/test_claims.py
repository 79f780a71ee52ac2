"""The list of claims about inference names, for each, a test that walks to it; every name is a real one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (TESTS.parent / "static" / "claims.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| claim", "| ---"))
]


def test_each_claim_has_a_place_and_a_test_that_exists_or_says_that_it_is_not_shown() -> None:
    known = {
        name for path in TESTS.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(ROWS) > 35
    for claim, where, test in ROWS:
        assert claim.endswith(".")
        if where.startswith("Not shown"):
            assert test == ""
        else:
            assert test.strip("`") in known, claim


def test_the_five_founding_texts_each_have_their_claims() -> None:
    listed = (TESTS.parent / "static" / "claims.md").read_text("utf-8")
    assert listed.count("\n## ") == 5
