"""Planning a run: a stand-in for the door that has the run's answers, and counts what it would have to ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybrid_sim.core.errors import ReplyError
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Question


class Planner:
    """Answers from a journal and sends nothing; `questions` gathers what it could not answer, each once.

    A question that builds on an unanswered one (an update of a profile that is not written yet) is gathered in the form
    that it has without that answer, so its length is an estimate.
    """

    def __init__(self, sampling: Mapping[str, Any], journal: Journal | None = None) -> None:
        self._sampling, self._journal = sampling, journal
        self._missing: dict[str, Question] = {}

    @property
    def questions(self) -> list[Question]:
        """What would have to be asked so far."""
        return list(self._missing.values())

    def ask(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """The stored answers, and a failure of the kind "not_asked" for every other question."""
        keys = [question.key(self._sampling) for question in questions]
        stored = self._journal.find(keys) if self._journal else {}
        results: list[Answer | Failure] = []
        for key, question in zip(keys, questions, strict=True):
            try:
                kept = stored[key]
                results.append(Answer(kept.text, question.check(kept.text), kept.usage, kept.model))
            except (KeyError, ReplyError):
                self._missing[key] = question
                results.append(Failure("not_asked", "the run is only planned"))
        return results
