"""Every check of the project, one after the other, up to the first that fails.

    make test                         all of them
    make test ARGS="clean export"     only these

The checks work on a copy in a temporary folder and change nothing here; a settings file or settings
in the environment play no part, so that the outcome is the same for everyone.
"""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import book
import sidebar
from conftest import BROWSERS
from strip_outputs import find_notebooks

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "nbs", "keyreid", "tests", "data", "pyproject.toml", "_quarto.yml", "README.md", "CHANGELOG.md",
)  # fmt: skip
NOT_COPIED = ("__pycache__", ".*", "_proc", "_docs", "_runs", "nbdev.yml", "sidebar.yml")
LOOKED_AT = ("index.html", "0_start/figures.html", "pages/when_it_fails.html")
MAX_SECONDS = 1800  # for one command; a check that takes longer hangs


class CheckFailedError(Exception):
    "What is wrong, in sentences with file names."


@dataclass
class Tally:
    "What ran, what failed, and what was left out for which reason."

    checks: int = 0
    notebooks: int = 0
    tests: int = 0
    experiments: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        "Everything that ran and did not fail."
        return self.checks + self.notebooks + self.tests + self.experiments


def copy_project(
    target: Path,  # folder to make
) -> Path:
    "A copy of what the checks read; data sets, results and settings stay behind."
    target.mkdir()
    for name in COPIED:
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target)
        elif name == "data":
            (target / "data").mkdir()
            shutil.copy2(ROOT / "data" / "README.md", target / "data")
        else:
            ignore = shutil.ignore_patterns(*NOT_COPIED)
            shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
    return target


def make_environment(
    copy: Path,  # the copied project
) -> dict[str, str]:
    "The environment of every command: this Python, the copied package, nothing of the user's."
    stub = copy.parent / "bin" / "quarto"  # nbdev would install Quarto where it finds none
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key != "KEYREID_SETTINGS"}
    return kept | {
        "PATH": os.pathsep.join([str(stub.parent), str(Path(sys.executable).parent), kept["PATH"]]),
        "PYTHONPATH": str(copy),
        "PLOTLY_RENDERER": "plotly_mimetype",  # the default stores 5 MB a figure
        "OMP_NUM_THREADS": "1",  # two notebooks run at a time
        "KEYREID_METADATA": kept.get("KEYREID_METADATA", str(ROOT.parent / "shared" / "metadata")),
        "HF_HUB_OFFLINE": "1",  # no check may need a download
        "HYPOTHESIS_STORAGE_DIRECTORY": str(copy.parent / "hypothesis"),
        "IPYTHONDIR": str(copy.parent / "ipython"),
    }


