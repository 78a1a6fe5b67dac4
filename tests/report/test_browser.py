"""The report in a real browser: everything is visible, nothing is requested, nothing is blocked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import DEAF, STEERABLE, shipped_rubric
from playwright.sync_api import Browser, sync_playwright
from run_folders import write_run

from finevla_runtime.report.page import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Debian's browser where there is one, else the one that `playwright install chromium` brought.
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(
        tmp_path_factory.mktemp("report") / "run", {"steerable": STEERABLE, "deaf": DEAF}, scenes=8, strips=True
    )
    return write_report(folder, shipped_rubric())[0]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 400)])
def test_the_report_shows_its_figures_in_a_browser(browser: Browser, page_path: Path, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=False,
    )
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(page_path.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [page_path.as_uri()]
    assert complaints == []
    assert "steerable followed both instructions" in page.locator(".headline").inner_text()
    for section in ("films", "steering", "violations", "scores", "probe", "comparison", "failures", "coverage"):
        assert page.locator(f"#{section} h2").is_visible()
    assert page.locator("#steering .bar").count() == 5 * 2 * 2
    assert page.locator("#scores svg").bounding_box()["width"] > 250  # type: ignore[index]
    assert page.locator("#films figure img").first.bounding_box()["height"] > 20  # type: ignore[index]
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= width
    context.close()


def test_every_picture_is_decoded_and_the_page_never_scrolls_sideways(browser: Browser, page_path: Path) -> None:
    for width in (1280, 760, 400):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(page_path.as_uri())
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) >= 10
        assert all(value > 100 for value in widths)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.close()
