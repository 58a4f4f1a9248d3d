"""The profile writer without a language model: it describes a user's ratings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Self

import numpy as np
import scipy.sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.progress import track
from hybrid_sim.core.texts import user_info
from hybrid_sim.core.types import FloatArray, IntArray
from hybrid_sim.core.user_state import Histories, UserProfile
from hybrid_sim.profiles.timelines import difference, enumerated
from hybrid_sim.profiles.writers import Draft
from hybrid_sim.retrieval.keywords import Kind, Tags, catalogue_tags

ITEM_PRIOR = 5.0
USER_PRIOR = 5.0
TAG_PRIOR: dict[Kind, float] = {"genre": 4.0, "keyword": 0.3, "decade": 4.0}
"""A mean over few ratings is shrunk as if so many more ratings without any deviation had been seen. Keywords have a
smaller number because their weights, squared, count for a tenth of a rating each."""

STANDS_OUT = 0.8
"""Standard errors by which the mean of a tag's items must differ from expectation to be called liked or disliked."""

OFTEN = 1.5
"""Standard errors by which a genre must be more frequent than among all ratings to be called a habit."""

CHUNK = 250
"""Drafts that are described at a time, which bounds the memory."""

AT_MOST: dict[Kind, int] = {"genre": 4, "keyword": 5, "decade": 1}
"""Tags of a kind that a profile names as liked, and as disliked."""


