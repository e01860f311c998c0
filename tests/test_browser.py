"""What people look at, looked at by a real browser."""

import gc
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import sync_playwright

from hwtune.report.compare import described, write_comparison
from hwtune.report.report import write_report
from hwtune.study_folder import StudyFolder
from scripts.bench.faults import PATIENCE
from tests.conftest import keep_picture

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TRIALS = 6
ROOT = Path(__file__).parent.parent


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


@contextmanager
def watched(study):
    """Yield the dashboards of a study, served by the command."""
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
        assert server.wait(PATIENCE) == 0
        server.stdout.close()


@pytest.fixture(scope="module")
def addresses(study):
    with watched(study) as found:
        yield found


@contextmanager
def opened(browser, address, **options):
    page = browser.new_page(viewport={"width": 1600, "height": 1000}, **options)
    page.set_default_timeout(90_000)
    page.goto(address)
    yield page
    page.close()


def appears(page, what):
    """Wait until a page of TensorBoard shows something; it does not ask anew by itself."""
    for seconds in (8, 8, 8, 15, 30):
        with suppress(PlaywrightTimeout):
            what.wait_for(timeout=1000 * seconds)
            return
        page.reload()
    what.wait_for()


def test_tensorboard_lists_every_trial_with_its_hyperparameters(browser, addresses, study):
    with opened(browser, addresses["TensorBoard"] + "/#hparams") as page:
        table = page.locator("tf-hparams-table-view")
        for trial in study.read_trials():
            appears(page, table.get_by_text(f"{trial.trial:04d}", exact=True).first)
        for title in ("batch_size", "filters", "head", "val_accuracy"):
            assert table.get_by_text(title, exact=True).first.is_visible()
        keep_picture("tensorboard", page.screenshot)


def test_tensorboard_shows_distorted_and_confused_images(browser, addresses):
    with opened(browser, addresses["TensorBoard"] + "/?darkMode=false#timeseries") as page:
        for title in ("distorted/the most in the space", "confusion"):
            page.get_by_text(title).first.wait_for()
        page.locator("image-card img, image-card .image").first.wait_for()
        keep_picture("tensorboard-images", page.screenshot)


def test_the_optuna_dashboard_shows_the_trials(browser, addresses):
    with opened(browser, addresses["Optuna dashboard"]) as page:
        see_trial(page, "seen", TRIALS - 1)


def see_trial(page, study, number):
    """Wait until the Optuna dashboard shows a trial; its list draws the first ones alone."""
    page.get_by_text(study).first.click()
    page.wait_for_url("**/studies/**")
    page.goto(f"{page.url.split('/trials')[0].rstrip('/')}/trials?numbers={number}")
    page.get_by_text(f"Trial {number} (trial_id=").first.wait_for()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study that is being searched, its first trial over."""
    results = tmp_path_factory.mktemp("live")
    search = subprocess.Popen(
        [sys.executable, "-m", "hwtune", "search", "digits_cnn", "--trials", "1000", "--scheduler",
         "none", "--name", "live", "--results", str(results)], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    folder = StudyFolder(results / "live")
    try:
        while not any(t.state == "complete" for t in trials_of(folder)):
            assert search.poll() is None
            time.sleep(0.2)
        yield folder
    finally:
        search.send_signal(signal.SIGINT)
        assert search.wait(PATIENCE) == 130


def trials_of(folder):
    return folder.read_trials() if (folder.path / "epochs.csv").exists() else []


def test_trials_appear_in_every_dashboard_while_a_search_runs(browser, searched):
    with watched(searched) as found:
        with opened(browser, found["Optuna dashboard"]) as page:
            later = len(searched.read_trials()) + 4  # not there when the page is opened
            see_trial(page, "live", later)
        with opened(browser, found["TensorBoard"] + "/#hparams") as page:
            cell = page.locator("tf-hparams-table-view").get_by_text(f"{later:04d}").first
            appears(page, cell)
        with opened(browser, found["Ray dashboard"]) as page:
            ray = Path(sys.executable).parent / "ray"
            token = subprocess.check_output([ray, "get-auth-token"], text=True).split()[-1]
            page.locator("input[type=password]").fill(token)
            page.get_by_role("button", name="submit").click()
            page.get_by_text("Authentication Token Required").wait_for(state="hidden")
            page.goto(found["Ray dashboard"] + "/#/actors")
            page.get_by_text("TrialRunner").first.wait_for()
            keep_picture("ray-dashboard", page.screenshot)


def test_a_dashboard_that_is_killed_leaves_no_server_behind(study):
    words = [sys.executable, "-m", "hwtune", "dashboard", str(study.path)]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    lines = iter(command.stdout.readline, "Ctrl-C ends them.\n")
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", "".join(lines))]
    assert len(ports) == 2
    command.kill()
    command.wait()
    command.stdout.close()
    until = time.monotonic() + 30
    while any(answers(port) for port in ports) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(answers(port) for port in ports)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
    for plot in page.locator(".plotly-graph-div").all():
        assert plot.locator(".main-svg").count() >= 1
        assert plot.bounding_box()["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    context.close()


def test_a_report_on_paper_is_light_and_cuts_nothing_off(browser, study):
    paper = {"width": 718, "height": 1000}  # A4 less its margins, at 96 pixels an inch
    with opened(browser, study.report.as_uri(), color_scheme="dark") as page:
        page.set_viewport_size(paper)
        page.emulate_media(media="print")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth") <= paper["width"]


def test_the_page_of_a_reference_study_draws_every_curve(browser, tmp_path):
    shutil.copytree(ROOT / "results" / "chinese_cnn-default", tmp_path / "chinese_cnn-default")
    folder = StudyFolder(tmp_path / "chinese_cnn-default")
    write_report(folder)
    with opened(browser, folder.report.as_uri()) as page:
        page.set_viewport_size({"width": 1000, "height": 1300})
        page.locator("#curves .scatterlayer .trace").first.wait_for()
        drawn = page.locator("#curves .scatterlayer .trace").count()
        assert drawn == sum(trial.epochs > 0 for trial in folder.read_trials())
        assert page.locator("#progress .main-svg").first.is_visible()
        keep_picture("report", page.screenshot)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_several_studies_is_whole_on_any_screen(browser, tmp_path, width):
    names = ("chinese_cnn-hour", "chinese_cnn-random")
    folders = [StudyFolder(ROOT / "results" / name) for name in names]
    write_comparison(tmp_path / "page.html", folders, described(folders))
    with opened(browser, (tmp_path / "page.html").as_uri()) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.locator("#progress .main-svg").first.wait_for()
        for plot in page.locator(".plotly-graph-div").all():
            assert plot.bounding_box()["height"] > 100
        assert all(page.get_by_text(name).first.is_visible() for name in names)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
