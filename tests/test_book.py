"""The rules of the book refuse what they are there to refuse."""

import json
from pathlib import Path

import book
import pytest
import sidebar
from strip_outputs import WIDGET, strip_notebook


def code(text: str, *outputs: dict, tags: tuple[str, ...] = ()) -> dict:
    "A code cell."
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": [text], "outputs": list(outputs)}


def prose(text: str, kind: str = "markdown") -> dict:
    "A cell of text."
    return {"cell_type": kind, "metadata": {}, "source": [text]}


def write(path: Path, *cells: dict) -> None:
    "A notebook file."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))


def display(kind: str, content: str = "x") -> dict:
    "An output of type `kind`."
    return {"output_type": "display_data", "data": {kind: content}, "metadata": {}}


def stream(name: str, text: str) -> dict:
    "Printed text."
    return {"output_type": "stream", "name": name, "text": [text]}


@pytest.fixture
def nbs(tmp_path: Path) -> Path:
    "A book of two notebooks and an experiment that breaks no rule."
    write(tmp_path / "0_start/00_settings.ipynb", code("#| default_exp settings"))
    write(
        tmp_path / "1_data/10_readers.ipynb",
        code("#| default_exp data.readers"),
        code(
            "#| export\nfrom keyreid import __version__, settings\nfrom keyreid.settings import a"
        ),
        code("%load_ext x\nassert 1 == 1"),
    )
    write(
        tmp_path / "experiments/quick.ipynb",
        prose("# Quick\n\n- skip_exec: true"),
        code("epochs = 1", tags=("parameters",)),
    )
    return tmp_path


RULES = (
    book.order_complaints,
    book.layer_complaints,
    book.name_complaints,
    book.title_complaints,
    book.comparison_complaints,
    book.output_complaints,
    book.experiment_complaints,
)


def complaints_about(nbs: Path) -> str:
    "What all rules say, in one text."
    return "\n".join(complaint for rule in RULES for complaint in rule(nbs))


def test_good_book_is_accepted(nbs: Path):
    assert complaints_about(nbs) == ""


EXP = "#| default_exp "
BAD = [
    (
        "0_start/01_a.ipynb",
        [code(EXP + "a"), code("#| export\nfrom keyreid.data.readers import b")],
        "stands in no earlier notebook",
    ),
    (
        "4_appearance/40_vit.ipynb",
        [code(EXP + "appearance.vit"), code("#| export\nfrom keyreid import settings")],
        "a network imports keyreid.settings",
    ),
    (
        "7_learning/70_losses.ipynb",
        [code(EXP + "learning.losses"), code("#| export\nimport keyreid.appearance.vit")],
        "take the model as an argument",
    ),
    ("1_data/11_clips.ipynb", [code(EXP + "data.other")], "its place is data.clips"),
    ("index.ipynb", [prose("# Book\n\n> Why?\n\nMore.")], "would leave out `More.`"),
    ("1_data/10_clips.ipynb", [code(EXP + "data.clips")], "number 10 is taken"),
    ("1_data/11_clips.ipynb", [code(EXP + "data.clips"), code("x = 1\nx == 2")], "cannot fail"),
    ("index.ipynb", [code("1", {"output_type": "error", "ename": "KeyError"})], "KeyError"),
    ("index.ipynb", [code("1", display(WIDGET))], "a live widget is stored"),
    ("index.ipynb", [code("1", stream("stderr", "warning"))], "standard error is stored"),
    ("index.ipynb", [code("1", stream("stdout", "10%\r20%"))], "a progress bar is stored"),
    ("index.ipynb", [code("1", stream("stdout", "x" * 1_000_001))], "1.0 MB are stored"),
    ("experiments/a.ipynb", [prose("# A\n\n- skip_exec: true"), code("a = 1")], "0 cells"),
    (
        "experiments/a.ipynb",
        [prose("# A"), code("a = 1", tags=("parameters",))],
        "lacks the line `- skip_exec: true`",
    ),
]


@pytest.mark.parametrize(("name", "cells", "complaint"), BAD)
def test_bad_notebook_is_refused(nbs: Path, name: str, cells: list[dict], complaint: str):
    write(nbs / name, *cells)
    assert complaint in complaints_about(nbs)


