"""The frozen plan: complete pairs on shared scenes, whatever is selected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from sim_eval.plan import Selection, find_suite, freeze, select, tabletop_rubric

RUBRIC = tabletop_rubric()
SUITE = find_suite("tabletop", RUBRIC)
FAMILIES = [family.family for family in SUITE.families]


@given(
    families=st.sets(st.sampled_from(FAMILIES), min_size=1),
    kinds=st.sets(st.sampled_from(["raw", "fine_grained"]), min_size=1),
    trials=st.integers(1, 4),
)
def test_any_selection_asks_every_variant_on_the_same_held_out_scenes(
    families: set[str], kinds: set[str], trials: int
) -> None:
    chosen = select(SUITE, Selection(tuple(kinds), tuple(families), trials))
    manifest = freeze(chosen, RUBRIC, {"a": "1", "b": "2"}, "now")
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for trial in manifest.trials:
        assert trial.trial_id == (
            f"{trial.family}/{trial.variant}/{trial.instruction.kind.value}/{trial.scene_seed}/{trial.policy}"
        )
        key = (trial.family, trial.instruction.kind.value, trial.variant, trial.policy)
        groups.setdefault(key, []).append(trial.scene_seed)
    wanted = list(range(1_000_000, 1_000_000 + trials))
    assert all(seeds == wanted for seeds in groups.values())
    assert {key[0] for key in groups} == families
    assert {key[1] for key in groups} == kinds
    for family in families:
        assert {key[2] for key in groups if key[0] == family} == set(RUBRIC.family(family).variants)


def test_raw_texts_are_the_same_for_both_variants_of_a_scene_and_fine_grained_ones_are_not() -> None:
    manifest = freeze(select(SUITE, Selection(("raw", "fine_grained"), ("colour",), 3)), RUBRIC, {"a": "1"}, "")
    texts: dict[tuple[str, int], set[str]] = {}
    for trial in manifest.trials:
        texts.setdefault((trial.instruction.kind.value, trial.scene_seed), set()).add(trial.instruction.text)
    assert all(len(found) == (1 if kind == "raw" else 2) for (kind, _), found in texts.items())


def test_a_run_that_is_cut_short_has_complete_pairs_of_the_first_scenes() -> None:
    manifest = freeze(select(SUITE, Selection(trials=3)), RUBRIC, {"a": "1"}, "")
    seeds = [trial.scene_seed for trial in manifest.trials]
    assert seeds == sorted(seeds)


def test_the_plan_does_not_depend_on_when_it_was_made() -> None:
    first, second = (freeze(SUITE, RUBRIC, {"a": "1"}, created) for created in ("2026", "2027"))
    assert first.hash == second.hash
    assert first.hash != freeze(SUITE, RUBRIC, {"a": "2"}, "2026").hash


@pytest.mark.parametrize(
    ("selection", "code"),
    [
        (Selection(kinds=("fine",)), "FV-SUI-002"),
        (Selection(families=("color",)), "FV-SUI-002.*Did you mean 'colour'"),
        (Selection(trials=-1), "FV-SUI-004"),
    ],
)
def test_what_the_suite_does_not_have_is_refused(selection: Selection, code: str) -> None:
    with pytest.raises(SetupError, match=code):
        select(SUITE, selection)


def test_an_unknown_suite_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SetupError, match=r"FV-SUI-002.*Did you mean 'tabletop'"):
        find_suite("tabeltop", RUBRIC)
