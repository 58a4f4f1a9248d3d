"""Servers that cut a long prompt in silence, and answer to what is left of it."""

from __future__ import annotations

from hybrid_sim.core.errors import NetworkError
from hybrid_sim.llm.question import Question

MOST_BYTES = 10.0
"""Bytes that a token of a long prompt holds at most, on average."""


class PromptGuard:
    """Notices a server that cuts long prompts in silence: it counts far fewer tokens than the prompt must have.

    A token holds hardly more than five bytes, in whatever language; twice that in a long prompt cannot be. Once a
    prompt was answered a few times, half of the fewest tokens per byte that were counted for it is the bound.
    """

    _LONG, _ENOUGH = 2000, 5

    def __init__(self, address: str) -> None:
        self._address = address
        self._seen: dict[str, tuple[int, float]] = {}

    def fewest_tokens(self, question: Question) -> float:
        """Fewer tokens than the prompt can have."""
        n, density = self._seen.get(question.prompt, (0, 0.0))
        return _bytes_of(question) * max(1 / MOST_BYTES, density / 2 if n >= self._ENOUGH else 0.0)

    def find_cut(self, question: Question, counted: int | None) -> NetworkError | None:
        """Why the run must stop, if so many counted tokens cannot be the whole prompt."""
        size = _bytes_of(question)
        if counted is None or size < self._LONG:
            return None
        if counted < self.fewest_tokens(question):
            return NetworkError(
                f"{self._address} counted {counted} tokens in a prompt of {size:,} bytes: it cuts long prompts; raise "
                "the context size of the server (num_ctx in Ollama, --ctx-size in llama.cpp, --max-model-len in vLLM)"
            )
        n, density = self._seen.get(question.prompt, (0, float("inf")))
        self._seen[question.prompt] = n + 1, min(density, counted / size)
        return None


def beyond_context(question: Question, context: int | None) -> str:
    """Why a question is not sent: it cannot fit into so many tokens, prompt and reply together; "" where it may.

    The bound is the same for all runs: whether a question is sent never depends on what was answered before.
    """
    if context is None or _bytes_of(question) / MOST_BYTES + question.max_tokens <= context:
        return ""
    return f"prompt and reply do not fit into the {context} tokens of llm.context_tokens"


def _bytes_of(question: Question) -> int:
    return sum(len(message.content.encode(errors="surrogatepass")) for message in question.messages)
