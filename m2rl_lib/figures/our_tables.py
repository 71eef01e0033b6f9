"""Our results in the form of the paper's tables (test split), and each table drawn twice, published and ours, by one `plot_*`."""

import io
from collections.abc import Callable

import pandas as pd
import PIL.Image

from m2rl_lib.analysis.rq1_mix_or_merge import budgets
from m2rl_lib.analysis.rq3_weights import mask_overlap
from m2rl_lib.analysis.rq4_methods import seesaw
from m2rl_lib.config import schedule
from m2rl_lib.config.locations import figures_folder
from m2rl_lib.config.model_names import model_name
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import judge_prompts, problem_sets, sft_blend
from m2rl_lib.figures import drawing, paper_tables, parts
from m2rl_lib.paper import claim_ledger, published_tables
from m2rl_lib.stats import averages, comparisons
from m2rl_lib.stats.bootstrap import OVERALL
from m2rl_lib.stats.graded_samples import UNTRAINED
from m2rl_lib.storage import result_tables


class NothingToDrawError(ValueError):
    """The study has nothing of what the paper's table holds; the message says why."""


def scores(p: Parameters) -> pd.DataFrame:
    """SFT, the experts, the merge that is best on the selection split and RL-Multi on every benchmark, as `published.scores`."""
    found = result_tables.read_table(p, "scores", ["sft", "experts", "merges", "mixed"], schedule.seeds_there(p, "rq1"))
    best = averages.choose_on_selection(found[found["split"] == "selection"], schedule.defaults(p))
    return _score_rows(p, found, ["sft", *schedule.experts(p), best, "rl-multi"])


