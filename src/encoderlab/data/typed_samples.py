"""The samples of an alignment experiment: images with texts, some of each data type.

One sample per image, its texts together: several records about one picture are no several pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from encoderlab.core.progress import note
from encoderlab.core.skipped import Skipped
from encoderlab.data.read import read_samples
from encoderlab.data.sample import Sample, Samples, merge_duplicates
from encoderlab.data.synthetic import KINDS, generate
from encoderlab.data.vlm_dataset import VLMDataset, typed_sets
from encoderlab.errors import MissingError, UsageError, unknown

SYNTHETIC = "synthetic"
OTHER = "all"
TRIES = 20  # pictures looked at for each that is wanted: what can be said of them is finite


@dataclass(frozen=True)
class TypedSamples:
    """Samples grouped by data type, each with its type as label, where they are from, and what was
    left out there."""

    samples: list[Sample]
    source: str
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """The data types, in order."""
        return list(dict.fromkeys(str(sample.label) for sample in self.samples))


def typed_samples(
    data_root: str | Path | None = None,
    data_types: Sequence[str] = (),
    n_per_type: int = 30,
    seed: int = 0,
) -> TypedSamples:
    """`n_per_type` samples of each of `data_types` (of all there are if empty), or as many as there
    are.

    Args:
        data_root: a root of typed chat-format sets; a CSV, JSONL or folder; "synthetic" for the
            synthetic world; None for VLM_DATA_ROOT, or else the built-in samples, continued by
            pictures of the synthetic world that no embedded model was trained on.
        seed: which samples of a larger set are taken.

    Raises:
        MissingError: the data is not there.
        UsageError: a data type that the data does not have, or samples without texts.
    """
    if data_root is not None and str(data_root) == SYNTHETIC and not Path(data_root).exists():
        note(f"data: the synthetic world, {n_per_type} pictures of each type")
        wanted = _known(data_types, KINDS) or KINDS
        return TypedSamples(
            [s for kind in wanted for s in _drawn(kind, n_per_type)], "the synthetic world"
        )
    if data_root is not None and not _is_typed_root(Path(data_root)):
        return _of_one_set(data_root, data_types, n_per_type, seed)
    dataset = VLMDataset(data_root)
    if dataset.is_built_in:
        return _built_in(dataset, data_types, n_per_type)
    if not dataset.data_types:
        raise MissingError(
            "the data root has none of the typed sets",
            got=str(dataset.root),
            want="one of " + ", ".join(one.labels for one in typed_sets().values()),
            hint="a CSV, a JSONL or a folder of images can be named instead",
        )
    wanted = _known(data_types, dataset.data_types) or dataset.data_types
    chosen: list[Sample] = []
    skipped: list[Skipped] = []
    for name in wanted:
        merged = _one_per_image(dataset.load_samples(name), name, str(dataset.root))
        chosen += _some(merged, n_per_type, seed)
        skipped += merged.skipped
    return TypedSamples(chosen, str(dataset.root), skipped)


def _built_in(dataset: VLMDataset, data_types: Sequence[str], n_per_type: int) -> TypedSamples:
    known = list(dict.fromkeys([*dataset.data_types, *KINDS]))
    wanted = _known(data_types, known) or dataset.data_types
    chosen: list[Sample] = []
    drawn = 0
    for kind in wanted:
        own = dataset.load_samples(kind) if kind in dataset.data_types else []
        chosen += own[:n_per_type]
        missing = _drawn(kind, n_per_type - len(own[:n_per_type]))
        chosen += missing
        drawn += len(missing)
    source = f"{len(chosen) - drawn} built-in samples"
    if drawn:
        source += f" and {drawn} pictures of the synthetic world"
        note(f"data: and {drawn} pictures of the synthetic world: {n_per_type} of each type")
    return TypedSamples(chosen, source)


def _of_one_set(
    source: str | Path, data_types: Sequence[str], n_per_type: int, seed: int
) -> TypedSamples:
    note(f"data: {source}")
    by_type: dict[str, list[Sample]] = {}
    merged = _one_per_image(read_samples(source), None, str(source))
    for sample in merged:
        by_type.setdefault(str(sample.label), []).append(sample)
    wanted = _known(data_types, list(by_type)) or list(by_type)
    chosen = [sample for name in wanted for sample in _some(by_type[name], n_per_type, seed)]
    return TypedSamples(chosen, str(source), merged.skipped)


def _one_per_image(samples: Samples, label: str | None, source: str) -> Samples:
    merged = merge_duplicates(samples, [str(sample.image) for sample in samples]).with_texts()
    told = Samples((replace(s, label=label or s.label or OTHER) for s in merged), merged.skipped)
    if not told:
        raise UsageError(
            "no image has a text, so there is nothing to align with",
            got=source,
            want="captions: a CSV with image_path,caption, or chat-format JSONL",
        )
    return told


def _some(samples: list[Sample], n: int, seed: int) -> list[Sample]:
    """n of them, drawn without order in mind and kept in order: files are often sorted."""
    if len(samples) <= n:
        return samples
    chosen = np.random.default_rng(seed).choice(len(samples), size=n, replace=False)
    return [samples[i] for i in sorted(chosen)]


def _drawn(kind: str, n: int) -> list[Sample]:
    """n pictures of the test split that differ in what is said of them."""
    found: dict[tuple[str, ...], Sample] = {}
    for number in range(TRIES * n):
        if len(found) >= n:
            break
        item = generate(number, split="test", kind=kind)
        # As a chat record says it: the whole caption, then an answer.
        texts = (item.captions[0], item.answer)
        found.setdefault(texts, replace(item.to_sample(), texts=texts))
    return list(found.values())


def _known(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in known:
            raise unknown("data type", name, known, "encoderlab ls datasets")
    return list(dict.fromkeys(asked))


def _is_typed_root(path: Path) -> bool:
    """Whether the folder is laid out as typed sets; one that is not there is refused as such."""
    if not path.exists():
        return path.suffix == ""
    return path.is_dir() and any((path / one.labels).is_file() for one in typed_sets().values())
