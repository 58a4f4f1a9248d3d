"""An ablation: on every fold fit all members once, make every subset of components from their predictions, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest
from hybrid_sim.core.provenance import provenance
from hybrid_sim.ensemble.components import BASE, components, members_of, with_sets
from hybrid_sim.evaluation.ablation.member_answers import FoldAnswers, gather
from hybrid_sim.evaluation.ablation.report import AblationResult, ComponentRow, CostRow, FoldRow
from hybrid_sim.evaluation.ablation.scoring import (
    CORRECTION,
    LLM,
    PROFILE,
    Key,
    Scorer,
    VariantScores,
    effect_rows,
    fold_rows,
    key_order,
    resampled_losses,
    subset_rows,
    waterfall,
)
from hybrid_sim.evaluation.ablation.variants import SHAPE, TREES, WEIGHTS, each_variant
from hybrid_sim.evaluation.protocols import Protocol, make_protocol
from hybrid_sim.models.recorded import RecordedRatings
from hybrid_sim.models.registry import registered_members

COST_FIELDS = ("seconds_fit", "seconds_rate", "n_rated", "llm_answers")
STEP_OF = {WEIGHTS: "combiner", TREES: "boosted", SHAPE: "calibration", CORRECTION: LLM}

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
PROFILE_NOTE = (
    "profile is the raters that read profiles alone: the recorded LLM ratings are the same with and without it; name "
    "those of a run without profiles (--llm-ratings-without-profile FILE) to leave the profiles out of these too."
)


def ablate(
    dataset: Dataset,
    protocol: str | Protocol = "user-temporal",
    components: Sequence[str] | None = None,
    *,
    folds: Sequence[int] | None = None,
    seed: int = 0,
    recording: RecordedRatings | None = None,
    without_profile: RecordedRatings | None = None,
    members: Sequence[str] | str | None = None,
    embedder: Embedder | None = None,
    n_jobs: int | None = None,
    n_boot: int = 2000,
    level: float = 0.95,
    command: Sequence[str] = (),
) -> AblationResult:
    """What each component of the ensemble is worth: the gain in every metric, over all subsets of the components.

    `protocol` is a name (see `hybrid_sim.evaluation.protocols.PROTOCOLS`), of which `folds` are the numbers wanted, or
    made already. `components` are those that are left out and put in (None: all that the members, and recordings,
    allow); the others stay as they are. `recording` holds an LLM's ratings, `without_profile` those of the same LLM
    where it saw no profiles. `members`, `embedder` and `n_jobs` are as in a simulator. Intervals of `level` come from
    `n_boot` resamples. `command` is kept in the provenance.

    Raises:
        SettingsError: a name or a fold is not known, the base is not among the members, a component cannot be left out,
            or a fold has no recorded rating.
        DataError: the data has no times and the protocol needs them.
    """
    made = make_protocol(protocol, dataset, folds=folds, seed=seed) if isinstance(protocol, str) else protocol
    members = with_sets(members)
    rows = _component_rows(components, members, recording, without_profile)
    present = [row.name for row in rows if row.present]
    scorers = [
        Scorer.of(fold, made.groups, seed, recording, LLM in present, without_profile if PROFILE in present else None)
        for fold in made.folds()
    ]
    order = key_order(present)
    scores: list[Mapping[Key, VariantScores]] = []
    of_folds: list[FoldRow] = []
    costs: list[CostRow] = []
    embedder_name = None
    for scorer in scorers:
        answers = gather(scorer.fold, members, seed=seed, embedder=embedder, n_jobs=n_jobs)
        variants = each_variant(answers, [name for name in present if name != LLM], seed, n_jobs, scorer)
        scores.append({key: one for scored in variants for key, one in scored})
        of_folds += fold_rows(scorer.fold.number, scores[-1], order, present)
        costs += _costs(answers, scores[-1][frozenset(present), False].seconds, scorer)
        embedder_name = embedder_name or answers.embedder
    losses = resampled_losses(scores, order, n_boot, seed)
    effects = [row for metric in losses for row in effect_rows(metric, losses[metric], order, present, level)]
    n_ratings = np.sum([next(iter(of_fold.values())).sums[:, -1] for of_fold in scores], axis=0)
    notes = [*made.notes, *NOTES, *(LLM_NOTES if LLM in present else ())]
    if PROFILE in present and recording is not None and without_profile is None:
        notes.append(PROFILE_NOTE)
    return AblationResult(
        provenance=provenance(command, seed, made.dataset, embedder_name),
        protocol=made.name,
        folds=", ".join(str(scorer.fold.number) for scorer in scorers),
        groups=made.groups,
        n_groups=int((n_ratings > 0).sum()),
        level=level,
        n_boot=n_boot,
        components=rows,
        subsets=subset_rows(scores, order, present, losses, level),
        fold_results=of_folds,
        effects=effects,
        waterfalls=[waterfall(metric, losses[metric], order, effects) for metric in losses],
        costs=_mean_costs(costs, len(scorers)),
        notes=notes,
    )


def _component_rows(
    wanted: Sequence[str] | None,
    members: Sequence[str] | None,
    recording: RecordedRatings | None,
    without_profile: RecordedRatings | None,
) -> list[ComponentRow]:
    """All components: which are switched, and why the others are not."""
    titles, groups = components(), members_of()
    members = members or [member.name for _, member in registered_members() if member.default]
    if BASE not in members:
        raise SettingsError(f"{BASE!r} answers where all components are left out; add it to the members")
    if without_profile is not None and recording is None:
        raise SettingsError("LLM ratings without profiles are compared with those with them; add --llm-ratings FILE")
    for name in wanted or ():
        if name not in titles:
            raise SettingsError(f"there is no component {name!r}; {nearest(name, titles)}")
    rows = []
    for name, title in titles.items():
        of_it = tuple(member for member in groups.get(name, ()) if member in members)
        reason: str | None = None
        if name in groups and not of_it:
            reason = f"none of its members ({', '.join(groups[name])}) is in the ensemble"
        if name == PROFILE and reason:
            further = ", and no LLM ratings of a run without profiles are named (--llm-ratings-without-profile FILE)"
            reason = None if without_profile is not None else reason + further
        if name == LLM and recording is None:
            reason = "needs recorded LLM ratings; add --llm-ratings FILE"
        if reason and name in (wanted or ()):
            raise SettingsError(f"component {name!r} cannot be left out and put in: {reason}")
        if not reason and wanted is not None and name not in wanted:
            reason = "stays as it is, for it is not among the components that were asked for"
        rows.append(ComponentRow(name, title, of_it, reason is None, reason))
    if not any(row.present for row in rows):
        raise SettingsError("no component is left to switch; name more members or components")
    return rows


def _costs(answers: FoldAnswers, of_steps: Mapping[str, tuple[float, float]], scorer: Scorer) -> list[CostRow]:
    """What each member and each step of the whole ensemble took; a member rates the held-back ratings while it fits."""
    owner = {member: name for name, members in members_of().items() for member in members}
    n_rated, rows = len(scorer.fold.held_out), []
    for member in answers.members:
        fit, rate_held, rate_asked = answers.seconds[member]
        rows.append(CostRow(owner.get(member, "base"), member, fit + rate_held, rate_asked, n_rated, 0))
    for step, component in STEP_OF.items():
        if step in of_steps:
            n_recorded = scorer.n_recorded if component == LLM else 0
            rows.append(CostRow(component, step, *of_steps[step], n_rated, n_recorded))
    return rows


def _mean_costs(costs: Sequence[CostRow], n_folds: int) -> list[CostRow]:
    """Means over folds; a step that a fold had too few ratings for took nothing there."""
    same: dict[tuple[str, str], list[CostRow]] = {}
    for row in costs:
        same.setdefault((row.component, row.step), []).append(row)
    return [
        CostRow(*names, *(sum(getattr(row, field) for row in rows) / n_folds for field in COST_FIELDS))
        for names, rows in same.items()
    ]