FILL = """def my_gap(a, b):
    raise NotImplementedError


check(my_gap, gap, (1, 3))"""
BREAK = """def my_pair():
    raise NotImplementedError


check(fools, lambda answer: True, (my_pair,))"""
SOLVED = """#| code-fold: true
def right_gap(a, b):
    return abs(a - b)


refused = check(signed, gap, (1, 3))
assert "expected 2" in refused
assert check(right_gap, gap, (1, 3)).endswith("agrees")
test_eq(check(my_gap, gap, (1, 3)), "my_gap: not tried yet")
refused"""
BROKEN = """#| code-fold: true
fine = "fools: the one case agrees"
test_eq(check(fools, lambda answer: True, (far_pair,)), fine)
assert "got False" in check(fools, lambda answer: True, (near_pair,))
assert "not tried yet" in check(fools, lambda answer: True, (my_pair,))"""
REASON = (
    "The common wrong answer forgets the sign, and with one order of its arguments nobody sees it."
)
LESSON = [
    code("#| default_exp data.gaps"),
    code('guess = Prediction("How far?", guess=None)'),
    code("guess.compare(3)"),
    prose("**1. Fill in.** The gap."),
    code(FILL),
    prose("**2. Break it.** Somebody forgets the sign."),
    code(BREAK),
    prose("**3. Carry on.** In two directions."),
    code(SOLVED),
    prose(REASON),
    code(BROKEN),
    prose(REASON),
]


def lesson_complaints(nbs: Path, old: str = "", new: str = "", where: str = "1_data") -> str:
    "What the rule of practice says about a lesson in which a text was replaced, in every cell."
    cells = [cell | {"source": [cell["source"][0].replace(old, new)]} for cell in LESSON]
    write(nbs / where / "11_gaps.ipynb", *cells)
    said = book.practice_complaints(nbs / where)
    return "\n".join(line for line in said if line.startswith("11_gaps"))


def test_a_whole_lesson_is_accepted(nbs: Path):
    assert lesson_complaints(nbs) == ""
    assert lesson_complaints(nbs, "Carry on", "Carry further") == ""
    assert "10_readers.ipynb: predict: no Prediction" in book.practice_complaints(nbs)


STUB, RIGHT, WRONG = book.VERDICTS
LACKS = [
    ("guess = Prediction", "guess = print", "predict: no Prediction"),
    ("guess.compare(3)", "3", "predict: guess is never compared"),
    ("check(my_gap", "print(my_gap", "fill in: no check(my_..., reference, case)"),
    ("(my_pair,)", "(far_pair,)", "break it: no check(judge, reference, (my_...,))"),
    ("Break it", "Also", "break it: no paragraph"),
    ("Carry on", "Also", "carry on: no paragraph"),
    ("raise NotImplementedError", "return 1", "fill in: no check"),
    ("#| code-fold: true\ndef right", "def right", "my_gap = gap: its solution is not folded"),
    ("#| code-fold: true\nfine", "fine", "fools(my_pair): its solution is not folded"),
    (REASON, "Well.", "fools(my_pair): nothing below the solution says why"),
    (REASON, "Well.", "my_gap = gap: nothing below the solution says why"),
    (', "my_gap: not tried yet")', ', "")', f"my_gap = gap: no assertion says that {STUB}"),
    ('.endswith("agrees")', "", f"my_gap = gap: no assertion says that {RIGHT}"),
    ("check(right_gap", "check(my_gap", f"my_gap = gap: no assertion says that {RIGHT}"),
    ("(right_gap, gap", "(right_gap, far", f"my_gap = gap: no assertion says that {RIGHT}"),
    ('assert "expected 2" in refused', "refused", f"my_gap = gap: no assertion says that {WRONG}"),
    ("(signed", "(lambda a, b: a - b", f"my_gap = gap: no assertion says that {WRONG}"),
    ('assert "expected', 'refused = str(3)\nassert "expected',
     f"my_gap = gap: no assertion says that {WRONG}"),
    ('assert "expected 2" in refused', 'assert check(signed, gap, ("expected",))',
     f"my_gap = gap: no assertion says that {WRONG}"),
    ('assert "not tried yet" in check', "check", f"fools(my_pair): no assertion says that {STUB}"),
    (", fine)", ', "")', f"fools(my_pair): no assertion says that {RIGHT}"),
    ('"got False" in', "1 and", f"fools(my_pair): no assertion says that {WRONG}"),
    ("(near_pair,)", "(lambda: (1, 1),)", f"fools(my_pair): no assertion says that {WRONG}"),
    ("check(fools, lambda answer: True, (near", "check(fails, lambda answer: True, (near",
     f"fools(my_pair): no assertion says that {WRONG}"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "complaint"), LACKS)
