"""The reference pages say what the package, the experiments and the published tables say.

Pages lie in nbs/pages: notebooks without a number that export nothing. Their tables name symbols,
notebooks and numbers, which would grow old in silence.
"""

import ast
import html
import json
import os
import re
import shutil
from functools import cache
from pathlib import Path

import book
import numpy as np
import pytest
from book import Notebook, links, read_book, source
from scipy.io import loadmat
from test_published import quoted

from keyreid.data.mars import GALLERIES
from keyreid.parts.tcss import ARRANGEMENTS
from keyreid.retrieval.protocols import PROTOCOLS, TrackTable, count_pairs

ROOT = Path(__file__).resolve().parents[1]
NBS, EXPERIMENTS = ROOT / "nbs", ROOT / "nbs" / "experiments"
PAGES = {page.path.stem: page for page in read_book(NBS / "pages")}
RULES = ("order", "layer", "name", "title", "comparison", "output")  # of tests/book.py
OURS = ("here", "rule", "reader", "remark")  # columns of tables that name things of ours


def prose(page: Notebook) -> list[str]:
    "The markdown of a page: its cells, and what its code made."
    texts = [source(cell) for cell in page.cells if cell["cell_type"] == "markdown"]
    outputs = [out.get("data", {}) for cell in page.cells for out in cell.get("outputs", [])]
    return texts + ["".join(data["text/markdown"]) for data in outputs if "text/markdown" in data]


# --- what a page is ---


def test_the_three_pages_are_there():
    assert set(PAGES) >= {"claims", "protocols", "released_code"}


def page_complaints(page: Notebook) -> list[str]:
    "What makes a notebook no reference page."
    name, complaints = page.path.name, []
    if page.number or page.module or page.exported:
        complaints.append(f"{name}: a page has no number and exports nothing")
    if page.is_skipped or not re.fullmatch(r"# \S.*\n\n> \S.*", source(page.cells[0])):
        complaints.append(f"{name}: the first cell holds title and question, and nothing else")
    for text in page.sources:
        if found := re.search(r"/home/|/tmp|shared|urlopen|requests|get_ipython", text):
            complaints.append(f"{name}: a cell says {found[0]}; pages read committed files only")
    return complaints


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_is_a_page(page: Notebook):
    assert page_complaints(page) == []


def test_the_rules_of_the_book_allow_pages(tmp_path: Path):
    "A notebook without number and module is no complaint, an exported one or a wrong cell is."
    shutil.copytree(NBS / "pages", tmp_path / "pages")
    rules = [getattr(book, f"{word}_complaints") for word in RULES]
    assert [complaint for rule in rules for complaint in rule(tmp_path)] == []
    path = tmp_path / "pages" / "claims.ipynb"
    text = json.loads(path.read_text(encoding="utf-8"))
    text["cells"][2]["source"] = ["1 == 2"]
    path.write_text(json.dumps(text), encoding="utf-8")
    assert len([complaint for rule in rules for complaint in rule(tmp_path)]) == 1


