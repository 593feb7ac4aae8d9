"""A training machine has no notebooks and no figures: the package must import without them."""

import subprocess
import sys
from pathlib import Path

HEAVY = {"plotly", "ipywidgets", "papermill", "fastcore", "nbdev", "nbconvert", "IPython",
         "jupyterlab", "ipykernel", "pandas", "sklearn", "beartype", "faiss",
         "pyarrow"}  # fmt: skip
MAY = {"figures", "explore", "runs", "practice"}

BLOCKED = """
import importlib, pkgutil, sys
sys.path.insert(0, {folder!r})
sys.modules.update(dict.fromkeys({heavy}))  # None: as if it were not installed
import keyreid
found = pkgutil.walk_packages(keyreid.__path__, "keyreid.", onerror=lambda name: None)
names = [module.name for module in found if module.name.split(".")[1] not in {may}]
for name in names:
    importlib.import_module(name)
print(*names)
"""


def run_blocked(folder: Path) -> subprocess.CompletedProcess:
    "Import every light module of the package in `folder` where the heavy libraries are missing."
    script = BLOCKED.format(folder=str(folder), heavy=HEAVY, may=MAY)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_imports_without_the_book(root: Path):
    done = run_blocked(root)
    assert done.returncode == 0, done.stderr
    assert {"keyreid.settings", "keyreid.tracklets"} <= set(done.stdout.split())


def test_blocker_blocks(tmp_path: Path):
    package = tmp_path / "keyreid"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "settings.py").write_text("import plotly\n")
    done = run_blocked(tmp_path)
    assert done.returncode and "import of plotly" in done.stderr