def test_what_a_lesson_lacks_is_named(nbs: Path, old: str, new: str, complaint: str):
    assert f"11_gaps.ipynb: {complaint}" in lesson_complaints(nbs, old, new)


def test_an_explorer_needs_a_guess_and_an_exercise(nbs: Path):
    for old in ("Break it", "Carry on", "(my_pair,)"):
        assert lesson_complaints(nbs, old, "", "8_explore") == ""
    assert "predict" in lesson_complaints(nbs, "guess.compare", "", "8_explore")
    assert "an exercise" in lesson_complaints(nbs, "NotImplementedError", "print", "8_explore")


def test_each_solution_has_its_own_reason_and_fold(nbs: Path):
    write(nbs / "1_data/11_gaps.ipynb", *LESSON[:9], prose("Well."), *LESSON[10:])
    said = "\n".join(book.practice_complaints(nbs))
    assert "my_gap = gap: nothing below" in said and "fools(my_pair): nothing" not in said
    in_the_open = 'assert check(right_gap, gap, (1, 3)).endswith("agrees")\n'
    folded = code(LESSON[8]["source"][0].replace(in_the_open, ""))
    write(nbs / "1_data/11_gaps.ipynb", *LESSON[:8], code(in_the_open), folded, *LESSON[9:])
    assert "my_gap = gap: its solution is not folded" in "\n".join(book.practice_complaints(nbs))


def test_a_page_without_a_number_is_no_lesson(nbs: Path):
    write(nbs / "1_data/more.ipynb", code("#| default_exp data.more"))
    assert not [line for line in book.practice_complaints(nbs) if line.startswith("more")]


def test_two_exercises_with_one_name_are_named(nbs: Path):
    write(nbs / "1_data/11_gaps.ipynb", *LESSON)
    write(nbs / "1_data/12_more.ipynb", code("#| default_exp data.more"), *LESSON[1:])
    said = book.practice_complaints(nbs)
    assert "12_more.ipynb: my_gap = gap is an exercise of 11_gaps.ipynb too" in said
    assert "12_more.ipynb: fools(my_pair) is an exercise of 11_gaps.ipynb too" in said


def letter_book(nbs: Path, name: str, imported: str) -> str:
    "What the rules say about a book with one more notebook, `name`, that imports `imported`."
    module = f"data.{Path(name).stem.partition('_')[2]}"
    cells = [code(EXP + module), code(f"#| export\nfrom keyreid.{imported} import b")]
    write(nbs / "1_data" / name, *cells)
    return complaints_about(nbs)


def test_a_letter_puts_a_notebook_between_two_numbers(nbs: Path):
    assert letter_book(nbs, "10a_listings.ipynb", "data.readers") == ""
    assert letter_book(nbs, "10b_mars.ipynb", "data.listings") == ""
    assert letter_book(nbs, "11_audit.ipynb", "data.mars") == ""
    numbers = [notebook.number for notebook in book.read_book(nbs / "1_data")]
    assert numbers == [(10, ""), (10, "a"), (10, "b"), (11, "")] == sorted(numbers)


@pytest.mark.parametrize(
    ("name", "imported", "complaint"),
    [
        ("09z_early.ipynb", "data.readers", "keyreid.data.readers.b, which stands in no earlier"),
        ("10a_early.ipynb", "data.late", "keyreid.data.late.b, which stands in no earlier"),
        ("10b_again.ipynb", "data.readers", "number 10b is taken by 1_data/10b_a.ipynb"),
    ],
)
def test_a_letter_is_part_of_the_number(nbs: Path, name: str, imported: str, complaint: str):
    write(nbs / "1_data/10b_a.ipynb", code(EXP + "data.a"))
    write(nbs / "1_data/10c_late.ipynb", code(EXP + "data.late"))
    assert complaint in letter_book(nbs, name, imported)


def test_a_notebook_with_a_letter_has_its_place(nbs: Path):
    write(nbs / "1_data/10a_listings.ipynb", code(EXP + "data.other"))
    assert "default_exp is data.other, but its place is data.listings" in complaints_about(nbs)


