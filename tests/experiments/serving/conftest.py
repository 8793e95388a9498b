"""A browser, and services with a page for it."""

import contextlib
import dataclasses

import polars as pl
import pytest
from selenium import webdriver

from experiments.serving import overview
from hrnn_jax.live.recommender import load_recommender
from hrnn_jax.live.store import state_store
from tests.helpers.page import (
    BROWSER_FLAGS,
    CHROMEDRIVER,
    CHROMIUM,
    SECONDS,
    SETTINGS,
    Page,
    Served,
)


@pytest.fixture(scope="module")
def recommender(trained_run):
    """A network with the history of 30 users."""
    with load_recommender(trained_run, states=state_store.IN_MEMORY) as loaded:
        loaded.bootstrap(pl.read_csv(trained_run.parent / "log.csv"))
        yield loaded


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in BROWSER_FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
    driver.set_page_load_timeout(SECONDS)
    driver.set_script_timeout(SECONDS)
    yield driver
    driver.quit()


@pytest.fixture
def serve(recommender, browser):
    """Start services with other settings; each call returns its page."""
    with contextlib.ExitStack() as stack:

        def started(**settings):
            served = Served(recommender, dataclasses.replace(SETTINGS, **settings))
            stack.callback(served.go_down)
            return Page(browser, served)

        yield started


@pytest.fixture(scope="module")
def served(recommender):
    served = Served(recommender, SETTINGS)
    yield served
    served.go_down()


@pytest.fixture
def page(browser, served, monkeypatch):
    """The page on a wide screen. Any message in the browser's log fails the test."""
    monkeypatch.setattr(overview, "_SHARE", 0)  # events are counted anew at each look,
    monkeypatch.setattr(overview, "_PATIENCE", float("inf"))  # which waits for it
    page = Page(browser, served)
    page.resize(1280, 900)
    page.prefer_motion("reduce")
    page.clear_tab()
    browser.get_log("browser")
    yield page
    assert browser.get_log("browser") == []
