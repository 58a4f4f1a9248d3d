"""Guards of `hybrid_sim.llm` and `hybrid_sim.prompts`, for the mutation check.

Each entry is a file, a snippet that occurs in it exactly once, what replaces it so that the guard is out, and the test
files of which at least one test must then fail.
"""

from __future__ import annotations

LLM = "hybrid_sim/llm/"
PROMPTS = "hybrid_sim/prompts/"
CLIENT = ("tests/test_llm_client.py",)
ASK = ("tests/test_llm_ask.py",)
BATCH = ("tests/test_llm_batch.py",)
SENDING = ("tests/test_llm_batch_sending.py",)
JOURNAL = ("tests/test_journal.py",)
BUDGET = ("tests/test_budget.py",)
LIMITER = ("tests/test_llm_rate_limiter.py",)
PROTOCOL = ("tests/test_llm_protocol.py",)
REPLIES = ("tests/test_llm_replies.py",)
RATINGS = ("tests/test_rating_replies.py",)
TEMPLATES = ("tests/test_prompts.py",)
PROFILES = ("tests/test_profiles.py",)

MUTANTS = [
    # the client and its sender
    (LLM + "client.py", "if missing and self.replay:", "if False:", ASK),
    (LLM + "client.py", "check_price(price, self.settings.model, file)", "pass", CLIENT),
    (LLM + "client.py", "if sender.interrupted:", "if False:", ASK),
    (LLM + "client.py", "distinct = dict(zip(keys, questions, strict=True))",
     "distinct = {f'{k}{n}': q for n, (k, q) in enumerate(zip(keys, questions))}", ASK),
    (LLM + "sending.py", "if (reason := beyond_context(q, context))}", "if (reason := '')}", CLIENT + SENDING),
    (LLM + "sending.py", "        if self.stopped is None:\n            self.stopped = error",
     "        if True:\n            self.stopped = error", SENDING),
    (LLM + "sending.py", "            self.budget.release(reservation)", "            pass", CLIENT),
    (LLM + "sending.py", "if truncated is not None:", "if False:", CLIENT + SENDING),
    (LLM + "sending.py", "not outcome.usage.is_complete", "False", PROTOCOL + CLIENT),
    (LLM + "sending.py", "outcome.usage.prompt_tokens is not None or outcome.possibly_paid:",
     "outcome.usage.prompt_tokens is not None:", CLIENT),
    (LLM + "sending.py", "            self.budget.settle(request.reservation, cost)", "            pass", CLIENT),
    (LLM + "sending.py", "return fault if error is None else self.stop(error)", "return fault", CLIENT),
    (LLM + "sending.py", "MAX_EXHAUSTED = 3", "MAX_EXHAUSTED = 30", CLIENT),
    (LLM + "sending.py", "MAX_REJECTED = 20", "MAX_REJECTED = 2000", CLIENT),
    (LLM + "sending.py", "lambda _: n_failed >= self.settings.attempts or self._halt",
     "lambda _: n_failed >= 9 * self.settings.attempts or self._halt", CLIENT),
    (LLM + "sending.py", "self._n_exhausted = 0 if answered_meanwhile else self._n_exhausted + 1",
     "self._n_exhausted += 1", CLIENT),
    (LLM + "sending.py", "(fault.unreached or not self._n_replies or", "(not self._n_replies or", CLIENT),
    (LLM + "sending.py", "(fault.unreached or not self._n_replies or", "(fault.unreached or", CLIENT),
    (LLM + "sending.py", "self._n_exhausted = self._n_rejected = 0\n        self._limiter",
     "self._limiter", CLIENT),
    (LLM + "sending.py", "if is_alone:", "if True:", CLIENT),
    (LLM + "sending.py", 'self._commit(request, Fault("skip", "interrupted in flight", possibly_paid=True))',
     "pass", ASK),
    (LLM + "sending.py", "in_a_row > MAX_EPISODES:", "in_a_row > 3 * MAX_EPISODES:", CLIENT),
    (LLM + "sending.py", 'if isinstance(outcome, Fault) and outcome.remedy in ("wait", "adapt"):', "if False:",
     CLIENT),
    (LLM + "sending.py", "            return self._not_asked()  # The run has ended while the question waited.",
     "            pass", CLIENT),
    (LLM + "sending.py", "        if self.stopped is None:\n            self._halt = asyncio.Event()",
     "        if True:\n            self._halt = asyncio.Event()", CLIENT),
    (LLM + "sending.py", 'outcome.remedy == "again" and not self._halt.is_set():', 'outcome.remedy == "never":',
     CLIENT),
    # batches
    (LLM + "batch.py", "if faults and self.stopped is None:", "if faults:", SENDING),
    (LLM + "batch.py", "        if self.stopped is not None:\n            return requests", "", SENDING),
    (LLM + "batch.py", "sorted(questions, key=lambda key: key not in submitted)", "list(questions)", SENDING),
    (LLM + "batch.py", "self.journal.resume(key) if key in submitted else None", "None", SENDING),
    (LLM + "batch.py", "                if key not in submitted:\n", "                if True:\n", SENDING),
    (LLM + "batch.py", "if part and (len(part) == max_rows or size + length > max_bytes):", "if False:", BATCH),
    (LLM + "batch.py", "await self._listed(tag) if n_tries > 1 else None", "None", BATCH),
    (LLM + "batch.py", "await api.find(batch.tag) or await api.submit", "await api.submit", BATCH),
    (LLM + "batch.py", "        if key in missing:\n            del missing[key]\n",
     "        if key in due:\n            missing.pop(key, None)\n", BATCH),
    (LLM + "batch.py", 'if batch.status == "failed":', "if False:", BATCH),
    (LLM + "batch.py", 'any(is_quota(error.code or "") for error in errors)', "False", BATCH),
    (LLM + "batch.py", "if note is not None]", "]", BATCH),
    (LLM + "batch.py", "        if left:\n", "        if False:\n", BATCH),
    (LLM + "batch.py", 'remedy in ("retry", "wait")', 'remedy != "none"', BATCH),
    # the journal
    (LLM + "journal.py", "                if is_whole(row):\n                    answers", "                if True:\n"
     "                    answers", JOURNAL),
    (LLM + "journal.py", "except ReplyError as error:", "except ZeroDivisionError as error:", ASK),
    (LLM + "journal.py", "if self._full:", "if False:", JOURNAL),
    (LLM + "journal.py", "        if self.replay:\n            raise RunError", "        if False:\n"
     "            raise RunError", JOURNAL),
    (LLM + "journal.py", "if differences and (self.replay or", "if False and (self.replay or", JOURNAL),
    (LLM + "journal.py", 'if differences and (self.replay or self._read("SELECT 1 FROM attempts LIMIT 1")):',
     "if differences:", JOURNAL),
    (LLM + "journal.py", "if is_whole(row) and row[0] not in self._attempts:", "if is_whole(row):", JOURNAL),
    (LLM + "journal.py", "use_ballast=True)", "use_ballast=False)", JOURNAL),
    (LLM + "journal_file.py", "        _take(file)", "        pass", JOURNAL),
    (LLM + "journal_file.py", "are_whole and _all_seen", "_all_seen", JOURNAL),
    (LLM + "journal_file.py", "are_whole and _all_seen(connection, file)", "are_whole",
     JOURNAL),
    (LLM + "journal_file.py", "if not rescued.exists():", "if True:", JOURNAL),
    (LLM + "journal_file.py", 'if row[0] not in by_number or "open" not in row:', "if True:", JOURNAL),
    (LLM + "journal_file.py", '(number, key, "", 0, worst, state', '(number, key, "", 0, 0, state', JOURNAL),
    # money
    (LLM + "budget.py", "self.calls >= self.max_calls:", "False:", BUDGET),
    (LLM + "budget.py", "minutes >= self.max_minutes:", "False:", BUDGET),
    (LLM + "budget.py", "        if worst is None:\n", "        if False:\n", BUDGET),
    (LLM + "budget.py", "if self.spent + self._reserved + worst > self.max_money:",
     "if self.spent + worst > self.max_money:", BUDGET),
    (LLM + "budget.py", "if max_money is not None and ledger.unpriced:", "if False:", BUDGET),
    (LLM + "budget.py", "(reservation.worst or 0) if cost is None else cost", "cost or 0", BUDGET),
    (LLM + "budget.py", "            self._calls -= 1\n", "", BUDGET),
    (LLM + "budget.py", "ledger.money + ledger.at_worst", "ledger.money", BUDGET),
    (LLM + "prices.py", "if not usage.prompt_tokens or usage.completion_tokens is None:", "if False:", BUDGET),
    (LLM + "prices.py", "if rates is None or (prices.hosts is not None and host not in prices.hosts):",
     "if rates is None:", BUDGET),
    # limits of the server, and what it says
    (LLM + "rate_limiter.py", "        if slot.episode != self.episodes:\n            return", "        if False:\n"
     "            return", LIMITER),
    (LLM + "rate_limiter.py", "if slot.episode == self.episodes:", "if True:", LIMITER),
    (LLM + "rate_limiter.py", "max(1.0, self.limit / 2)", "self.limit / 2", LIMITER),
    (LLM + "rate_limiter.py", "max(self._open_at, asyncio", "max(0.0, asyncio", LIMITER),
    (LLM + "rate_limiter.py", "min(self.first_wait * 2.0 ** (self.in_a_row - 1), _LONGEST_GUESS)",
     "self.first_wait * 2.0 ** (self.in_a_row - 1)", LIMITER),
    (LLM + "rate_limiter.py", "(1 if self._alone else int(self.limit))", "int(self.limit)", LIMITER),
    (LLM + "outcomes.py", "after > MAX_WAIT:", "False:", PROTOCOL),
    (LLM + "outcomes.py", "if 300 <= status < 400:", "if False:", CLIENT),
    (LLM + "outcomes.py", "(status == 429 and is_quota(clues))", "False", CLIENT),
    (LLM + "outcomes.py", 'if message.get("refusal"):', "if False:", CLIENT),
    (LLM + "outcomes.py", 'if reason == "content_filter":', "if False:", PROTOCOL),
    (LLM + "outcomes.py", 'if reason == "length":', "if False:", PROTOCOL),
    (LLM + "outcomes.py", "possibly_paid=status in _MAYBE_WORKED", "possibly_paid=False", PROTOCOL),
    (LLM + "outcomes.py", "n if type(n) is int and 0 <= n < 1 << 40 else None", "n", PROTOCOL),
    (LLM + "outcomes.py", "if 0 <= seconds < float(\"inf\"):", "if True:", PROTOCOL),
    (LLM + "transport.py", "if size > MAX_BODY:", "if False:", CLIENT),
    (LLM + "transport.py", "async with asyncio.timeout(self.deadline):", "async with asyncio.timeout(9):", CLIENT),
    (LLM + "transport.py", "follow_redirects=False", "follow_redirects=True", CLIENT),
    (LLM + "transport.py", "if len(self.key) < _SHORTEST_SECRET:", "if False:", PROTOCOL),
    (LLM + "transport.py", 'if "\\\\" not in text:', "if True:",
     PROTOCOL),
    (LLM + "transport.py", "if not (key.isascii() and key.isprintable()):", "if False:",
     PROTOCOL),
    (LLM + "transport.py", "if parts.username is not None or parts.query or parts.fragment:", "if False:", ASK),
    (LLM + "transport.py", "if not key and not is_local(address):", "if False:", ASK),
    (LLM + "dialect.py", "if self._has_renamed_limit:", "if False:", PROTOCOL),
    (LLM + "dialect.py", "if self._token_limit not in body:", "if False:", PROTOCOL),
    (LLM + "dialect.py", '.get("type")] != self.structured:', '.get("type")] == 0:', PROTOCOL),
    (LLM + "dialect.py", 'if self._settings.structured != "auto" or self.structured == "none":', "if False:",
     PROTOCOL),
    (LLM + "tokens.py", "if n_tokens is None or size < _LONG:", "if n_tokens is None:", PROTOCOL),
    (LLM + "tokens.py", "if n_counted >= _ENOUGH else 0.0", "if False else 0.0", PROTOCOL),
    (LLM + "tokens.py", "if usage.counted and usage.answers}", "if usage.counted}", PROTOCOL),
    (LLM + "tokens.py", "if usage.counted and usage.answers}", "if usage.answers}", PROTOCOL),
    # replies
    (LLM + "replies.py", "if size > MAX_BYTES:", "if False:", REPLIES),
    (LLM + "replies.py", "if depth > MAX_DEPTH:", "if False:", REPLIES),
    (LLM + "replies.py", "if len(content) < len(pairs):", "if False:", REPLIES),
    (LLM + "replies.py", "if not math.isfinite(number):", "if False:", REPLIES),
    (LLM + "replies.py", "if len(digits) > _MAX_DIGITS:", "if False:", REPLIES),
    (LLM + "replies.py", 'if "\\\\u" in content:', "if False:", REPLIES),
    (PROMPTS + "rating.py", "type(number) is not int or not 1 <= number <= n_items", "type(number) is not int",
     RATINGS),
    (PROMPTS + "rating.py", "if len({entry.rating for entry in group}) > 1:", "if False:", RATINGS),
    (PROMPTS + "rating.py", "if any(entry.problem for entry in group):", "if group[0].problem:", RATINGS),
    (PROMPTS + "rating.py", "if isinstance(value, str) and _NUMBER.fullmatch(value):",
     "if isinstance(value, str):", RATINGS),
    (PROMPTS + "rating.py", 'list(reply) != ["ratings"]', '"ratings" not in reply', RATINGS),
    (PROMPTS + "rating.py", "if not n_counted:", "if False:", RATINGS),
    (PROMPTS + "rating.py", "~np.isin(history.item, items)", "history.item >= 0", TEMPLATES),
    (PROMPTS + "untrusted.py", "[<>&`\\[\\]]|", "", TEMPLATES),
    (PROMPTS + "untrusted.py", "allow_nan=False", "allow_nan=True", TEMPLATES),
    (PROMPTS + "templates.py", "        if other not in expected:", "        if False:", TEMPLATES),
    (PROMPTS + "templates.py", "        if name not in expected:", "        if False:", TEMPLATES),
    (PROMPTS + "templates.py", "        if name not in used:", "        if False:", TEMPLATES),
    (PROMPTS + "profile.py", "if not reply.summary.strip():", "if False:", PROFILES),
]  # fmt: skip
