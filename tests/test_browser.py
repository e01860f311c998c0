"""What people look at, looked at by a real browser."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import pytest
from playwright.sync_api import sync_playwright

from hwtune.records import StudyFolder

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TRIALS = 6


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # what playwright leaves open must not be found during another test


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study, with its baseline and stopped trials."""
    results = tmp_path_factory.mktemp("results")
    subprocess.run(
        [sys.executable, "-m", "hwtune", "search", "digits_cnn", "--trials", str(TRIALS),
         "--seeds", "1", "--name", "seen", "--results", str(results)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return StudyFolder(results / "seen")


@pytest.fixture(scope="module")
def addresses(study):
    """The dashboards of the study, served by the command."""
    words = [sys.executable, "-m", "hwtune", "dashboard", str(study.path), "--json"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line == "}\n":
                break
        yield json.loads("".join(lines))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        server.stdout.close()


def test_tensorboard_lists_every_trial_with_its_hyperparameters(browser, addresses, study):
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    page.goto(addresses["TensorBoard"] + "/#hparams")
    table = page.locator("tf-hparams-table-view")
    for trial in study.read_trials():
        table.get_by_text(f"{trial.trial:04d}", exact=True).first.wait_for(timeout=60_000)
    for title in ("batch_size", "filters", "head", "val_accuracy"):
        assert table.get_by_text(title, exact=True).first.is_visible()
    page.close()


def test_the_optuna_dashboard_shows_the_trials(browser, addresses, study):
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(addresses["Optuna dashboard"])
    page.get_by_text("seen").first.click()
    page.goto(page.url.rstrip("/") + "/trials" if "/trials" not in page.url else page.url)
    page.get_by_text(f"Trial {TRIALS - 1}").first.wait_for(timeout=60_000)
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_report_is_whole_offline_on_any_screen(browser, study, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(study.report.as_uri())
    page.wait_for_function("document.querySelectorAll('.plotly-graph-div').length >= 7")
    drawn = page.locator(".plotly-graph-div .main-svg")
    assert drawn.count() >= 7
    for plot in page.locator(".plotly-graph-div").all():
        assert plot.bounding_box()["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    if folder := os.environ.get("HWTUNE_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/report-{width}.png", full_page=True)
    context.close()
