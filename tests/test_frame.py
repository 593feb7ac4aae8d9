"""What the front door promises is there: commands, links, versions."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"]


def make_targets(root: Path) -> set[str]:
    "Targets of the Makefile that have a name of letters."
    return set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str, root: Path):
    named = set(re.findall(r"\bmake ([a-z]+)\b(?!/)", code_of((root / page).read_text())))
    assert named <= make_targets(root)


def test_readme_shows_the_two_commands(root: Path):
    assert {"make demo", "make test"} <= set(
        re.findall(r"make \w+", code_of((root / "README.md").read_text()))
    )


def code_of(text: str) -> str:
    "What stands between backticks in a markdown text."
    return "\n".join(re.findall(r"```.*?```|`[^`]+`|^ {4,}\S.*$", text, re.S | re.M))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str, root: Path):
    links = re.findall(r"\]\(([^)#\s]+)", (root / page).read_text())
    gone = [x for x in links if "://" not in x and not (root / page).parent.joinpath(x).exists()]
    assert gone == []


def test_help_lists_every_command(root: Path):
    said = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"make ([a-z]+)", said.stdout))
    assert listed == {"help", "demo", "test", "lab", "docs", "clean"} <= make_targets(root)


def test_every_dependency_has_one_version(root: Path):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = {name_of(line) for lines in (project["dependencies"], *extras) for line in lines}
    lines = [x for x in (root / "constraints.txt").read_text().splitlines() if x[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert needed - {name_of(line) for line in lines} - {"keyreid"} == set()


def name_of(requirement: str) -> str:
    "The package that a line of requirements is about, in one spelling."
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
