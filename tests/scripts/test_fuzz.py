"""Readers take mutated files well, and the judge of that sees when they do not."""

import random
import time
from pathlib import Path

import fuzz
import pytest
from fuzzing import outcome
from fuzzing.mutations import BINARY, TEXT

from detector.errors import UserError


@pytest.mark.slow
def test_no_mutated_file_leads_to_a_traceback_a_hang_or_a_silent_error() -> None:
    outcomes = list(fuzz.run_cases(60, seed=3))
    assert [one for one in outcomes if one.is_fault] == []
    assert {one.kind for one in outcomes} == {"configs", "annotations", "images", "checkpoints"}
    assert sum(one.verdict == "reported" for one in outcomes) > 20


def test_a_case_is_made_again_by_its_number(tmp_path: Path) -> None:
    first, second = (fuzz.run_case("images", 5, 1, tmp_path) for _ in range(2))
    assert first == second


def test_the_judge_tells_a_message_a_traceback_a_hang_and_a_silent_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SECONDS", 1)

    def fail(error: Exception) -> None:
        raise error

    assert outcome.judge(lambda: fail(UserError("a.jpg: broken"))) == ("reported", "a.jpg: broken")
    assert outcome.judge(lambda: fail(UserError(""))) == ("silent", "a message without text")
    assert outcome.judge(lambda: fail(outcome.SilentError("other boxes"))) == ("silent", "other boxes")
    verdict, detail = outcome.judge(lambda: fail(KeyError("step")))
    assert (verdict, "KeyError: 'step'" in detail) == ("traceback", True)
    assert outcome.judge(lambda: time.sleep(30))[0] == "hang"
    assert outcome.judge(lambda: None) == ("harmless", "")


@pytest.mark.parametrize("mutation", {*BINARY, *TEXT}, ids=lambda mutation: mutation.__name__)
def test_a_mutation_depends_on_its_generator_alone(mutation: object) -> None:
    data = b"name: cat\nbox: [1, 2.5, 30, 4e2]\nother: dog\n"
    made = [mutation(data, random.Random(seed)) for seed in (1, 1, 2, 3, 4, 5, 6)]  # type: ignore[operator]
    assert made[0] == made[1]
    assert any(changed != data for changed in made)
