"""A stand-in for Quarto: plain pages with the stylesheet of the site, where Quarto is missing.

    nbdev-proc-nbs && python tests/plain_quarto.py draw _proc _docs

It understands what nbdev-docs asks of Quarto (`inspect` and `render`), so that the way to the site
can be walked in a test. It knows no themes, no search and no mathematics.
"""

import json
import os
import re
import sys
from html import escape
from pathlib import Path

import mistune
import yaml
from book import page_address, sidebar_entries, source
from strip_outputs import find_notebooks

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ margin: 0; font: 16px/1.5 Arial, sans-serif; background: #fff; color: #222; }}
body.quarto-dark {{ background: #222; color: #eee; }}
body.quarto-dark a {{ color: #6ea8fe; }}
#quarto-content {{ display: flex; }}
#quarto-sidebar {{ flex: 0 0 220px; font-size: 13px; padding: 1rem; }}
main {{ max-width: 760px; padding: 1rem; min-width: 0; }}
main pre {{ background: #8882; padding: 0.5rem; font-size: 13px; white-space: pre-wrap; }}
main td, main th {{ border-bottom: 1px solid #8886; text-align: left; }}
@media (max-width: 800px) {{ #quarto-sidebar {{ display: none; }} }}
</style>
<link rel="stylesheet" href="{up}site.css"></head>
<body><script>
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
document.body.className = dark ? "quarto-dark" : "quarto-light";
</script><div id="quarto-content"><nav id="quarto-sidebar">{sidebar}</nav>
<main id="quarto-document-content"><h1 class="title">{title}</h1>
<p class="description">{description}</p>{body}</main></div></body></html>
"""
to_html = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])


def linked(
    html: str,  # with links to notebooks
) -> str:
    "`html` with links to pages."
    pattern = r'href="((?!\w+:)[^"#]*\.ipynb)'
    return re.sub(pattern, lambda found: f'href="{page_address(Path(found[1]))}', html)


def prose(
    text: str,  # markdown as Quarto reads it
) -> str:
    "HTML of markdown; Quarto's fences and attributes are left out, headings get their names."
    text = re.sub(r"^:::.*$", "", text, flags=re.M)
    html = to_html(re.sub(r"\)\{[^}]*\}", ")", text))
    return linked(re.sub(r"<h(\d)>(.*?)</h\1>", heading, html))


def heading(
    found: re.Match,  # an HTML heading
) -> str:
    "The heading with a name to link to."
    level, text = found.groups()
    name = re.sub(r"[^\w\s.-]", "", re.sub("<[^>]+>", "", text)).strip().lower()
    return f'<h{level} id="{re.sub(" +", "-", name)}">{text}</h{level}>'


def shown(
    output: dict,  # of a code cell
) -> str:
    "HTML of an output, of the richest kind that it has."
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    text = escape("".join(output.get("text", "")) or data.get("text/plain", ""))
    image = f'<img src="data:image/png;base64,{data.get("image/png")}">'
    kinds = {
        "text/html": data.get("text/html"),
        "text/markdown": prose(data.get("text/markdown", "")),
        "image/png": image,
    }
    rich = next((html for kind, html in kinds.items() if kind in data), f"<pre>{text}</pre>")
    return f'<div class="cell-output-display">{rich}</div>'


def block(
    cell: dict,  # of a page that nbdev-proc-nbs made
) -> str:
    "HTML of a cell."
    text = source(cell)
    if cell["cell_type"] != "code":
        return prose(text) if cell["cell_type"] == "markdown" else ""
    lines = [line for line in text.splitlines() if not line.startswith("#|")]
    code = f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"
    code = "" if re.search(r"^#\|\s*echo:\s*false", text, re.M) else code
    if re.search(r"^#\|\s*code-fold:\s*true", text, re.M):
        code = f"<details><summary>Code</summary>{code}</details>"
    return code + "".join(map(shown, cell.get("outputs", [])))


def draw(
    staged: Path,  # folder of pages that nbdev-proc-nbs made
    name: Path,  # a page in it
    target: Path,  # folder of the site
) -> None:
    "Write one page of the site."
    cells = json.loads((staged / name).read_text(encoding="utf-8"))["cells"]
    head = yaml.safe_load(source(cells[0]).strip().strip("-")) if cells else {}
    page = target / page_address(name)
    up = "../" * (len(name.parts) - 1)
    quarto = yaml.safe_load((staged / "_quarto.yml").read_text(encoding="utf-8"))
    entries = sidebar_entries(quarto["website"]["sidebar"]["contents"])
    links = [(up + page_address(Path(entry)), Path(entry).stem) for entry in entries]
    known = {key: escape(str(head.get(key, ""))) for key in ("title", "description")}
    known["sidebar"] = "<br>".join(f'<a href="{to}">{text}</a>' for to, text in links)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        PAGE.format(body="\n".join(map(block, cells[1:])), up=up, **known), encoding="utf-8"
    )
    style = staged / "site.css"
    (target / "site.css").write_bytes(style.read_bytes() if style.is_file() else b"")


def main(arguments: list[str]) -> None:
    "Answer as Quarto does, as far as nbdev-docs asks."
    here = Path.cwd()
    names = [path.relative_to(here) for path in find_notebooks(here)]
    if arguments[0] == "draw":
        staged, target = map(Path, arguments[1:])
        for path in find_notebooks(staged):
            draw(staged, path.relative_to(staged), target)
    elif arguments[0] == "inspect":
        project = {"project": {"type": "website", "output-dir": "_docs"}}
        files = {"input": [str(here / name) for name in names]}
        print(json.dumps({"config": project, "files": files, "fileInformation": {}}))
    elif arguments[0] == "render":
        asked = [Path(text) for text in arguments[1:] if text.endswith(".ipynb")]
        target = Path(arguments[arguments.index("--output-dir") + 1])
        for name in asked or names:
            draw(here, name, target)
    else:
        print(os.environ.get("QUARTO_VERSION", "0.0.0"))


if __name__ == "__main__":
    main(sys.argv[1:])
