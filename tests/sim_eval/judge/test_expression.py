from __future__ import annotations

import pytest
from hand_made_traces import Story, cube
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop.judge.expression import (
    ARM,
    EACH,
    MAX_CHARACTERS,
    NAME,
    NUMBER,
    OBJECT,
    TRUTH,
    WORDS,
    compile_expression,
)

OBJECTS = ("red", "green", "mat")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "(lambda: held(red))()",
        "held(red).__class__",
        "held(red)[0]",
        "[held(x) for x in [red, green]]",
        "held(name=red)",
        "held(*[red])",
        "held(red) if held(red) else held(green)",
        "f'{red}'",
        "(x := held(red))",
        "held(red); held(green)",
        "held(red) +",
        "1 + 1 == 2",
        "held(red) is held(green)",
        "'red' == red",
        "True",
        "[]",
        "",
        "\x00",
        "not " * MAX_CHARACTERS + "held(red)",
    ],
)
def test_anything_but_words_comparisons_and_logic_is_refused(text: str) -> None:
    with pytest.raises(SetupError) as caught:
        compile_expression(text, TRUTH, OBJECTS)
    assert caught.value.code in ("FV-JDG-001", "FV-JDG-003")


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("heldd(red)", "FV-JDG-002", "Did you mean 'held'"),
        ("eval(red)", "FV-JDG-002", "unknown judge word 'eval'"),
        ("held(rad)", "FV-JDG-004", "Did you mean 'red'"),
        ("held()", "FV-JDG-003", "takes 1 to 2, got 0"),
        ("lifted(red)", "FV-JDG-003", "takes 2, got 1"),
        ("lifted(red, green)", "FV-JDG-003", "is a name, wanted a number"),
        ("count(held(red)) == 1", "FV-JDG-003", "is a truth, wanted a truths"),
        ("held([red, green])", "FV-JDG-005", "gives a truths, wanted a truth"),
        ("first_held([red, green])", "FV-JDG-005", "gives a name, wanted a truth"),
        ("held(red) == green", "FV-JDG-003", "compares name with truth"),
        ("first_held([red, green]) < red", "FV-JDG-003", "compares name"),
        ("held(red) and net_turn(red, z)", "FV-JDG-003", "is a number, wanted a truth"),
        ("on(red, left)", "FV-JDG-004", "unknown object 'left'"),
        ("held(none)", "FV-JDG-004", "unknown object 'none'"),
        ("held_by(red, green)", "FV-JDG-004", "unknown arm 'green'"),
        ("first_held([red, left]) == red", "FV-JDG-004", "unknown object 'left'"),
        ("turn(red, left, 20) == none", "FV-JDG-004", "unknown axis 'left'"),
        ("net_turn(red, z, left) > 1", "FV-JDG-004", "unknown direction 'left'"),
        ("first_held(red) == red", "FV-JDG-003", "is a name, wanted a names"),
        ("on(red, [mat])", "FV-JDG-003", "is a names, wanted a name"),
        ("not first_arm(red)", "FV-JDG-003", "is a name, wanted a truth"),
    ],
)
def test_a_mistake_is_found_before_any_trace_exists(text: str, code: str, hint: str) -> None:
    with pytest.raises(SetupError, match=hint) as caught:
        compile_expression(text, TRUTH, OBJECTS)
    assert caught.value.code == code


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_either_checked_or_refused_with_a_code(text: str) -> None:
    code = "FV-JDG-000"
    try:
        assert compile_expression(text, NAME, OBJECTS).kind == NAME
    except SetupError as error:
        code = error.code
    assert code.startswith("FV-JDG-")


def test_logic_and_chained_comparisons_mean_what_they_mean_in_python() -> None:
    story = Story(2.0, (cube("red"), (0.0, 0.0)), (cube("green"), (0.2, 0.0))).grip("left", "red", (0.5, 1.5))
    assert story.holds("held(red) and not held(green)")
    assert story.holds("held(green) or held(red)")
    assert not story.holds("not (held(red) or held(green))")
    assert story.holds("0 <= count(held([red, green])) < 2")
    assert not story.holds("0 < count(held([red, green])) < 1")
    assert story.holds("count(held([red, green])) == 1")
    assert story.holds("first_held([red, green]) != green")
    assert story.holds("first_held([red, green]) == red")
    assert story.holds("any(held([red, green]))")
    assert not story.holds("all(held([red, green]))")
    assert story.holds("count(held([red, green])) > 0 and count(held([red, green])) >= 1")


def test_words_accept_the_answer_of_another_word() -> None:
    story = Story(2.0, (cube("red"), (0.0, 0.0)), (cube("green"), (0.2, 0.0))).grip("right", "green", (0.5, 1.5))
    assert story.holds("held_by(first_held([red, green]), first_arm(green))")
    assert not story.holds("held_by(first_held([red, green]), left)")


def test_every_truth_about_an_object_nobody_held_is_no() -> None:
    story = Story(3.0, (cube("red"), (0.0, 0.0)), (cube("green"), (0.2, 0.0)))
    assert story.says("first_held([red, green])") == "none"
    for word in WORDS.values():
        if word.gives == TRUTH and word.takes[:1] == (EACH,):
            rest = {NUMBER: "0.01", OBJECT: "green", ARM: "left"}
            arguments = ", ".join(["first_held([red, green])", *(rest[kind] for kind in word.takes[1:])])
            assert not story.holds(f"{word.name}({arguments})")
    assert story.says("first_inside(first_held([red, green]), [red])") == "none"
    assert story.says("turn(first_held([red, green]), z, 20)") == "none"
    assert story.says("tcp_dir(first_held([red, green]), 0.08)") == "none"
    assert story.measures("net_turn(first_held([red, green]), z)") == 0.0
