"""The profile writer that asks a language model, and falls back on statistics where it has no answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.user_state import UserProfile
from hybrid_sim.llm.question import Answer, Failure, LanguageModel
from hybrid_sim.profiles.checks import faults
from hybrid_sim.profiles.writers import Draft, ProfileWriter
from hybrid_sim.prompts.profile import ProfilePrompts, ProfileReply, ask_again

NOT_UPDATED = "not updated"
"""The flag of a version whose update failed: it has seen its evidence, but its text is that of the version before."""

_log = logging.getLogger("hybrid_sim")


@dataclass(frozen=True)
class LLMWriter:
    """Writes profiles by asking a language model, as in the first phase of Lusifer (Ebrat et al. 2024).

    A reply that quotes ratings or names titles against the settings is requested once more with a sentence that says
    so, and is then kept with a flag. Where there is no answer, the version before stays, flagged `NOT_UPDATED`; a first
    version is then written by `fallback`, as it is for a user without ratings, of whom there is nothing to ask.
    """

    llm: LanguageModel
    dataset: Dataset
    prompts: ProfilePrompts
    fallback: ProfileWriter

    def write(self, drafts: Sequence[Draft]) -> list[UserProfile]:
        """The next version of each draft's profile: all questions at once, then those whose reply broke the rules."""
        rows = [row for row, draft in enumerate(drafts) if draft.n_new]
        answers = dict(zip(rows, self._ask([drafts[row] for row in rows]), strict=True))
        failed = Counter(a.kind for a in answers.values() if isinstance(a, Failure) and a.kind != "not_asked")
        if failed:  # Where a run has stopped, or is only planned, others say so.
            _log.warning(
                "%d of %d versions of profiles could not be written by the model (%s); first ones are written from "
                "statistics, later ones stay as they were",
                failed.total(),
                len(answers),
                ", ".join(f"{kind} {count}" for kind, count in failed.most_common()),
            )
        profiles: dict[int, UserProfile] = {}
        for row, draft in enumerate(drafts):
            answer = answers.get(row)
            if isinstance(answer, Answer):
                profiles[row] = self._written(draft, answer)
            elif draft.before is not None:
                profiles[row] = self._kept(draft, draft.before)
        others = [row for row in range(len(drafts)) if row not in profiles]
        profiles.update(zip(others, self.fallback.write([drafts[row] for row in others]), strict=True))
        return [profiles[row] for row in range(len(drafts))]

    def _ask(self, drafts: Sequence[Draft]) -> list[Answer | Failure]:
        """The final answer on each draft."""
        if not drafts:
            return []
        questions = [self.prompts.question(self.dataset, d.user, d.batch, d.before) for d in drafts]
        answers = list(self.llm.ask(questions))
        again = {
            row: ask_again(questions[row], answer.text, broken)
            for row, answer in enumerate(answers)
            if isinstance(answer, Answer) and (broken := self._faults(drafts[row], answer.value))
        }
        for row, second in zip(again, self.llm.ask(list(again.values())) if again else (), strict=True):
            answers[row] = second if isinstance(second, Answer) else answers[row]
        return answers

    def _faults(self, draft: Draft, reply: ProfileReply) -> tuple[str, ...]:
        shown = draft.history.item[draft.history.item >= 0]
        titles = self.dataset.items["title"].iloc[shown] if "title" in self.dataset.items else ()
        return faults((reply.summary, *reply.likes, *reply.dislikes, reply.change), titles, self.prompts.settings)

    def _written(self, draft: Draft, answer: Answer) -> UserProfile:
        reply: ProfileReply = answer.value
        texts = (reply.summary, reply.likes, reply.dislikes, reply.change)
        version = draft.version(self.dataset, *texts, writer=answer.model or "llm")
        return replace(version, flags=self._faults(draft, reply))

    def _kept(self, draft: Draft, before: UserProfile) -> UserProfile:
        """The text of the version before; it rests on no more ratings than that one did."""
        texts = (before.summary, before.likes, before.dislikes, "")
        version = draft.version(self.dataset, *texts, writer=before.writer)
        flags = tuple(dict.fromkeys((*before.flags, NOT_UPDATED)))
        return replace(version, n_events=before.n_events, at=before.at, flags=flags)
