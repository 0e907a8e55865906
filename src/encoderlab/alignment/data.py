"""The features of the alignment commands: row i of every encoder and LLM is of the same sample.

Adds the controls (untrained encoders, shuffled pairs). Computes no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoderlab.alignment.settings import OnSamples
from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.progress import collect_warnings
from encoderlab.core.skipped import SkippedImages, as_records, as_warnings, skipped_images
from encoderlab.encoders.load_spec import LoadOptions
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.data.sample import Sample
    from encoderlab.feature_store.extract import StoredFeatures
    from encoderlab.metrics.preflight import Finding
    from encoderlab.metrics.token_scale import TokenScale

    FromStore = Callable[[Sequence[Sample]], Mapping[str, StoredFeatures]]

_NONE = np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class Features:
    """One model's features of all samples.

    Args:
        pooled: (n, d), fp32.
        layers: hidden state -> its mean over patches or tokens (n, d).
        of: the encoder behind a control, and None for what was asked for.
    """

    name: str
    family: str
    fingerprint: str
    pooled: np.ndarray
    layers: Mapping[int, np.ndarray] = field(default_factory=dict)
    of: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether it is an untrained encoder or a shuffled pairing."""
        return self.of is not None


@dataclass(frozen=True)
class AlignmentData:
    """Samples, and their features by each encoder and LLM.

    Args:
        contents: a digest of each image, all different: rows are independent. Splits are drawn over
            them, so that they do not depend on the order of the samples.
        findings: problems of the data or the features that the preflight checks found.
        copies: how many samples show the image of another one, and are part of its row.
        scales: encoder -> the scale of its pooled features; patch tokens are not extracted.
        cut: for each LLM with a text that is longer than its context, how many there are.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    contents: tuple[Any, ...]
    images: tuple[Any, ...]
    vision: dict[str, Features]
    text: dict[str, Features]
    source: str
    device: str
    dtype: str
    seed: int
    findings: tuple[Finding, ...] = ()
    skipped: SkippedImages = ()
    copies: int = 0
    cut: tuple[str, ...] = ()
    scales: Mapping[str, TokenScale] = field(default_factory=dict)
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.ids)

    @property
    def types(self) -> tuple[str, ...]:
        """The data types, in order."""
        return tuple(dict.fromkeys(self.labels))

    @property
    def encoders(self) -> dict[str, Features]:
        """The features of the encoders that are no controls."""
        return {name: x for name, x in self.vision.items() if not x.is_control}

    def rows(self, data_type: str) -> np.ndarray:
        """The rows of the samples of a data type."""
        return np.flatnonzero(np.array(self.labels) == data_type)

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result of `make`, computed once for all experiments on these features."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def facts(self) -> dict[str, Any]:
        """What a run's record keeps of the data."""
        return {
            "data": {
                "source": self.source,
                "samples": self.n + self.copies,
                "images": self.n,
                "types": {name: len(self.rows(name)) for name in self.types},
            },
            "device": self.device,
            "dtype": self.dtype,
            "fingerprints": {
                name: features.fingerprint
                for name, features in (self.vision | self.text).items()
                if not name.startswith(SHUFFLED)
            },
            "preflight": [finding.to_json() for finding in self.findings],
            "pooled_scale": {name: scale.to_json() for name, scale in self.scales.items()},
            "skipped": as_records(self.skipped),
        }

    def warnings(self) -> tuple[str, ...]:
        """The warnings of the record: serious findings, skipped images, texts that were cut."""
        serious = tuple(finding.what for finding in self.findings if finding.serious)
        return (*serious, *as_warnings(self.skipped), *self.cut)