def dead_links(page: Notebook) -> list[str]:
    "Links of a page to notebooks that are not there."
    found = sorted({link for cell in page.cells for link in links(cell)})
    inside = [link.split("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]
    return [link for link in inside if not (page.path.parent / link).is_file()]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_lead_somewhere(page: Notebook):
    assert dead_links(page) == []
    if page.path.stem in ("claims", "protocols", "released_code"):
        assert sum(len(links(cell)) for cell in page.cells) > 5


# --- what its tables name ---


@cache
def known() -> dict[str, set[str]]:
    "What the package has: functions with their parameters, classes with members, constants."
    found: dict[str, set[str]] = {}
    for path in (ROOT / "keyreid").rglob("*.py"):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                given = node.args.args + node.args.kwonlyargs
                found[node.name] = {item.arg for item in given}
            elif isinstance(node, ast.ClassDef):
                found[node.name] = members(node)
            elif isinstance(node, ast.Assign):
                found |= {t.id: set() for t in node.targets if isinstance(t, ast.Name)}
    return found


def members(node: ast.ClassDef) -> set[str]:
    "Fields, methods and parameters of a class."
    names = set()
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            names.add(item.target.id)
        elif isinstance(item, ast.FunctionDef):
            names.add(item.name)
            if item.name == "__init__":
                names |= {a.arg for a in item.args.args + item.args.kwonlyargs}
    return names


def is_known(name: str) -> bool:
    "Whether a name in backticks is one of ours."
    keys = {*PROTOCOLS, *GALLERIES, *ARRANGEMENTS, "keyreid --help"}
    if name in keys or name in known() or (ROOT / name).exists():
        return True
    try:
        node = ast.parse(name, mode="eval").body
    except SyntaxError:
        return False
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        given = {word.arg for word in node.keywords}
        return node.func.id in known() and given <= known()[node.func.id]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr in known().get(node.value.id, ())
    return name in set().union(*known().values())


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    "Header and lines of the tables in a markdown text."
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?){3,}", text, re.M):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
        found.append((lines[0], lines[2:]))
    return found


def unknown_names(text: str) -> list[str]:
    "Names in our columns of the tables of a text that nothing has."
    names = set()
    for head, lines in tables(text):
        for column in (i for i, word in enumerate(head) if word in OURS):
            names |= {name for line in lines for name in re.findall(r"`([^`]+)`", line[column])}
    return sorted(name for name in names if not is_known(name))


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_tables_name_what_is_there(page: Notebook):
    assert unknown_names("\n\n".join(prose(page))) == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_tables_are_whole(page: Notebook):
    "Each line of a table has as many cells as its header."
    for head, lines in tables("\n\n".join(prose(page))):
        assert {len(line) for line in lines} == {len(head)}, head


HERE = "| a | here |\n|---|---|\n| `x` | {} |\n"


@pytest.mark.parametrize(
    ("cell", "unknown"),
    [
        ("`released_view`, `mars/as_released`, `Scores.mAP`, `KeyReID`, `parts_seen`", []),
        ('`read_mars(root, gallery="official")`', []),
        ("`released_vew`", ["released_vew"]),
        ('`read_mars(root, galery="official")`', ['read_mars(root, galery="official")']),
        ("`Scores.map`", ["Scores.map"]),
        ("`mars/as_relased`", ["mars/as_relased"]),
    ],
)
def test_an_unknown_name_is_found(cell: str, unknown: list[str]):
    assert unknown_names(HERE.format(cell)) == unknown


def test_every_difference_has_its_number_once():
    "E1, E2, ... without a gap; each line says an effect and what is here."
    lines = [line for text in prose(PAGES["released_code"]) for _, t in tables(text) for line in t]
    ids = re.findall(r"\*\*([A-Z])(\d+)\*\*", "\n".join(line[0] for line in lines))
    for letter in dict(ids):
        own = [int(n) for other, n in ids if other == letter]
        assert own == list(range(1, len(own) + 1)), letter
    assert len(ids) == len(lines) > 30
    assert all(len(line) == 5 and all(line) for line in lines)


# --- verdicts are those of the experiments ---


def stored(notebook: Path, pattern: str) -> list[list[str]]:
    "The last stored table under the last cell that matches a pattern, its header first."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    own = [c for c in cells if c["cell_type"] == "code" and re.search(pattern, source(c), re.M)]
    pages = ["".join(o.get("data", {}).get("text/html", "")) for o in own[-1]["outputs"]]
    return cells_of([page for page in pages if page][-1])


def cells_of(page: str) -> list[list[str]]:
    "The cells of an HTML table; a cell over several lines stands in each."
    lines, above = [], {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.S):
        found = re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.S)
        line, column = [], 0
        while found or column in above:
            if above.get(column, ("", 0))[1]:
                line.append(above[column][0])
                above[column] = (above[column][0], above[column][1] - 1)
            elif found:
                looks, text = found.pop(0)
                text = html.unescape(re.sub(r"<[^>]+>", "", text)).strip()
                span = re.search(r'rowspan="(\d+)"', looks)
                above[column] = (text, int(span[1]) - 1 if span else 0)
                line.append(text)
            else:
                break
            column += 1
        lines.append(line)
    return lines


def html_of(page: Notebook) -> list[str]:
    "The HTML that the code of a page made."
    outputs = [out.get("data", {}) for cell in page.cells for out in cell.get("outputs", [])]
    return ["".join(data.get("text/html", "")) for data in outputs]


def on_claims_page(name: str) -> dict[tuple[str, str], dict[str, str]]:
    "The numbers of an experiment on the page of claims: (claim, preset) to its columns."
    pages = html_of(PAGES["claims"])
    table = cells_of(next(page for page in pages if f'id="T_{name}"' in page))
    lines = [line for line in table[1:] if any(line[1:])]
    return {(line[0], line[1]): dict(zip(table[0], line, strict=True)) for line in lines}


JUDGED = ["gain", "temporal", "readouts", "lambda", "depth", "length", "controls"]
NUMBERS = ("verdict", "gain", "low", "high", "seeds")