def test_export_is_compared(tmp_path: Path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, files in ((ours, "same edited stale"), (theirs, "same edited new")):
        folder.mkdir()
        for name in files.split():
            (folder / f"{name}.py").write_text(f"{folder.name if name == 'edited' else ''}")
    said = book.export_complaints(ours, theirs)
    assert [line.split(":")[0] for line in said] == [
        f"keyreid/{name}.py" for name in ("stale", "edited", "new")
    ]


SIDEBAR = """
website:
  sidebar:
    contents:
      - index.ipynb
      - section: Start
        contents: [0_start/00_settings.ipynb, {extra}]
      - experiments/quick.ipynb
"""


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("1_data/10_readers.ipynb", ""),
        ("index.ipynb", "the sidebar lacks 1_data/10_readers.ipynb"),
        ("index.ipynb", "the sidebar names index.ipynb twice"),
        ("1_data/99_gone.ipynb", "the sidebar names 1_data/99_gone.ipynb, no such notebook"),
    ],
)
def test_sidebar_is_compared(nbs: Path, extra: str, complaint: str):
    write(nbs / "index.ipynb")
    (nbs / "_quarto.yml").write_text(SIDEBAR.format(extra=extra))
    said = "\n".join(book.sidebar_complaints(nbs / "_quarto.yml", nbs))
    assert complaint in said if complaint else said == ""


HEAD = prose("---\ntitle: Keys\ndescription: Where?\n---", "raw")
LINK = "[source](https://g.h/blob/main/keyreid/keys.py#L3)\n\n"
DOC = code("show_doc(f)", display("text/markdown", f"{LINK}### f\n\n```python\ndef f()\n```"))
TEXT = "# Why so?\n\n## Two [ways](https://d.e)\n\n```\n# no heading\n```"
PRESSED = r"\u003ca href=\"..\u002fgone.html\" target"  # as plotly writes a link in a figure
PAGES = [
    ([HEAD, DOC, prose("[up](../index.ipynb), [`f`](https://a.b/c/0_start/keys.html#f)")], ""),
    ([HEAD, DOC, prose("`[not](a/link)`, [elsewhere](https://d.e), [here](#f)")], ""),
    ([HEAD, DOC, prose(TEXT), prose("[a](#why-so), [b](#two-ways), [c](../index.html)")], ""),
    ([prose("# Keys"), DOC], "the page has no title"),
    ([HEAD, DOC, prose(TEXT), prose("[a](#no-heading)")], "#no-heading names no place on that"),
    ([HEAD, DOC, prose("[a](../index.ipynb#b)")], "index.ipynb#b names no place on that page"),
    ([HEAD, DOC, prose("[`f`](https://a.b/c/0_start/keys.html#g)")], "#g names no place on that"),
    ([HEAD, DOC, prose("[wrong number](../0_start/01_keys.ipynb)")], "01_keys.ipynb leads nowhere"),
    ([HEAD, DOC, prose("[outside](../../README.md)")], "README.md leads nowhere"),
    ([HEAD, DOC, code("fig", display("text/html", PRESSED))], "../gone.html leads nowhere"),
    (
        [HEAD, code("show_doc(f)", display("text/markdown", "### f"))],
        "without a link to its source",
    ),
    (
        [HEAD, code("show_doc(f)", display("text/markdown", LINK.replace("3", "None") + "### f"))],
        "without a link to its source",
    ),
    ([HEAD], "does not document f"),
    ([HEAD, DOC, code("fig", display(book.PLOTLY))], "output of type application/vnd.plotly"),
    ([HEAD, DOC, prose("[gone](01_gone.ipynb)")], "01_gone.ipynb leads nowhere"),
    ([HEAD, DOC, prose("[gone](https://a.b/c/0_start/gone.html)")], "gone.html leads nowhere"),
]


@pytest.mark.parametrize(("cells", "complaint"), PAGES)
def test_pages_are_read(tmp_path: Path, cells: list[dict], complaint: str):
    nbs, staged = tmp_path / "nbs", tmp_path / "_proc"
    write(nbs / "0_start/00_keys.ipynb", code("#| export\ndef f(): pass\ndef _g(): pass"))
    write(nbs / "index.ipynb")
    write(staged / "0_start/00_keys.ipynb", *cells)
    write(staged / "index.ipynb", HEAD)
    said = book.page_complaints(nbs, staged) + book.link_complaints(nbs, staged, "https://a.b/c/")
    assert complaint in "\n".join(said) if complaint else said == []


