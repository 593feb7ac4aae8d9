"""The sidebar of the web site and the table of the first page, made from the notebooks on disk.

    python tests/sidebar.py            say what differs; code 1 if anything does
    python tests/sidebar.py --write    rewrite both

Chapters stand in the order of their numbers. Experiments and pages have no numbers: they keep their
order in `_quarto.yml`, and new ones come last.
"""

import difflib
import json
import re
import sys
from pathlib import Path

import book

SECTIONS = {"6_posegraph": "6 Pose graphs", "pages": "Reference"}  # where the folder does not say
MARKS = "      # From here to the next line like this, tests/sidebar.py --write writes.\n"
HEAD = "| chapter | notebook | the question it answers |\n|---|---|---|"


def section(
    folder: str,  # "1_data" say
) -> str:
    "What a folder is called: 1 Data."
    return SECTIONS.get(folder) or folder.replace("_", " ").title()


def pages(
    nbs: Path,  # folder of notebooks
    named: str,  # text of _quarto.yml, whose order holds where there are no numbers
) -> dict[str, list[book.Notebook]]:
    "The notebooks of each section, in reading order."
    found: dict[str, list] = {}
    for notebook in book.read_book(nbs):
        path = notebook.path.relative_to(nbs)
        if len(path.parts) == 2:
            place = named.find(f"- {path.as_posix()}\n")
            last = len(named) if place < 0 else place
            key = notebook.number or (last, path.name)
            found.setdefault(path.parts[0], []).append((key, path.name, notebook))
    numbered = sorted(found, key=lambda folder: (not folder[0].isdigit(), folder))
    ordered = {folder: sorted(found[folder], key=lambda entry: entry[:2]) for folder in numbered}
    return {folder: [notebook for *_, notebook in ordered[folder]] for folder in ordered}


def sidebar(
    nbs: Path,  # folder of notebooks
    text: str,  # of _quarto.yml
) -> str:
    "`text` with a sidebar that names every notebook."
    before, mark, rest = text.partition(MARKS)
    _, end, after = rest.partition(MARKS)
    if not end:
        raise ValueError(f"_quarto.yml: the line {MARKS.strip()!r} must stand there twice")
    lines = ["      - index.ipynb"]
    for folder, notebooks in pages(nbs, text).items():
        lines += [f'      - section: "{section(folder)}"', "        contents:"]
        lines += [f"          - {n.path.relative_to(nbs).as_posix()}" for n in notebooks]
    return before + mark + "\n".join(lines) + "\n" + end + after


def table(
    nbs: Path,  # folder of notebooks
    text: str,  # of _quarto.yml
) -> str:
    "Every notebook with the question it answers."
    rows = [HEAD]
    for folder, notebooks in pages(nbs, text).items():
        chapter = section(folder)
        for notebook in notebooks:
            title, question = book.heading(notebook)
            path = notebook.path.relative_to(nbs).as_posix()
            rows.append(f"| {chapter} | [{title}]({path}) | {question} |")
            chapter = ""
    return "\n".join(rows)


def indexed(
    text: str,  # of index.ipynb
    rows: str,  # what `table` gives
) -> str:
    "The first page with this table in place of its own."
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if book.source(cell).startswith(HEAD):
            cell["source"] = rows.splitlines(keepends=True)
            return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    raise ValueError(f"index.ipynb: no cell begins with {HEAD.splitlines()[0]!r}; add one")


def rewritten(
    root: Path,  # folder of the project
) -> dict[Path, tuple[str, str]]:
    "What the two files hold, and what they should hold."
    quarto, index = root / "_quarto.yml", root / "nbs" / "index.ipynb"
    old = {path: path.read_text(encoding="utf-8") for path in (quarto, index)}
    bar = sidebar(root / "nbs", old[quarto])
    rows = table(root / "nbs", bar)
    return {quarto: (old[quarto], bar), index: (old[index], indexed(old[index], rows))}


def sidebar_complaints(
    root: Path,  # folder of the project
) -> list[str]:
    "Lines of the sidebar and of the table that do not fit the notebooks."
    complaints = []
    for path, (old, new) in rewritten(root).items():
        changes = difflib.ndiff(old.splitlines(), new.splitlines())
        marked = [line.strip() for line in changes if re.match(r"[+-] ", line)]
        if marked:
            complaints += [f"{path.name}: run tests/sidebar.py --write", *marked]
    return complaints


if __name__ == "__main__":
    project = Path(__file__).resolve().parents[1]
    if sys.argv[1:] == ["--write"]:
        for file, (_, wanted) in rewritten(project).items():
            file.write_text(wanted, encoding="utf-8")
    else:
        said = sidebar_complaints(project)
        print("\n".join(said) or "sidebar and table fit the notebooks")
        sys.exit(bool(said))