@pytest.mark.parametrize("name", [f"pose_{name}" for name in JUDGED])
def test_verdicts_are_those_of_the_experiment(name: str):
    "Each comparison that the experiment's page shows, with its verdict and its numbers."
    table = stored(EXPERIMENTS / f"{name}.ipynb", r"^judged = pd.concat|^judged.style")
    head, said = table[0], on_claims_page(name)
    lines = [dict(zip(head[1:], line[1:], strict=True)) | {"": line[0]} for line in table[2:]]
    theirs = {(line[""], line["preset"]): [line[k] for k in NUMBERS] for line in lines}
    assert theirs == {key: [line[k] for k in NUMBERS] for key, line in said.items()}
    assert len(theirs) >= 20


def test_what_was_read_from_pages_is_there():
    "Pictures and times, to the last digit."
    table = stored(EXPERIMENTS / "pose_pictures.ipynb", r"^judged = pd.DataFrame")
    said = on_claims_page("pose_pictures")
    assert [list(line.values())[2:] for line in said.values()] == [line[1:] for line in table[1:]]
    table = stored(EXPERIMENTS / "pose_temporal.ipynb", r"^faster = pd.DataFrame")
    theirs = {line[0]: (line[1], *map(float, line[2:])) for line in table[1:] if line[1]}
    ours = {
        claim: (line["verdict"], *(float(line[k]) for k in ("gain", "low", "high")))
        for (claim, _), line in on_claims_page("faster").items()
    }
    assert ours == theirs and len(ours) == 5


def test_verdicts_about_attention_and_the_triplet():
    table = stored(EXPERIMENTS / "pose_attention.ipynb", r"^verdicts = judged")
    theirs = {f"{line[0]}, {line[1]}": line[2] for line in table[2:]}
    said = on_claims_page("pose_attention")
    assert theirs == {claim: line["verdict"] for (claim, _), line in said.items()}
    table = stored(EXPERIMENTS / "pose_lambda.ipynb", r"^ends = pd.DataFrame")
    lower = table[0].index("adaptive lower")
    theirs = {line[0]: line[lower] for line in table[2:] if "adaptive" not in line[0]}
    said = {
        " ".join(reversed(re.findall(r"[\d.]+|[RL]GCN", claim))): line["verdict"]
        for (claim, _), line in on_claims_page("triplet").items()
    }
    assert theirs == said and len(said) == 4


def test_what_the_ablation_says_of_itself():
    "The column of its own verdicts is its own table."
    table = stored(EXPERIMENTS / "ablation.ipynb", r"^claims = pd.DataFrame\(lines\)")
    presets = [word for word in table[0] if word in ("misaligned", "occluded", "quick")]
    theirs = {
        (line[0], preset): said
        for line in table[2:]
        for preset, said in zip(presets, line[-len(presets) :], strict=True)
    }
    ours = {
        (claim.rpartition(": ")[0], preset): line["its page"]
        for (claim, preset), line in on_claims_page("ablation").items()
    }
    assert theirs == ours and len(ours) == 24
    (differ,) = [
        cells_of(page)
        for page in html_of(PAGES["claims"])
        if "its page" in page and "T_ablation" not in page
    ]
    for preset, claim, its_page, verdict in differ[2:]:
        line = on_claims_page("ablation")[claim, preset]
        assert (its_page, verdict) == (line["its page"], line["verdict"]) == (its_page, "undecided")
    assert len(differ) > 3


def test_the_figure_shows_all_that_the_tables_count():
    "As many marks, by verdict, as the tables of claims have comparisons."
    counted = dict.fromkeys(("shown", "not shown", "undecided"), 0)
    for text in prose(PAGES["claims"]):
        for head, lines in tables(text):
            for kind in set(counted) & set(head):
                cells = " ".join(line[head.index(kind)] for line in lines)
                counted[kind] += sum(int(n) for n in re.findall(r" (\d+)/\d+", cells))
    outputs = [out.get("data", {}) for c in PAGES["claims"].cells for out in c.get("outputs", [])]
    (figure,) = [d[k] for d in outputs for k in d if k.endswith("plotly.v1+json")]
    drawn = dict.fromkeys(counted, 0)
    for trace in figure["data"]:
        drawn[trace["name"].split(",")[0]] += len(trace["text"])
    assert drawn == counted and sum(drawn.values()) > 100
    assert all(str(n) in figure["layout"]["title"]["text"] for n in drawn.values())


def test_published_numbers_are_quoted_once():
    "Tables of the paper come from the experiments; KeyRe-ID's line is the ablation's."
    for name in ("pose_gain", "pose_readouts", "pose_lambda"):
        pages = html_of(PAGES["claims"])
        table = cells_of(next(p for p in pages if f'id="T_published_{name}"' in p))
        ours = {line[0]: tuple(map(float, line[1:])) for line in table[1:]}
        assert ours == quoted(EXPERIMENTS / f"{name}.ipynb")["PUBLISHED"]
    lines = [line for text in prose(PAGES["claims"]) for line in text.splitlines()]
    theirs = [
        line
        for cell in json.loads((EXPERIMENTS / "ablation.ipynb").read_text("utf-8"))["cells"]
        for line in source(cell).splitlines()
        if "*as published*" in line
    ]
    assert len(theirs) == 2 and set(theirs) <= set(lines)


