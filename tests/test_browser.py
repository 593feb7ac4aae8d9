"""A person opens a notebook in JupyterLab, runs it, moves a slider, and the figure follows."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from conftest import BROWSERS, ROOT

TOKEN = "only-for-this-test"
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds; two cores may be busy with other tests
SETTINGS = {  # of JupyterLab: draw cells that are out of sight, too; ask nothing
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
SLIDERS = [  # one notebook of each chapter that is quick to run, and the slider that is moved
    ("0_start/03_figures", "current"),
    ("1_data/17_clips", "clip_length"),
    ("2_retrieval/25_open_set", "threshold"),
    ("3_pose/33_heatmaps", "threshold"),
    ("4_appearance/42_heads", "drift"),
    ("5_parts/51_tcss", "shift"),
    ("6_posegraph/60_gcn", "n_layers"),
    ("7_learning/75_schedule", "warmup_steps"),
    ("8_explore/85_adaptive_share", "appearance"),
    ("8_explore/86f_batch_maker", "n_ids"),
]
ERROR = "[data-mime-type='application/vnd.jupyter.stderr']"  # how JupyterLab draws an error
LAST = ".jp-Notebook .jp-CodeCell:last-of-type .jp-InputArea-prompt"
HAS_RUN = """([error, last]) => {
    const [prompts, outputs] = [last, error].map(name => [...document.querySelectorAll(name)]);
    return /\\[\\d+\\]/.test(prompts.pop()?.textContent)
        || outputs.some(output => output.textContent.includes("Traceback"));
}"""
PARTS = ["title", "shapes", "annotations", "images"]
DRAWN = "(f, parts) => JSON.stringify([f.data, ...parts.map(part => f.layout[part])])"


def leave_out(path: Path) -> None:
    "Take out of a notebook the cells that its own tests leave out, such as those for a GPU."
    flags = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["nbdev"]["tst_flags"]
    book = json.loads(path.read_text())
    is_flagged = re.compile(rf"^#\|\s*({'|'.join(flags)})\b", re.MULTILINE)
    book["cells"] = [c for c in book["cells"] if not is_flagged.search("".join(c["source"]))]
    path.write_text(json.dumps(book))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A folder with a copy of the book, and with settings of JupyterLab instead of the user's."
    folder = tmp_path_factory.mktemp("lab")
    for name in ("nbs", "keyreid"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, folder / "book" / name, symlinks=True, ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", folder / "book")
    for name, _ in SLIDERS:
        leave_out(folder / f"book/nbs/{name}.ipynb")
    for name, values in SETTINGS.items():
        path = folder / f"home/.jupyter/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[str]:
    "The address of a JupyterLab that serves the copy of the book."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": home / "book",
        "IdentityProvider.token": TOKEN,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"HOME": str(home / "home"), "PYTHONPATH": str(home / "book")}
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen(
            command, env=environment, cwd=home / "book", stdout=log, stderr=log
        )
    try:
        wait_for(f"{address}/api", server, home / "lab.log")
        yield address
        shut_down(address)
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    "A browser without a window."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium) -> Iterator:
    "An empty page; what goes wrong in it is written down in `page.troubles`."
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.troubles.append(said.text))
    yield page
    page.close()


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    "Return when the server answers."
    for _ in range(1200):
        try:
            urlopen(address).close()
            return
        except (URLError, ConnectionError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise TimeoutError(f"JupyterLab does not answer: {log.read_text()}")


def run_all(page, lab: str, notebook: str) -> None:
    "Open a notebook in a workspace of its own and run its cells, to the end or to an error."
    workspace = Path(notebook).stem
    page.goto(f"{lab}/lab/workspaces/{workspace}/tree/{notebook}?token={TOKEN}")
    # Before its kernel is attached, a notebook answers "Run All" with a question or not at all.
    page.wait_for_selector("#jp-main-statusbar >> text=/Python 3.*Idle/")
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    begun = page.locator(".jp-Dialog .jp-mod-accept, .jp-InputArea-prompt >> text=/\\[[*\\d]/")
    begun.first.wait_for()
    if page.locator(".jp-Dialog .jp-mod-accept").count():  # the question: take that kernel
        page.click(".jp-Dialog .jp-mod-accept")
    page.wait_for_function(HAS_RUN, arg=[ERROR, LAST])


def shut_down(lab: str) -> None:
    "End all kernels, so that they do not add up."
    head = {"Authorization": f"token {TOKEN}"}
    with urlopen(Request(f"{lab}/api/sessions", headers=head)) as answer:
        numbers = [session["id"] for session in json.load(answer)]
    for number in numbers:
        urlopen(Request(f"{lab}/api/sessions/{number}", headers=head, method="DELETE")).close()


def save(page, path: Path) -> list[dict]:
    "Save the open notebook, and return its code cells."
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(150):
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


def changed(page, read: Callable[[], str | None], before: str | None) -> str:
    "What is drawn once it differs from `before`, and has stopped to change."
    last = before
    for _ in range(PATIENCE // 200):
        page.wait_for_timeout(200)
        now = read()
        if now and now == last != before:
            return now
        last = now
    raise AssertionError("the figure stays as it was")


def move(page, label: str) -> list[str]:
    "What is drawn: at first, after the slider was moved by keys, and after it was pulled."
    controls = page.locator(".widget-interact")
    row = controls.locator(f".widget-inline-hbox:has(.widget-label:text-is('{label}'))")
    figure, handle = controls.locator(".js-plotly-plot"), row.locator(".noUi-handle")

    def read() -> str | None:
        return figure.first.evaluate(DRAWN, PARTS) if figure.count() else None

    handle.scroll_into_view_if_needed()
    states = [changed(page, read, None)]
    handle.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    states.append(changed(page, read, states[-1]))
    box, rail = handle.bounding_box(), row.locator(".noUi-target").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(rail["x"] + 0.9 * rail["width"], y, steps=3)
    page.mouse.up()
    states.append(changed(page, read, states[-1]))
    return states


@pytest.mark.browser
@pytest.mark.parametrize(("name", "label"), SLIDERS, ids=[name for name, _ in SLIDERS])
def test_slider_moves_the_figure(name: str, label: str, lab: str, home: Path, page):
    notebook = f"nbs/{name}.ipynb"
    try:
        run_all(page, lab, notebook)
        assert faults(save(page, home / "book" / notebook)) == []
        states = move(page, label)
        assert len(set(states)) == 3
        assert page.locator(ERROR, has_text="Traceback").all_inner_texts() == []
        assert page.troubles == []
    finally:
        page.screenshot(path=home / f"{Path(name).name}.png")
        shut_down(lab)


def test_each_chapter_has_a_slider(root: Path):
    chapters = {path.name for path in (root / "nbs").glob("[0-8]_*")}
    assert {name.split("/")[0] for name, _ in SLIDERS} == chapters


PLAYED = """i => [...document.querySelectorAll(".js-plotly-plot")].map(
    figure => [figure.layout.title.text, JSON.stringify(figure.data)])"""


@pytest.mark.browser
def test_a_page_has_sliders_of_its_own(root: Path, tmp_path: Path, page):
    "Without a kernel: what the site shows stays at its first state until its slider is moved."
    from plotly.offline import get_plotlyjs

    from keyreid.figures import PLOTLY, plotly_html

    cells = json.loads((root / "nbs/8_explore/86f_batch_maker.ipynb").read_text())["cells"]
    cells = [cell for cell in cells if "with_slider(" in "".join(cell["source"])]
    cells = [cell for cell in cells if any(PLOTLY in o.get("data", {}) for o in cell["outputs"])]
    assert len(cells) == 2
    for cell in cells:
        plotly_html(cell)
    drawn = [o["data"]["text/html"] for cell in cells for o in cell["outputs"] if "data" in o]
    drawn = [re.sub(r"<script[^>]* src=[^>]*></script>", "", html) for html in drawn]
    script = f"<meta charset='utf-8'><script>{get_plotlyjs()}</script>"
    (tmp_path / "page.html").write_text(script + "".join(drawn))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector(".slider-rail-touch-rect")
    page.wait_for_timeout(2000)  # time to play on its own, which it must not
    first = page.evaluate(PLAYED)
    assert [title.split("; ")[-1] for title, _ in first] == ["margin 0", "margin 0.3"]
    for i, rail in enumerate(page.locator(".slider-rail-touch-rect").all()):
        rail.scroll_into_view_if_needed()
        box = rail.bounding_box()
        page.mouse.click(box["x"] + 0.98 * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(500)
        assert page.evaluate(PLAYED)[i] != first[i]
    titles = [title for title, _ in page.evaluate(PLAYED)]
    assert titles[0].endswith("soft margin") and titles[1].startswith("No loss: one person")
    page.screenshot(path=tmp_path / "page.png")
    assert page.troubles == []
