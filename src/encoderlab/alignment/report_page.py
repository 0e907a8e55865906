"""The report of `encoderlab all`: one self-contained HTML file, a template filled from run.json and
the figures beside it. Computes no metric; the sentences follow from scores and verdicts.
"""

from __future__ import annotations

import base64
import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from encoderlab.alignment.pair_scores import PERMUTATIONS, is_mostly_types
from encoderlab.alignment.settings import LANGUAGES
from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.results import Json, renamed, score_text, short_names
from encoderlab.core.run_folder import RunRecord
from encoderlab.core.score import Score
from encoderlab.metrics.catalogue import HEADLINE, METRICS
from encoderlab.metrics.preflight import FEW_SAMPLES
from encoderlab.metrics.uncertainty import Verdict

TEMPLATE, WORDS = "report_page.html", "report_words.yaml"
REPORT = "report.html"

# Commands with a section, in the order of the report.
SECTIONS = (
    "compare", "multi-llm", "layers", "e2e", "elas", "coral", "embedding", "attention", "speed",
)  # fmt: skip
TABLES = (
    "cka_linear_biased", "cka_within", "cka_rbf", "mutual_knn", "ridge_r2", "ridge_recall1",
    "mlp_r2",
)  # fmt: skip
LISTED = 4  # comparisons with controls that the first screen names
CONTROLS = {"untrained": UNTRAINED, "shuffled": SHUFFLED}
Words = Mapping[str, Any]
Cell = tuple[str, str | None]  # LLM, and data type or None for all samples


@dataclass(frozen=True)
class Grid:
    """A table of one metric.

    Args:
        about: below the title.
        lines: (encoder, its scores), one per column.
        controls: (kind, lowest and highest value or None), one per column.
        ahead: (encoder, column) that is ahead of every other encoder.
    """

    title: str
    about: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Json | None, ...]], ...]
    controls: tuple[tuple[str, tuple[tuple[float, float] | None, ...]], ...]
    ahead: frozenset[tuple[str, int]] = frozenset()


def write(folder: Path, run: RunRecord) -> Path:
    """Writes report.html into the run's folder, where its figures are; returns its path."""
    path = folder / REPORT
    write_text_atomic(path, page(folder, run))
    return path


@functools.cache
def words_of(language: str) -> Words:
    """The fixed texts of the report in one language.

    Args:
        language: one of `alignment.settings.LANGUAGES`.

    Returns:
        Key -> text; `metrics` has title, meaning and limits of each metric, `captions` those of
        the figures that are translated.
    """
    text = (Path(__file__).parent / WORDS).read_text(encoding="utf-8")
    words: Words = yaml.safe_load(text)[language]
    english = {name: (m.title, m.meaning, m.blind) for name, m in METRICS.items()}
    return {**words, "metrics": english | words.get("metrics", {}), "language": language}