# --- numbers that were counted ---


def says(page: str, *words: str) -> bool:
    "Whether all these words stand on a page."
    text = "\n".join(prose(PAGES[page]))
    return all(word in text for word in words)


def test_numbers_from_lessons():
    "What a page quotes from a lesson is what the lesson shows."
    branches = (NBS / "5_parts" / "52_branches.ipynb").read_text("utf-8")
    found = re.search(r"'paper': (0\.\d+), 'released': (\d\.\d+e-05)", branches)
    assert says("released_code", f"{float(found[1]):.4f} as meant", f"{float(found[2]):.5f} as rel")
    assert "7_858_408" in (NBS / "5_parts" / "53a_released_checkpoints.ipynb").read_text("utf-8")
    assert says("released_code", "7,858,408 numbers")


@pytest.fixture(scope="module")
def mars() -> dict[str, np.ndarray]:
    "The published tables of MARS."
    metadata = Path(os.environ.get("KEYREID_METADATA", ROOT.parent / "shared" / "metadata"))
    if not (metadata / "mars" / "tracks_test_info.mat").is_file():
        pytest.skip(f"KEYREID_METADATA: no mars/tracks_test_info.mat in {metadata}")
    files = {n: loadmat(metadata / "mars" / f"tracks_{n}_info.mat") for n in ("train", "test")}
    rows = {n: found[f"track_{n}_info"].astype(int) for n, found in files.items()}
    query = loadmat(metadata / "mars" / "query_IDX.mat")["query_IDX"].ravel().astype(int) - 1
    return rows | {"query": query}


def test_counts_of_mars(mars: dict[str, np.ndarray]):
    "Junk, distractors, people, queries without an answer, the longest of a person and camera."
    first, last, pids, camids = mars["test"].T
    n_frames, query, stays = last - first + 1, mars["query"], pids != -1
    assert says("protocols", f"{len(pids):,} tracklets", f"{(pids == -1).sum()} are *junk*")
    assert says("protocols", f"{(pids == 0).sum():,} are *distractors*", "are 634 people")
    assert len(set(pids[pids > 0])) == 634
    stays[query] = False
    has_answer = [(stays & (pids == pids[q]) & (camids != camids[q])).any() for q in query]
    lost = query[~np.array(has_answer)]
    assert says("protocols", f"{len(lost)} queries ({len(set(pids[lost]))} people)")
    assert says("released_code", f"{len(lost)} of 1,980 queries have nobody left")
    is_longest = [
        n_frames[q] == n_frames[(pids == pids[q]) & (camids == camids[q])].max() for q in query
    ]
    assert says(
        "protocols", f"otherwise for {1 - np.mean(is_longest):.0%} of them".replace("%", " %")
    )
    pairs = count_pairs("mars/as_released", TrackTable(pids, camids - 1, n_frames, query))
    kept = f"of {pairs.own_camera:,} easy pairs {pairs.own_camera_kept:,} stay in"
    assert says("released_code", kept, f"{pairs.n_valid:,} of 1,980 queries count")
    missed = 100 * pairs.cross_camera_lost / pairs.cross_camera
    assert says("released_code", f"{missed:.1f} % of true pairs are lost")
    keys = set(zip(pids[query], camids[query], strict=True))
    assert len(keys) == len(query)  # one tracklet of each person and camera


def test_frames_of_mars(mars: dict[str, np.ndarray]):
    "The cap of 41 windows, windows that are filled up, and the size of stored maps."
    first, last, pids, _ = mars["test"].T
    n_frames = (last - first + 1)[pids != -1]
    capped = n_frames > 164
    cut = f"{capped.sum()} of {len(n_frames):,} tracklets lose {(n_frames[capped] - 164).sum():,}"
    assert says("released_code", cut, f"{100 * (n_frames % 4 != 0).mean():.0f} % of the MARS test")
    assert says("protocols", f"{capped.sum()} tracklets are longer than 164 frames")
    total = sum(int((rows[:, 1] - rows[:, 0] + 1).sum()) for rows in (mars["train"], mars["test"]))
    size = 6 * 256 * 128 * 8  # parts, pixels, bytes
    stored_maps = f"{size / 1e6:.2f} MB a frame, {size * total / 1e12:.2f} TB for the {total:,}"
    assert says("released_code", stored_maps)
