#!/usr/bin/env python3
"""The page of `kinglet watch` in a real browser: does it show what it should, and nothing else?

    page.py URL COLLECTION [--token TOKEN] [--pictures FOLDER] [--stop PID]

Needs Debian's chromium, chromium-driver and python3-selenium. Exit code 0 if all is well, 77 if they are
missing, else 1 and what is wrong. With --pictures it takes screenshots of the page at two widths, light
and dark. With --stop the program is ended at last, and the page must say so.
"""

import argparse
import io
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.parse
import zipfile

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    print("python3-selenium is not installed")
    sys.exit(77)

PATIENCE = 60


def browser(folder):
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        print("chromium or chromium-driver is not installed")
        sys.exit(77)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-default-apps", "--window-size=1440,1000", f"--user-data-dir={folder}/profile",
        "--ignore-certificate-errors", "--hide-scrollbars", "--no-proxy-server",
    ]:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": f"{folder}/downloads"})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def until(what, is_so):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = is_so()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


class Page:
    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        self.requests, self.errors = [], []

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        # Elements are replaced while the page lives.
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return self.driver.execute_script(script, selector)

    def drain(self):
        """What the console and the network have seen."""
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self.errors.append(entry["message"])
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])

    def check_quiet(self):
        self.drain()
        assert not self.errors, self.errors
        here = urllib.parse.urlsplit(self.url)
        for request in self.requests:
            parts = urllib.parse.urlsplit(request)
            own = (parts.scheme, parts.netloc) == (here.scheme, here.netloc)
            local = parts.scheme in ("data", "blob") or request.startswith("blob:" + self.url.rstrip("/"))
            assert own or local, f"outside request: {request}"

    def look(self, width, height, dark):
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        time.sleep(0.4)

    def check_fits(self, width):
        script = "return [document.documentElement.scrollWidth, innerWidth]"
        wide, inner = self.driver.execute_script(script)
        assert wide <= inner, f"at {width} pixels the page is {wide} wide"

    def check_contrast(self):
        """Text against what lies behind it, WCAG's 4.5 to 1."""
        poor = self.driver.execute_script(CONTRAST)
        assert not poor, f"too little contrast: {poor}"


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const disabled = element.disabled || element.closest('.view, script, style');
  if (!own || disabled || !element.getClientRects().length) continue;
  let behind = element, ground = [0, 0, 0, 0];
  while (behind && (ground[3] ?? 1) === 0) {
    ground = parse(getComputedStyle(behind).backgroundColor);
    behind = behind.parentElement;
  }
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return poor;
"""


def check(page, arguments, folder):
    driver = page.driver
    # What the browser asks its own pages for is not ours.
    driver.get("about:blank")
    page.drain()
    page.requests, page.errors = [], []
    driver.get(arguments.url)
    if arguments.token:
        until("the token is asked for", lambda: page.one("#ask").is_displayed())
        page.one("#token").send_keys("not-the-token-at-all", Keys.ENTER)
        until("a wrong one is refused", lambda: "not the token" in page.text("#refused"))
        page.drain()
        # The refusal itself is logged by the browser.
        page.errors = [error for error in page.errors if "401" not in error]
        page.one("#token").send_keys(arguments.token, Keys.ENTER)

    # The picture is there and changes.
    picture = until("a picture", lambda: page.one("#picture").is_displayed() and page.one("#picture"))
    # While the next picture is being read the browser says 0 x 0.
    size = "return Math.min(arguments[0].naturalWidth, arguments[0].naturalHeight)"
    until("the picture has a size", lambda: driver.execute_script(size, picture) > 0)
    sources = set()
    until("the picture changes", lambda: sources.add(picture.get_attribute("src")) or len(sources) > 5)
    until("it is live", lambda: page.text("#state") == "Live")

    # Bars move.
    widths = "return [...document.querySelectorAll('.bar i')].map((i) => i.style.width).join()"
    seen = set()
    until("bars move", lambda: seen.add(driver.execute_script(widths)) or len(seen) > 3)
    until("a decision", lambda: page.text("#decided strong") not in ("", "–"))
    until("a curve", lambda: page.one("#latency .curve").get_attribute("d"))
    until("facts", lambda: len(page.all("#camera dt")) >= 5)

    # A frame is saved by the keyboard alone, and then by its button.
    collection = pathlib.Path(arguments.collection)
    name = page.one("#class")
    name.send_keys("tiger cat", Keys.ENTER)
    saved = until("a file", lambda: list(collection.glob("tiger cat/*.jpg")))
    assert saved[0].read_bytes()[:2] == b"\xff\xd8"
    until("it is said", lambda: "saved as tiger cat" in page.text("#said"))
    until("the class", lambda: "tiger cat" in page.text("#classes"))
    driver.execute_script("document.querySelector('#classes button').click()")
    until("two files", lambda: len(list(collection.glob("tiger cat/*.jpg"))) == 2)
    until("counted", lambda: "2" in page.text("#classes b"))
    driver.execute_script("document.activeElement.blur()")
    ActionChains(driver).send_keys("1").perform()
    until("a key saves", lambda: len(list(collection.glob("tiger cat/*.jpg"))) == 3)
    page.one("#undo").click()
    until("undone", lambda: len(list(collection.glob("tiger cat/*.jpg"))) == 2)
    name.clear()
    name.send_keys("../etc", Keys.ENTER)
    until("a bad name is refused", lambda: "Not saved" in page.text("#said"))
    page.drain()
    page.errors = [error for error in page.errors if "400" not in error]
    name.clear()
    name.send_keys("espresso", Keys.ENTER)
    until("another class", lambda: list(collection.glob("espresso/*.jpg")))
    until("both classes", lambda: len(page.all("#classes button")) == 2)
    page.one("#undo").click()
    until("undone", lambda: not (collection / "espresso").exists())
    until("one class", lambda: len(page.all("#classes button")) == 1)

    # The download is what is on the disk.
    downloads = pathlib.Path(folder, "downloads")
    until("the download", lambda: page.one("#download").is_displayed())
    page.one("#download").click()
    files = until("the zip", lambda: list(downloads.glob("*.zip")))
    archive = zipfile.ZipFile(io.BytesIO(files[0].read_bytes()))
    assert archive.testzip() is None
    for entry in archive.namelist():
        assert archive.read(entry) == (collection / entry).read_bytes(), entry
    assert len(archive.namelist()) == 2, archive.namelist()

    # Everything has a name for those who do not see it, and can be reached by the keyboard.
    unnamed = driver.execute_script("""
      return [...document.querySelectorAll('input, button, a, img, svg[role=img]')].filter((e) =>
        !(e.labels?.length || e.textContent.trim() || e.alt || e.ariaLabel)).map((e) => e.outerHTML)""")
    assert not unnamed, unnamed
    assert page.one("#decided").get_attribute("aria-live") == "polite"
    driver.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(12):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.add(driver.execute_script("return document.activeElement.id || document.activeElement.tagName"))
    assert {"class", "undo", "download", "BUTTON"} <= reached, reached

    for width, height in [(1440, 1000), (360, 1700)]:
        for dark in [False, True]:
            page.look(width, height, dark)
            page.check_fits(width)
            page.check_contrast()
            if arguments.pictures:
                path = pathlib.Path(arguments.pictures, f"page-{width}-{'dark' if dark else 'light'}.png")
                driver.save_screenshot(str(path))
    page.check_quiet()

    if arguments.stop:
        os.kill(arguments.stop, signal.SIGTERM)
        until("it is said", lambda: "Connection lost" in page.text("#state"))
        until("and on the picture", lambda: page.text("#away") == "Connection lost")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("collection")
    parser.add_argument("--token")
    parser.add_argument("--pictures")
    parser.add_argument("--stop", type=int, metavar="PID")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = browser(folder)
        try:
            page = Page(driver, arguments.url)
            check(page, arguments, folder)
        except AssertionError:
            traceback.print_exc(file=sys.stdout)
            page.drain()
            print("console:", page.errors)
            print("state:", page.text("#state"), "| said:", page.text("#said"))
            sys.exit(1)
        finally:
            driver.quit()
    print("all well")


if __name__ == "__main__":
    main()
