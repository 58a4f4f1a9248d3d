"""How many pairs a server of some dialect answers, for tests and for `experiments/dialects.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llm_asking import asking
from llm_dialects import ServerDialect
from llm_server import LoopbackLLM

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import HybridSimError
from hybrid_sim.core.settings import RatingSettings
from hybrid_sim.core.user_state import Histories, UserState
from hybrid_sim.llm.question import Answer
from hybrid_sim.prompts.rating import rating_question
from hybrid_sim.prompts.templates import load_template


@dataclass(frozen=True)
class Answered:
    """Pairs asked about, pairs with a rating, calls, and why the run stopped."""

    pairs: int
    answered: int
    calls: int
    stopped: HybridSimError | None


def pairs_answered(dialect: ServerDialect, dataset: Dataset, folder: Path, n_users: int = 12) -> Answered:
    """Ask a server of this dialect about three items for each of the users, in a journal in `folder`."""
    template, histories = load_template("rate"), Histories(dataset)
    states = [UserState(user, histories.of(user)) for user in range(n_users)]
    asked = [
        rating_question(template, dataset, state, np.arange(state.user, state.user + 3), RatingSettings())
        for state in states
    ]
    sampling: dict[str, Any] = {"temperature": 0.0, "seed": 7, "top_p": 0.9}
    with LoopbackLLM(dialect=dialect) as server, asking(folder, server.url, **sampling) as llm:
        answers = [result for result in llm.ask(asked) if isinstance(result, Answer)]
        n_answered = sum(int(np.isfinite(answer.value.ratings).sum()) for answer in answers)
        return Answered(3 * len(asked), n_answered, server.n_requests, llm.stopped)