@dataclass
class StatisticalWriter:
    """Writes profiles from ratings alone, in a few plain sentences that hold no title and no rating.

    A rating is compared with the expected one of this user for this item: global mean, item bias and the user's own
    bias, each shrunk. A tag (see `hybrid_sim.retrieval.keywords`) is liked or disliked where the mean
    deviation of the items that have it, shrunk towards zero, stands out from its standard error.

    >>> from hybrid_sim.core.user_state import Histories
    >>> from hybrid_sim.testing import tiny_dataset
    >>> tiny = tiny_dataset()
    >>> writer = StatisticalWriter().fit(tiny)
    >>> profile = writer.write([Draft(0, Histories(tiny).of(0), n_new=10)])[0]
    >>> profile.version, len(profile.evidence), profile.writer
    (1, 10, 'statistics')
    """

    dataset_: Dataset = field(init=False, repr=False)
    tags_: Tags = field(init=False, repr=False)
    user_info_: list[str] = field(init=False, repr=False)
    expected_: FloatArray = field(init=False, repr=False)
    usual_share_: FloatArray = field(init=False, repr=False)
    bias_spread_: float = field(init=False, repr=False)
    spread_: float = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        """Learn what is usual: what to expect of each item, how often each tag is rated, how users differ."""
        self.dataset_, self.tags_, self.user_info_ = dataset, catalogue_tags(dataset), user_info(dataset)
        mean = float(dataset.rating.mean()) if len(dataset) else float(dataset.scale.values.mean())
        sums = np.bincount(dataset.item, weights=dataset.rating - mean, minlength=dataset.n_items)
        self.expected_ = mean + sums / (dataset.item_counts + ITEM_PRIOR)
        deviations = dataset.rating - self.expected_[dataset.item]
        sums = np.bincount(dataset.user, weights=deviations, minlength=dataset.n_users)
        biases = sums / (dataset.user_counts + USER_PRIOR)
        floor = 0.1 * float(np.diff(dataset.scale.values).min())
        self.bias_spread_ = _spread(biases[dataset.user_counts > 0], floor)
        self.spread_ = _spread(deviations - biases[dataset.user], floor)
        self.usual_share_ = dataset.item_counts @ (self.tags_.weights > 0) / max(len(dataset), 1)
        return self

    def write(self, drafts: Sequence[Draft]) -> list[UserProfile]:
        """The next version of each draft's profile; it describes the draft's whole history."""
        profiles: list[UserProfile] = []
        with track("describing users from their ratings", len(drafts)) as task:
            for start in range(0, len(drafts), CHUNK):
                chunk = drafts[start : start + CHUNK]
                profiles += self._describe(chunk)
                task.advance(len(chunk))
        return profiles

    def _describe(self, drafts: Sequence[Draft]) -> list[UserProfile]:
        lengths = [len(draft.history) for draft in drafts]
        owner = np.repeat(np.arange(len(drafts)), lengths)
        item = np.concatenate([draft.history.item for draft in drafts])
        in_data = item >= 0
        owner, item = owner[in_data], item[in_data]
        rating = np.concatenate([draft.history.rating for draft in drafts])[in_data]
        n = np.bincount(owner, minlength=len(drafts))
        deviation = rating - self.expected_[item]
        bias = np.bincount(owner, weights=deviation, minlength=len(drafts)) / (n + USER_PRIOR)
        rest = deviation - bias[owner]
        squares = np.bincount(owner, weights=rest**2, minlength=len(drafts))
        spread = np.sqrt((squares + USER_PRIOR * self.spread_**2) / (n + USER_PRIOR))
        standing = self._standing(len(drafts), owner, item, rest)
        excess = self._excess(len(drafts), owner, item, n)
        return [
            self._compose(draft, self._manner(n[row], bias[row], spread[row]), standing[row], excess[row])
            for row, draft in enumerate(drafts)
        ]

    def _standing(self, n_drafts: int, owner: IntArray, item: IntArray, rest: FloatArray) -> FloatArray:
        """Each tag's shrunk mean deviation in its standard errors, shape `(n_drafts, n_tags)`; one item shows nothing.

        The mean of n deviations with a prior worth k ratings around zero is Σ w d / (n + k), its error s / sqrt(n + k).
        """
        weights = self.tags_.weights
        shape = (n_drafts, weights.shape[0])
        rated = scipy.sparse.csr_array((np.ones(len(rest)), (owner, item)), shape=shape)
        sums = (scipy.sparse.csr_array((rest, (owner, item)), shape=shape) @ weights).toarray()
        seen, n_items = (rated @ weights.power(2)).toarray(), (rated @ (weights > 0)).toarray()
        prior = np.array([TAG_PRIOR[kind] for kind in self.tags_.kinds])
        return np.where(n_items >= 2, sums / (self.spread_ * np.sqrt(seen + prior)), 0.0)

    def _excess(self, n_drafts: int, owner: IntArray, item: IntArray, n: IntArray) -> FloatArray:
        """How much more often each genre was rated than by others, in standard errors, `(n_drafts, n_genres)`."""
        genres = self.tags_.weights[:, self.tags_.columns("genre")].toarray()
        usual = self.usual_share_[self.tags_.columns("genre")]
        seen = scipy.sparse.csr_array((np.ones(len(item)), (owner, item)), shape=(n_drafts, len(genres))) @ genres
        return np.asarray((seen - n[:, None] * usual) / np.sqrt(n[:, None] * usual * (1 - usual) + 1))

    def _compose(self, draft: Draft, manner: str, standing: FloatArray, excess: FloatArray) -> UserProfile:
        info = self.user_info_[draft.user].replace("\n", ", ") if draft.user >= 0 else ""
        likes, dislikes = self._standing_out(standing), self._standing_out(-standing)
        tastes = (_taste("Likes", likes), _taste("Dislikes", dislikes))
        summary = " ".join(filter(None, (info and f"{info}.", manner, self._habits(excess), *tastes)))
        liked, disliked = (list(chain.from_iterable(tags.values())) for tags in (likes, dislikes))
        profile = draft.version(self.dataset_, summary, liked, disliked, "", "statistics")
        return replace(profile, change=difference(draft.before, profile).sentence if draft.before else "")

    def _standing_out(self, standing: FloatArray) -> dict[Kind, list[str]]:
        """The tags of each kind that stand out upwards, the clearest first, equal ones by name."""
        names = {}
        for kind, at_most in AT_MOST.items():
            columns = self.tags_.columns(kind)
            columns = columns[standing[columns] > STANDS_OUT]
            best = columns[np.argsort(-standing[columns], kind="stable")][:at_most]
            names[kind] = [self.tags_.names[column] for column in best]
        return names

    def _manner(self, n: int, bias: float, spread: float) -> str:
        """How the user's ratings compare with those of others in height and in spread."""
        if not n:
            return "Nothing is known of this user's taste yet."
        height, width = bias / self.bias_spread_, spread / self.spread_
        if abs(height) < 0.5:
            manner = "about as generously as others"
        else:
            much = "much " if abs(height) > 1.5 else ""
            manner = f"{much}more {'generously' if height > 0 else 'strictly'} than others"
        if 0.85 < width < 1.15:
            return f"Rates {manner}."
        return f"Rates {manner}, with {'larger' if width > 1 else 'smaller'} differences between items."

    def _habits(self, excess: FloatArray) -> str:
        """The genres that the user rates more often than others do."""
        genres = self.tags_.columns("genre")
        best = [place for place in np.argsort(-excess, kind="stable")[:3] if excess[place] > OFTEN]
        names = [self.tags_.names[genres[place]] for place in best]
        return f"Chooses {enumerated(names)} more often than others." if names else ""


def statistical_profiles(dataset: Dataset) -> list[UserProfile]:
    """A profile of every user of the dataset, in order, each written at once from all ratings of the user."""
    histories = map(Histories(dataset).of, range(dataset.n_users))
    drafts = [Draft(user, history, len(history)) for user, history in enumerate(histories)]
    return StatisticalWriter().fit(dataset).write(drafts)


def _taste(verb: str, tags: dict[Kind, list[str]]) -> str:
    """One sentence on the tags that stand out in one direction, "" where none does."""
    phrases: dict[Kind, str] = {"genre": "", "keyword": "items about ", "decade": "what is from the "}
    clauses = [f"{phrase}{enumerated(tags[kind])}" for kind, phrase in phrases.items() if tags[kind]]
    return f"{verb} {'; '.join(clauses)}." if clauses else ""


def _spread(deviations: FloatArray, floor: float) -> float:
    return max(float(np.sqrt(np.mean(deviations**2))), floor) if len(deviations) else floor
