"""The page of a service in this process, and what a person does on it and sees there."""

import shutil
import socket
import threading

import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.operation.prometheus import ServiceMetrics

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver"
)
SETTINGS = Settings(model="HRNN Init", data="a made log", simulated=True, given_sessions=False)
BROWSER_FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
SECONDS = 60  # a time limit far above what the page takes
IDLE = """
return document.querySelector("#main").ariaBusy === "false"
    && document.querySelector("#newcomer").ariaBusy !== "true"
    && document.getAnimations().length === 0
"""
ROWS = """
return [...document.querySelector(arguments[0]).tBodies[0].rows].map(
    (row) => [...row.cells].map((cell) => cell.innerText.split("\\n")[0]))
"""

SUGGESTIONS = """
return [...document.querySelector(arguments[0]).options].map(({ value, text }) => [value, text])
"""


class Served:
    """A service in this process that can stop and start again at the same port."""

    def __init__(self, recommender, settings):
        self.recommender = recommender
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/"
        self._settings = settings
        self._start()

    def _start(self):
        metrics = ServiceMetrics()
        self._batcher = Batcher(self.recommender, metrics)
        app = build(self._batcher, metrics, self._settings)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        sockets = [self._listening]
        self._thread = threading.Thread(target=self._server.run, args=[sockets], daemon=True)
        self._thread.start()

    def go_down(self):
        self._server.should_exit = True
        self._thread.join()
        self._batcher.close()
        self._listening.close()

    def come_back(self):
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._start()


class Page:
    """What a person does on the page and sees there."""

    def __init__(self, browser, served):
        self.browser, self.served = browser, served

    def open(self, address=""):
        self.browser.get("about:blank")
        self.browser.get(self.served.url + address)
        self.settle()

    def clear_tab(self):
        """Forget what the tab keeps of the service, such as its switches."""
        self.browser.get(self.served.url + "icon.svg")
        self.browser.execute_script("sessionStorage.clear()")

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer_motion(self, value):
        features = [{"name": "prefers-reduced-motion", "value": value}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def wait(self, until):
        return WebDriverWait(self.browser, SECONDS, 0.02).until(lambda _: until())

    def settle(self):
        self.wait(lambda: self.browser.execute_script(IDLE))

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def press(self, *keys):
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self):
        return self.browser.switch_to.active_element

    def rows(self, table):
        """Return the cells of a table's rows."""
        return self.browser.execute_script(ROWS, table)

    def items(self, table):
        return [item for _, item, *_ in self.rows(table)]

    def click(self, place):
        """Click the recommended item at this place; returns it."""
        item = self.items("#now")[place - 1]
        self.browser.execute_script("document.querySelector('#status').textContent = ''")
        self.find(f"[data-key=place-{place}]").click()
        self.wait_status(item)
        return item

    def suggestions(self, name):
        """Return the (value, text) pairs that the field of this name suggests."""
        return [tuple(pair) for pair in self.browser.execute_script(SUGGESTIONS, f"#{name}-ids")]

    def wait_suggestions(self, name, expected):
        self.wait(lambda: self.suggestions(name) == expected)

    def wait_status(self, item):
        """Wait until the status names the item of a click."""
        self.wait(lambda: self.text("#status").startswith(f"{item} "))
        self.settle()