def extract_features(
    settings: OnSamples, *, layers: bool = False, from_store: FromStore | None = None
) -> AlignmentData:
    """The features of the same samples by every encoder and every LLM, read from the feature store
    where they are there. Samples of the same image become one row with all their texts.

    Args:
        settings: what is compared, on which samples, how it is loaded; without `llms`, the features
            of the encoders alone. `controls` adds to every encoder its untrained copy, and itself
            with shuffled pairs.
        layers: every hidden state as well.
        from_store: gives the pooled features of the samples by encoder; the encoders that
            `settings` names are not loaded then.

    Returns:
        The features, row by row the same samples.

    Raises:
        MissingError: data, a model, a GPU or an extra is not there.
        UsageError: an encoder twice, too few readable samples, or features that are not finite.
    """
    import torch

    from encoderlab.core.settings import output_folder
    from encoderlab.data.sample import merge_duplicates
    from encoderlab.data.typed_samples import typed_samples
    from encoderlab.encoders.checkpoint import resolve
    from encoderlab.encoders.text import check_placement, load_text
    from encoderlab.encoders.vision import load_vision
    from encoderlab.feature_store.extract import extract_images, extract_texts
    from encoderlab.metrics.preflight import Finding, preflight
    from encoderlab.metrics.token_scale import token_scale

    encoders, llms = settings.encoders, getattr(settings, "llms", None)
    controls = getattr(settings, "controls", False)
    batch_size, device, dtype = settings.batch_size, settings.device, settings.dtype
    load = LoadOptions.of(settings)
    if from_store is None:
        check_names("encoder", encoders)
    if llms is not None:
        check_llms(llms, [*encoders, *(UNTRAINED + name for name in encoders)])
        check_placement(device, load.quantize, load.device_map)
    # A name that is unknown is refused before the features of the others take their time.
    for name in encoders if from_store is None else ():
        resolve(name.removeprefix(UNTRAINED), code=load.trust_remote_code)
    for name in llms or ():
        resolve(name, language=True, code=load.trust_remote_code)
    data = typed_samples(settings.data_root, settings.data_types, settings.n_samples, settings.seed)
    store = Path(settings.features_dir or output_folder("features")())
    names = list(encoders) if from_store is None else []
    if controls:
        names += [UNTRAINED + name for name in encoders if not name.startswith(UNTRAINED)]
    loaded: list[tuple[Features, StoredFeatures]] = []
    where = ("cpu", "float32")
    if from_store is not None:
        for name, stored in from_store(data.samples).items():
            key = stored.tables["pooled"].key
            loaded.append((Features(name, key.encoder, key.fingerprint, _NONE), stored))
            where = ("cpu", key.dtype)
        encoders = [features.name for features, _ in loaded]
    for name in dict.fromkeys(names):
        encoder = load_vision(name, device, dtype, **load.vision)
        # CNNs and hierarchical towers have none.
        numbers = range(encoder.n_layers + 1) if layers and encoder.local_patches else range(0)
        what = ["pooled", *(f"mean@{k}" for k in numbers)]
        stored = extract_images(encoder, data.samples, store, what=what, batch_size=batch_size)
        control_of = None if name in encoders else name.removeprefix(UNTRAINED)
        # The arrays are read below, once it is known which samples every encoder can read.
        empty = Features(
            name, encoder.family, encoder.fingerprint, _NONE, dict.fromkeys(numbers, _NONE),
            control_of,
        )  # fmt: skip
        loaded.append((empty, stored))
        where = encoder.where
        del encoder
    readable = set.intersection(*({s.id for s in stored.samples} for _, stored in loaded))
    first = loaded[0][1]
    shown = [(s, d) for s, d in zip(first.samples, first.digests, strict=True) if s.id in readable]
    digests = [digest for _, digest in shown]
    samples = merge_duplicates([sample for sample, _ in shown], digests)
    chosen = {sample.id for sample in samples}
    if len(samples) < 2:
        raise UsageError(
            "too few readable samples to compare anything",
            got=f"{len(samples)} from {data.source}",
            want="at least 2, better 100",
        )
    vision: dict[str, Features] = {}
    for empty, stored in loaded:
        rows = [i for i, sample in enumerate(stored.samples) if sample.id in chosen]
        vision[empty.name] = replace(
            empty,
            pooled=stored.rows(rows, "pooled"),
            layers={k: stored.rows(rows, f"mean@{k}") for k in empty.layers},
        )
    unreadable = {skipped.id: skipped for _, stored in loaded for skipped in stored.skipped}
    texts = [" ".join(sample.texts) for sample in samples]
    text: dict[str, Features] = {}
    cut: list[str] = []
    for name in llms or ():
        llm = load_text(name, device, dtype, **load.text)
        numbers = range(llm.n_layers + 1) if layers else range(0)
        with collect_warnings() as warnings:
            stored = extract_texts(llm, texts, store, layers=numbers, batch_size=batch_size)
        cut += warnings
        of_layers = {k: stored.array(f"mean@{k}") for k in numbers}
        text[name] = Features(name, llm.family, llm.fingerprint, stored.array("pooled"), of_layers)
        del llm
    everything = {f.name: f.pooled for f in [*vision.values(), *text.values()] if not f.is_control}
    findings = preflight(everything, texts=texts, groups=digests, computed_in=where[1])
    scales = {name: token_scale([torch.from_numpy(vision[name].pooled)]) for name in encoders}
    findings += [
        Finding(f"{name}: {problem}")
        for name, scale in scales.items()
        for problem in scale.problems("pooled feature")
    ]
    if controls:
        order = _derangement(len(samples), settings.seed)
        for name in encoders:
            paired = vision[name]
            vision[SHUFFLED + name] = replace(
                paired,
                name=SHUFFLED + name,
                pooled=paired.pooled[order],
                layers={k: x[order] for k, x in paired.layers.items()},
                of=name,
            )
    return AlignmentData(
        tuple(sample.id for sample in samples),
        tuple(str(sample.label) for sample in samples),
        tuple(texts),
        tuple(dict.fromkeys(digest.hex() for digest in digests)),
        tuple(sample.image for sample in samples),
        vision,
        text,
        data.source,
        *where,
        settings.seed,
        tuple(findings),
        skipped_images([*data.skipped, *unreadable.values()]),
        len(shown) - len(samples),
        tuple(cut),
        scales,
    )


def check_names(kind: str, names: Sequence[str]) -> None:
    """Refuses a list of models that is empty or names one twice.

    Raises:
        UsageError: naming it.
    """
    if not names:
        raise UsageError(f"no {kind} was named", got="an empty list", want="at least one")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UsageError(f"an {kind} is listed twice", got=name, want="each once")


def check_llms(llms: Sequence[str], encoders: Sequence[str]) -> None:
    """Refuses what `check_names` refuses, and a name that an encoder has too: results are by name.

    Raises:
        UsageError: naming it.
    """
    check_names("LLM", llms)
    for name in llms:
        if name in encoders:
            raise UsageError(
                "one name is that of an encoder and of an LLM",
                got=name,
                want="different names",
                hint="an alias gives the checkpoint a second name: encoderlab-aliases.yaml",
            )


def _derangement(n: int, seed: int) -> np.ndarray:
    """An order in which no sample is in its own place: a random ring."""
    ring = np.random.default_rng(seed).permutation(n)
    order = np.empty(n, dtype=np.int64)
    order[ring] = np.roll(ring, 1)
    return order
