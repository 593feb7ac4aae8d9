"""Put what an executed experiment shows into its notebook, so that the web site shows it, too.

python tests/store_run.py _runs/quickstart/quickstart.ipynb nbs/experiments/quickstart.ipynb
"""

import json
import sys
from pathlib import Path

from strip_outputs import strip_notebook


def store_run(
    executed: str,  # the copy that papermill left, as JSON
    notebook: str,  # the experiment it was made of, as JSON
) -> str:
    "The notebook with the outputs of the executed copy; its own cells and parameters stay."
    ran = {cell["id"]: cell for cell in json.loads(executed)["cells"]}
    content = json.loads(notebook)
    for cell in content["cells"]:
        twin = ran.get(cell["id"])
        if twin is None or twin["source"] != cell["source"]:
            text = "".join(cell["source"])[:60]
            raise ValueError(
                f"store_run: the run has no cell `{text}`, the notebook was changed since; "
                "run the experiment again"
            )
        if cell["cell_type"] == "code":
            cell["outputs"] = twin["outputs"]
    return strip_notebook(json.dumps(content))


if __name__ == "__main__":
    executed, notebook = map(Path, sys.argv[1:])
    stored = store_run(executed.read_text("utf-8"), notebook.read_text("utf-8"))
    notebook.write_text(stored, "utf-8")