def test_methods_are_documented(tmp_path: Path):
    nbs, staged = tmp_path / "nbs", tmp_path / "_proc"
    body = "def forward(x): ...\n    def extra_repr(): ...\n    def _own(): ..."
    write(nbs / "0_start/00_keys.ipynb", code(f"#| export\nclass Key:\n    {body}"))
    shown = [f"{LINK}### Key", f"{LINK}#### Key.forward"]
    write(
        staged / "0_start/00_keys.ipynb",
        HEAD,
        code("show_doc(Key)", display("text/markdown", shown[0])),
    )
    said = book.page_complaints(nbs, staged)
    assert len(said) == 1 and "does not document Key.forward" in said[0]
    write(staged / "0_start/00_keys.ipynb", HEAD,
          code("show_doc(Key)", display("text/markdown", "\n\n".join(shown))))  # fmt: skip
    assert book.page_complaints(nbs, staged) == []


def test_generated_cells_are_made_with_the_pages(tmp_path: Path):
    nbs, staged = tmp_path / "nbs", tmp_path / "_proc"
    write(nbs / "0_start/00_keys.ipynb", code("#| export\ndef Find(): ..."))
    made = code("show()", tags=("generated",)) | {"id": "a1"}
    write(nbs / "pages/contents.ipynb", made)
    write(staged / "0_start/00_keys.ipynb", HEAD, prose("x"))
    write(staged / "pages/contents.ipynb", HEAD, made)
    assert "tagged `generated` shows nothing" in "\n".join(book.page_complaints(nbs, staged))
    assert book.contents_complaints(nbs, staged)[0].endswith("lacks Find of 00_keys.ipynb")
    table = display("text/markdown", "| [Find](../0_start/00_keys.ipynb#find) |")
    write(staged / "pages/contents.ipynb", HEAD, made | {"outputs": [table]})
    assert "generated" not in "\n".join(book.page_complaints(nbs, staged))
    assert book.contents_complaints(nbs, staged) == []


MEANING = [
    ("def walk(bodies: Bodies, n: int): ...", "walk does not say what `n` is"),
    ("def walk(\n    n,\n): ...", "walk does not say what `n` is"),
    ("class Camera:\n    lens: float", "Camera does not say what `lens` is"),
    ("class Camera:\n    def look(self, at: str): ...", "Camera.look does not say what `at` is"),
    ("class Camera:\n    def __init__(self, *at: Any): ...", "Camera.__init__ does not say what"),
    (
        "def walk(\n    n: int,  # frames\n    seed: int,\n    n_x: int,\n): ...",
        "",
    ),
    ("class Camera:\n    lens: float  # millimetres\n    def _look(self, at: int): ...", ""),
    ("def _walk(n: int): ...", ""),
]


@pytest.mark.parametrize(("text", "complaint"), MEANING)
def test_meanings_are_asked_for(nbs: Path, text: str, complaint: str):
    write(nbs / "1_data/11_clips.ipynb", code(f"#| export\n{text}"))
    said = "\n".join(book.docment_complaints(nbs))
    assert complaint in said if complaint else said == ""


def test_a_component_shows_a_figure(nbs: Path):
    (nbs / "1_data/10_readers.ipynb").unlink()
    strip, figure = code("data_flow(1)", display(book.PLOTLY)), code("fig", display("image/png"))
    write(nbs / "0_start/00_settings.ipynb", code(EXP + "settings"), strip)
    assert "no figure is stored" in book.figure_complaints(nbs)[0]
    write(nbs / "0_start/00_settings.ipynb", code(EXP + "settings"), strip, figure)
    assert book.figure_complaints(nbs) == []


MAKEFILE = "demo: .venv ## train\n\techo\n"
POSES = "@pose_app.command('show')\ndef show_poses(): ..."
CLI = "@data_app.command('check')\ndef check_data(): ...\n@runs_app.command()\ndef execute(): ..."
FACTS = [
    ('`make demo`, `make demo ARGS="-p epochs 2"`, nbs/index.ipynb, nbs/experiments/*.json', ""),
    ("`.venv/bin/keyreid data check`, `bin/keyreid runs execute`, 0.500 ± 0.141", ""),
    ("They make people happy, and make it so.", ""),
    ("`make train`", "the Makefile has no `make train`"),
    ("```\nmake train\n```", "the Makefile has no `make train`"),
    ("`nbs/gone.ipynb`", "there is no nbs/gone.ipynb"),
    ('`make demo ARGS="-p speed 2"`', "the quickstart has no parameter speed"),
    ("`.venv/bin/keyreid data draw`", "there is no command keyreid data draw"),
    ("`.venv/bin/keyreid pose show`", ""),
    ("`.venv/bin/keyreid pose draw`", "there is no command keyreid pose draw"),
    ("| small | 0.501 ± 0.141 |", "no committed rows give 0.501 ± 0.141"),
]


