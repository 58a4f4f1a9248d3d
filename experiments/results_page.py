"""Writes the section of docs/results.md between the two `results` markers from experiments/results/*.json.

    python experiments/results_page.py            write the section, and the figure docs/accuracy.svg
    python experiments/results_page.py check      exit status 1 if the section is not what the stored results say

Nothing is measured here: every sentence quotes a stored result and names the command that makes it again.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybrid_sim.core.files import write_whole
from hybrid_sim.report.bench import save_rmse_figure
from hybrid_sim.report.results import read_bench

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"

BENCHES = {
    "ml-100k-last40": "MovieLens 100K, `last40`, genuine folds u1-u5",
    "ml-100k-full": "MovieLens 100K, `full`, genuine folds u1-u5",
    "ml-100k-cold-items": "MovieLens 100K, `cold-items`, 5 item folds",
    "ml-100k-cold-users-0": "MovieLens 100K, `cold-users`, 0 ratings known, 5 user folds",
    "ml-100k-cold-users-5": "MovieLens 100K, `cold-users`, 5 known",
    "ml-100k-cold-users-10": "MovieLens 100K, `cold-users`, 10 known",
    "ml-100k-cold-users-20": "MovieLens 100K, `cold-users`, 20 known",
    "ml-100k-cold-both": "MovieLens 100K, `cold-both`",
    "ml-1m-user-temporal": "MovieLens 1M, users 1-2999, `user-temporal`",
    "ml-1m-cold-items-tenth": "MovieLens 1M, users 1-2999, `cold-items-tenth`",
    "ml-latest-small-user-temporal": "ml-latest-small, `user-temporal`",
    "ml-latest-small-cold-items-tenth": "ml-latest-small, `cold-items-tenth`",
    "anime-user-temporal": "Anime, `user-temporal` (no times: random order)",
    "anime-cold-items-tenth": "Anime, `cold-items-tenth`",
    "amazon-musical-instruments-user-temporal": "Amazon Musical Instruments, `user-temporal`",
    "world": "the embedded world (**synthetic data**), `user-temporal`",
}
"""Results of `hybrid-sim bench` that have a row, and what the row is called."""

PLANS = ("ml-100k-last40", "ml-100k-full", "ml-100k-cold-items")
"""Ablations that have a column, if they were run."""

STRANGER = "stranger's history"

CHOSEN_ON_ONE = "folds 2 and 3; the rule was chosen on fold 1, see Tuning below for what else had been seen"


def main(words: Sequence[str]) -> int:
    """Write the section, or check it; returns the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    parts = (benches, recorded_llm, cold, light, validity, components, index, llm_runs, environments, the_rest, checks)
    lines = [line for part in parts for line in [*part(), ""]]
    section = "\n".join(lines[:-1])
    page = f"{head}{BEGIN}{section}\n{END}{tail}"
    if "check" in words:
        return int(page != text)
    write_whole(PAGE, page.encode())
    draw()
    return 0


def draw() -> None:
    """The figure of README.md: the models that are in every reader's hands, on the real data of one protocol."""
    stored = read_bench(RESULTS / "ml-100k-last40.json")
    shown = [one for one in stored.intervals if "llm" not in one.model]
    save_rmse_figure(replace(stored, intervals=shown), PAGE.with_name("accuracy.svg"))


