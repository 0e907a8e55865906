"""`encoderlab words`: the words nearest to image tokens in a VLM, and whether they are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError
from encoderlab.inspection.settings import Words

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float
    from PIL import Image
    from torch import Tensor

    from encoderlab.core.score import Score
    from encoderlab.data.synthetic.item import SyntheticItem
    from encoderlab.inspection.lens import ImageStates, NearWords, Reader, WordBank
    from encoderlab.metrics.uncertainty import Comparison

LOGIT, CONTEXTUAL = "logit lens", "contextual"
LENSES = (LOGIT, CONTEXTUAL)
ATTRIBUTES = ("shape", "colour")
WIDEST = 8  # columns of a grid that fit into a terminal
SCENES = 1 << 20  # the first scene: `vlm evaluate` asks about those before it


@dataclass(frozen=True)
class LayerScore:
    """Whether the words of what is in a picture are near the tokens that cover it.

    Args:
        lens: one of LENSES.
        attribute: one of ATTRIBUTES: which word of an object is looked for.
        layer: the hidden state.
        score: mean over images of the share of covering tokens with the word among the nearest;
            `chance` is the mean with the objects of all other images in its place. Undefined where
            the lens can find none of the words.
        comparison: with that chance, paired by image; None for fewer than two images, or where the
            score is undefined.
    """

    lens: str
    attribute: str
    layer: int
    score: Score
    comparison: Comparison | None = None

    @property
    def ahead(self) -> bool:
        """Whether the comparison says that it is ahead of chance."""
        from encoderlab.metrics.uncertainty import Verdict

        return self.comparison is not None and self.comparison.verdict is Verdict.AHEAD


@dataclass(frozen=True)
class WordsResult(Result):
    """The words at the tokens of one image, and how often those of synthetic scenes are right.

    Args:
        k: how many words count as near.
        layers: hidden states, the input of the first block included.
        corpus: what the words of the contextual lens are from, and how many there are.
        near: lens -> the words of the image.
        scores: of each lens, attribute and layer.
        scenes: how many scenes the scores are over.
        unscored: lens -> words that it cannot find: the vocabulary begins them with less than three
            letters, or no caption has them.
    """

    records: ClassVar = "scores"

    model: str
    fingerprint: str
    device: str
    image: str
    k: int
    layers: int
    corpus: str
    near: dict[str, NearWords]
    scores: tuple[LayerScore, ...] = ()
    scenes: int = 0
    unscored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def blocks(self) -> list[Block]:
        """The words over the grid, and the scores by layer."""
        about = f"{self.model}, {self.image}: {self.layers} hidden states; {self.corpus}"
        blocks: list[Block] = [about]
        for lens, near in self.near.items():
            rows, columns = near.grid
            title = f"{lens}, hidden state {near.layer}: nearest word of each token"
            if columns > WIDEST:
                blocks.append(f"{title}: see run.json or words.png ({rows} x {columns} tokens)")
                continue
            first = [words[0] if words else "-" for words in near.words]
            lines = [tuple(first[i * columns : (i + 1) * columns]) for i in range(rows)]
            blocks.append(Table(tuple(map(str, range(columns))), tuple(lines), title))
        if self.scores:
            blocks.append(self._scores())
        compared = dict.fromkeys(row.lens for row in self.scores if row.comparison is not None)
        said = [
            f"{lens}: no hidden state is ahead of chance"
            for lens in compared if not any(row.ahead for row in self.scores if row.lens == lens)
        ] + [
            f"{lens}: cannot find {', '.join(words)}"
            for lens, words in self.unscored.items() if words and self.scores
        ]  # fmt: skip
        if said:
            blocks.append("\n".join(said))
        return blocks

    def _scores(self) -> Table:
        pairs = list(dict.fromkeys((row.lens, row.attribute) for row in self.scores))
        cells = {(row.lens, row.attribute, row.layer): row for row in self.scores}
        rows = []
        for layer in range(self.layers):
            found = [cells[lens, attribute, layer] for lens, attribute in pairs]
            rows.append((str(layer), *map(_cell, found)))
        columns = ("layer", *(f"{lens}: {attribute}" for lens, attribute in pairs))
        compared = sum(row.comparison is not None for row in self.scores)
        notes = ["in brackets: 95 % interval over images"]
        if compared:
            notes[0] += (
                "; behind it: the same with the objects of other images. * ahead of it, with an "
                f"interval for all {compared} comparisons"
            )
        notes += dict.fromkeys(
            f"{row.lens}: {row.attribute}: {row.score.undefined}"
            for row in self.scores if row.score.undefined is not None
        )  # fmt: skip
        tokens = f"tokens of {counted(self.scenes, 'scene')}"
        title = f"{tokens} with the object's word among the {self.k} nearest"
        return Table(columns, tuple(rows), title, tuple(notes))


def _cell(row: LayerScore) -> str:
    if row.score.value is None:
        return "undefined"
    chance = "-" if row.score.chance is None else f"{100 * row.score.chance:.1f} %"
    return f"{row.score.as_percent()}, {chance}{' *' if row.ahead else ''}"


@takes(Words)
def run(settings: Words, out: Path | None = None) -> WordsResult:
    """Reads the words nearest to the image tokens of a VLM in every layer of its language model.

    On synthetic scenes it counts how often the word of an object is near the tokens that cover it,
    beside the words of the objects of other images.

    Returns:
        The words of the image at one layer, and shares in [0, 1] by lens, word and layer.

    Raises:
        MissingError: a model, file or the GPU is not there.
        UsageError: an unknown layer, image tokens without a grid, or a corpus without words.
    """
    from encoderlab.core.progress import progress
    from encoderlab.data.decode import open_image
    from encoderlab.data.synthetic import generate
    from encoderlab.encoders.layers import layer_numbers
    from encoderlab.inspection import plots
    from encoderlab.inspection.lens import reader_of, word_bank
    from encoderlab.plots.style import save
    from encoderlab.vlm.evaluate import fingerprint_of
    from encoderlab.vlm.questions import CAPTION_REQUESTS

    text = settings.text or CAPTION_REQUESTS["en"]
    captions = _captions(settings)
    scenes = [generate(SCENES + i, split="test", kind="scene") for i in range(settings.n)]
    first = generate(SCENES, split="test", kind="scene")
    image = first.image if settings.image is None else open_image(settings.image)
    vlm = _loaded(settings)
    reader = reader_of(vlm)
    total = 1 + -(-len(scenes) // settings.batch_size)
    with progress("reading words", total=total, unit="batch") as bar:
        bank = word_bank(reader, captions)
        states = reader.states([image], text)
        count = len(states.hidden)
        chosen = None
        if settings.layer is not None:
            (chosen,) = layer_numbers([settings.layer], count - 1)
        hits = Hits.of(reader, bank, settings.k, count)
        bar.advance()
        for start in range(0, len(scenes), settings.batch_size):
            items = scenes[start : start + settings.batch_size]
            hits.add(items, reader.states([item.image for item in items], text))
            bar.advance()
    scores = tuple(hits.scores()) if scenes else ()
    near = {
        lens: _near(reader, bank, states, lens, settings.k,
                    chosen if chosen is not None else _best(scores, lens, count - 1))
        for lens in LENSES
    }  # fmt: skip
    result = WordsResult(
        settings.model,
        fingerprint_of(vlm),
        str(vlm.device),
        first.id if settings.image is None else settings.image,
        settings.k,
        count,
        f"{len(bank.words)} words in {len(captions)} captions",
        near,
        scores,
        len(scenes),
        hits.unscored,
    )
    if out is None:
        return result
    drawn = [plots.words(_view(vlm, image), near, result.model)]
    if scores:
        drawn.append(plots.words_by_layer(result.to_json()["scores"], result.model, settings.k))
    return replace(result, figures=save(drawn, out, svg=settings.svg))


class Hits:
    """Which words are near the tokens that cover the objects of scenes.

    Args:
        reader: the VLM.
        bank: words in their contexts.
        k: how many words are near.
        layers: how many hidden states.
        tokens: of each word of an object, the ids that begin it.
    """

    def __init__(
        self, reader: Reader, bank: WordBank, k: int, layers: int,
        tokens: Mapping[str, Sequence[int]],
    ) -> None:  # fmt: skip
        self.reader, self.bank, self.k, self.layers, self.tokens = reader, bank, k, layers, tokens
        self.names = list(tokens)
        # Of each image (lenses, layers, objects, words), and the names of its objects.
        self.shares: list[np.ndarray] = []
        self.objects: list[list[dict[str, int]]] = []

    @classmethod
    def of(cls, reader: Reader, bank: WordBank, k: int, layers: int) -> Hits:
        """For the shapes and colours of the synthetic world."""
        from encoderlab.data.synthetic.scene import SHAPES
        from encoderlab.data.synthetic.words import COLOURS
        from encoderlab.inspection.lens import first_tokens

        names = dict.fromkeys(named.en for named in (*SHAPES, *COLOURS))
        return cls(reader, bank, k, layers,
                   {name: first_tokens(reader.tokenizer, name) for name in names})  # fmt: skip

    @property
    def unscored(self) -> dict[str, tuple[str, ...]]:
        """Of each lens the words that it cannot find: no token begins them, no caption has them."""
        known = {LOGIT: {name for name, ids in self.tokens.items() if ids},
                 CONTEXTUAL: set(self.bank.words)}  # fmt: skip
        return {lens: tuple(n for n in self.names if n not in known[lens]) for lens in LENSES}

    def why_undefined(self, lens: str, attribute: str) -> str | None:
        """Why a lens has no score, if it can find no word of the objects; else None."""
        asked = {self.names[one[attribute]] for objects in self.objects for one in objects}
        if not asked <= set(self.unscored[lens]):
            return None
        where = "the vocabulary begins" if lens == LOGIT else "the captions have"
        return f"{where} no {attribute} of the scenes"

    def near(self, lens: str, hidden: Float[Tensor, "*b d"], layer: int) -> Bool[Tensor, "*b v"]:
        """Which words of objects are among the nearest of each state."""
        import torch

        if lens == LOGIT:
            from encoderlab.inspection.lens import logit_lens

            logits = logit_lens(self.reader.llm, hidden)
            top = logits.topk(min(self.k, logits.shape[-1]), dim=-1).indices.cpu()
            columns = [torch.isin(top, torch.tensor(self.tokens[name], dtype=torch.long)).any(-1)
                       for name in self.names]  # fmt: skip
            return torch.stack(columns, dim=-1)
        cosines = self.bank.cosines(hidden, layer)
        top = cosines.topk(min(self.k, cosines.shape[-1]), dim=-1).indices
        numbers = {word: number for number, word in enumerate(self.bank.words)}
        return torch.stack([(top == numbers.get(name, -1)).any(-1) for name in self.names], dim=-1)

    def add(self, items: Sequence[SyntheticItem], states: ImageStates) -> None:
        """Counts the words at the objects of scenes."""
        import numpy as np

        from encoderlab.inspection.lens import covering

        near = np.stack([
            np.stack([self.near(lens, states.hidden[layer], layer).numpy()
                      for layer in range(self.layers)]) for lens in LENSES
        ])  # fmt: skip
        for row, item in enumerate(items):
            covers = [
                covering(one.x, one.y, one.radius, states.grid).numpy() for one in item.objects
            ]
            self.shares.append(
                np.stack([near[:, :, row, cover].mean(axis=2) for cover in covers], axis=2)
            )
            self.objects.append([
                {attribute: self.names.index(getattr(one, attribute)) for attribute in ATTRIBUTES}
                for one in item.objects
            ])  # fmt: skip

    def rates(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """Of each lens, layer and image the share of hits, and with the objects of other images."""
        import numpy as np

        images = len(self.shares)
        mine = np.zeros((images, len(self.names)))
        for row, objects in enumerate(self.objects):
            for one in objects:
                mine[row, one[attribute]] += 1 / len(objects)
        # All other images are equally likely in its place, so no draw is needed.
        others = (mine.sum(axis=0) - mine) / max(images - 1, 1)
        own, other = [], []
        for row, (shares, objects) in enumerate(zip(self.shares, self.objects, strict=True)):
            named = [shares[:, :, i, one[attribute]] for i, one in enumerate(objects)]
            own.append(np.mean(named, axis=0))
            other.append((shares @ others[row]).mean(axis=2))
        return np.stack(own, axis=-1), np.stack(other, axis=-1)

    def scores(self) -> Iterator[LayerScore]:
        """The scores of all lenses, attributes and layers."""
        import numpy as np

        from encoderlab.core.score import undefined
        from encoderlab.metrics.answers import ACCURACY, accuracy, compare_answers

        image = np.arange(len(self.shares))
        reasons = {(attribute, lens): self.why_undefined(lens, attribute)
                   for attribute in ATTRIBUTES for lens in LENSES}  # fmt: skip
        comparisons = self.layers * list(reasons.values()).count(None)
        for attribute in ATTRIBUTES:
            own, other = self.rates(attribute)
            for i, lens in enumerate(LENSES):
                reason = reasons[attribute, lens]
                for layer in range(self.layers):
                    if reason is not None:
                        score = undefined(reason, len(image), ACCURACY)
                        yield LayerScore(lens, attribute, layer, score)
                        continue
                    values = own[i, layer], other[i, layer]
                    comparison = compare_answers(
                        f"{lens}, {attribute}, hidden state {layer}", "objects of other images",
                        values, image, comparisons=comparisons,
                    ) if len(image) > 1 else None  # fmt: skip
                    chance = float(values[1].mean()) if len(image) > 1 else None
                    yield LayerScore(
                        lens, attribute, layer, accuracy(values[0], image, chance), comparison
                    )


def _best(scores: Sequence[LayerScore], lens: str, last: int) -> int:
    """The layer where a lens is most ahead of chance; the last one where it never is."""
    beyond: dict[int, float] = {}
    for row in scores:
        if row.lens == lens and row.ahead:
            gain = float(row.score) - (row.score.chance or 0.0)
            beyond[row.layer] = beyond.get(row.layer, 0.0) + gain
    return max(beyond, key=lambda layer: beyond[layer]) if beyond else last


def _near(
    reader: Reader, bank: WordBank, states: ImageStates, lens: str, k: int, layer: int
) -> NearWords:
    from encoderlab.inspection.lens import NearWords, logit_lens

    hidden = states.hidden[layer, 0]
    if lens == LOGIT:
        logits = logit_lens(reader.llm, hidden)
        top = logits.topk(min(k, logits.shape[-1]), dim=-1).indices.tolist()
        words = tuple(tuple(reader.tokenizer.decode([i]).strip() for i in row) for row in top)
    else:
        cosines = bank.cosines(hidden, layer)
        top = cosines.topk(min(k, cosines.shape[-1]), dim=-1).indices.tolist()
        words = tuple(tuple(bank.words[i] for i in row) for row in top)
    return NearWords(layer, states.grid, words)


def _loaded(settings: Words) -> Any:
    from encoderlab.encoders.checkpoint import resolve
    from encoderlab.encoders.model_cache import without_cache
    from encoderlab.vlm.llava import LlavaVLM, is_llava
    from encoderlab.vlm.model import VLM, saved_in

    checkpoint = resolve(saved_in(settings.model), code=settings.trust_remote_code)
    where = settings.device, settings.dtype
    if is_llava(checkpoint):
        return LlavaVLM(checkpoint, *where, settings.trust_remote_code)
    # Reading hidden states sets hooks, so no other thread of the web page may have this encoder.
    with without_cache():
        return VLM.load(settings.model, *where, trust_remote_code=settings.trust_remote_code)


def _captions(settings: Words) -> list[str]:
    from encoderlab.data.synthetic import generate

    if settings.corpus is None:
        return [generate(i).captions[0] for i in range(settings.captions)]
    file = Path(settings.corpus).expanduser()
    if not file.is_file():
        raise MissingError(
            "no such captions", got=settings.corpus, want="a text file, one caption per line"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(
            "the captions cannot be read", got=f"{file}: {error}", want="text in UTF-8"
        ) from error
    return [line.strip() for line in lines if line.strip()][: settings.captions]


def _view(vlm: Any, image: Image.Image) -> Image.Image:
    """The image as the VLM sees it, where its preprocessing is ours."""
    encoders = getattr(vlm, "encoders", None)
    return encoders[0].preprocess.view(image) if encoders else image
