"""An ablation: on every fold fit all members once, make every subset of components from their predictions, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.provenance import provenance
from hybrid_sim.ensemble.components import BASE, WITH_LLM, components, members_of
from hybrid_sim.evaluation.ablation.combiner_steps import SHAPE, TREES, WEIGHTS
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers, gather
from hybrid_sim.evaluation.ablation.report import AblationResult, ComponentRow, CostRow, FoldRow
from hybrid_sim.evaluation.ablation.scoring import CORRECTION, LLM, Key, Scorer, VariantScores
from hybrid_sim.evaluation.ablation.summary import (
    effect_rows,
    fold_row,
    key_order,
    resampled_losses,
    subset_rows,
    waterfall,
)
from hybrid_sim.evaluation.ablation.variants import each_variant
from hybrid_sim.evaluation.protocols import Protocol, make_protocol
from hybrid_sim.models.recorded import RecordedRatings
from hybrid_sim.models.registry import registered_members

COST_FIELDS = ("seconds_fit", "seconds_rate", "n_rated", "llm_answers")
STEP_OF = {WEIGHTS: "combiner", TREES: "boosted", SHAPE: "calibration", CORRECTION: "llm"}

NO_PROFILE = (
    "profiles are updated while a language model is asked, and recorded ratings hold one such run; simulate with and "
    "without it (--without profile) and compare the two runs"
)

NOTES = (
    "a gain is the loss without a component less the loss with it, on the same ratings: above zero it helps. Shapley "
    "gains are means over all orders of adding the components one by one; they sum to the gain of all together.",
    f"{BASE} is the base of every subset. The members of neighbours and factorization use item texts too, so leaving "
    "out embeddings does not take all texts away.",
    "ECE is class-wise and has no interval: resampling makes it larger.",
)
LLM_NOTES = (
    "llm: how far to trust the recorded ratings is learned on other users of the test fold, or on other items where "
    "items are held out (cross-fitted).",
    "llm_shuffled is the control: each user's LLM ratings dealt out at random among the user's items, so that only the "
    "user's level is left of them; llm - llm_shuffled is what knowledge of tastes gains.",
)


def switchable_components() -> dict[str, str]:
    """The components that an ablation can leave out and put in, and what each is: all but updates of the profiles."""
    return {name: title for name, title in components().items() if name != "profile"}


def ablate(
    dataset: Dataset,
    protocol: str | Protocol = "user-temporal",
    components: Sequence[str] | None = None,
    *,
    folds: Sequence[int] | None = None,
    seed: int = 0,
    recording: RecordedRatings | None = None,
    members: Sequence[str] | None = None,
    embedder: Embedder | None = None,
    answer_folder: Path | None = None,
    n_jobs: int | None = None,
    command: Sequence[str] = (),
) -> AblationResult:
    """What each component of the ensemble is worth: the gain in every metric, over all subsets of the components.

    `protocol` is a name (see `hybrid_sim.evaluation.protocols.PROTOCOLS`), of which `folds` are the numbers wanted, or
    made already. `components` are those that are left out and put in (None: all that can be). For the other arguments
    see `Ablation`. `command` is kept in the provenance.

    Raises:
        SettingsError: a name or a fold is not known, or a component cannot be left out.
        DataError: the data has no times and the protocol needs them.
    """
    made = make_protocol(protocol, dataset, folds=folds, seed=seed) if isinstance(protocol, str) else protocol
    switched, only = (None if names is None else tuple(names) for names in (components, members))
    return Ablation(recording, switched, only, seed, embedder, answer_folder, n_jobs).run(made, command)


@dataclass(frozen=True)
class Ablation:
    """What is taken apart, and how; `members`, `embedder` and `n_jobs` are as in a simulator.

    `components` are those that are switched (None: all that the members, and a recording, allow); the others stay as
    they are. Members' answers are kept in the folder `answer_folder`, if one is given.
    """

    recording: RecordedRatings | None = None
    components: tuple[str, ...] | None = None
    members: tuple[str, ...] | None = None
    seed: int = 0
    embedder: Embedder | None = None
    answer_folder: Path | None = None
    n_jobs: int | None = None
    n_boot: int = 2000
    level: float = 0.95

    def run(self, protocol: Protocol, command: Sequence[str] = ()) -> AblationResult:
        """Take the ensemble apart on all folds; `command` is kept in the provenance.

        Raises:
            SettingsError: a name is not known, the base is not among the members, a component that was asked for does
                not exist, or a fold has no recorded rating.
        """
        rows = self._component_rows()
        present = [row.name for row in rows if row.present]
        scorers = [
            Scorer.of(fold, protocol.groups, self.seed, self.recording, switched=LLM in present)
            for fold in protocol.folds()
        ]
        order = key_order(present)
        scores: list[Mapping[Key, VariantScores]] = []
        fold_rows: list[FoldRow] = []
        costs: list[list[CostRow]] = []
        embedder = None
        for scorer in scorers:
            answers, of_fold = self._scored(scorer, [name for name in present if name not in WITH_LLM])
            scores.append(of_fold)
            fold_rows += [fold_row(scorer.fold.number, key, of_fold[key], present) for key in order]
            seconds = of_fold[frozenset(present), False].seconds
            costs.append(_costs(answers, seconds, len(scorer.fold.held_out), scorer.n_recorded))
            embedder = embedder or answers.embedder
        losses = resampled_losses(scores, order, self.n_boot, self.seed)
        effects = [row for metric in losses for row in effect_rows(metric, losses[metric], order, present, self.level)]
        n_ratings = np.sum([next(iter(of_fold.values())).sums[:, -1] for of_fold in scores], axis=0)
        return AblationResult(
            provenance=provenance(command, self.seed, protocol.dataset, embedder),
            protocol=protocol.name,
            folds=", ".join(str(scorer.fold.number) for scorer in scorers),
            groups=protocol.groups,
            n_groups=int((n_ratings > 0).sum()),
            level=self.level,
            n_boot=self.n_boot,
            components=rows,
            subsets=subset_rows(scores, order, present, losses, self.level),
            fold_results=fold_rows,
            effects=effects,
            waterfalls=[waterfall(metric, losses[metric], order, effects) for metric in losses],
            costs=_mean_costs(costs),
            notes=(*protocol.notes, *NOTES, *(LLM_NOTES if LLM in present else ())),
        )

    def _component_rows(self) -> list[ComponentRow]:
        titles, groups = switchable_components(), members_of()
        members = self.members or tuple(member.name for _, member in registered_members() if member.default)
        if BASE not in members:
            raise SettingsError(f"{BASE!r} answers where all components are left out; add it to the members")
        for name in self.components or ():
            if name == "profile":
                raise SettingsError(f"component {name!r} cannot be left out and put in: {NO_PROFILE}")
            if name not in titles:
                raise SettingsError(f"there is no component {name!r}; {nearest(name, titles)}")
        rows = []
        for name, title in titles.items():
            of_it = tuple(member for member in groups.get(name, ()) if member in members)
            reason = self._why_absent(name, of_it)
            if reason and self.components is not None and name in self.components:
                raise SettingsError(f"component {name!r} cannot be left out and put in: {reason}")
            if not reason and self.components is not None and name not in self.components:
                reason = "stays as it is, for it is not among the components that were asked for"
            rows.append(ComponentRow(name, title, of_it, reason is None, reason))
        if not any(row.present for row in rows):
            raise SettingsError("no component is left to switch; name more members or components")
        return rows

    def _why_absent(self, name: str, members: Sequence[str]) -> str | None:
        if name in members_of() and not members:
            return f"none of its members ({', '.join(members_of()[name])}) is in the ensemble"
        if name == "llm" and self.recording is None:
            return "needs recorded LLM ratings; add --llm-ratings FILE"
        return None

    def _scored(self, scorer: Scorer, components: Sequence[str]) -> tuple[FoldAnswers, dict[Key, VariantScores]]:
        """The members' predictions of a fold, and the scores of all variants that are made from these."""
        answers = gather(
            scorer.fold,
            self.members,
            seed=self.seed,
            embedder=self.embedder,
            answer_folder=self.answer_folder,
            n_jobs=self.n_jobs,
        )
        variants = each_variant(answers, components, self.seed, self.n_jobs, scorer)
        return answers, {key: row for rows in variants for key, row in rows}


def _costs(
    answers: FoldAnswers, of_steps: Mapping[str, tuple[float, float]], n_rated: int, n_recorded: int
) -> list[CostRow]:
    """What each member and each step of the whole ensemble took; a member rates the held-back ratings while it fits."""
    owner = {member: name for name, members in members_of().items() for member in members}
    rows = []
    for member in answers.members:
        fit, rate_held, rate_asked = answers.seconds[member]
        rows.append(CostRow(owner.get(member, "base"), member, fit + rate_held, rate_asked, n_rated, 0))
    for step, component in STEP_OF.items():
        if step in of_steps:
            learn, answer = of_steps[step]
            rows.append(CostRow(component, step, learn, answer, n_rated, n_recorded if component == LLM else 0))
    return rows


def _mean_costs(folds: Sequence[Sequence[CostRow]]) -> list[CostRow]:
    """Means over folds; a step that a fold had too few ratings for took nothing there."""
    same: dict[tuple[str, str], list[CostRow]] = {}
    for row in (row for fold in folds for row in fold):
        same.setdefault((row.component, row.step), []).append(row)
    return [
        CostRow(*names, *(sum(getattr(row, field) for row in rows) / len(folds) for field in COST_FIELDS))
        for names, rows in same.items()
    ]
