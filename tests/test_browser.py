"""A person opens a notebook in JupyterLab, runs all cells, and sees a figure and no error."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import BROWSERS

NOTEBOOK = "nbs/0_start/03_figures.ipynb"
TOKEN = "only-for-this-test"
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def lab(root: Path, tmp_path: Path) -> Iterator[str]:
    "The address of a JupyterLab that serves a copy of the book and knows no user's settings."
    copy = tmp_path / "book"
    for name in ("nbs", "keyreid"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(root / name, copy / name, symlinks=True, ignore=ignored)
    shutil.copy2(root / "pyproject.toml", copy)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
               "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={copy}"]  # fmt: skip
    environment = os.environ | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(copy)}
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, cwd=copy, stdout=log, stderr=log)
    try:
        wait_for(f"{address}/api", server, tmp_path / "lab.log")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    "Return when the server answers."
    for _ in range(300):
        try:
            urlopen(address).close()
            return
        except (URLError, ConnectionError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise TimeoutError(f"JupyterLab does not answer: {log.read_text()}")


@pytest.mark.browser
def test_run_all_cells(lab: str, tmp_path: Path):
    from playwright.sync_api import TimeoutError, sync_playwright

    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(f"{lab}/lab/tree/{NOTEBOOK}?token={TOKEN}")
        # The kernel must be attached before the menu means anything.
        page.wait_for_selector("#jp-main-statusbar >> text=/Python 3.*Idle/")
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        if page.locator(".jp-Dialog").count():  # it was not attached after all: take it
            page.click(".jp-Dialog .jp-mod-accept")
        try:  # the last cell is the active one, and has its number when it has run
            page.wait_for_selector(".jp-mod-active .jp-InputArea-prompt >> text=/\\[\\d+\\]/")
        except TimeoutError:
            page.screenshot(path=tmp_path / "lab.png")
        assert faults(save(page, tmp_path / "book" / NOTEBOOK)) == []
        figures = page.locator(".jp-Notebook .js-plotly-plot .main-svg")
        for _ in range(60):  # cells far out of sight are not drawn
            if figures.count():
                break
            page.mouse.move(700, 500)
            page.mouse.wheel(0, -400)
            page.wait_for_timeout(100)
        figures.first.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "lab.png")
        assert figures.first.is_visible()
        browser.close()


def save(page, path: Path) -> list[dict]:
    "Save the open notebook, and return its code cells."
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(50):
        page.wait_for_timeout(200)
        if path.stat().st_mtime_ns != before:
            page.wait_for_timeout(500)  # until it is written
            cells = json.loads(path.read_text())["cells"]
            return [cell for cell in cells if cell["cell_type"] == "code"]
    raise AssertionError("JupyterLab did not save the notebook")


def faults(cells: list[dict]) -> list[str]:
    "Errors in the outputs of cells, and cells that have not run."
    outputs = [output for cell in cells for output in cell["outputs"]]
    errors = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    unrun = ["".join(cell["source"]) for cell in cells if not cell["execution_count"]]
    return errors + [f"did not run: {text}" for text in unrun]
