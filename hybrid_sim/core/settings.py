"""The settings of a run with a language model, as read from a TOML file; a misspelt name is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class LLMSettings(_Settings):
    """Which model is asked, where, and how. The key is read from OPENAI_API_KEY and is no setting."""

    model: str = ""
    """Name of the model, as the endpoint knows it; without one no language model is asked."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, up to `/v1`; None: OPENAI_BASE_URL, else OpenAI."""
    temperature: float | None = Field(default=0.0, ge=0.0, le=2.0)
    """None: the server's default is used (some models refuse any other)."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Share of the probability that tokens are drawn from."""
    seed: int | None = None
    """Passed on to servers that draw reproducibly."""
    structured: Literal["auto", "schema", "json", "none"] = "auto"
    """How a JSON reply is requested: by schema, by JSON mode, by words alone; auto finds out what the server can."""
    context_tokens: int | None = Field(default=None, ge=256)
    """Tokens that fit into the model's context, prompt and reply together."""
    concurrency: int = Field(default=16, ge=1, le=512)
    """Calls that are under way at the same time."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Times that a call is tried before it is given up."""
    deadline: float = Field(default=60.0, gt=0.0)
    """Seconds that one attempt may take in all."""
    prices: Path | None = None
    """A price file that replaces the one in the package."""

    @property
    def sampling(self) -> dict[str, Any]:
        """What an answer depends on beside the question: the model, how it draws, and how JSON is requested."""
        return self.model_dump(include={"model", "temperature", "top_p", "seed", "structured"})


class ProfileSettings(_Settings):
    """How users' profiles are written (Lusifer's numbers by default)."""

    writer: Literal["llm", "statistics"] = "llm"
    """Who writes profiles where a language model is asked for ratings."""
    n_recent: int = Field(default=40, ge=1)
    """Last ratings of a user that the profile is made from."""
    batch: int = Field(default=10, ge=1)
    """Ratings per version of the profile."""
    update_every: int = Field(default=10, ge=1)
    """Simulated ratings after which the profile is updated."""
    may_quote_titles: bool = False
    """Whether a profile may name titles."""
    may_quote_ratings: bool = False
    """Whether a profile may quote ratings."""

    @model_validator(mode="after")
    def _updates_see_all(self) -> Self:
        if self.update_every > self.n_recent:
            raise ValueError(
                f"with an update after every {self.update_every} ratings and the last {self.n_recent} shown, some "
                "would never be seen; lower profile.update_every or raise profile.n_recent"
            )
        return self


class RatingSettings(_Settings):
    """How ratings are requested, and of which pairs."""

    items_per_call: int = Field(default=10, ge=1, le=50)
    """Items that one call asks about."""
    n_history: int = Field(default=10, ge=0)
    """Last rated items of the user that are shown beside the profile."""
    levels: Literal["scale", "integers"] = "scale"
    """Which ratings the model may give: all levels of the scale, or its integers."""
    samples: int = Field(default=1, ge=1, le=50)
    """Answers per pair; their frequencies are the LLM's distribution."""
    share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the calls about pairs that are made: those from which most help is expected."""
    learn_from: int = Field(default=60, ge=0)
    """Users whose last ratings are asked about too, to learn what the LLM's word is worth."""


class EnsembleSettings(_Settings):
    """What the ensemble is made of."""

    members: tuple[str, ...] | None = None
    """Raters of the ensemble; None: all."""
    without: tuple[str, ...] = ()
    """Components, or members one by one, that are left out: embeddings, neighbours, factorization, combiner, boosted,
    calibration, llm, profile."""


class RunSettings(_Settings):
    """Everything that decides what a run does, beside the data and the pairs."""

    ensemble: EnsembleSettings = EnsembleSettings()
    llm: LLMSettings = LLMSettings()
    profile: ProfileSettings = ProfileSettings()
    rating: RatingSettings = RatingSettings()
    prompts: Path | None = None
    """A folder whose files replace the prompts of the same names."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.rating.samples > 1 and self.llm.temperature == 0.0:
            raise ValueError(
                f"rating.samples = {self.rating.samples} at llm.temperature = 0 would pay for the same answer again; "
                "raise the temperature or ask once"
            )
        return self
