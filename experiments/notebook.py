"""Runs docs/first-steps.ipynb and writes the results of its cells into it: python experiments/notebook.py

It reads the tables in docs/sample, which `python experiments/notebook.py --sample` makes: a small synthetic world.
"""

from __future__ import annotations

import ast
import json
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "first-steps.ipynb"


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with its code cells run, one after the other, in docs/; a cell's last expression is its result."""
    names: dict[str, Any] = {}
    cells, number = [], 0
    with chdir(DOCS):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                cell = {**cell, "execution_count": number, "outputs": _outputs("".join(cell["source"]), names, number)}
            cells.append(cell)
    return {**notebook, "cells": cells}


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, result = StringIO(), None
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        if last is not None:
            result = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs = []
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if result is not None:
        data = {"text/plain": repr(result).splitlines(keepends=True)}
        if hasattr(result, "_repr_html_"):
            data["text/html"] = result._repr_html_().splitlines(keepends=True)
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return outputs


def write_sample(folder: Path) -> None:
    """Tables of 60 users, 50 items and 1,070 ratings of the synthetic world."""
    from hybrid_sim.data.world import make_world

    world = make_world(n_users=60, n_items=50, ratings_per_user=20).dataset
    ratings = {
        "user_id": world.users.index[world.user],
        "item_id": world.items.index[world.item],
        "rating": world.rating.astype(int),
        "timestamp": world.timestamp,
    }
    import pandas as pd

    folder.mkdir(exist_ok=True)
    pd.DataFrame(ratings).to_csv(folder / "ratings.csv", index=False)
    world.items.assign(genres=world.items["genres"].map("|".join)).rename_axis("item_id").to_csv(folder / "items.csv")
    world.users.rename_axis("user_id").to_csv(folder / "users.csv")


def main(words: list[str]) -> int:
    """Write the sample tables, or the results of the notebook."""
    if words == ["--sample"]:
        write_sample(DOCS / "sample")
    else:
        notebook = executed(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