@dataclass
class Bench:
    "Where the checks work, and what they have counted so far."

    copy: Path
    environment: dict[str, str]
    tally: Tally

    def run(
        self,
        *command: str,  # program and arguments
        where: Path | None = None,  # working folder; None is the copied project
    ) -> str:
        "What the command printed; a command that fails or hangs fails the check."
        try:
            done = subprocess.run(
                command, cwd=where or self.copy, env=self.environment, timeout=MAX_SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode("utf-8", "replace")
            raise CheckFailedError(
                f"{said[-30000:]}\n{command[0]} did not end within {MAX_SECONDS} s"
            ) from error
        said = done.stdout.replace(str(self.copy), str(ROOT))  # paths that can be clicked
        if done.returncode:
            raise CheckFailedError(
                f"{said[-30000:]}\n{' '.join(command)} ended with code {done.returncode}"
            )
        return said


def count(
    n: int,
    noun: str,  # what is counted, in the singular
) -> str:
    "`1 test`, `2 tests`."
    return f"{n} {noun}{'' if n == 1 else 's'}"


def demand_none(
    complaints: list[str],  # what a rule of tests/book.py found
) -> None:
    "Fail if there are complaints."
    if complaints:
        raise CheckFailedError("\n".join(complaints))


# --- the checks, in their order ---


def ruff(bench: Bench) -> str:
    "Style of notebooks and tests."
    bench.run("ruff", "check", "nbs", "tests", where=ROOT)
    bench.run("ruff", "format", "--check", "nbs", "tests", where=ROOT)
    bench.tally.checks += 2
    return "style and format"


def clean(bench: Bench) -> str:
    "Notebooks are stored clean: no counters, no widgets, no errors, no rubbish."
    demand_none(
        book.output_complaints(ROOT / "nbs")
        + book.experiment_complaints(ROOT / "nbs")
        + book.figure_complaints(ROOT / "nbs")
        + book.docment_complaints(ROOT / "nbs")
    )
    bench.run("nbdev-clean", "--fname", "nbs")
    bench.run(sys.executable, "tests/strip_outputs.py", "nbs")
    names = [path.relative_to(ROOT) for path in find_notebooks(ROOT / "nbs")]
    demand_none([
        f"{name}: not clean; run nbdev-clean --fname {name} and tests/strip_outputs.py {name}"
        for name in names
        if not filecmp.cmp(ROOT / name, bench.copy / name, shallow=False)
    ])  # fmt: skip
    bench.tally.checks += 1
    return f"{count(len(names), 'notebook')} stored clean"


def export(bench: Bench) -> str:
    "The package is what the notebooks export."
    exported = bench.copy / "keyreid"
    shutil.rmtree(exported)
    exported.mkdir()
    shutil.copy2(ROOT / "keyreid" / "__init__.py", exported)  # holds the version
    bench.run("nbdev-export")
    demand_none(book.export_complaints(ROOT / "keyreid", exported))
    bench.tally.checks += 1
    return f"{count(len(list(exported.rglob('*.py'))), 'file')} as exported"


def order(bench: Bench) -> str:
    "Imports point to earlier notebooks, and layers are kept."
    return run_pytest(bench, "tests/test_order.py")


def notebooks(bench: Bench) -> str:
    "Each component notebook runs from top to bottom."
    needed = [
        notebook for notebook in book.read_book(bench.copy / "nbs") if not notebook.is_skipped
    ]
    flags = count_flags(needed)
    has_gpu = "cuda" in flags and "True" in bench.run(
        sys.executable, "-c", "import torch; print(torch.cuda.is_available())"
    )
    before = set((bench.copy / "nbs").rglob("*"))
    said = bench.run(
        "nbdev-test", "nbs", "--do-print", "--timing", "--flags", "cuda" if has_gpu else "",
        "--n-workers", "1" if has_gpu else "2",
    )  # fmt: skip
    ran = said.count("- Completed ")
    if ran != len(needed):
        raise CheckFailedError(f"{said}\n{ran} notebooks ran, but the book has {len(needed)}")
    left = sorted(
        set((bench.copy / "nbs").rglob("*")) - before - {bench.copy / "nbs/.last_checked"}
    )
    demand_none([
        f"{path.relative_to(bench.copy)} was left behind by a notebook; write to a temporary folder"
        for path in left
        if "__pycache__" not in path.parts
    ])  # fmt: skip
    bench.tally.notebooks += ran
    reasons = {"cuda": "no GPU", "slow": "run by nbdev-test --flags slow", "notest": "run by hand"}
    for flag, n_cells in flags.items():
        if not (has_gpu and flag == "cuda"):
            bench.tally.skipped += [f"notebook cell marked {flag} ({reasons[flag]})"] * n_cells
    slowest = re.findall(r"^(\S+\.ipynb): (\d+) secs", said, re.M)[:3]
    return f"{count(ran, 'notebook')} ran; slowest: " + ", ".join(
        f"{name} {s} s" for name, s in slowest
    )


def count_flags(
    notebooks: list[book.Notebook],
) -> dict[str, int]:
    "How many cells carry a flag that nbdev-test leaves out, by flag."
    texts = [text for notebook in notebooks for text in notebook.sources]
    flags = re.findall(r"^#\|\s*(cuda|slow|notest)\b", "\n".join(texts), re.M)
    return {flag: flags.count(flag) for flag in sorted(set(flags))}


def tests(bench: Bench) -> str:
    "What is no lesson: hostile input, the command line, the browser."
    # Two files at a time, each in one process: the browser waits while batches compute.
    at_once = "-n", "2", "--dist", "loadfile"
    return run_pytest(bench, "tests", "--ignore", "tests/test_order.py", *at_once)


def run_pytest(bench: Bench, *arguments: str) -> str:
    "Run pytest on the project itself and count its tests."
    report = bench.copy.parent / "pytest.xml"
    own = Bench(ROOT, bench.environment | {"PYTHONPATH": str(ROOT)}, bench.tally)
    try:
        own.run(sys.executable, "-m", "pytest", *arguments, f"--junitxml={report}")
    finally:
        if report.is_file():
            suite = ElementTree.parse(report).getroot().find("testsuite")
            n, skipped, bad, broken = (
                int(suite.get(key)) for key in ("tests", "skipped", "failures", "errors")
            )
            bench.tally.failed += max(bad + broken - 1, 0)  # the check itself counts as one
            bench.tally.tests += n - skipped - bad - broken
            bench.tally.skipped += [
                f"{case.get('name')} ({case.find('skipped').get('message')})"
                for case in suite.iter("testcase")
                if case.find("skipped") is not None
            ]
    return f"{count(n - skipped, 'test')} passed, {skipped} skipped"


def experiments(bench: Bench) -> str:
    "Each experiment runs through papermill, with the small parameters of tests/experiments.json."
    from papermill import inspect_notebook

    small = json.loads((ROOT / "tests" / "experiments.json").read_text(encoding="utf-8"))
    found = find_notebooks(bench.copy / "nbs" / "experiments")
    names = {path.stem for path in found}
    demand_none(
        [
            f"tests/experiments.json has no parameters for {name}"
            for name in sorted(names - set(small))
        ]
        + [
            f"tests/experiments.json: {name} is no experiment"
            for name in sorted(set(small) - names)
        ]
    )
    for path in found:
        unknown = set(small[path.stem]) - set(inspect_notebook(str(path)))
        demand_none([f"{path.name} has no parameter {name}" for name in sorted(unknown)])
    alone = Bench(bench.copy, bench.environment | {"OMP_NUM_THREADS": "1"}, bench.tally)

    def run(path: Path) -> None:
        alone.run(
            sys.executable, "-m", "papermill", path.name, str(bench.copy.parent / path.name),
            "--parameters_yaml", json.dumps(small[path.stem]), "--no-progress-bar",
            where=path.parent,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:  # two at a time, each on one thread
        bench.tally.experiments += len(list(pool.map(run, found)))
    return f"{count(len(found), 'experiment')} ran small"


def pages(bench: Bench) -> str:
    "The web site, up to the point where Quarto draws it."
    nbs, staged = bench.copy / "nbs", bench.copy / "_proc"
    demand_none(book.sidebar_complaints(ROOT / "_quarto.yml", ROOT / "nbs"))
    demand_none(book.index_complaints(ROOT / "nbs") + sidebar.sidebar_complaints(ROOT))
    demand_none(book.fact_complaints(ROOT))
    if not (ROOT / "nbs" / "_quarto.yml").samefile(ROOT / "_quarto.yml"):
        raise CheckFailedError("nbs/_quarto.yml is not the symlink to ../_quarto.yml")
    bench.run("nbdev-proc-nbs", "--force", "--n-workers", "2")
    demand_none(book.page_complaints(nbs, staged) + book.contents_complaints(nbs, staged))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    demand_none(book.link_complaints(nbs, staged, project["urls"]["Documentation"]))
    bench.tally.checks += 1
    return f"{count(len(find_notebooks(staged)), 'page')} made"


def site(bench: Bench) -> str:
    "The web site, drawn by Quarto where it is installed, and looked at in Chromium."
    quarto = shutil.which("quarto")
    if quarto is None:
        bench.tally.skipped.append("drawing the site (Quarto is not installed; see make docs)")
        return "skipped, Quarto is not installed"
    path = os.pathsep.join([str(Path(quarto).parent), bench.environment["PATH"]])
    own = Bench(bench.copy, bench.environment | {"PATH": path}, bench.tally)
    own.run("nbdev-docs")
    drawn = {
        p.relative_to(bench.copy / "_docs").as_posix() for p in (bench.copy / "_docs").rglob("*")
    }
    pages = [
        book.page_address(p.relative_to(bench.copy / "nbs"))
        for p in find_notebooks(bench.copy / "nbs")
    ]
    demand_none([f"Quarto drew no {page}" for page in pages if page not in drawn])
    bench.tally.checks += 1
    if not any(map(shutil.which, BROWSERS)):
        bench.tally.skipped.append("looking at the site (Chromium is not installed)")
        return f"{count(len(pages), 'page')} drawn"
    bench.run(
        sys.executable, "tests/look.py", "_docs", str(bench.copy.parent / "shots"), *LOOKED_AT
    )
    bench.tally.checks += 1
    return f"{count(len(pages), 'page')} drawn, {len(LOOKED_AT)} looked at: light, dark, on a phone"


STEPS: dict[str, Callable[[Bench], str]] = {
    step.__name__: step
    for step in (ruff, clean, export, order, notebooks, tests, experiments, pages, site)
}


def main(
    names: list[str],  # checks to run; empty for all
) -> int:
    "Run the checks and say how many ran; 0 if all passed."
    if unknown := set(names) - set(STEPS):
        print(f"check.py: no check is called {', '.join(unknown)}; there are {', '.join(STEPS)}")
        return 2
    tally, start = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keyreid-check-") as folder:
        copy = copy_project(Path(folder).resolve() / "keyreid")
        bench = Bench(copy, make_environment(copy), tally)
        for name in names or STEPS:
            step_start = time.monotonic()
            try:
                outcome = STEPS[name](bench)
            except CheckFailedError as error:
                print(f"{error}\n\nFAILED at the check `{name}`: {STEPS[name].__doc__}")
                tally.failed += 1
                break
            print(f"{name:12} {time.monotonic() - step_start:5.0f} s   {outcome}", flush=True)
    for reason in sorted(set(tally.skipped)):
        print(f"skipped: {tally.skipped.count(reason)} x {reason}")
    print(
        f"{count(tally.notebooks, 'notebook')}, {count(tally.tests, 'test')}, "
        f"{count(tally.experiments, 'experiment')} and {count(tally.checks, 'check')} "
        f"ran in {time.monotonic() - start:.0f} s"
    )
    print(f"{tally.passed} passed, {tally.failed} failed, {len(tally.skipped)} skipped")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
