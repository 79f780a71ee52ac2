"""What is claimed: of inference, each with a test that walks to it; of the default model, as it was evaluated."""

from __future__ import annotations

import json
import re
from pathlib import Path

from chat.weights.merge import SHIPPED

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


def test_the_readme_tells_of_the_default_model_what_its_evaluation_gave() -> None:
    kept = json.loads((SHIPPED / "evaluation.json").read_text("utf-8"))
    right = {figure["kind"]: figure["right"] for figure in kept["smollm2 in int4"]["figures"]}
    untuned = {figure["kind"]: figure["right"] for figure in kept["smollm2-base in int4"]["figures"]}
    readme = " ".join((TESTS.parent / "README.md").read_text("utf-8").split())
    claims = (
        f"gave back what it was told in {right['told']}, took a correction in {right['corrected']}, read a note in "
        f"{right['noted']}, said in {right['fresh']} that it had not been told, wrote faultless notes in "
        f"{right['notes written']} and replaced outdated ones without fault in {right['notes replaced']}",
        f"many notes are outdated at once it got {right['many replaced']} right",
        f"About itself it answered {right['about itself']} of 48 questions right, of general ones {right['general']} "
        f"of 170 where the untuned model has {untuned['general']}",
    )
    assert not [claim for claim in claims if claim not in readme]
