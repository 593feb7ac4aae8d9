"""Drop what no reader of the printed book can use from the stored outputs of notebooks.

Live widgets (their ids change at every run), messages on standard error (progress bars, warnings),
empty results, streams that only wipe a line (sliders do so before they draw), and what cells tagged
`generated` show: it is made anew when the pages are drawn, and a stored copy would grow old. Run it
after `nbdev-clean`:

    python tests/strip_outputs.py NOTEBOOK_OR_FOLDER ...
"""

import json
import sys
from pathlib import Path

WIDGET = "application/vnd.jupyter.widget-view+json"


def is_kept(
    output: dict,  # one output of a code cell
) -> bool:
    "Whether `output` says something on paper."
    if output["output_type"] == "stream":
        said = "".join(output["text"]).replace("\x1b[2K", "").strip()
        return output["name"] != "stderr" and said != ""
    return "data" not in output or (bool(output["data"]) and WIDGET not in output["data"])


def strip_notebook(
    text: str,  # a notebook file
) -> str:
    "The notebook file without live widgets, standard error and empty results."
    notebook = json.loads(text)
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            is_stored = "generated" not in cell["metadata"].get("tags", [])
            cell["outputs"] = [out for out in cell["outputs"] if is_stored and is_kept(out)]
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def find_notebooks(
    path: Path,  # a notebook or a folder
) -> list[Path]:
    "`path` itself, or the notebooks below it in reading order; names with `_` or `.` are left out."
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.ipynb"))
    return [p for p in found if not any(part[0] in "._" for part in p.relative_to(path).parts)]


if __name__ == "__main__":
    for notebook_path in (p for name in sys.argv[1:] for p in find_notebooks(Path(name))):
        before = notebook_path.read_text(encoding="utf-8")
        if (after := strip_notebook(before)) != before:
            notebook_path.write_text(after, encoding="utf-8")
