"""Rules of the book, each a function from folders to a list of complaints (empty: all is well)."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import yaml
from strip_outputs import WIDGET, find_notebooks

from keyreid.runs.lessons import calls_of_check, exercise_in

NETWORKS = {"appearance", "parts", "posegraph"}
MAX_BYTES = 1_000_000
PLOTLY = "application/vnd.plotly.v1+json"
FIGURE = {PLOTLY, "image/png", "image/jpeg", "image/svg+xml"}
# What a page can show; plotly figures become HTML and widgets a note when the pages are made.
# Types that say nothing of a meaning, and names that say it all (as counts, n_x, do).
PLAIN = {"int", "float", "str", "bool", "Any", "None", "int | None", "float | None", "str | None"}
TELLING = {"self", "cls", "seed", "title", "x_title", "y_title", "device", "who", "trainer"}
SOURCE = re.compile(r"^\[source\]\(\S+\.py#L\d+\)", re.M)
SHOWN = re.compile(r"text/(html|markdown|latex|plain)|image/(png|jpeg|gif|svg\+xml)")


@dataclass(frozen=True)
class Notebook:
    "A notebook of the book: its cells, and the module it exports if it exports one."

    path: Path
    cells: tuple[dict, ...]

    @property
    def sources(self) -> list[str]:
        "The text of each code cell."
        return [source(cell) for cell in self.cells if cell["cell_type"] == "code"]

    @property
    def exported(self) -> list[str]:
        "The text of each exported cell."
        return [text for text in self.sources if re.match(r"#\|\s*export", text)]

    @property
    def module(self) -> str | None:
        "What the notebook exports to, `data.readers` say; None for an experiment."
        named = (re.match(r"#\|\s*default_exp:?\s*(\S+)", text) for text in self.sources)
        return next((match[1] for match in named if match), None)

    @property
    def number(self) -> tuple[int, str] | None:
        "The place in the reading order, (15, 'a') for 15a; None for a page without a number."
        match = re.match(r"(\d+)([a-z]?)_", self.path.name)
        return (int(match[1]), match[2]) if match else None

    @property
    def is_skipped(self) -> bool:
        "Whether nbdev-test leaves the notebook to papermill."
        return bool(self.cells) and "- skip_exec: true" in source(self.cells[0])


def source(
    cell: dict,  # a cell of a notebook file
) -> str:
    "The text of a cell."
    return "".join(cell["source"])


def read_book(
    nbs: Path,  # folder of notebooks
) -> list[Notebook]:
    "All notebooks below `nbs`, in the order of their paths."
    texts = {path: json.loads(path.read_text(encoding="utf-8")) for path in find_notebooks(nbs)}
    return [Notebook(path, tuple(text["cells"])) for path, text in texts.items()]


def parse(
    text: str,  # a code cell
) -> ast.Module:
    "The syntax tree of a code cell; lines for IPython (% and !) are left out."
    return ast.parse(re.sub(r"^\s*[%!?].*$", "pass", text, flags=re.M))


# --- which way imports point ---


def imports(
    notebook: Notebook,
) -> list[str]:
    "What exported cells import from the package, `data.readers.read_mars` say."
    names = set()
    for node in (node for text in notebook.exported for node in ast.walk(parse(text))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.removeprefix("keyreid.") for name in names if name.startswith("keyreid.")}
    return sorted(ours - {"__version__"})


def order_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Exported imports that do not point to an earlier notebook."
    book = [notebook for notebook in read_book(nbs) if notebook.module]
    complaints = []
    for notebook in book:
        earlier = {other.module for other in book if other.number < notebook.number}
        complaints += [
            f"{notebook.path.name}: an exported cell imports keyreid.{name}, which stands in no "
            "earlier notebook; import from smaller numbers only"
            for name in imports(notebook)
            if not {name, name.rpartition(".")[0]} & earlier
        ]
    return complaints


def layer_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Imports across layers: networks know no data, and data, scores and losses know no network."
    complaints = []
    for notebook in read_book(nbs):
        own = (notebook.module or "").split(".")[0]
        for name in imports(notebook):
            other = name.split(".")[0]
            if own in NETWORKS and other not in {*NETWORKS, "keypoints"}:
                complaints.append(
                    f"{notebook.path.name}: a network imports keyreid.{name}; networks import "
                    "each other and keyreid.keypoints only"
                )
            if own in {"data", "pose", "retrieval", "learning"} and other in NETWORKS:
                complaints.append(
                    f"{notebook.path.name}: keyreid.{own} imports the network keyreid.{name}; "
                    "take the model as an argument"
                )
    return complaints


def name_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Notebooks whose number, folder and module do not say the same."
    complaints, seen = [], {}
    for notebook in read_book(nbs):
        path = notebook.path.relative_to(nbs)
        if notebook.number is None or path.parts[0] == "experiments":
            continue
        if notebook.number in seen:
            number, letter = notebook.number
            complaints.append(
                f"{path}: number {number}{letter} is taken by {seen[notebook.number]}"
            )
        seen[notebook.number] = path
        chapter, name = path.parts[0].split("_", 1)[-1], path.stem.split("_", 1)[-1]
        needed = name if chapter == "start" else f"{chapter}.{name}"
        if notebook.module != needed:
            complaints.append(
                f"{path}: default_exp is {notebook.module}, but its place is {needed}"
            )
    return complaints


# --- what a cell may not be ---


def title_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Title cells that hold more than title, question and `- key: value`: a page leaves it out."
    complaints = []
    for notebook in read_book(nbs):
        titles = [source(cell) for cell in notebook.cells[:1] if cell["cell_type"] == "markdown"]
        lines = [line for title in titles for line in title.splitlines() if line]
        lost = [line for line in lines if not re.match(r"# \S|> \S|- \w+: \S", line)]
        if lost:
            complaints.append(
                f"{notebook.path.name}: the page would leave out `{lost[0][:60]}`; only title, "
                "question and `- key: value` may stand in the first cell, split it"
            )
    return complaints


def comparison_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Cells that end in a bare comparison: it shows False and nothing fails."
    complaints = []
    for notebook in read_book(nbs):
        for text in notebook.sources:
            body = parse(text).body
            if body and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, ast.Compare):
                complaints.append(
                    f"{notebook.path.name}: a cell ends in the comparison "
                    f"`{text.splitlines()[-1]}`, which cannot fail; use assert or test_eq"
                )
    return complaints


def output_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Stored outputs that do not belong into a repository."
    complaints = []
    for notebook in read_book(nbs):
        size = notebook.path.stat().st_size
        if size > MAX_BYTES:
            complaints.append(
                f"{notebook.path.name}: {size / 1e6:.1f} MB are stored, at most 1 MB is allowed; "
                "draw fewer or smaller pictures"
            )
        outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
        found = {what for out in outputs for what in output_faults(out)}
        complaints += [f"{notebook.path.name}: {what}" for what in sorted(found)]
    return complaints


def output_faults(
    output: dict,  # one output of a code cell
) -> Iterator[str]:
    "What is wrong with one stored output."
    if output["output_type"] == "error":
        yield f"an error is stored ({output.get('ename')}); mend the cell, run the notebook again"
    if WIDGET in output.get("data", {}):
        yield "a live widget is stored; run tests/strip_outputs.py"
    if output["output_type"] == "stream":
        if output["name"] == "stderr":
            yield "standard error is stored; run tests/strip_outputs.py"
        elif "\r" in "".join(output["text"]):
            yield "a progress bar is stored; write it to standard error"


def figure_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Component notebooks that show nothing but the strip `data_flow`."
    complaints = []
    for notebook in read_book(nbs):
        drawn = [
            cell
            for cell in notebook.cells
            if any(FIGURE & set(out.get("data", {})) for out in cell.get("outputs", []))
        ]
        if notebook.module and all("data_flow(" in source(cell) for cell in drawn):
            complaints.append(
                f"{notebook.path.name}: no figure is stored; draw one, run the notebook with "
                "nbdev-test --save"
            )
    return complaints


def experiment_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Experiments that papermill cannot run, or that nbdev-test would run in full."
    complaints = []
    for notebook in read_book(nbs / "experiments") if (nbs / "experiments").is_dir() else []:
        tagged = [c for c in notebook.cells if "parameters" in c["metadata"].get("tags", [])]
        if len(tagged) != 1:
            complaints.append(
                f"{notebook.path.name}: {len(tagged)} cells are tagged `parameters`, exactly one "
                "is needed; tag it in JupyterLab (gear at the top right, Cell Tags)"
            )
        if not notebook.is_skipped:
            complaints.append(
                f"{notebook.path.name}: the title cell lacks the line `- skip_exec: true`, so "
                "nbdev-test would run the experiment at full size"
            )
    return complaints


# --- predict, fill in, break it, carry on ---

VERDICTS = {  # what a check may say, and what shows in an assertion that it said so
    "the untouched stub is `not tried yet`": r"not tried",
    "a right answer agrees": r"agree",
    "a wrong answer with a name is refused": r"expected|raised|got|should be",
}
WHY = 15  # words; fewer explain nothing


@dataclass
class Exercise:
    "A call of `check` on a stub, and what the notebook makes sure of."

    name: str  # as `keyreid lessons` knows it
    is_break: bool  # a judge looks at the stub
    key: tuple[str, str]  # what its other checks share: the judge, or nothing, and the reference
    sure: set[str]  # keys of VERDICTS
    solutions: list[int]  # cells that show that a right answer agrees


class Spelled(ast.NodeTransformer):
    "Puts what a name stands for in the place of the name, where that is known."

    def __init__(self, known: dict[str, ast.expr]):
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        "The expression behind a name."
        return self.known.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def stubs(
    notebook: Notebook,
) -> set[str]:
    "Functions that wait for the reader."
    nodes = (node for text in notebook.sources for node in parse(text).body)
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if "NotImplementedError" in ast.unparse(f.body[-1])}


def assertions(
    notebook: Notebook,
) -> Iterator[tuple[int, str]]:
    "Each assertion with the number of its cell, names replaced by the checks they stand for."
    known: dict[str, ast.expr] = {}
    for i, cell in enumerate(notebook.cells):
        for node in parse(source(cell)).body if cell["cell_type"] == "code" else []:
            call = node.value if isinstance(node, ast.Expr) else None
            tests = isinstance(call, ast.Call) and ast.unparse(call.func).startswith("test_")
            if isinstance(node, ast.Assert) or tests:
                yield i, ast.unparse(Spelled(known).visit(node))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
                if is_text or any(calls_of_check(ast.unparse(node.value))):
                    known[node.targets[0].id] = node.value
                else:
                    known.pop(node.targets[0].id, None)


def key_of(
    call: ast.Call,  # check(mine, reference, ...)
    is_break: bool,
) -> tuple[str, str]:
    "What the checks of one exercise share."
    return ast.unparse(call.args[0]) if is_break else "", ast.unparse(call.args[1])


def answer_in(
    call: ast.Call,  # check(mine, reference, case, ...)
    is_break: bool,
) -> str:
    "The answer that a call judges: the function, or the case of a judge."
    return ast.unparse(call.args[2 if is_break and len(call.args) > 2 else 0])


def exercises(
    notebook: Notebook,
) -> list[Exercise]:
    "The exercises of a notebook, and what it makes sure of for each."
    found: dict[str, Exercise] = {}
    own = stubs(notebook)
    for text in notebook.sources:
        for call in calls_of_check(text):
            name = exercise_in(call)
            if name and set(re.findall(r"my_\w+", name)) & own:
                is_break = "(" in name
                found[name] = Exercise(name, is_break, key_of(call, is_break), set(), [])
    for i, text in assertions(notebook):
        for call in calls_of_check(text):
            said = text.replace(ast.unparse(call), "")
            for exercise in found.values():
                if key_of(call, exercise.is_break) == exercise.key:
                    verdicts = {v for v, mark in VERDICTS.items() if re.search(mark, said)}
                    stub, right, wrong = VERDICTS
                    is_stub = exercise_in(call) == exercise.name
                    verdicts &= {stub} if is_stub else {right, wrong}
                    if not re.fullmatch(r"\w+|\(\w+,\)", answer_in(call, exercise.is_break)):
                        verdicts -= {wrong}  # a wrong answer has a name
                    exercise.sure |= verdicts
                    exercise.solutions += [i] * (right in verdicts)
    return list(found.values())


def solution_faults(
    notebook: Notebook,
    exercise: Exercise,
) -> Iterator[str]:
    "What is wrong with the solution of an exercise."
    yield from (f"no assertion says that {v}" for v in VERDICTS if v not in exercise.sure)
    folded = [i for i in exercise.solutions if "code-fold: true" in source(notebook.cells[i])]
    if exercise.solutions and not folded:
        yield "its solution is not folded; write `#| code-fold: true` in the first line"
    after = [cell for i in folded for cell in notebook.cells[i + 1 : i + 2]]
    if folded and not any(
        cell["cell_type"] == "markdown" and len(source(cell).split()) >= WHY for cell in after
    ):
        yield "nothing below the solution says why the wrong answer is wrong"


def practice_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Component notebooks that lack one of: predict, fill in, break it, carry on, checked solutions."
    complaints, seen = [], {}
    for notebook in read_book(nbs):
        if not notebook.module or notebook.number is None:
            continue
        text, name = "\n".join(notebook.sources), notebook.path.name
        prose = "\n".join(source(c) for c in notebook.cells if c["cell_type"] == "markdown")
        guesses = re.findall(r"^(\w+) = Prediction\(", text, re.M)
        open_ends = [guess for guess in guesses if f"{guess}.compare(" not in text]
        found = exercises(notebook)
        is_explorer = "explore" in notebook.path.parent.name
        lacks = {
            "predict: no Prediction": not guesses,
            f"predict: {', '.join(open_ends)} is never compared": bool(open_ends),
            "fill in: no check(my_..., reference, case)": all(e.is_break for e in found),
            "break it: no paragraph **Break it.**": "Break it" not in prose,
            "break it: no check(judge, reference, (my_...,))": sum(e.is_break for e in found) == 0
            and len(found) < 2,
            "carry on: no paragraph **Carry on.**": not re.search(r"Carry (on|further)\b", prose),
        }
        if is_explorer:  # a figure with sliders; one exercise will do
            lacks = {w: bad for w, bad in lacks.items() if w.startswith("predict")}
            lacks["an exercise: no check(my_..., reference, case)"] = not found
        faults = [what for what, is_bad in lacks.items() if is_bad]
        faults += [f"{e.name}: {fault}" for e in found for fault in solution_faults(notebook, e)]
        for exercise in found:
            if exercise.name in seen:
                faults.append(f"{exercise.name} is an exercise of {seen[exercise.name]} too")
            seen[exercise.name] = name
        complaints += [f"{name}: {fault}" for fault in faults]
    return complaints


# --- the package is what the notebooks export ---


def export_complaints(
    package: Path,  # the package as it is committed
    exported: Path,  # the package as the notebooks export it, made in an empty folder
) -> list[str]:
    "Modules that differ from what the notebooks export."
    ours, theirs = ({p.relative_to(f) for p in f.rglob("*.py")} for f in (package, exported))
    complaints = [
        f"keyreid/{path}: no notebook exports it; delete it, or write its notebook"
        for path in sorted(ours - theirs)
    ]
    for path in sorted(theirs):
        if path not in ours or (package / path).read_bytes() != (exported / path).read_bytes():
            complaints.append(
                f"keyreid/{path}: not what the notebooks export; change the notebook, never the "
                "module, then run nbdev-export"
            )
    return complaints


# --- the pages of the web site ---


def sidebar_entries(
    contents: list,  # the list `contents` of a sidebar or of a section in it
) -> Iterator[str]:
    "The pages that a sidebar names, in its order."
    for entry in contents:
        if isinstance(entry, str):
            yield entry
        else:
            yield from sidebar_entries(entry["contents"])


def sidebar_complaints(
    quarto: Path,  # _quarto.yml
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Notebooks that the sidebar does not name once, and names in it without a notebook."
    website = yaml.safe_load(quarto.read_text(encoding="utf-8"))["website"]
    named = list(sidebar_entries(website["sidebar"]["contents"]))
    pages = {notebook.path.relative_to(nbs).as_posix() for notebook in read_book(nbs)}
    complaints = [f"the sidebar lacks {page}" for page in sorted(pages - set(named))]
    for page in sorted(set(named)):
        if page not in pages:
            complaints.append(f"the sidebar names {page}, no such notebook")
        if named.count(page) > 1:
            complaints.append(f"the sidebar names {page} twice")
    return [f"_quarto.yml: {complaint}" for complaint in complaints]


def heading(
    notebook: Notebook,
) -> tuple[str, str]:
    "Title and question of a notebook; an empty text for one that it lacks."
    head = source(notebook.cells[0])
    found = (re.search(rf"^{mark} (.+)$", head, re.M) for mark in "#>")
    title, question = (match[1] if match else "" for match in found)
    return title, question


def index_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Notebooks whose title and question the index of the book does not give."
    index = "\n".join(source(cell) for cell in read_book(nbs / "index.ipynb")[0].cells)
    complaints = []
    for notebook in read_book(nbs):
        path, (title, question) = notebook.path.relative_to(nbs).as_posix(), heading(notebook)
        if path != "index.ipynb" and f"[{title}]({path}) | {question} |" not in index:
            complaints.append(f"index.ipynb: the table lacks `| [{title}]({path}) | {question} |`")
    return complaints


# --- what the first pages say ---


def means(
    experiments: Path,  # folder of experiments and of their committed rows
) -> set[str]:
    "Each mAP over seeds that the rows give, as it is written: 0.619 ± 0.031."
    groups: dict[str, list[float]] = {}
    for path in sorted(experiments.glob("*.json")):
        read = json.loads(path.read_text(encoding="utf-8"))
        for row in read.get("rows", ()) if isinstance(read, dict) else read:
            same = [row.get(key) for key in ("row", "preset", "made_of", "shuffle_labels", "size")]
            groups.setdefault(f"{path.name} {same}", []).append(row["mAP"])
    spread = {key: values for key, values in groups.items() if len(values) > 1}
    return {f"{mean(values):.3f} ± {stdev(values):.3f}" for values in spread.values()}


def cli_commands(
    path: Path,  # the module with the command line
) -> set[tuple[str, str]]:
    "Group and name of each command, ('data', 'check') say."
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for call in getattr(node, "decorator_list", ()):
            owner = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if owner.endswith("_app.command"):
                given = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
                found.add((owner.partition("_")[0], (given or [node.name])[0]))
    return found


def fact_complaints(
    root: Path,  # folder of the project
) -> list[str]:
    "Commands, files, parameters and results of README.md or the first page that are not so."
    index = read_book(root / "nbs" / "index.ipynb")[0]
    shown = [text for cell in index.cells for text in (source(cell), *markdown(cell))]
    first = {"README.md": (root / "README.md").read_text(encoding="utf-8")}
    first["index.ipynb"] = "\n".join(shown)
    targets = re.findall(r"^(\w+):", (root / "Makefile").read_text(encoding="utf-8"), re.M)
    known = means(root / "nbs" / "experiments")
    cells = read_book(root / "nbs" / "experiments" / "quickstart.ipynb")[0].cells
    tagged = "".join(source(c) for c in cells if "parameters" in c["metadata"].get("tags", []))
    modules = (root / "keyreid" / "runs" / name for name in ("cli.py", "commands.py"))
    commands = {command for path in modules for command in cli_commands(path)}
    complaints = []
    for name, text in first.items():
        for target in sorted(
            set(re.findall(r"\bmake ([a-z]+)(?=[`\n ]*(?:`|$|ARGS))", text, re.M))
        ):
            if target not in targets:
                complaints.append(f"{name}: the Makefile has no `make {target}`")
        for path in sorted(set(re.findall(r"\bnbs/[\w/.*-]+\w", text))):
            if not any(root.glob(path)):
                complaints.append(f"{name}: there is no {path}")
        for asked in sorted(set(re.findall(r"-p (\w+)", text))):
            if not re.search(rf"^{asked}\b", tagged, re.M):
                complaints.append(f"{name}: the quickstart has no parameter {asked}")
        for group, command in sorted(set(re.findall(r"bin/keyreid (\w+) (\w+)", text))):
            if (group, command) not in commands:
                complaints.append(f"{name}: there is no command keyreid {group} {command}")
        for result in sorted(set(re.findall(r"\d\.\d{3} ± \d\.\d{3}", text)) - known):
            complaints.append(f"{name}: no committed rows give {result}")
    return complaints


def public_names(
    notebook: Notebook,
) -> set[str]:
    "Functions and classes that a notebook exports under a name without underscore."
    nodes = (node for text in notebook.exported for node in parse(text).body)
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {n.name for n in nodes if isinstance(n, defined) and not n.name.startswith("_")}


def public_methods(
    notebook: Notebook,
) -> set[str]:
    "Methods without underscore of the classes that a notebook exports, `KeyReID.forward` say."
    nodes = (node for text in notebook.exported for node in parse(text).body)
    shown = (node for node in nodes if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    return {
        f"{node.name}.{item.name}"
        for node in shown
        for item in node.body
        if isinstance(item, ast.FunctionDef)
        if item.name[0] != "_" and item.name != "extra_repr" and not item.decorator_list
    }


def parameters(
    node: ast.FunctionDef | ast.ClassDef,  # an exported definition
) -> Iterator[tuple[str, ast.AST, str, ast.expr | None]]:
    "Owner, syntax, name and type of what a page shows: parameters, also of methods, and fields."
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                yield node.name, item, item.target.id, item.annotation
            elif isinstance(item, ast.FunctionDef) and re.match(
                "__init__|__call__|[a-z]", item.name
            ):
                yield from ((f"{node.name}.{owner}", *rest) for owner, *rest in parameters(item))
        return
    given = node.args
    for item in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if item is not None:
            yield node.name, item, item.arg, item.annotation


def docment_complaints(
    nbs: Path,  # folder of notebooks
) -> list[str]:
    "Parameters and fields whose meaning neither their type, nor their name, nor a comment gives."
    complaints = []
    for notebook in read_book(nbs):
        for text in notebook.exported:
            lines, nodes = text.splitlines(), parse(text).body
            shown = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            for owner, item, name, kind in (
                p for n in shown if n.name[0] != "_" for p in parameters(n)
            ):
                is_plain = kind is None or ast.unparse(kind) in PLAIN
                is_told = name in TELLING or name.startswith(("n_", "_"))
                if is_plain and not is_told and "#" not in lines[item.end_lineno - 1]:
                    complaints.append(
                        f"{notebook.path.name}: {owner} does not say what `{name}` is; write its "
                        "meaning and unit or range beside it, `# frames a second` say"
                    )
    return complaints


def is_generated(
    cell: dict,  # a cell of a notebook
) -> bool:
    "Whether what a cell shows is made anew with each page and not stored."
    return "generated" in cell["metadata"].get("tags", [])


def contents_complaints(
    nbs: Path,  # folder of notebooks
    staged: Path,  # folder of pages that nbdev-proc-nbs made of them
) -> list[str]:
    "Public names that the page of contents does not list with a link."
    path = staged / "pages" / "contents.ipynb"
    pages = read_book(path.parent) if path.is_file() else []
    cells = [cell for page in pages if page.path == path for cell in page.cells]
    text = "\n".join(part for cell in cells for part in markdown(cell))
    return [
        f"contents.ipynb: the table lacks {name} of {notebook.path.name}"
        for notebook in read_book(nbs)
        for name in sorted(public_names(notebook))
        if f"[{name}](../{notebook.path.relative_to(nbs).as_posix()}#{name.lower()})" not in text
    ]


def page_complaints(
    nbs: Path,  # folder of notebooks
    staged: Path,  # folder of pages that nbdev-proc-nbs made of them
) -> list[str]:
    "Pages that are missing, have no title or question, lack documentation or cannot be shown."
    complaints = []
    for notebook in read_book(nbs):
        name = notebook.path.relative_to(nbs)
        if not (staged / name).is_file():
            complaints.append(f"{name}: no page was made of it")
            continue
        page = Notebook(staged / name, tuple(json.loads((staged / name).read_text())["cells"]))
        head = source(page.cells[0]) if page.cells and page.cells[0]["cell_type"] == "raw" else ""
        for key, mark in (("title", "# Title"), ("description", "> question")):
            if not re.search(rf"^{key}:\s*\S", head, re.M):
                complaints.append(
                    f"{name}: the page has no {key}; write `{mark}` in the first cell"
                )
        outputs = [out.get("data", {}) for cell in page.cells for out in cell.get("outputs", [])]
        shown = "\n".join("".join(data.get("text/markdown", "")) for data in outputs)
        for missing in sorted(public_names(notebook)):
            if not re.search(rf"^#+ {missing}$", shown, re.M):
                complaints.append(f"{name}: the page does not document {missing}")
        for missing in sorted(public_methods(notebook)):
            if not re.search(rf"^#+ {re.escape(missing)}$", shown, re.M):
                complaints.append(
                    f"{name}: the page does not document {missing}; write its docstring, and see "
                    "that keyreid.figures:show_members is among doc_procs in pyproject.toml"
                )
        named = [
            text for cell in page.cells for text in markdown(cell) if "show_doc(" in source(cell)
        ]
        if any(text.count("### ") > len(SOURCE.findall(text)) for text in named):
            complaints.append(f"{name}: a name is documented without a link to its source")
        made = {cell.get("id") for cell in page.cells if cell.get("outputs")}
        if any(is_generated(cell) and cell["id"] not in made for cell in notebook.cells):
            complaints.append(
                f"{name}: a cell tagged `generated` shows nothing on the page; its first line must "
                "be `#| exec_doc`"
            )
        for kind in sorted({k for data in outputs for k in data if not SHOWN.fullmatch(k)}):
            complaints.append(f"{name}: the page has an output of type {kind}, which no page shows")
    return complaints


def link_complaints(
    nbs: Path,  # folder of notebooks
    staged: Path,  # folder of pages that nbdev-proc-nbs made of them
    site: str,  # address of the web site
) -> list[str]:
    "Links from page to page that lead nowhere, or to a place that the page does not have."
    addresses = {page_address(notebook.path.relative_to(nbs)) for notebook in read_book(nbs)}
    pages = read_book(staged)
    places = {page_address(page.path.relative_to(staged)): anchors(page) for page in pages}
    complaints = []
    for page in pages:
        here = page.path.relative_to(staged)
        for link in sorted({link for cell in page.cells for link in links(cell)}):
            target, _, anchor = link.partition("#")
            name = linked_page(target.removesuffix("/"), page.path, staged, site)
            if name is None:
                continue
            if name not in addresses:
                complaints.append(f"{here}: the link {link} leads nowhere")
            elif anchor and anchor not in places.get(name, ()):
                complaints.append(f"{here}: the link {link} names no place on that page")
    return complaints


def linked_page(
    target: str,  # of a link, without the place on the page; "" is the page itself
    path: Path,  # of the page with the link
    staged: Path,  # folder of pages
    site: str,  # address of the web site
) -> str | None:
    "The page that a link leads to, `0_start/figures.html` say; None for a file or another site."
    if target.startswith(site.removesuffix("/")):
        return target.removeprefix(site.removesuffix("/")).strip("/") or "index.html"
    address = (path.parent / target).resolve() if target else path.resolve()
    if re.match(r"[a-z]+:", target) or (address.is_file() and address.suffix != ".ipynb"):
        return None
    if not address.is_relative_to(staged.resolve()):
        return target
    name = address.relative_to(staged.resolve())
    return page_address(name) if address.is_file() else name.as_posix()


def anchors(
    page: Notebook,  # a page that nbdev-proc-nbs made
) -> set[str]:
    "Places on a page that a link can name: its headings, as pandoc writes them."
    texts = [text for cell in page.cells for text in markdown(cell)]
    prose = re.sub(r"^```.*?^```", "", "\n".join(texts), flags=re.S | re.M)
    found = set(re.findall(r"\{#([\w.-]+)", prose))
    for heading in re.findall(r"^#+ (.+)$", prose, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = re.sub(r"[^\w\s.-]", "", plain).strip()
        found.add(re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", kept)))
    return found


def page_address(
    path: Path,  # a notebook, relative to the folder of notebooks
) -> str:
    "Where the page of a notebook is drawn: file numbers are left out, folder numbers are kept."
    return path.with_name(re.sub(r"^\d+[a-z]?_", "", path.stem) + ".html").as_posix()


def markdown(
    cell: dict,  # a cell of a page
) -> list[str]:
    "The markdown of a cell: its text, or its outputs."
    if cell["cell_type"] == "markdown":
        return [source(cell)]
    data = [out.get("data", {}) for out in cell.get("outputs", [])]
    return ["".join(kinds["text/markdown"]) for kinds in data if "text/markdown" in kinds]


def links(
    cell: dict,  # a cell of a page
) -> list[str]:
    "Targets of the links and pictures in the markdown of a cell, and of the links in its figures."
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", "\n".join(markdown(cell)), flags=re.S)
    html = "".join(
        "".join(out.get("data", {}).get("text/html", "")) for out in cell.get("outputs", [])
    )
    for escaped, character in (("\\u002f", "/"), ('\\"', '"')):  # plotly writes them so
        html = html.replace(escaped, character)
    return re.findall(r"\]\(<?([^)\s>]+)", prose) + re.findall(r'href="([^"]+)"', html)
