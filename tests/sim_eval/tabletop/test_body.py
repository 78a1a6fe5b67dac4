"""The tabletop as a body: motions in slices of any length are judged as the suite judges its control steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Compliance
from finevla_runtime.evidence.outcomes import done_as_told
from finevla_runtime.paths import HW_CONFIGS, RUBRICS
from finevla_runtime.robot.simulated_body import BodyJudgement
from finevla_runtime.session.record_codec import outcome_from_json, outcome_to_json, sheet_to_json
from finevla_runtime.session.scoring import score
from finevla_runtime.session.strict_json import parse_json
from sim_eval.tabletop import body as body_module
from sim_eval.tabletop.body import TabletopBody, tabletop_body
from sim_eval.tabletop.catalog import sample_scene
from sim_eval.tabletop.expert import run_expert
from sim_eval.tabletop.judge import judge
from sim_eval.tabletop.world import TabletopWorld, home_target

RUBRIC = load_rubric(RUBRICS / "tabletop.yaml")
HOME = home_target()
# Family, what the expert does, and what else could have been asked for.
MOTIONS = [
    ("colour", "red", "blue"),
    ("arm", "left", "right"),
    ("rotate", "clockwise", "counterclockwise"),
    ("approach", "above", "side"),
    ("clean_table", "default", None),
]


def physics_body() -> TabletopBody:
    return TabletopBody(TabletopWorld(render=False), RUBRIC)


def even(dt_s: float) -> Iterator[float]:
    while True:
        yield dt_s


def irregular() -> Iterator[float]:
    rng = np.random.default_rng(5)
    while True:
        yield float(rng.choice([0.0, 0.001, 0.0047, 0.011, 0.017]))


def replay(body: TabletopBody, rows: np.ndarray, slices: Iterator[float]) -> None:
    """Follow the straight lines between rows 0.1 s apart, as a commander does, in slices of time."""
    points = np.vstack([HOME, rows])
    times = np.arange(len(points)) * 0.1
    now_s = 0.0
    while now_s < times[-1]:
        dt_s = min(next(slices), times[-1] - now_s)
        now_s += dt_s
        body.advance(np.array([np.interp(now_s, times, column) for column in points.T]), dt_s)


def expected_compliance(asked: str, done: str, other: str | None) -> Compliance:
    if other is None:
        return Compliance.NO_FACTOR
    return Compliance.COMPLIED if asked == done else Compliance.VIOLATED


@pytest.mark.parametrize(
    "slices", [lambda: even(0.004), lambda: even(0.005), irregular], ids=["4 ms", "200 Hz", "irregular"]
)
@pytest.mark.parametrize(("family", "variant", "other"), MOTIONS, ids=[motion[0] for motion in MOTIONS])
def test_an_experts_motion_in_slices_is_judged_as_in_control_steps(
    family: str, variant: str, other: str | None, slices: Callable[[], Iterator[float]]
) -> None:
    demo = run_expert(TabletopWorld(render=False), sample_scene(family, 3), variant, 0.0, 0, observe=False)
    body, rubric = physics_body(), RUBRIC.family(family)
    body.reset(f"{family}/3")
    replay(body, demo.executed, slices())
    for asked in filter(None, (variant, other)):
        sheet = judge(demo.trace, rubric, asked)
        outcome = score(rubric, asked, sheet)
        found = body.judge(asked, "fine_grained")
        record = json.loads(found.record_json)
        assert record["sheet"] == sheet_to_json(sheet)
        assert record["outcome"] == outcome_to_json(outcome)
        assert (found.success, found.score) == (asked == variant, outcome.score)
        assert outcome.compliance is expected_compliance(asked, variant, other)


def judged(kind: str) -> BodyJudgement:
    """The motion of an expert for red, judged as if blue had been asked for."""
    demo = run_expert(TabletopWorld(render=False), sample_scene("colour", 3), "red", 0.0, 0, observe=False)
    body = physics_body()
    body.reset("colour/3")
    replay(body, demo.executed, even(0.02))
    return body.judge("blue", kind)


@pytest.mark.parametrize("kind", InstructionKind)
def test_success_is_that_of_the_kind_of_instruction(kind: InstructionKind) -> None:
    found = judged(kind.value)
    outcome = outcome_from_json(parse_json(found.record_json, "record", "FV-TST-001").free_mapping()["outcome"])
    assert outcome.task_done
    assert found.success is done_as_told(outcome, kind) is (kind is InstructionKind.RAW)


def test_standing_still_is_no_success_and_the_record_says_for_how_long() -> None:
    body = physics_body()
    body.reset("colour/3")
    for _ in range(200):
        body.advance(HOME, 0.005)
    found = body.judge("red", "fine_grained")
    record = json.loads(found.record_json)
    assert (found.success, found.score) == (False, 0.0)
    assert (record["steps"], record["time_s"], record["family"], record["scene_seed"]) == (10, 1.0, "colour", 3)
    assert record["outcome"]["compliance"] == "not_engaged"


def test_a_reset_leaves_nothing_of_what_was_before() -> None:
    fresh, used = physics_body(), physics_body()
    used.reset("rotate/1")
    used.advance(HOME * 0.9, 0.1234)
    for body in (fresh, used):
        body.reset("colour/3")
        body.advance(HOME * 0.9, 0.21)
    assert np.array_equal(fresh.measured(), used.measured())
    assert fresh.judge("red", "raw") == used.judge("red", "raw")


@pytest.mark.parametrize(
    ("scene", "code"),
    [
        ("colour", "FV-BDY-003"),
        ("colour/", "FV-BDY-003"),
        ("colour/-1", "FV-BDY-003"),
        ("colour/3/4", "FV-BDY-003"),
        ("", "FV-BDY-003"),
        ("color/3", "FV-SIM-001"),
    ],
)
def test_an_unknown_scene_is_refused_and_the_present_one_stays(scene: str, code: str) -> None:
    body = physics_body()
    body.reset("colour/3")
    body.advance(HOME, 0.1)
    with pytest.raises(SetupError, match=code):
        body.reset(scene)
    assert json.loads(body.judge("red", "raw").record_json)["steps"] == 1


@pytest.mark.parametrize(("variant", "kind", "code"), [("green", "raw", "FV-RUB-010"), ("red", "fine", "FV-BDY-008")])
def test_an_unknown_variant_or_kind_is_refused(variant: str, kind: str, code: str) -> None:
    body = physics_body()
    body.reset("colour/3")
    with pytest.raises(SetupError, match=code):
        body.judge(variant, kind)


def test_before_the_first_scene_there_is_nothing_to_move_or_judge() -> None:
    body = physics_body()
    for call in (body.measured, body.images, lambda: body.advance(HOME, 0.1), lambda: body.judge("red", "raw")):
        with pytest.raises(SetupError, match="FV-SIM-006"):
            call()


def test_a_target_that_is_not_finite_is_refused_and_nothing_moves() -> None:
    body = physics_body()
    body.reset("colour/3")
    with pytest.raises(BodyError, match="FV-BDY-004"):
        body.advance(np.full(14, np.nan), 0.1)
    assert json.loads(body.judge("red", "raw").record_json)["steps"] == 0


def test_a_scene_that_ran_for_longer_than_is_kept_is_not_judged_but_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "LONGEST_TRACE_S", 0.5)
    world = TabletopWorld(render=False)
    body = TabletopBody(world, RUBRIC)
    body.reset("colour/3")
    for _ in range(10):
        body.advance(HOME * 0.9, 0.1)
    with pytest.raises(BodyError, match=r"FV-BDY-009.*reset it"):
        body.judge("red", "raw")
    assert world.trace().time[-1] == pytest.approx(0.5)
    assert world.time_s == pytest.approx(1.0)
    body.reset("colour/3")
    assert not body.judge("red", "raw").success


def test_it_sees_what_the_embodiment_has_cameras_for() -> None:
    embodiment = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    body = tabletop_body(embodiment)
    body.reset("colour/3")
    body.advance(HOME, 0.02)
    sizes = {camera.name: (camera.height, camera.width, 3) for camera in embodiment.cameras}
    first, second = body.images(), body.images()
    assert {name: image.shape for name, image in first.items()} == sizes
    for name, image in first.items():
        difference = np.abs(image.astype(int) - second[name])
        assert difference.max() == 1, "two pictures of a scene in which nothing moves differ by noise alone"
    assert body.embodiment == embodiment.name
    assert body.status() == 0


def test_it_stands_in_for_no_other_embodiment() -> None:
    embodiment = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    with pytest.raises(SetupError, match=r"FV-BDY-006.*kinematic"):
        tabletop_body(replace(embodiment, name="another"))
