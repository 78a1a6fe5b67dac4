"""The mixing experiment: what is done stays done, and the report says what the trials allow and no more."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_experiment import INVERTED_U, finish_all, finish_arm, make_experiment
from fake_runs import FakePolicy, shipped_rubric
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.evidence.intervals import wilson
from training.reproduce.figures import FINE, RAW, mean_of_rates, read_figures
from training.reproduce.page import write_mixing_report
from training.reproduce.plan import RATIOS, Experiment, find_setting
from training.reproduce.runner import run_experiment, run_finevla
from training.reproduce.tables import contrast_table, steering_table, success_table


class Recorder:
    """Does the work of each command with fakes and remembers the commands."""

    def __init__(self, experiment: Experiment, die_at: int = 10**6) -> None:
        self.experiment, self.die_at = experiment, die_at
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, arguments: Sequence[str]) -> None:
        if len(self.commands) == self.die_at:
            raise SetupError("FV-TRN-032", "the machine went away")
        self.commands.append(tuple(arguments))
        if arguments[0] == "sim":
            (self.experiment.demos / "meta").mkdir(parents=True)
            (self.experiment.demos / "meta" / "info.json").write_text("{}")
        if arguments[0] == "eval":
            arm = next(a for a in self.experiment.arms() if a.label == arguments[arguments.index("--label") + 1])
            finish_arm(self.experiment, arm, INVERTED_U[arm.ratio.name], scenes=2)


def test_an_interrupted_experiment_does_every_command_exactly_once(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "e")
    whole = Recorder(make_experiment(tmp_path / "whole"))
    run_experiment(whole.experiment, lambda line: None, whole)
    done: list[str] = []
    for stop in (1, 2, 3, 8, 100):
        recorder = Recorder(experiment, die_at=stop)
        try:
            run_experiment(experiment, lambda line: None, recorder)
        except SetupError:
            assert stop < 100
        done += [" ".join(c[:2]) for c in recorder.commands if c[0] == "eval"]
    assert len(done) == len(RATIOS)
    assert [c[0] for c in whole.commands] == ["sim"] + ["train", "eval"] * len(RATIOS)
    again = Recorder(experiment)
    run_experiment(experiment, lambda line: None, again)
    assert again.commands == []


def test_arms_of_one_framework_differ_in_nothing_but_their_share_and_their_folders(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, ("oft", "gr00t"))
    for framework in experiment.frameworks:
        commands = [experiment.train_command(a) for a in experiment.arms() if a.framework == framework]
        changing = {"--out", "--bundle", "--fg-share"}
        kept = {tuple(w for i, w in enumerate(c) if w not in changing and c[i - 1] not in changing) for c in commands}
        assert len(kept) == 1
        shares = [float(c[c.index("--fg-share") + 1]) for c in commands]
        assert shares == pytest.approx([0, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 4 / 5, 1], abs=1e-6)


def test_a_folder_of_another_setting_is_refused(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    recorder = Recorder(experiment)
    run_experiment(experiment, lambda line: None, recorder)
    other = replace(experiment, setting=find_setting("cpu"))
    with pytest.raises(SetupError, match="another --out") as caught:
        run_experiment(other, lambda line: None, recorder)
    assert caught.value.code == "FV-TRN-033"


def test_other_demonstrations_than_those_it_was_begun_with_are_refused(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    recorder = Recorder(experiment)
    run_experiment(experiment, lambda line: None, recorder)
    (experiment.demos / "meta" / "info.json").write_text('{"other": 1}')
    with pytest.raises(SetupError, match="other demonstrations") as caught:
        run_experiment(experiment, lambda line: None, recorder)
    assert caught.value.code == "FV-TRN-033"


def test_a_command_that_fails_stops_the_experiment_and_says_so() -> None:
    with pytest.raises(SetupError, match="repeat the command") as caught:
        run_finevla(["no-such-verb"])
    assert caught.value.code == "FV-TRN-032"


def test_an_inverted_u_is_found_where_there_is_one(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    finish_all(experiment, INVERTED_U)
    (figures,) = read_figures(experiment, shipped_rubric())
    assert "The inverted U of the paper appears." in figures.finding(FINE)
    assert "Highest success rate: 1:1" in figures.finding(FINE)
    rates = [arm[FINE].success for arm in figures.arms.values()]
    assert rates.index(max(rates)) == 3
    obeyed = steering_table(figures).rows
    assert "J 1.00" in obeyed[3][1]
    assert float(obeyed[0][-2].replace("−", "-")) < 0.25
    assert len(contrast_table(figures).rows) == 14


def test_no_inverted_u_is_claimed_where_every_mixture_is_the_same(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    finish_all(experiment, dict.fromkeys(INVERTED_U, FakePolicy(obey=0.9, skill=0.9)))
    (figures,) = read_figures(experiment, shipped_rubric())
    for kind in (FINE, RAW):
        assert "The inverted U of the paper appears." not in figures.finding(kind)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_the_interval_of_a_mean_of_rates_holds_the_mean_and_shrinks_with_families(successes: list[int]) -> None:
    rates = [(s / 20, wilson(s, 20)) for s in successes]
    span, mean = mean_of_rates(rates), sum(rate for rate, _ in rates) / len(rates)
    assert 0.0 <= span.low <= mean <= span.high <= 1.0
    twice = mean_of_rates(rates * 2)
    assert twice.high - twice.low <= span.high - span.low + 1e-12
    alone = mean_of_rates(rates[:1])
    assert (alone.low, alone.high) == pytest.approx((rates[0][1].low, rates[0][1].high))


def test_an_unfinished_experiment_says_what_is_missing(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    finish_all(experiment, INVERTED_U, skip=("2:1", "FG-only"), scenes=3)
    (figures,) = read_figures(experiment, shipped_rubric())
    assert figures.missing == ("2:1", "FG-only")
    assert figures.finding(FINE) == "incomplete: 2:1, FG-only missing."
    rows = {row[0]: row for row in success_table([figures]).rows}
    assert rows["2:1"][1] == "–"
    page, text = write_mixing_report(experiment)
    assert "Incomplete" in page.read_text(encoding="utf-8")
    assert "**Incomplete:**" in text.read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_shows_every_table(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    finish_all(experiment, INVERTED_U, scenes=3)
    page, text = write_mixing_report(experiment)
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert html.count("<svg") == 2
    for line in text.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            assert line.removeprefix("### ") in html
    assert "**" not in html


def test_the_page_is_readable_in_a_browser_and_asks_for_nothing(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path)
    finish_all(experiment, INVERTED_U, scenes=2)
    page_path, _ = write_mixing_report(experiment)
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 420, "height": 900}, java_script_enabled=False).new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_path.as_uri())
        assert asked == [page_path.as_uri()]
        assert page.locator("svg").count() == 2
        assert page.locator("tbody tr").first.is_visible()
        # The page itself never scrolls sideways on a phone; wide tables scroll in their own frame.
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        browser.close()


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(SetupError, match="Did you mean 'cpu'"):
        find_setting("cpuu")