def _score_rows(p: Parameters, found: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Test scores of the models, in their order, and domains in the study's order with general last."""
    test = found[(found["split"] == "test") & found["model"].isin(models)]
    table = averages.score_table(test, draws=p.analysis_draws)
    places = {name: place for place, name in enumerate([*models, *p.domains])}
    return table.sort_values(["model", "domain"], key=lambda names: names.map(places), ignore_index=True)


def methods(p: Parameters) -> pd.DataFrame:
    """The merging methods and MT-OPD with their places on every benchmark, as `seesaw.table_of_methods(published.merging())`."""
    found = result_tables.read_table(p, "scores", ["merges", "distilled"], schedule.seeds_there(p, "rq4"))
    models = [*schedule.defaults(p), "mt-opd"]
    return seesaw.table_of_methods(_score_rows(p, found, models), models)


def published_methods() -> pd.DataFrame:
    """The paper's methods in that form."""
    table = published_tables.merging()
    return seesaw.table_of_methods(table, list(pd.unique(table["model"])))


def changes(p: Parameters, methods: bool = False) -> pd.DataFrame:
    """Change against SFT of every model, published and ours (`source`), in points: the experts, the best merge (ours: on the
    selection split) and RL-Multi, or with `methods` the merging methods and MT-OPD; by domain, and 'overall' the mean over the
    domains that both have."""
    published = published_changes(methods)
    groups = ["sft", "merges", "distilled"] if methods else ["sft", "experts", "merges", "mixed"]
    found = result_tables.read_table(p, "scores", groups, schedule.seeds_there(p, "rq4" if methods else "rq1"))
    models = [*schedule.defaults(p), "mt-opd"]
    if not methods:
        best = averages.choose_on_selection(found[found["split"] == "selection"], schedule.defaults(p))
        found = found.replace({"model": {best: comparisons.BEST_MERGE}})
        models = [*schedule.experts(p), comparisons.BEST_MERGE, "rl-multi"]
    test = found[(found["split"] == "test") & found["model"].isin(["sft", *models])]
    both = [domain for domain in p.domains if domain in set(published["domain"])]
    pairs, how = [(model, "sft") for model in models], (p.analysis_margin, p.analysis_draws)
    parts = [(test[test["domain"].isin(both)], [OVERALL])] if both else []
    compared = [comparisons.comparison_table(some, pairs, overs, *how) for some, overs in [*parts, (test, list(p.domains))]]
    ours = pd.concat(compared).rename(columns={"over": "domain", "estimate": "change"})
    order = pd.Index([OVERALL, *p.domains, *models])
    overall = published[published["domain"].isin(both)].groupby("model", sort=False)["change"].mean().reset_index()
    published = pd.concat([published, overall.assign(domain=OVERALL)])
    rows = pd.concat([published.assign(source="published"), ours.assign(source="ours")], ignore_index=True)
    rows = rows[rows["model"].isin(models) & rows["domain"].isin([OVERALL, *p.domains])]
    rows = rows.sort_values(["domain", "model"], key=order.get_indexer, kind="stable", ignore_index=True)
    return rows[["source", "model", "domain", "change", "low", "high", "n", "seeds"]].assign(domains=len(both))


def published_changes(methods: bool) -> pd.DataFrame:
    """Change against SFT of the paper's models, or merging methods, by domain: model, domain, change."""
    table = averages.averages(published_tables.scores())
    sft = table[table["model"] == "sft"].set_index("domain")["score"]
    table = averages.averages(published_tables.merging()) if methods else table[~table["model"].isin(["base", "sft"])]
    table = table[~table["domain"].isin([OVERALL, *UNTRAINED])]
    return table.assign(change=table["score"] - table["domain"].map(sft))[["model", "domain", "change"]]


FINDINGS = {  # what a figure of both shows: rows of the claim ledger
    "scores": ["RQ1.1"],
    "merging methods": ["RQ4.1", "RQ4.2", "RQ4.3"],
    "costs": ["RQ1.2"],
    "merges of pairs": ["RQ3.4"],
    "overlap of changed weights": ["RQ3.5"],
    "judging": ["RQ5.1"],
}
AGREES = dict(zip(claim_ledger.VERDICTS, ("agrees", "does not agree", "undecided", "cannot be compared")))


def agreement(ledger: pd.DataFrame, figure: str) -> str:
    """Whether ours agrees with the paper in what a figure of FINDINGS shows, a sentence for each of its rows in the ledger."""
    lines = []
    for _, row in ledger.set_index("id", drop=False).loc[FINDINGS[figure]].iterrows():
        ours = row["reason"]
        if row["verdict"] != claim_ledger.NOT_TESTABLE:
            estimate = f"{row['quantity']}, {claim_ledger.estimate_words(row)}"
            ours = f"{estimate}. {claim_ledger.capitalise(ours)}" if ours else estimate
        said = f"{AGREES[row['verdict']].capitalize()}** ({row['id']}, {row['claim']})"
        lines.append(f"**{said}. Published: {row['published']}. Ours: {ours}.")
    return "  \n".join(lines)


def costs(p: Parameters) -> pd.DataFrame:
    """Device-seconds of every run by paradigm, as `published_costs`, with making and choosing; the mean over `seeds` seeds."""
    experts = schedule.experts(p)
    writers = [*experts, "rl-multi", "mt-opd", "merges", "evaluate-mixed", "evaluate-merges"]
    there = schedule.seeds_there(p, "rq1")
    table = budgets.mean_costs(result_tables.read_table(p, "costs", writers, there))
    spent = budgets.paradigm_costs(table, p).query("part != 'all' and part != 'experts'")
    runs = table[table["stage"] == "rl"].set_index("model")["device_seconds"]
    rows = [(paradigm, name, runs[name]) for paradigm in ("merged", "distilled") for name in experts]
    rows += spent[["paradigm", "part", "device_seconds"]].itertuples(index=False, name=None)
    rows.sort(key=lambda row: row[0] != "mixed")
    frame = pd.DataFrame(rows, columns=["paradigm", "part", "spent"]).assign(unit="device-seconds", seeds=len(there))
    return frame.replace({"part": {"RL-Multi": "rl-multi", "distillation": "mt-opd"}})


def published_costs() -> pd.DataFrame:
    """GPU hours of the paper's runs in that form. MT-OPD needs the experts as teachers."""
    hours = published_tables.costs().set_index("run")["gpu_hours"]
    experts = [run for run in hours.index if run.startswith("rl-") and run != "rl-multi"]
    rows = [("mixed", "rl-multi"), *(("merged", run) for run in experts), *(("distilled", run) for run in [*experts, "mt-opd"])]
    frame = pd.DataFrame(rows, columns=["paradigm", "part"])
    return frame.assign(spent=frame["part"].map(hours), unit="GPU hours")


def pairs(p: Parameters) -> pd.DataFrame:
    """What the paper's pairs do to their target's benchmarks; below each, the same expert averaged with SFT."""
    published = list(pd.unique(published_tables.pairs()["merged_experts"]))
    wanted = [pair for pair in (tuple(name.split("+")) for name in published) if set(pair) <= set(p.domains)]
    if not wanted:
        among = f"the domains {', '.join(p.domains)}: those are {', '.join(published)}"
        raise NothingToDrawError(f"no pair of the paper among {among}")
    found = result_tables.read_table(p, "scores", ["experts", "pairs"], schedule.seeds_there(p, "rq4"))
    test, rows = found[found["split"] == "test"], []
    for target, added in wanted:
        for other in (added, "sft"):
            both = (target, other) if other == "sft" else tuple(sorted((target, other), key=p.domains.index))
            model, expert = model_name("merge-average", experts="+".join(both)), f"rl-{target}"
            some = test[test["model"].isin([model, expert]) & (test["domain"] == target)]
            benchmarks = list(pd.unique(some["benchmark"]))
            compared = comparisons.comparison_table(some, [(model, expert)], benchmarks, p.analysis_margin, p.analysis_draws)
            rows.append(compared.assign(target=target, added=other, benchmark=benchmarks))
    table = pd.concat(rows)[["target", "added", "benchmark", "estimate", "low", "high", "n", "seeds"]]
    return table.sort_values("benchmark", kind="stable", key=lambda names: pd.factorize(names)[0], ignore_index=True)


def published_pairs() -> pd.DataFrame:
    """The paper's pairs in that form, without intervals."""
    frame = published_tables.pairs().rename(columns={"target_domain": "target", "change": "estimate"})
    return frame.assign(added=frame["merged_experts"].str.split("+").str[1])[["target", "added", "benchmark", "estimate"]]


def overlaps(p: Parameters) -> pd.DataFrame:
    """Overlap of each two experts' masks, of the study's own seed, at the paper's η and at equal density."""
    table = result_tables.read_table(p, "weights_pairs", ["measuring"])
    experts = schedule.experts(p)
    table = mask_overlap.whole(table[table["model"].isin(experts) & table["other"].isin(experts)])
    masks = [("relative", 0.001, "changed by more than η = 0.001")]
    masks += [("density", mask_overlap.DENSITY, "the tenth that changed most")]
    masks = pd.DataFrame(masks, columns=["kind", "level", "mask"])
    table = masks.merge(table[table["precision"] == "stored"], on=["kind", "level"])
    pair = table["model"].str.removeprefix("rl-") + "-" + table["other"].str.removeprefix("rl-")
    table = table.assign(pair=pair, note="").rename(columns={"chance": "independent"})
    return table[["pair", "mask", "jaccard", "independent", "note"]]


def published_overlaps() -> pd.DataFrame:
    """The paper's overlaps in that form; its random reference of 0.18 stands beside each."""
    table, reference = published_tables.mask_overlap(), "independent masks"
    chance = table.set_index("pair").loc[reference, "jaccard"]
    frame = table[table["pair"] != reference].assign(mask="changed by more than η = 0.001", independent=chance)
    return frame[["pair", "mask", "jaccard", "independent", "note"]]


def judging(p: Parameters) -> pd.DataFrame:
    """Accuracy on trajectories of its own of each judge that the paper has, by mode and domain, as `published.judging` (its
    benchmark: a domain), its mean over domains first."""
    table = result_tables.read_table(p, "judging_measures", ["rq5"]).query("set == 'own' and measure == 'accuracy'")
    names = {"judge": "model", "domain": "benchmark", "estimate": "accuracy", "trajectories": "n"}
    models = list(pd.unique(published_tables.judging()["model"]))
    frame = table.rename(columns=names).dropna(subset="accuracy")
    frame = frame[frame["model"].isin(models)]
    if frame.empty:
        raise NothingToDrawError("no model that the paper has as a judge has right and wrong trajectories of its own")
    columns = ["model", "mode", "benchmark", "accuracy", "low", "high", "n", "seeds"]
    means = frame.groupby(["model", "mode"], sort=False)["accuracy"].mean().reset_index().assign(benchmark="our mean")
    rows = pd.concat([means, frame], ignore_index=True).reindex(columns=columns)
    return rows.sort_values("model", key=pd.Index(models).get_indexer, kind="stable", ignore_index=True)


def blend(p: Parameters) -> pd.DataFrame:
    """The parts of our SFT corpus with their samples; of the published blend, its parts as they are drawn."""
    if not problem_sets.is_micro(p.data_sources):
        shares = sft_blend.share_out(sft_blend.kept_rows(p.data_sources), p.sft_steps * p.sft_batch)
        return pd.DataFrame(list(shares.items()), columns=["part", "samples"])
    rows = [(comparisons.display_domain(domain), p.sft_demonstrations) for domain in p.domains]
    rows.append(("General facts", p.sft_general))
    rows.append(("Judging", len(judge_prompts.JUDGE_MODES) * p.sft_judge * len(p.domains)))
    return pd.DataFrame(rows, columns=["part", "samples"])


def seed_words(p: Parameters, frame: pd.DataFrame) -> str:
    """'3 seeds', or 'seed 0' of a frame that is of the study's own seed alone; '2–3 seeds' where rows differ."""
    seeds = parts.span(frame["seeds"]) if "seeds" in frame else "1"
    return f"seed {p.seed}" if seeds == "1" else f"{seeds} seeds"


def show_changes(p: Parameters, name: str, methods: bool = False):
    """Save and show `changes` as one figure; a missing stage is named in a line."""
    from IPython.display import Markdown

    try:
        return drawing.show(paper_tables.plot_changes, changes(p, methods), figures_folder(p.study), name)
    except FileNotFoundError as error:
        return Markdown(f"**The figure is left out, for a stage has not run:** {error}.")


def show_both(p: Parameters, name: str, plot: Callable, paper: pd.DataFrame, ours: Callable, part: bool = False):
    """Save and show the published figure (`part`: incomplete) and ours side by side; a missing stage is named in a line."""
    from IPython.display import Image, Markdown, display

    source = f"Published, {published_tables.SOURCE}" + (" (in part)" if part else "")
    drawn = [drawing.save(plot, paper, figures_folder("published"), name, source)[0]]
    try:
        frame = ours(p)
        title = f"Ours, {p.study}, {seed_words(p, frame)}"
        drawn.append(drawing.save(plot, frame, figures_folder(p.study), f"paper_{name}", title)[0])
    except (FileNotFoundError, NothingToDrawError) as error:
        why = ", for a stage has not run" if isinstance(error, FileNotFoundError) else ""
        display(Markdown(f"**Our figure is left out{why}:** {error}."))
    pictures = [PIL.Image.open(path).convert("RGB") for path in drawn]
    widths, heights = zip(*(picture.size for picture in pictures))
    beside = sum(widths) <= 300 * 7
    across, down = (sum(widths), max(heights)) if beside else (max(widths), sum(heights))
    sheet, place = PIL.Image.new("RGB", (across, down), "white"), 0
    for picture in pictures:
        sheet.paste(picture, (place, 0) if beside else (0, place))
        place += picture.width if beside else picture.height
    file = io.BytesIO()
    sheet.quantize(256, dither=PIL.Image.Dither.NONE).save(file, "png", optimize=True)
    return Image(data=file.getvalue(), width=round(110 * across / 300))