def page(folder: Path, run: RunRecord) -> str:
    """The report as one HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["command"] = shlex.join
    # Adding 0.0 turns -0.0 into 0.0.
    environment.filters["two"] = lambda value: f"{round(value, 2) + 0.0:.2f}"
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.6g}"
    # Records of older versions name no language.
    words = words_of(run.settings.get("language") or LANGUAGES[0])
    result = renamed(run.result, short_names(run.result.get("fingerprints")))
    captions = words.get("captions", {})
    sections = [
        {
            "name": name,
            "title": words[f"section_{name}"],
            "figures": [
                figure
                | {"data": _data_url(folder / figure["file"])}
                | {"caption": captions.get(Path(figure["file"]).stem, figure["caption"])}
                for figure in result["sections"][name]["figures"]
            ],
            "lines": section_lines(name, result["sections"][name], words),
        }
        for name in SECTIONS
        if name in result["sections"]
    ]
    interactive = (result["sections"].get("embedding") or {}).get("page")
    map_page = folder / Path(interactive).name if interactive else None
    compared = result["sections"]["compare"]
    controls = {row["encoder"] for row in compared["rows"] if row["control_of"]}
    types = list(result["data"]["types"])
    return environment.get_template(TEMPLATE).render(
        run=run,
        result=result,
        t=words,
        answer=answer_sentences(compared, words),
        reading=reading_sentences(compared, words),
        limits=_limits(result, words),
        matrix=headline_grid(compared, words),
        by_type=[
            _grid(compared, words, HEADLINE, [(llm, kind) for kind in types], llm)
            for llm in _llms(compared)
            if len(types) > 1
        ],
        other_metrics=[
            _grid(compared, words, name, [(llm, None) for llm in _llms(compared)])
            for name in TABLES
            if any(name in row["scores"] for row in compared["rows"])
        ],
        among=[verdict for verdict in compared["verdicts"] if verdict["b"] not in controls],
        against_controls=[verdict for verdict in compared["verdicts"] if verdict["b"] in controls],
        verdict_text=functools.partial(_verdict_text, words=words),
        difference=_difference,
        sections=sections,
        method=[name for name in METRICS if not name.endswith(("_mse", "_cosine"))],
        permutations=f"{PERMUTATIONS:,}",
        map_page=map_page.read_text(encoding="utf-8") if map_page and map_page.is_file() else None,
    )


def _data_url(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


# -- scores and verdicts of the record -----------------------------------------------------------


def _llms(compared: Json) -> list[str]:
    return list(dict.fromkeys(row["llm"] for row in compared["rows"]))


def _ranked(compared: Json, llm: str) -> list[Json]:
    """The rows of the requested encoders, highest debiased CKA first."""
    rows = [row for row in compared["rows"] if row["llm"] == llm and not row["control_of"]]
    defined = [row for row in rows if row["scores"][HEADLINE]["value"] is not None]
    return sorted(defined, key=lambda row: -row["scores"][HEADLINE]["value"])


def _highest(compared: Json) -> Json | None:
    """The row with the highest debiased CKA of the requested encoders."""
    tops = [ranked[0] for llm in _llms(compared) if (ranked := _ranked(compared, llm))]
    return max(tops, key=lambda row: row["scores"][HEADLINE]["value"], default=None)


def _against(
    compared: Json, metric: str, llm: str, encoder: str, others: Iterable[str]
) -> dict[str, tuple[Verdict, Json]]:
    """Each other encoder -> the verdict as seen from `encoder`, and the record of it."""
    turned = {Verdict.AHEAD: Verdict.BEHIND, Verdict.BEHIND: Verdict.AHEAD}
    found = {}
    for record in compared["verdicts"]:
        if record["metric"] != metric or record["llm"] != llm:
            continue
        verdict = Verdict(record["verdict"])
        if record["a"] == encoder and record["b"] in others:
            found[record["b"]] = (verdict, record)
        elif record["b"] == encoder and record["a"] in others:
            found[record["a"]] = (turned.get(verdict, verdict), record)
    return found


def _leader(compared: Json, llm: str) -> str | None:
    """The encoder that is ahead of every other one with an LLM."""
    ranked = [row["encoder"] for row in _ranked(compared, llm)]
    if len(ranked) < 2:
        return None
    against = _against(compared, HEADLINE, llm, ranked[0], ranked[1:])
    ahead = [name for name, (verdict, _) in against.items() if verdict is Verdict.AHEAD]
    return ranked[0] if set(ahead) == set(ranked[1:]) else None


def _grid(
    compared: Json, words: Words, metric: str, cells: Sequence[Cell], of_llm: str | None = None
) -> Grid:
    """One metric in some cells; of `of_llm` by data type, otherwise of every LLM."""

    def score(row: Json, kind: str | None) -> Json | None:
        scores = row["scores"] if kind is None else row["by_type"].get(kind, {})
        found: Json | None = scores.get(metric)
        return found

    rows = {(row["encoder"], row["llm"]): row for row in compared["rows"]}
    encoders = dict.fromkeys(r["encoder"] for r in compared["rows"] if not r["control_of"])
    controls = []
    for kind_of_control, prefix in CONTROLS.items():
        own = [
            row for row in compared["rows"]
            if row["control_of"] and row["encoder"].startswith(prefix)
        ]  # fmt: skip
        ends = []
        for llm, kind in cells:
            scores = [score(row, kind) for row in own if row["llm"] == llm]
            values = [s["value"] for s in scores if s is not None and s["value"] is not None]
            ends.append((min(values), max(values)) if values else None)
        if any(ends):
            controls.append((words[kind_of_control], tuple(ends)))
    title, meaning, _ = words["metrics"][metric]
    return Grid(
        title if of_llm is None else words["with_llm"].format(llm=of_llm),
        meaning if of_llm is None else "",
        tuple(llm if of_llm is None else str(kind) for llm, kind in cells),
        tuple(
            (name, tuple(score(rows[name, llm], kind) for llm, kind in cells)) for name in encoders
        ),
        tuple(controls),
    )


def headline_grid(compared: Json, words: Words) -> Grid:
    """Debiased CKA of every encoder with every LLM.

    Args:
        compared: the JSON of `compare`.
        words: from `words_of`.

    Returns:
        The table; marked is who is ahead of every other encoder.
    """
    llms = _llms(compared)
    grid = _grid(compared, words, HEADLINE, [(llm, None) for llm in llms])
    leaders = {(_leader(compared, llm), i) for i, llm in enumerate(llms)}
    ahead = frozenset((name, i) for name, i in leaders if name is not None)
    return Grid(words["matrix"], "", grid.columns, grid.lines, grid.controls, ahead)


# -- sentences -----------------------------------------------------------------------------------


def _listed(names: Sequence[str], words: Words) -> str:
    return words["and"].join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def answer_sentences(compared: Json, words: Words) -> list[str]:
    """Which encoder fits: a sentence for all LLMs with the same answer, then by a linear map.

    Args:
        compared: the JSON of `compare`.
        words: from `words_of`.

    Returns:
        Sentences that follow from intervals and paired verdicts alone.
    """
    answers: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for llm in _llms(compared):
        key, values = _answer(compared, llm, words)
        answers.setdefault((key, tuple(values.items())), []).append(llm)
    sentences = [
        words[key].format(llms=_listed(llms, words), **dict(values))
        for (key, values), llms in answers.items()
    ]
    return sentences + _by_ridge(compared, words)


def _answer(compared: Json, llm: str, words: Words) -> tuple[str, dict[str, str]]:
    ranked = _ranked(compared, llm)
    if not ranked:
        row = next(row for row in compared["rows"] if row["llm"] == llm)
        return "answer_undefined", {"reason": str(row["scores"][HEADLINE]["undefined"])}
    best, *others = [row["encoder"] for row in ranked]
    detected = [row["encoder"] for row in ranked if Score(**row["scores"][HEADLINE]).detected]
    if not detected:
        return "answer_none", {"encoder": best}
    if best not in detected:
        return "answer_unclear", {"encoder": best, "others": _listed(detected, words)}
    if not others:
        return "answer_alone", {"encoder": best}
    if _leader(compared, llm) is not None:
        return "answer_ahead", {"encoder": best}
    against = _against(compared, HEADLINE, llm, best, others)
    level = [
        name for name in others if name not in against or against[name][0] is not Verdict.AHEAD
    ]
    samples = [against[name][1]["samples_needed"] for name in level if name in against]
    needed = ""
    if len(samples) == len(level) and all(samples):
        needed = words["answer_needed"].format(n=f"{max(samples):,}")
    return "answer_level", {"encoder": best, "others": _listed(level, words), "needed": needed}


def reading_sentences(compared: Json, words: Words) -> list[str]:
    """What the highest CKA says and what it does not: within data types, and by a linear map.

    Args:
        compared: the JSON of `compare`.
        words: from `words_of`.

    Returns:
        Sentences about the pair with the highest debiased CKA; empty where none is defined.
    """
    best = _highest(compared)
    if best is None:
        return []
    encoder, llm = best["encoder"], best["llm"]
    names = {"encoder": encoder, "llm": llm}
    sentences = [words["reading_cka"]]
    within = best["scores"].get("cka_within")
    by_type = {
        kind: scores[HEADLINE]["value"]
        for kind, scores in best["by_type"].items()
        if scores[HEADLINE]["value"] is not None
    }
    if within is not None and within["value"] is not None:
        whole = Score(**best["scores"][HEADLINE])
        values = {
            "types": _listed(list(best["by_type"]), words),
            "all": f"{float(whole):.2f}",
            "within": score_text(within, 2),
        }
        if is_mostly_types(whole, Score(**within)):
            sentences.append(words["reading_types"].format(**names, **values))
        elif not Score(**within).above_chance:
            sentences.append(words["reading_unclear"].format(**names, **values))
        elif by_type:
            ends = {
                key: words["of_type"].format(value=f"{by_type[kind]:.2f}", type=kind)
                for key, kind in (
                    ("lowest", min(by_type, key=by_type.__getitem__)),
                    ("highest", max(by_type, key=by_type.__getitem__)),
                )
            }
            sentences.append(words["reading_within"].format(**names, **values, **ends))
    others = [row for row in _ranked(compared, llm) if row["encoder"] != encoder]
    recall = best["scores"].get("ridge_recall1")
    if recall is not None and recall["value"] is not None:
        found = {
            row["encoder"]: row["scores"]["ridge_recall1"]["value"]
            for row in others
            if row["scores"].get("ridge_recall1", {}).get("value") is not None
        }
        other = ""
        if found:
            name = max(found, key=found.__getitem__)
            other = words["reading_other"].format(other=name, recall=f"{100 * found[name]:.0f}")
        sentences.append(
            words["reading_recall"].format(
                **names, recall=f"{100 * recall['value']:.0f}",
                chance=f"{100 * (recall['chance'] or 0):.0f}", other=other,
            )
        )  # fmt: skip
    return sentences


def _by_ridge(compared: Json, words: Words) -> list[str]:
    """Whether R² of the linear map says the same as CKA about the pair with the highest CKA."""
    best = _highest(compared)
    if best is None:
        return []
    encoder, llm = best["encoder"], best["llm"]
    others = [row["encoder"] for row in _ranked(compared, llm) if row["encoder"] != encoder]
    verdicts = {
        name: verdict
        for name, (verdict, _) in _against(compared, "ridge_r2", llm, encoder, others).items()
    }
    if not verdicts:
        return []
    behind = [name for name, verdict in verdicts.items() if verdict is Verdict.BEHIND]
    level = [name for name, verdict in verdicts.items() if verdict is Verdict.CANNOT_DISTINGUISH]
    key = "ridge_level" if level else "ridge_ahead"
    if behind:
        key = "ridge_behind_some" if level else "ridge_behind"
    names = {"others": _listed(behind or level, words), "level": _listed(level, words)}
    return [words[key].format(encoder=encoder, llm=llm, **names)]


def _limits(result: Json, words: Words) -> list[str]:
    """The limitations that a reader must know; serious findings verbatim."""
    data, compared = result["data"], result["sections"]["compare"]
    n, kinds = data["images"], data["types"]
    types = f" ({', '.join(f'{count} {name}' for name, count in kinds.items())})"
    key = "limit_few" if n < FEW_SAMPLES else "limit_samples"
    lines = [
        words[key].format(
            n=n, types=types if len(kinds) > 1 else "", source=data["source"], few=FEW_SAMPLES
        ),
        _about_controls(compared, words),
        *(finding["what"] for finding in result["preflight"] if finding["serious"]),
    ]
    if result["skipped"]:
        first = result["skipped"][0]
        lines.append(words["limit_skipped"].format(n=len(result["skipped"]), **first))
    return lines + [
        words["limit_not_done"].format(name=name, reason=reason)
        for name, reason in result["not_done"].items()
    ]


def _about_controls(compared: Json, words: Words) -> str:
    controls = {row["encoder"]: row["control_of"] for row in compared["rows"] if row["control_of"]}
    if not controls:
        return str(words["limit_no_controls"])
    own = [
        verdict for verdict in compared["verdicts"]
        if controls.get(verdict["b"]) == verdict["a"]
    ]  # fmt: skip
    problems = [verdict for verdict in own if verdict["verdict"] != Verdict.AHEAD]
    if not problems:
        return str(words["limit_no_problem"])
    each = [
        f"{v['a']} – {v['b']} ({words['metrics'][v['metric']][0]}, {v['llm']})" for v in problems
    ]
    listed = ", ".join([*each[:LISTED], *(["…"] if len(each) > LISTED else [])])
    ahead = len(own) - len(problems)
    return str(words["limit_controls"].format(ahead=ahead, all=len(own), problems=listed))


def _verdict_text(verdict: Json, words: Words) -> str:
    a, b = verdict["a"], verdict["b"]
    if verdict["verdict"] == Verdict.CANNOT_DISTINGUISH:
        return str(words["level"].format(a=a, b=b))
    if verdict["verdict"] == Verdict.BEHIND:
        a, b = b, a
    return str(words["ahead"].format(a=a, b=b))


def _difference(verdict: Json) -> str:
    """The difference with its interval, positive where an encoder is ahead."""
    ends = [verdict[key] for key in ("difference", "ci_low", "ci_high")]
    if None in ends:
        return "–"
    value, *around = ends if verdict["verdict"] != Verdict.BEHIND else [-end for end in ends]
    low, high = sorted(around)
    return f"{value:+.3f} [{low:.3f}, {high:.3f}]"


def section_lines(name: str, section: Json, words: Words) -> list[str]:
    """The sentences of a section, above its figures.

    Args:
        name: of the command.
        section: its JSON.
        words: from `words_of`.

    Returns:
        Sentences; reasons that a result gives stay in English.
    """
    if name == "layers":
        return [_best_layer(pair, words) for pair in section["pairs"] if not pair["control_of"]]
    if name == "e2e":
        return [section["undefined"]] if section["undefined"] else _predicted(section)
    if name == "coral":
        divergences = [
            f"{pair['encoder']} × {pair['llm']} {pair['coral']['spectral_divergence']:.3g}"
            for pair in section["cross_modal"]
            if pair["coral"]["spectral_divergence"] is not None
        ]
        return [words["coral"], words["coral_divergence"].format(values=", ".join(divergences))]
    if name == "speed":
        return [words["speed"].format(peak=f"{section['peak_tflops']:.2f}")]
    if name == "attention":
        return [f"“{section['text']}”"]
    return []


def _best_layer(pair: Json, words: Words) -> str:
    best, penultimate, choice = pair["best"], pair["penultimate"], pair["choice"]
    if best is None:
        return str(pair["text"])
    rows, columns = len(pair["cka"]), len(pair["cka"][0])
    sentence = words["layers"].format(
        encoder=pair["encoder"], llm=pair["llm"], v=best["vision"], t=best["text"],
        count=rows * columns, value=f"{best['value']:.2f}", p=f"{best['p']:.2g}",
        last=penultimate["vision"],
        penultimate=score_text({"value": penultimate["value"]}, 2),
    )  # fmt: skip
    if choice is None:
        return str(sentence)
    key = "layers_level"
    if choice["a"] == choice["b"]:
        key = "layers_same"
    elif choice["verdict"] in (Verdict.AHEAD, Verdict.BEHIND):
        key = f"layers_{choice['verdict']}"
    chosen = choice["a"].removeprefix("layer ")
    return f"{sentence} {words[key].format(chosen=chosen, difference=_difference(choice))}"


def _predicted(section: Json) -> list[str]:
    """A line per metric; one line where no metric has an answer for the same reason."""
    lines = []
    for benchmark in section["benchmarks"]:
        verdicts = {METRICS[m].title: c["verdict"] for m, c in benchmark["metrics"].items()}
        if len(set(verdicts.values())) == 1:
            lines.append(f"{benchmark['name']}: {next(iter(verdicts.values()))}.")
        else:
            lines += [f"{metric}: {verdict}." for metric, verdict in verdicts.items()]
    return lines
