"""The choice of one token, against what the papers and transformers say its distribution is."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from chat.engine.odds import Odds
from chat.engine.sampling import choose_token, make_generator, weigh
from chat.types import Sampling

LOGITS = torch.tensor([1.0, -2.0, 3.0, 0.5, 2.5, -1.0, 0.0, 2.0])
DRAWS = 4_000
# The chi-square of 7 degrees of freedom exceeds this once in a million; the seed is fixed, so each run is the same.
CHI_SQUARE_LIMIT = 40.5


def reference(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The probabilities as transformers' own processors make them."""
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits[None].double())
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores[0].softmax(dim=-1)


def draw(logits: torch.Tensor, sampling: Sampling, times: int = DRAWS) -> Counter[int]:
    odds, generator = Odds.of(logits), make_generator(sampling)
    return Counter(choose_token(odds, sampling, generator) for _ in range(times))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5, seed=1),
        Sampling(temperature=3.0, seed=2),
        Sampling(temperature=1.0, top_k=3),
        Sampling(temperature=2.0, top_k=100),
        Sampling(temperature=1.0, top_p=0.9),
        Sampling(temperature=1.5, top_p=0.5, seed=3),
        Sampling(temperature=2.0, top_k=5, top_p=0.8, seed=4),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_their_probability_says(sampling: Sampling) -> None:
    expected = reference(LOGITS, sampling)
    drawn = draw(LOGITS, sampling)
    possible = {token for token, probability in enumerate(expected.tolist()) if probability}
    assert drawn.keys() <= possible
    often = {token: DRAWS * float(expected[token]) for token in possible}
    chi_square = sum((drawn[token] - times) ** 2 / times for token, times in often.items())
    assert chi_square < CHI_SQUARE_LIMIT


@settings(deadline=None, derandomize=True, database=None, max_examples=200)
@given(
    st.lists(st.integers(-80, 80), min_size=1, max_size=20, unique=True),
    st.floats(0.05, 5.0),
    st.integers(0, 25),
    st.floats(0.01, 1.0),
    st.integers(0, 2**63 - 1),
)
def test_no_token_is_ever_drawn_from_beyond_top_k_and_top_p(
    tenths: list[int], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    logits = torch.tensor(tenths) / 10
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    expected = reference(logits, sampling)
    assert all(expected[token] > 0 for token in draw(logits, sampling, times=5))


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=5.0, top_k=1), {2}),
        (Sampling(temperature=5.0, top_k=2), {2, 4}),
        (Sampling(temperature=5.0, top_p=0.01), {2}),
        (Sampling(temperature=5.0, top_k=8, top_p=1.0), set(range(8))),
    ],
    ids=str,
)
def test_everything_that_may_be_drawn_is_drawn_sooner_or_later(sampling: Sampling, possible: set[int]) -> None:
    assert draw(LOGITS, sampling).keys() == possible


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert draw(logits, Sampling(temperature=1.0, top_p=0.49)).keys() == {0}
    assert draw(logits, Sampling(temperature=1.0, top_p=0.51)).keys() == {0, 1}
    assert draw(logits, Sampling(temperature=1.0, top_p=0.81)).keys() == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-46, 1e-40, 1e-9])
def test_the_smallest_temperatures_take_the_likeliest(temperature: float) -> None:
    assert draw(LOGITS, Sampling(temperature=temperature), times=20) == {2: 20}


def test_of_two_that_are_equally_likely_greedy_takes_the_first() -> None:
    assert draw(torch.tensor([0.0, 7.0, 7.0]), Sampling(), times=5) == {1: 5}


def test_a_token_that_the_model_rules_out_is_never_drawn() -> None:
    logits = torch.tensor([0.0, -torch.inf, 0.0])
    assert draw(logits, Sampling(temperature=5.0)).keys() == {0, 2}


def test_sums_that_are_rounded_never_end_at_a_token_that_is_ruled_out() -> None:
    chance = torch.Generator().manual_seed(4)
    for _ in range(100):
        logits = torch.full((256,), -torch.inf)
        logits[:200] = torch.randn(200, generator=chance)
        assert Odds.of(logits).place(1 - 2**-53) < 200


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_precision_a_model_may_answer_in_is_taken(dtype: torch.dtype) -> None:
    drawn = draw(LOGITS.to(dtype), Sampling(temperature=0.7, top_k=4, top_p=0.95), times=50)
    assert drawn.keys() <= {2, 4, 7, 0}


def test_the_seed_decides_the_draws_and_nothing_else_does() -> None:
    def path(seed: int) -> list[int]:
        sampling = Sampling(temperature=2.0, seed=seed)
        generator = make_generator(sampling)
        return [choose_token(Odds.of(LOGITS), sampling, generator) for _ in range(50)]

    first = path(2**63 - 1)
    torch.manual_seed(123)
    torch.rand(7)
    assert path(2**63 - 1) == first
    assert path(1) != first


def test_a_large_vocabulary_is_drawn_from_as_a_small_one_is() -> None:
    # The same eight tokens, far apart in a vocabulary that rules out all others.
    large = torch.full((5_000,), -torch.inf)
    large[::700] = LOGITS
    for sampling in (
        Sampling(temperature=1.0, seed=5),
        Sampling(temperature=1.0, top_p=0.9),
        Sampling(temperature=2, top_k=6),
    ):
        places = Counter({token // 700: times for token, times in draw(large, sampling).items()})
        assert sum(places.values()) == DRAWS
        assert {700 * place for place in places} == draw(large, sampling).keys()
        assert places == draw(LOGITS, sampling)


@given(st.integers(1, 3_000), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_token_is_weighed_as_softmax_has_it_and_the_others_are_the_likeliest(size: int, seed: int) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 4
    token_id = seed % size
    choice = weigh(Odds.of(logits), token_id)
    expected = logits.double().softmax(-1)
    assert choice.probability == pytest.approx(expected[token_id].item(), rel=1e-4, abs=1e-12)
    likeliest = [place for place in expected.argsort(descending=True).tolist() if place != token_id][:5]
    assert [place for place, _ in choice.others] == likeliest


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        weigh(Odds.of(torch.tensor([1.0, torch.nan])), 0)
