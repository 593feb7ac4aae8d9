"""Runs as processes among others: killed, interrupted, started twice, and read on a phone."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import BROWSERS
from nbformat.v4 import new_code_cell, new_notebook

from keyreid.runs.cli import app

CELLS = [
    "name: str = 'new'\nuntil: str = ''  # file to wait for\ndies: bool = False\nout: str = ''",
    "import os, time\nfrom pathlib import Path\n\nout = Path(out)",
    "(out / 'first.txt').write_text(name)\n(out / 'kernel.txt').write_text(str(os.getpid()))",
    "while until and not Path(until).exists():\n    time.sleep(0.02)",
    "if dies:\n    os.kill(os.getpid(), 9)",
    "(out / 'last.txt').write_text(name)",
]
# One process imports torch and papermill, and each starter is a fork of it.
STARTERS = multiprocessing.get_context("forkserver")
STARTERS.set_forkserver_preload(["keyreid.runs.runs", "keyreid.retrieval.search"])


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    "An experiment that writes a file, waits if it is told to, and writes another."
    book = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "-"}
    nbformat.write(book, tmp_path / "slow.ipynb")
    return tmp_path / "slow.ipynb"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    "A folder with an earlier run."
    folder = tmp_path / "runs" / "quick"
    folder.mkdir(parents=True)
    for name in ("first.txt", "last.txt", "slow.ipynb"):
        (folder / name).write_text("old")
    return folder


def run_command(words: list[str], log: Path) -> None:
    "Be the command `keyreid`, started from a terminal, with all it says in a file."
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    app(words)


def start(notebook: Path, out: Path, **values) -> tuple[multiprocessing.Process, Path]:
    "A process that runs the experiment, and the file with what it says."
    given = [word for name, value in values.items() for word in ("-p", name, str(value))]
    words = ["runs", "execute", str(notebook), "--out", str(out), *given]
    log = notebook.with_name(f"log{len(list(notebook.parent.glob('log*')))}.txt")
    log.touch()
    process = STARTERS.Process(target=run_command, args=(words, log), daemon=True)
    process.start()
    return process, log


def wait_for(condition: Callable, what: str):
    "The first result of the condition that is true, within a minute."
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within a minute"
        time.sleep(0.02)
    return found


def begun(process, log: Path, out: Path) -> tuple[Path, int]:
    "The hidden folder and the kernel of a run that is in the middle of its work."

    def kernel() -> str:
        assert process.is_alive(), log.read_text()
        file = partial / "kernel.txt"
        return file.read_text() if file.exists() else ""

    partial = out.with_name(f".{out.name}.{process.pid}.partial")
    return partial, int(wait_for(kernel, "the run has begun"))


def is_gone(pid: int) -> bool:
    "Whether a process has ended."
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def state(out: Path) -> dict[str, tuple]:
    "First and last file of each folder beside the runs."
    files = [
        [folder / name for name in ("first.txt", "last.txt")] for folder in out.parent.iterdir()
    ]
    return {
        f[0].parent.name: tuple(p.read_text() if p.exists() else None for p in f) for f in files
    }


OLD, NEW = ("old", "old"), ("new", "new")


def test_a_killed_run_leaves_the_old_one_and_the_next_tidies_up(notebook, out):
    process, log = start(notebook, out, until="/no/such/file")
    partial, kernel = begun(process, log, out)
    process.kill()
    process.join(60)
    wait_for(lambda: is_gone(kernel), "the kernel ends with its starter")
    assert state(out) == {"quick": OLD, partial.name: ("new", None)}

    living = out.with_name(f".quick.{os.getpid()}.partial")
    living.mkdir()
    process, log = start(notebook, out)
    process.join(60)
    assert process.exitcode == 0, log.read_text()
    assert log.read_text() == f"done: {out}\n"
    assert state(out) == {"quick": NEW, living.name: (None, None)}


def test_ctrl_c_leaves_nothing_behind(notebook, out):
    process, log = start(notebook, out, until="/no/such/file")
    _, kernel = begun(process, log, out)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130, log.read_text()
    assert log.read_text() == "keyreid: stopped; what was there before is as it was\n"
    assert state(out) == {"quick": OLD}
    wait_for(lambda: is_gone(kernel), "the kernel ends")


def test_a_dead_kernel_is_a_failed_run(notebook, out):
    process, log = start(notebook, out, dies=True)
    process.join(60)
    assert process.exitcode == 1
    sentence = log.read_text().splitlines()[-1]
    assert "slow.ipynb failed: the process that ran the cells died" in sentence
    assert state(out) == {"quick": OLD, "quick.failed": ("new", None)}
    assert (out.parent / "quick.failed" / "slow.ipynb").is_file()


@pytest.mark.parametrize("name", ["quick", "quick.failed"])
def test_a_folder_of_other_things_is_not_replaced(notebook, out, name):
    foreign = out.with_name(name)
    shutil.rmtree(foreign, ignore_errors=True)
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("three years")
    process, log = start(notebook, out, dies=name != out.name)
    process.join(60)
    assert process.exitcode == 1
    assert "holds thesis.tex and no slow.ipynb of an earlier run" in log.read_text()
    assert (foreign / "thesis.tex").read_text() == "three years"


def test_two_starters_at_once(notebook, out):
    go = notebook.with_name("go")
    starters = [start(notebook, out, name=name, until=go) for name in ("ada", "ben")]
    folders = {begun(process, log, out)[0] for process, log in starters}
    assert len(folders) == 2
    go.touch()
    for process, log in starters:
        process.join(60)
        assert process.exitcode == 0, log.read_text()
    assert state(out) in ({"quick": ("ada", "ada")}, {"quick": ("ben", "ben")})


def exchange(out: Path, name: str, n: int) -> None:
    "Put many runs into their place, one after the other."
    from keyreid.runs.runs import replace_folder

    for _ in range(n):
        new = out.with_name(f".{out.name}.{os.getpid()}.partial")
        new.mkdir()
        for file in ("first.txt", "last.txt"):
            (new / file).write_text(name)
        replace_folder(new, out)


def test_exchanges_do_not_trample_each_other(out):
    names = ("ada", "ben", "cleo")
    processes = [STARTERS.Process(target=exchange, args=(out, name, 300)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    left = state(out)
    assert list(left) == ["quick"] and left["quick"] in {(name, name) for name in names}


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_on_a_phone(tmp_path: Path, scheme: str):
    from playwright.sync_api import sync_playwright

    from keyreid.figures import show_curves
    from keyreid.runs.report import Section, write_report

    curve = show_curves(
        {"a": [1, 2], "b": [2, 1]}, title="A title that is longer than a phone is wide"
    )
    table = [{"method": "m" * 60, "mAP": 0.5, "Rank-1": 0.5, "Rank-5": 0.5}]
    section = Section("a/long/path/" * 9, "<img src=x> and a < b", [curve, curve], table)
    write_report(tmp_path / "report.html", "Report", [section])
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, BROWSERS)))
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#figure-2 .main-svg")
        assert len(asked) == 1 and not said, (asked, said)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.locator("#figure-1").bounding_box()["width"] < 360
        assert page.locator("figcaption").first.bounding_box()["height"] > 30  # two lines
        ground = "getComputedStyle(document.querySelector('{}')).backgroundColor"
        paper, card = (page.evaluate(ground.format(tag)) for tag in ("body", "figure"))
        assert card == "rgb(255, 255, 255)" and (paper == card) == (scheme == "light")
        assert "<img src=x> and a < b" in page.inner_text("body")
        browser.close()
