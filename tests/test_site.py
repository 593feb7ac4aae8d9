"""Pages can be drawn without Quarto, and the look at them finds what a reader would complain of."""

from pathlib import Path

import look
import plain_quarto
import pytest
from test_book import code, display, prose, write

QUARTO = "website: {sidebar: {contents: [index.ipynb, 0_start/00_keys.ipynb]}}"
FIGURE = """<div><script src="https://cdn.plot.ly/plotly-3.0.0.min.js"></script>
<div id="f" class="plotly-graph-div" style="width:640px; height:90px"></div>
<script>Plotly.newPlot("f", [], {width: 640, height: 90})</script></div>"""
WIDE = "| " + " | ".join(["`keyreid.retrieval`"] * 5) + " |\n" + "|---" * 5 + "|"


def drawn(tmp_path: Path, text: str, style: str) -> Path:
    "A site of two pages, one with `text` and a figure."
    staged, docs = tmp_path / "_proc", tmp_path / "_docs"
    head = prose(
        "---\ntitle: Keys & locks\ndescription: Where?\noutput-file: keys.html\n---", "raw"
    )
    cells = [prose(text), code("fig", display("text/html", FIGURE)), code("#| echo: false\nsecret")]
    write(staged / "0_start/00_keys.ipynb", head, *cells)
    write(staged / "index.ipynb", head, prose("[keys](0_start/00_keys.ipynb#a), [b](https://c.d)"))
    (staged / "_quarto.yml").write_text(QUARTO)
    (staged / "site.css").write_text(style)
    plain_quarto.main(["draw", str(staged), str(docs)])
    return docs


def test_pages_are_drawn(tmp_path: Path):
    docs = drawn(tmp_path, "## Two keys\n\n::: {.callout-note}\nHere.\n:::\n\n" + WIDE, "a {}")
    page = (docs / "0_start/keys.html").read_text()
    assert '<h1 class="title">Keys &amp; locks</h1>' in page and '<h2 id="two-keys">' in page
    assert '<a href="../index.html">' in page and 'href="../site.css"' in page
    assert "<table>" in page and ":::" not in page and "secret" not in page
    assert 'href="0_start/keys.html#a"' in (docs / "index.html").read_text()


def test_quarto_is_answered(tmp_path: Path, monkeypatch, capsys):
    docs = drawn(tmp_path, "Text.", "a {}")
    monkeypatch.chdir(tmp_path / "_proc")
    plain_quarto.main(["inspect"])
    assert str(tmp_path / "_proc/0_start/00_keys.ipynb") in capsys.readouterr().out
    target = tmp_path / "more"
    plain_quarto.main(["render", "index.ipynb", "--no-cache", "--output-dir", str(target)])
    assert (target / "index.html").read_text() == (docs / "index.html").read_text()
    assert not (target / "0_start").exists()


STYLE = Path(__file__).resolve().parents[1] / "nbs" / "site.css"
SIGHTS = [
    ("", [], ""),
    (
        "main table { display: table } main :not(pre) > code { overflow-wrap: normal }",
        ["phone", "night"],
        "wider than the window",
    ),
    (".cell-output-display { overflow: visible !important }", ["phone", "night"], "wider than"),
    ("body.quarto-dark .plotly-graph-div { background: #111 !important }", ["dark", "night"],
     "lies on a dark ground"),
    ("body.quarto-dark { background: #fff; color: #000 }", ["dark", "night"], "which is not dark"),
    ("p { color: #999 }", ["light", "phone"], "hard to read"),
    ("main { background: #222; color: #eee }", ["light", "phone"], "which is not light"),
]  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize(("style", "looks", "complaint"), SIGHTS)
def test_a_look_finds(tmp_path: Path, style: str, looks: list[str], complaint: str):
    docs = drawn(tmp_path, "Text.\n\n" + WIDE, STYLE.read_text() + style)
    said = look.look_complaints(docs, ["0_start/keys.html"], tmp_path)
    found = [look for look in look.LOOKS if any(f"html, {look}: " in one for one in said)]
    assert found == looks and all(complaint in one for one in said if "brightness" not in one)
    assert any(complaint in one for one in said) or not looks
    assert (tmp_path / "keys-night.png").is_file()


def test_faults_are_named():
    good = dict(title="Keys", overflow=0, figures=[], page=1.0, texts=[], links=3)
    assert list(look.faults(good, "light")) == []
    assert list(look.faults(good | {"title": " "}, "light")) == ["the page has no heading"]
    assert list(look.faults(good | {"links": 0}, "light")) == ["the page has no sidebar"]
    undrawn = good | {"figures": [{"drawn": False, "behind": 1}]}
    assert list(look.faults(undrawn, "light")) == ["a figure is not drawn"]
    assert look.contrast(0, 1) == look.contrast(1, 0) == 21
