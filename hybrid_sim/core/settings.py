"""The settings of a run, as read from a TOML file; a misspelt name is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class LLMSettings(_Settings):
    """The language model, its endpoint and its sampling. The key is read from OPENAI_API_KEY and is no setting."""

    model: str = ""
    """Name of the model, as the endpoint knows it; without one no language model is asked."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, up to `/v1`; None: OPENAI_BASE_URL, else OpenAI."""
    temperature: float | None = Field(default=0.0, ge=0.0, le=2.0)
    """None: the server's default is used (some models refuse any other)."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Nucleus sampling: tokens are drawn from the most probable ones that have this share together."""
    seed: int | None = None
    """Seed of the sampling, for servers that take one."""
    structured: Literal["auto", "schema", "json", "none"] = "auto"
    """How a JSON reply is requested: by schema, in JSON mode, by the prompt alone; auto: as the server supports it."""
    context_tokens: int | None = Field(default=None, ge=256)
    """Size of the model's context window in tokens, prompt and reply together."""
    concurrency: int = Field(default=16, ge=1, le=512)
    """Most calls in flight at the same time."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Most attempts at a call before it fails."""
    deadline: float = Field(default=60.0, gt=0.0)
    """Total timeout of one attempt in seconds."""
    prices: Path | None = None
    """A price file that replaces the one in the package."""

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings that an answer depends on: model, sampling, and how JSON is requested."""
        return self.model_dump(include={"model", "temperature", "top_p", "seed", "structured"})


class ProfileSettings(_Settings):
    """How users' profiles are written; the defaults are those of Lusifer."""

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
    """How ratings are requested, and for which pairs."""

    items_per_call: int = Field(default=10, ge=1, le=50)
    """Items that one call asks about."""
    n_history: int = Field(default=10, ge=0)
    """Rated items of the user that are shown beside the profile."""
    history: Literal["recent", "similar", "both"] = "recent"
    """Which rated items these are: the last ones, as in Lusifer; those whose texts are most similar to the items that
    are asked about; or half of them by each rule."""
    levels: Literal["scale", "integers"] = "scale"
    """Which ratings the model may give: all levels of the scale, or its integers."""
    samples: int = Field(default=1, ge=1, le=50)
    """Answers per pair; their frequencies are the LLM's distribution."""
    share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the calls about pairs that are made: those that are expected to help most."""
    learn_from: int = Field(default=60, ge=0)
    """Users whose last known ratings are requested too, to estimate how accurate the LLM is."""


class EnsembleSettings(_Settings):
    """The members of the ensemble."""

    members: tuple[str, ...] | None = None
    """Raters of the ensemble; None: all."""
    without: tuple[str, ...] = ()
    """Components, or members one by one, that are left out: embeddings, neighbours, factorization, combiner, boosted,
    calibration, llm, profile."""


class RunSettings(_Settings):
    """Everything that a run depends on beside its data and pairs."""

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
