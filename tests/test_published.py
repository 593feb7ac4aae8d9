"""The numbers that experiments quote from the paper are the numbers of the paper.

An experiment quotes them in a dict PUBLISHED: a method, by the paper's name, to a number for each
of COLUMNS, a list in the same notebook. Where a table has rows of several lambdas, the name ends
in the lambda, as in "RGCN adaptive".
"""

import ast
import json
import os
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("III", "IV", "V", "VI", "VII")
COLUMNS = ["MARS mAP", "MARS Rank1", "iLIDS-VID mAP", "iLIDS-VID Rank1"]


def quoted(notebook: Path) -> dict[str, object]:
    "PUBLISHED and COLUMNS as the cells of a notebook write them."
    found: dict[str, object] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "PUBLISHED" not in source:
            continue
        for line in ast.parse(source).body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                name = line.targets[0].id
                if name in ("PUBLISHED", "COLUMNS"):
                    found[name] = ast.literal_eval(line.value)
    return found


def experiments() -> list[Path]:
    "The experiments that quote numbers."
    folder = ROOT / "nbs" / "experiments"
    return [path for path in sorted(folder.glob("*.ipynb")) if "PUBLISHED" in quoted(path)]


@cache
def printed() -> dict[tuple[str, str], set[float]]:
    "All numbers of the tables about pose: (method, column) to what is printed for it."
    metadata = Path(os.environ.get("KEYREID_METADATA", ROOT.parent / "shared" / "metadata"))
    path = metadata.parent / "spec" / "published_tables.json"
    if not path.is_file():
        pytest.skip("published_tables.json is not beside the metadata, see KEYREID_METADATA")
    found: dict[tuple[str, str], set[float]] = {}
    for record in json.loads(path.read_text(encoding="utf-8"))["records"]:
        if record["table"] in TABLES:
            method = " ".join([record["method"], *filter(None, [record.get("lambda")])])
            metric = {"training_time": "hours"}.get(record["metric"], record["metric"])
            key = method, f"{record['dataset']} {metric}"
            found.setdefault(key, set()).add(record["value"])
    return found


def complaints(published: dict[str, tuple], columns: list[str]) -> list[str]:
    "Quoted numbers that the paper does not print."
    return [
        f"{method}, {column}: {value} is quoted, the paper has {printed().get((method, column))}"
        for method, values in published.items()
        for column, value in zip(columns, values, strict=True)
        if printed().get((method, column)) != {value}
    ]


def test_some_experiments_quote():
    names = {path.stem for path in experiments()}
    assert {"pose_gain", "pose_temporal", "pose_readouts"} <= names


@pytest.mark.parametrize("path", experiments(), ids=lambda path: path.stem)
def test_quoted_is_printed(path: Path):
    "Each quoted number is the paper's, and at least two methods are quoted."
    found = quoted(path)
    assert complaints(found["PUBLISHED"], found.get("COLUMNS", COLUMNS)) == []
    assert len(found["PUBLISHED"]) >= 2


def test_a_wrong_number_is_found():
    "A changed digit, a method nobody published, and two columns changed about."
    assert complaints({"AP+RGCN": (82.6, 87.9, 89.4, 84.7)}, COLUMNS) == []
    assert complaints({"RGCN adaptive": (82.6, 87.9, 89.4, 84.7)}, COLUMNS) == []
    assert len(complaints({"AP+RGCN": (82.6, 87.9, 89.4, 84.8)}, COLUMNS)) == 1
    assert len(complaints({"AP+GCN": (82.6, 87.9, 89.4, 84.7)}, COLUMNS)) == 4
    assert len(complaints({"AP+RGCN": (87.9, 82.6, 89.4, 84.7)}, COLUMNS)) == 2