@pytest.mark.parametrize("place", ["README.md", "index.ipynb"])
@pytest.mark.parametrize(("text", "complaint"), FACTS)
def test_first_pages_keep_to_the_facts(tmp_path: Path, place: str, text: str, complaint: str):
    nbs, package = tmp_path / "nbs", tmp_path / "keyreid" / "runs"
    write(nbs / "index.ipynb", prose(text if place == "index.ipynb" else "# Book"))
    write(nbs / "experiments/quickstart.ipynb", code("epochs = 1", tags=("parameters",)))
    rows = [{"row": "a", "mAP": value} for value in (0.4, 0.6)] + [{"row": "b", "mAP": 0.9}]
    (nbs / "experiments/rows.json").write_text(json.dumps({"rows": rows}))
    package.mkdir(parents=True)
    (package / "cli.py").write_text(CLI)
    (package / "commands.py").write_text(POSES)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "README.md").write_text(text if place == "README.md" else "# Book")
    said = book.fact_complaints(tmp_path)
    assert f"{place}: {complaint}" in said if complaint else said == []


def test_the_sidebar_is_written(tmp_path: Path):
    nbs, quarto = tmp_path / "nbs", tmp_path / "_quarto.yml"
    for name in ("1_data/10_readers", "1_data/9_keys", "experiments/quick", "experiments/almost"):
        write(nbs / f"{name}.ipynb", prose(f"# About {name}\n\n> Why {name}?"))
    write(nbs / "index.ipynb", prose("# Book"), prose(sidebar.HEAD))
    old = "          - experiments/quick.ipynb\n"
    quarto.write_text(f"a: 1\nb:\n{sidebar.MARKS}{old}{sidebar.MARKS}c: 2\n")
    said = sidebar.sidebar_complaints(tmp_path)
    assert "+           - 1_data/10_readers.ipynb" in said
    assert any("[About 1_data/10_readers](1_data/10_readers.ipynb)" in line for line in said)
    for path, (_, new) in sidebar.rewritten(tmp_path).items():
        path.write_text(new)
    assert sidebar.sidebar_complaints(tmp_path) == [] == book.index_complaints(nbs)
    text = quarto.read_text()
    places = [text.index(name) for name in ("9_keys", "10_readers", "quick", "almost")]
    assert places == sorted(places)  # by number; without one as before, and what is new comes last
    assert text.startswith("a: 1\nb:\n") and text.endswith("c: 2\n")


def test_missing_page_is_named(nbs: Path, tmp_path: Path):
    said = book.page_complaints(nbs, tmp_path / "_proc")
    assert len(said) == 3 and "0_start/00_settings.ipynb: no page was made" in said[0]


def test_strip_keeps_what_can_be_printed(tmp_path: Path):
    kept = [display("text/plain"), display(book.PLOTLY), stream("stdout", "3 tracklets")]
    empty = {"output_type": "execute_result", "data": {}, "metadata": {}}
    path = tmp_path / "a.ipynb"
    wiped = stream("stdout", "\x1b[2K\r")
    lost = [display(WIDGET), wiped, stream("stderr", "10%"), empty]
    write(path, code("x", *kept, *lost), prose("y"))
    stripped = strip_notebook(path.read_text())
    assert json.loads(stripped)["cells"][0]["outputs"] == kept
    assert strip_notebook(stripped) == stripped
    write(path, code("x", *kept, tags=("generated",)))
    assert json.loads(strip_notebook(path.read_text()))["cells"][0]["outputs"] == []


def test_the_index_is_compared(nbs: Path):
    write(nbs / "0_start/00_settings.ipynb", prose("# Keys\n\n> Where?"))
    (nbs / "1_data/10_readers.ipynb").unlink()
    (nbs / "experiments/quick.ipynb").unlink()
    row = "| 0 | [Keys](0_start/00_settings.ipynb) | Where? |"
    write(nbs / "index.ipynb", prose("# Book"), prose(row))
    assert book.index_complaints(nbs) == []
    write(nbs / "index.ipynb", prose("# Book"), prose(row.replace("Where", "When")))
    assert "the table lacks `| [Keys](0_start/00_settings" in book.index_complaints(nbs)[0]
