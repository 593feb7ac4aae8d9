"""The rules of the book refuse what they are there to refuse."""

import json
from pathlib import Path

import book
import pytest
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
DOC = code("show_doc(f)", display("text/markdown", "### f\n\n```python\ndef f()\n```"))
PAGES = [
    ([HEAD, DOC, prose("[up](../index.ipynb), [`f`](https://a.b/c/0_start/keys.html#f)")], ""),
    ([HEAD, DOC, prose("`[not](a/link)`, [elsewhere](https://d.e), [here](#f)")], ""),
    ([prose("# Keys"), DOC], "the page has no title"),
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


def test_the_index_is_compared(nbs: Path):
    write(nbs / "0_start/00_settings.ipynb", prose("# Keys\n\n> Where?"))
    (nbs / "1_data/10_readers.ipynb").unlink()
    (nbs / "experiments/quick.ipynb").unlink()
    row = "| 0 | [Keys](0_start/00_settings.ipynb) | Where? |"
    write(nbs / "index.ipynb", prose("# Book"), prose(row))
    assert book.index_complaints(nbs) == []
    write(nbs / "index.ipynb", prose("# Book"), prose(row.replace("Where", "When")))
    assert "the table lacks `| [Keys](0_start/00_settings" in book.index_complaints(nbs)[0]
