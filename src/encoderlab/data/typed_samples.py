"""Chooses the samples of an alignment experiment: images with texts, some of each data type.

Knows where samples of each type come from; not what is done with them. Each image is one sample
with all its texts, since several records of one picture are not independent.
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
OTHER = "all"  # the data type of samples without a label
TRIES = 20  # pictures drawn at most for each sample: the captions of a kind are finite


@dataclass(frozen=True)
class TypedSamples:
    """Samples grouped by data type.

    Args:
        samples: each with its data type as label.
        source: where they are from, for people.
        skipped: items of the source that are left out.
    """

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
    """Up to `n_per_type` samples of each data type.

    Args:
        data_root: a root of typed chat-format sets; a CSV, JSONL or folder; "synthetic" for the
            synthetic world; None for VLM_DATA_ROOT, or else the built-in samples, continued by
            pictures of the synthetic world that no bundled model was trained on.
        data_types: which; empty for all that the data has.
        n_per_type: how many of each, if there are as many.
        seed: which samples of a larger set are taken.

    Returns:
        The samples, type by type, with the name of their source.

    Raises:
        MissingError: the data is not there.
        UsageError: a data type that the data does not have, or samples without texts.
    """
    if data_root is not None and str(data_root) == SYNTHETIC and not Path(data_root).exists():
        note(f"data: the synthetic world, {n_per_type} pictures of each type")
        kinds = _chosen(data_types, KINDS)
        drawn = [sample for kind in kinds for sample in _drawn(kind, n_per_type)]
        return TypedSamples(drawn, "the synthetic world")
    by_type: dict[str, list[Sample]] = {}
    skipped: list[Skipped] = []
    if data_root is not None and not _is_typed_root(Path(data_root)):
        source = str(data_root)
        note(f"data: {source}")
        merged = _one_per_image(read_samples(data_root), None, source)
        skipped += merged.skipped
        for sample in merged:
            by_type.setdefault(str(sample.label), []).append(sample)
        types = _chosen(data_types, list(by_type))
    else:
        dataset = VLMDataset(data_root)
        if dataset.is_built_in:
            return _built_in(dataset, data_types, n_per_type)
        source = str(dataset.root)
        if not dataset.data_types:
            raise MissingError(
                "the data root has none of the typed sets",
                got=source,
                want="one of " + ", ".join(typed_set.labels for typed_set in typed_sets().values()),
                hint="a CSV, a JSONL or a folder of images can be named instead",
            )
        types = _chosen(data_types, dataset.data_types)
        for name in types:
            merged = _one_per_image(dataset.load_samples(name), name, source)
            by_type[name] = merged
            skipped += merged.skipped
    samples = [sample for name in types for sample in _subset(by_type[name], n_per_type, seed)]
    return TypedSamples(samples, source, skipped)


def _built_in(dataset: VLMDataset, data_types: Sequence[str], n_per_type: int) -> TypedSamples:
    known = list(dict.fromkeys([*dataset.data_types, *KINDS]))
    samples: list[Sample] = []
    drawn = 0
    for kind in _chosen(data_types, known) if data_types else dataset.data_types:
        own = dataset.load_samples(kind, n_per_type) if kind in dataset.data_types else []
        more = _drawn(kind, n_per_type - len(own))
        samples += [*own, *more]
        drawn += len(more)
    source = f"{len(samples) - drawn} built-in samples"
    if drawn:
        source += f" and {drawn} pictures of the synthetic world"
        note(f"data: and {drawn} pictures of the synthetic world: {n_per_type} of each type")
    return TypedSamples(samples, source)


def _one_per_image(samples: Samples, label: str | None, source: str) -> Samples:
    merged = merge_duplicates(samples, [str(sample.image) for sample in samples]).with_texts()
    if not merged:
        raise UsageError(
            "no image has a text, so there is nothing to align with",
            got=source,
            want="captions: a CSV with image_path,caption, or chat-format JSONL",
        )
    labelled = (replace(sample, label=label or sample.label or OTHER) for sample in merged)
    return Samples(labelled, merged.skipped)


def _subset(samples: list[Sample], n: int, seed: int) -> list[Sample]:
    """A random subset of n, in the order of the source, since files are often sorted."""
    if len(samples) <= n:
        return samples
    chosen = np.random.default_rng(seed).choice(len(samples), size=n, replace=False)
    return [samples[i] for i in sorted(chosen)]


def _drawn(kind: str, n: int) -> list[Sample]:
    """n pictures of the test split with different texts: the complete caption and an answer."""
    samples: dict[tuple[str, ...], Sample] = {}
    for number in range(TRIES * n):
        if len(samples) >= n:
            break
        item = generate(number, split="test", kind=kind)
        texts = (item.captions[0], item.answer)
        samples.setdefault(texts, replace(item.to_sample(), texts=texts))
    return list(samples.values())


def _chosen(data_types: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in data_types:
        if name not in known:
            raise unknown("data type", name, known, "encoderlab ls datasets")
    return list(dict.fromkeys(data_types or known))


def _is_typed_root(path: Path) -> bool:
    """Whether the folder is laid out as typed sets; True too for one that is not there."""
    if not path.exists():
        return path.suffix == ""
    return path.is_dir() and any((path / s.labels).is_file() for s in typed_sets().values())