def result(name: str) -> Any:
    """What is stored under this name."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def benches() -> Iterator[str]:
    """A row per benchmark."""
    yield from ("## Accuracy and calibration", "")
    yield from wrapped(
        "RMSE of unrounded expected ratings, seed 0, mean over folds; timestamps of test ratings and TMDB votes are "
        "not used. In brackets the 95% interval of the difference to KNN, and to the best baseline (of means, "
        "biases, KNN, SVD, SVD++, NMF; chosen by the same ratings, which favours it): bootstrap over users, over items "
        "for `cold-items`."
    )
    yield ""
    yield from table_head(
        *("data and protocol", "KNN", "SVD", "NMF", "**hybrid**", "hybrid minus best baseline"),
        *("hybrid minus KNN", "log loss", "ECE"),
        *("90% coverage", "KL of draws", "s/fold"),
    )
    for name, title in BENCHES.items():
        stored = result(name)
        others = [f"{mean_of(stored, model, 'rmse'):.3f}" for model in ("knn", "svd", "nmf")]
        yield row(
            f"[{title}](../experiments/results/{name}.json)",
            *others,
            f"**{mean_of(stored, 'hybrid', 'rmse'):.4f}**",
            best_baseline(stored["comparisons"]),
            difference(stored["comparisons"], "hybrid", "knn"),
            *(f"{mean_of(stored, 'hybrid', metric):.4f}" for metric in ("log_loss", "ece")),
            f"{mean_of(stored, 'hybrid', 'coverage'):.3f}",
            f"{mean_of(stored, 'hybrid', 'kl'):.4f}",
            f"{mean_of(stored, 'hybrid', 'seconds'):.0f}",
        )
    yield ""
    yield from wrapped(
        "`HYBRID_SIM_DATA=DIR python experiments/results.py run NAME` recomputes a row, NAME being that of its file; "
        "`python experiments/results.py table` shows all models and metrics. Seconds are those of two cores that other "
        "work shared. Each file names the commit that it was made at."
    )


def recorded_llm() -> Iterator[str]:
    """What recorded ratings of a language model add, and what a fifth of the calls adds."""
    yield from ("## Recorded ratings of a language model", "")
    yield from wrapped(
        "The ratings are those of the Lusifer repository, folds u1-u3. Alone they have RMSE 1.312, worse than the mean "
        "of all ratings. As a correction that is learned on other users of the test fold (for new items: on other "
        "items):"
    )
    yield ""
    yield from table_head(
        "", "RMSE with the LLM minus without", "log loss", "control: LLM ratings shuffled within users"
    )
    for name in ("last40", "full"):
        stored = result(f"ml-100k-{name}")["comparisons"]
        yield row(f"`{name}`, folds 1-3", *llm_differences(stored))
    stored = result("cold")["llm"]
    rmse = {one["model"]: one["estimate"] for one in stored["rmse"]}
    title = f"`cold-items`, {len(stored['folds'])} item folds: {rmse['hybrid']:.4f} becomes {rmse['hybrid+llm']:.4f}"
    yield row(title, *llm_differences(stored["differences"]))
    found = result("selective")["results"]
    share = {
        name: percent(
            found[f"{name}, fold 2 and 3"]["rules"]["20% of calls, default: widest, new items in turn"]["share"]
        )
        for name in ("cold-items", "last40")
    }
    yield ""
    yield from wrapped(
        f"Making only a fifth of the calls, selected beforehand, keeps {share['cold-items']} of the gain on new items, "
        f"where an answer about an item is pooled over users, but {share['last40']} on `last40`, where it is spread "
        f"thinly ({CHOSEN_ON_ONE}; `python experiments/selective.py FITS`)."
    )


def cold() -> Iterator[str]:
    """Support buckets, and what an incremental refit costs."""
    stored = result("cold")
    buckets = stored["support"]["buckets"]
    worse = sum(bucket["worse"] for bucket in buckets)
    better = sum(bucket["difference"]["high"] < 0 for bucket in buckets)
    yield from ("## Cold start", "")
    yield from wrapped(
        "By the number of training ratings of the item (0, 1-5, 6-20, more; `last40`, `full`, `cold-items`, folds "
        "1-3): "
        "against the best single member, selected on the very same ratings, the ensemble is worse in "
        f"{worse} of {len(buckets)} buckets and better in {better} (95%, paired; `python experiments/cold.py support`)."
    )
    yield ""
    items, users = stored["refit"]["difference"], stored["refit users"]["difference"]
    seconds = stored["refit users"]["seconds"]
    rmse = {one["model"]: f"{one['estimate']:.4f}" for one in stored["refit users"]["rmse"]}
    yield from wrapped(
        f"An incremental refit with new items costs {interval(items)} RMSE against a whole fit; with new users of ten "
        f"ratings {interval(users)} (RMSE {rmse['refit']}; {rmse['no refit']} without their ratings), in "
        f"{seconds['refit'] / seconds['fitted']:.0%} of the time (fold 1; `python experiments/cold.py refit` and "
        "`python experiments/cold.py 'refit users'`)."
    )

    yield ""
    stored = result("fold_in")["ml-100k"]
    folded = [
        f"{bounds(one['folded in minus fitted again']['rmse'])} after {one['first ratings']} ratings ({response})"
        for response in ("gaussian", "ordinal")
        for one in stored[response]
    ]
    yield from wrapped(
        "Where at most 15% of the users have new ratings and no item is new, a refit folds these users into the "
        "factorizations. Against a whole fit of the factorization (MovieLens 100K, new users of three draws), RMSE "
        f"changes by {', '.join(folded)}, 95% intervals over users, in about a third of the CPU time "
        "(`python experiments/fold_in.py`)."
    )


def light() -> Iterator[str]:
    """What few quick members save, and what they cost."""
    yield from ("## Light members", "")
    told = [
        f"on `{name}` (fold {', '.join(map(str, stored['folds']))}) the fit takes {stored['cpu_ratio']:.2f} of the "
        f"CPU time, and RMSE changes by {difference(stored['differences'], 'light', 'all')}"
        for name, stored in result("light").items()
    ]
    yield from wrapped(
        "`--members light` (biases, SVD, content process) against all members on MovieLens 100K: "
        f"{'; '.join(told)} (95% intervals, paired; `python experiments/light.py`; the "
        "fit of all members was timed on a busy machine, by an earlier commit)."
    )


def validity() -> Iterator[str]:
    """The verdicts on every fold that was judged."""
    stored = {name: one for name, one in result("validity").items() if "verdicts" in one}
    yield from ("## Validity", "")
    yield from wrapped(
        "`experiments/validity.py`; thresholds were set before the first run, the file says what was changed later. "
        "These verdicts were made by an earlier rule, by the estimate; today the whole 95% interval must keep to the "
        "threshold, so that some of them would be unknown. Four simulators that are defective on purpose "
        "fail on every fold."
    )
    yield ""
    yield from table_head(
        *("protocol and fold", "verdicts", "Kendall's tau of recommenders", "personal signal (partial r): ensemble"),
        *("neighbours", "facets", "defective ones that fail"),
    )
    for name, one in stored.items():
        verdicts, planted = one["verdicts"], one["planted"]
        passed = sum(verdict["state"] == "pass" for verdict in verdicts.values())
        unknown = [key for key, verdict in verdicts.items() if verdict["state"] == "unknown"]
        signal = {row[0]: row[1:] for row in one["tables"]["signal"]["rows"]}
        yield row(
            name,
            f"{passed} of {len(verdicts)} pass, {len(unknown)} unknown ({', '.join(unknown)})",
            *(
                within(*(verdicts[key][part] for part in ("value", "low", "high")))
                for key in ("ranking", "personal-signal")
            ),
            *(within(*signal[member]) for member in ("neighbours", "facets")),
            f"{sum(bool(caught) for caught in planted.values())} of {len(planted)}",
        )


def components() -> Iterator[str]:
    """Shapley shares and what is lost without each component."""
    plans = [name for name in PLANS if (RESULTS / f"ablation-{name}.json").is_file()]
    seconds = result("ablation-seconds")
    effects = {plan: {} for plan in plans}
    for plan in plans:
        for effect in result(f"ablation-{plan}")["effects"]:
            if effect["metric"] == "rmse":
                effects[plan][effect["component"], effect["kind"]] = interval(effect, "gain")
    yield from ("## What each component adds", "")
    yield from wrapped(
        "RMSE, folds 1-3, 95% intervals over users, for `cold-items` over items: Shapley value of the component / "
        "what is "
        f"lost if it alone is left out. {seconds[plans[0]]['subsets']} subsets in "
        f"{seconds[plans[0]]['seconds_per_fold']:.0f} s a fold from stored answers (`python experiments/ablation.py "
        "NAME`)."
    )
    yield ""
    yield from table_head("component", *(f"`{plan.removeprefix('ml-100k-')}`" for plan in plans))
    names = [name for name, kind in effects[plans[0]] if kind == "leave_one_out"]
    for name in names:
        yield row(
            name,
            *(f"{effects[plan][name, 'shapley']} / {effects[plan][name, 'leave_one_out']}" for plan in plans),
        )


def index() -> Iterator[str]:
    """Time, memory and worth of the FAISS indexes."""
    stored = result("faiss_index")
    large, worth = stored["large"], stored["worth"]
    yield from ("## Indexes of texts and profiles", "")
    yield from wrapped(
        f"FAISS graph over {large['n_vectors']:,} vectors of {large['dim']} numbers (mixtures of two item texts of "
        f"MovieLens 1M each, plus noise: **synthetic**): recall@10 {large['recall_at_10']:.3f} against exact search, "
        f"{large['graph_mb']:.0f} MB beside {large['vectors_mb']:.0f} MB of vectors, "
        f"{large['queries_per_second'] / large['exact_queries_per_second']:.0f} times the queries per second of exact "
        "search. Asking the index instead of multiplying with the whole history (MovieLens 1M, users 1-2999, equal "
        f"results): `neighbours` takes {stored['neighbours']['time_ratio']:.0%} of the time and "
        f"{stored['neighbours']['memory_ratio']:.0%} of the memory, evidence {stored['evidence']['time_ratio']:.0%} "
        f"and {stored['evidence']['memory_ratio']:.0%}."
    )
    yield ""
    rmse = {
        name: next(one for one in study["effects"] if (one["metric"], one["kind"]) == ("rmse", "leave_one_out"))
        for name, study in worth.items()
    }
    gains = " and ".join(f"{interval(effect, 'gain')} on `{name}`" for name, effect in rmse.items())
    yield from wrapped(
        "The optional member `profile_neighbours`, added to "
        "`biases,neighbours,facets,content_gp` on MovieLens 100K, fold 1, lowers RMSE by "
        f"{gains} (95%, bootstrap over users). `python experiments/faiss_index.py`."
    )


def llm_runs() -> Iterator[str]:
    """Robustness and speed of runs with a language model."""
    kill, budget, fuzz, speed = (result(f"llm_{name}") for name in ("kill", "budget", "fuzz", "throughput"))
    rates = {one["concurrency"]: f"{one['share']:.0%}" for one in speed["requests_per_second"]}
    yield from ("## Runs with a language model", "")
    yield "Over real HTTP on the loopback interface:"
    yield ""
    yield from table_head("", "measured", "command")
    yield row(
        f"{kill['runs']} runs of {kill['questions_per_run']:,} questions, a fifth of the requests damaged, "
        f"{kill['kills']} kills -9: "
        "answers lost / committed calls repeated / most repeats of a kill",
        f"{kill['answers_lost']} / {kill['committed_calls_repeated']} / {kill['most_repeats_of_a_kill']} of "
        f"{kill['concurrency']} in flight",
        "`experiments/llm_kill.py`",
    )
    yield row(
        f"{budget['runs']} runs with {budget['workers']} workers: overshoot of the budget",
        f"{budget['greatest_overshoot_nano_dollars']}",
        "`experiments/llm_budget.py`",
    )
    replies, strings = fuzz["replies"], fuzz["injections"]
    yield row(
        f"{replies['replies']:,} damaged replies: values off the contract that became ratings",
        f"{replies['off_contract_values_that_became_ratings']}",
        "`experiments/llm_fuzz.py`",
    )
    yield row(
        f"{strings['strings']} injection strings in {strings['prompts']} prompts: structure broken",
        f"{strings['prompts_broken']}",
        "`experiments/llm_fuzz.py`",
    )
    dialects = result("dialects")["dialects"]
    yield row(
        f"{len(dialects)} dialects of OpenAI-compatible servers (imitated): pairs answered",
        f"{sum(one['answered'] for one in dialects)} of {sum(one['pairs'] for one in dialects)}",
        "`experiments/dialects.py`",
    )
    for name, one in result("smollm2").items():
        replay = one["replay"]
        yield row(
            f"SmolLM2-135M served by llama.cpp, 20 users x 10 items ({name}): replies that kept the schema; "
            "RMSE and log loss minus those of statistics alone; calls of a replay",
            f"{one['replies_that_kept_the_schema']} of {one['calls']}; {interval(one['rmse']['difference'])} and "
            f"{interval(one['log_loss']['difference'])}; {replay['calls']}, "
            f"{'the same bytes' if replay['same_bytes'] else 'other bytes'}",
            "`experiments/smollm2.py`; resumed once, some calls are of an earlier commit",
        )
    yield row(
        "requests per second at 200 ms latency against a raw aiohttp client in the same run, concurrency 50 / 200",
        f"{rates[50]} / {rates[200]}",
        "`experiments/llm_throughput.py`",
    )
    yield row(
        "CPU per call, above that of openai's own client",
        f"{speed['cpu']['ours_above_bare_openai_ms']:+.2f} ms",
        "`experiments/llm_throughput.py`",
    )
    yield row(
        "ratings per second from a warm journal",
        f"{speed['warm_journal']['ratings_per_second']:,}",
        "`experiments/llm_throughput.py`",
    )


def environments() -> Iterator[str]:
    """The person in an episode, policies simulated and real, planted faults, speed."""
    stored = result("environment-ml-100k")
    person, half, ranking = stored["next_rating"], stored["second_half"], stored["ranking"]
    yield from ("## Environments", "")
    gain = person["own minus static"]
    yield from wrapped(
        "MovieLens 100K, `user-temporal`. **The person.** The next held-out rating given the user's earlier held-out "
        "ones: "
        f"RMSE {person['own history']['rmse'][0]:.4f}, log loss {person['own history']['log loss']:.4f}, against "
        f"{person['static']['rmse'][0]:.4f} and {person['static']['log loss']:.4f} without them (RMSE "
        f"{bounds(gain['rmse'])}, log loss {bounds(gain['log loss'])}); with a stranger's ratings "
        f"in their place RMSE {person[STRANGER]['rmse'][0]:.4f}. On the second half of each user's held-out ratings, "
        f"given the first: {half['frozen']['rmse'][0]:.4f} against {half['static']['rmse'][0]:.4f}. Episodes spread "
        "beyond prediction "
        f"{ranking['spread_ratio']['estimate']:.2f} times as much as real ones; after simulated episodes the mean "
        f"belief about unseen items has moved by at most {stored['shift']['largest']:.3f} (standard error "
        f"{stored['shift']['standard error']:.3f})."
    )
    yield ""
    yield from table_head("policy", "simulated", "real", "gap", "beyond random")
    for one in ranking["policies"]:
        values = (one[kind]["estimate"] for kind in ("simulated", "real"))
        gap, beyond = one["gap"], one["gap_beyond_random"]
        yield row(one["name"], *(f"{value:.3f}" for value in values), interval(gap), f"{beyond['estimate']:+.3f}")
    yield ""
    found = sum(any(not verdict["passed"] for verdict in verdicts) for verdicts in stored["planted"].values())
    honest = "passes" if ranking["believable"] else "does not pass"
    speeds = ", ".join(f"{value:,.0f} ({name})" for name, value in stored["speed"].items())
    yield from wrapped(
        f"Mean reward per step in [0, 1] of {ranking['n_users']} users; Kendall's tau of simulated and real values "
        f"{interval(ranking['kendall_tau'])}. Of {len(stored['planted'])} planted faults {found} are found out; the "
        f"environment itself {honest} all verdicts. Steps per CPU second: {speeds}. `hybrid-sim env build --dataset "
        "ml-100k -o ENV_DIR` and `python experiments/environment.py ENV_DIR` make these figures; here the two "
        "simulators in ENV_DIR were fitted beforehand by an earlier commit, and speed was measured on a busy machine. "
        "The threshold of the exploitation verdict was changed after results had been seen."
    )
    yield ""
    agents = stored["agents"]
    rewards = ", ".join(f"{name} {value:.3f}" for name, value in agents["reward"].items())
    choice_sets = agents["simulated and real, choice sets"]
    on_log = ", ".join(f"{name} {values[3]:.3f}" for name, values in choice_sets.items())
    yield from wrapped(
        f"**Agents** after {agents['steps']:,} steps (algorithm-seed; settings were not tuned), mean reward per step "
        f"in episodes of 40 steps over the whole catalogue: {rewards}. With real answers, on the choice sets above: "
        f"{on_log}."
    )


def the_rest() -> Iterator[str]:
    """Explanations, pages, speed."""
    yield from ("## Explanations, reports and speed", "")
    models, page = result("evidence")["models"], result("page_speed")
    steady, process = models["ensemble of the steady members"], models["content_gp"]
    yield from wrapped(
        "**Explanations.** Contributions sum to the expected rating to 1e-9 (tests). Removing the cited ratings from "
        "the training data and refitting moves the expected rating of the ensemble (deterministic members) more than "
        f"removing a random rating in {share_of(steady['side'])} of {steady['n']} rows (all cited ratings of the "
        "stronger "
        f"side; the first cited rating alone: {share_of(steady['first'])}; of the content process that the citations "
        f"come from: {share_of(process['side'])} and {share_of(process['first'])}; `experiments/evidence.py`)."
    )
    yield ""
    yield from wrapped(
        f"**HTML reports.** The page of a run of {page['n_ratings']:,} ratings has {page['megabytes']:.1f} MB, takes "
        f"{page['seconds_to_build']:.0f} s to build and "
        f"{page['seconds_to_first_paint']:.1f} s to the first paint, with "
        f"{page['other_requests']} other requests (`experiments/page_speed.py`)."
    )
    yield ""
    yield from beside_myfm()
    yield ""
    alone = result("one_pair")
    rates = " and ".join(f"{one['ratings_per_second']:,} on {name}" for name, one in result("speed").items())
    yield from wrapped(
        "**Speed** of a fitted simulator, in batches of 100,000 random pairs on two cores: "
        f"{rates} ratings per second (`python experiments/speed.py`). A pair alone takes "
        f"{alone['CPU ms per pair']:.1f} ms of CPU; "
        f"of 6,000 pairs {alone['of 6000 in 7 files']} have other bits when they are predicted in seven parts "
        "(`python experiments/one_pair.py`)."
    )


def checks() -> Iterator[str]:
    """How much the tests notice, what damaged tables do, and how long the program takes to start."""
    mutation, startup = result("mutation"), result("startup")["above_a_bare_interpreter"]
    tables, folders = result("table_fuzz"), result("malicious_folders")
    wrong = len(folders["wrong"])
    yield from ("## Tests, damage and start-up", "")
    yield from wrapped(
        f"Of {mutation['mutants']} guards taken out one at a time (of {mutation['listed']} that are listed; on the way "
        f"to this code, not all on its last state), {mutation['survivors']} go unnoticed by the tests of their module "
        f"(`python experiments/mutation.py`). Of {folders['malicious']['folders']} malicious and "
        f"{folders['damaged']['folders']} damaged model and run folders {wrong} run code, write elsewhere, hang, "
        f"take 1 GB or end in a traceback (`python experiments/malicious_folders.py`). Of {tables['tables']:,} damaged "
        f"tables {len(tables['tracebacks'])} end in a traceback, within {tables['slowest_seconds']:.1f} s and "
        f"{tables['peak_mb']} MB (`python experiments/table_fuzz.py`). Above a bare interpreter "
        f"`import hybrid_sim` takes {startup['import hybrid_sim']['wall_seconds']:.2f} s and `hybrid-sim --help` "
        f"{startup['hybrid-sim --help']['wall_seconds']:.2f} s (`python experiments/startup.py`)."
    )


def beside_myfm() -> Iterator[str]:
    """Our factorization against a well-kept peer in the same run."""
    stored = result("compare_myfm")
    told = []
    for protocol in ("last40", "full"):
        folds = [one for one in stored["results"] if one["protocol"] == protocol]
        ours, theirs = (sum(one[f"rmse_{who}"] for one in folds) / len(folds) for who in ("ours", "myfm"))
        seconds = [
            sum(one[f"{step}_seconds_{who}"] for one in folds for step in ("fit", "ask")) for who in ("ours", "myfm")
        ]
        told.append(f"{ours:.4f} against {theirs:.4f} in {seconds[0] / seconds[1]:.0%} of its time (`{protocol}`)")
    settings = stored["settings"]
    yield from wrapped(
        "**The Bayesian factorization beside myFM** "
        f"{settings['myfm']}, folds u1-u3, rank {settings['rank']}, "
        f"{settings['n_iterations']} sweeps, one thread, same features: {', '.join(told)} "
        "(`python experiments/compare_myfm.py`)."
    )


def wrapped(text: str) -> Iterator[str]:
    """A paragraph in lines of at most 120 characters."""
    yield from textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def table_head(*columns: str) -> Iterator[str]:
    """The two lines above the rows."""
    yield row(*columns)
    yield "|" + "---|" * len(columns)


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def mean_of(stored: Mapping[str, Any], model: str, metric: str) -> float:
    """The mean over folds, NaN where a fold has none."""
    values = [one[metric] for one in stored["results"] if one["model"] == model]
    return float("nan") if None in values else sum(values) / len(values)


def difference(comparisons: list[dict[str, Any]], a: str, b: str, metric: str = "rmse") -> str:
    """How much model `a` is above `b`."""
    return next(interval(one) for one in comparisons if (one["a"], one["b"], one["metric"]) == (a, b, metric))


def best_baseline(comparisons: list[dict[str, Any]]) -> str:
    """How much the hybrid is above the baseline with the lowest RMSE, and which that is."""
    against = [one for one in comparisons if (one["a"], one["metric"]) == ("hybrid", "rmse") and one["b"] != "llm"]
    best = max(against, key=lambda one: float(one["estimate"]))
    return f"{best['b']} {interval(best)}"


def llm_differences(comparisons: list[dict[str, Any]]) -> Iterator[str]:
    """The three columns of what a language model adds."""
    yield difference(comparisons, "hybrid+llm", "hybrid")
    yield difference(comparisons, "hybrid+llm", "hybrid", "log_loss")
    yield difference(comparisons, "hybrid+llm_shuffled", "hybrid")


def interval(found: Mapping[str, Any], value: str = "estimate") -> str:
    """A difference with its interval."""
    return f"{found[value]:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def bounds(values: Sequence[float]) -> str:
    """A difference with its interval, as three numbers."""
    estimate, low, high = values
    return f"{estimate:+.4f} [{low:+.4f}, {high:+.4f}]"


def within(value: float, low: float, high: float) -> str:
    """A figure with its interval."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def percent(found: tuple[float, float, float] | None) -> str:
    """A share with its interval; None: the whole is not told from nothing."""
    return "an undefined share" if found is None else f"{found[0]:.0%} [{found[1]:.0%}, {found[2]:.0%}]"


def share_of(found: Mapping[str, float]) -> str:
    """A share with its interval, as it is stored elsewhere."""
    return percent((found["share"], found["low"], found["high"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
