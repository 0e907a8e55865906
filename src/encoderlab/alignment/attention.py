"""Attention roll-out of each encoder on an image, and the cosine of its patches with a text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.alignment.data import check_names
from encoderlab.alignment.settings import Attention
from encoderlab.core.aliases import UNTRAINED
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from encoderlab.encoders.vision import VisionEncoder


@dataclass(frozen=True)
class AttentionScores(Result):
    """One encoder: attention roll-out and patch-text cosine, each (h, w), or why there is none.

    Args:
        rollout_entropy: of the roll-out over the patches, 0 (one patch) to 1 (all alike).
        image_text_cosine: of the whole image with the text.
        view: what the encoder saw of the image, cropped or squashed as it was.
    """

    encoder: str
    family: str
    fingerprint: str
    grid: tuple[int, int]
    rollout: np.ndarray | None
    similarity: np.ndarray | None
    rollout_entropy: float | None = None
    image_text_cosine: float | None = None
    no_attention: str | None = None
    no_similarity: str | None = None
    view: Image.Image | None = field(
        default=None, repr=False, compare=False, metadata={"json": False}
    )

    def to_json(self) -> dict[str, Any]:
        """The fields, with maps as lists of rows."""
        maps = {"rollout": self.rollout, "similarity": self.similarity}
        return super().to_json() | {
            name: None if map_ is None else map_.round(5).tolist() for name, map_ in maps.items()
        }


@dataclass(frozen=True)
class AttentionResult(Result):
    """Every encoder on one image."""

    records: ClassVar = "encoders"

    image: str
    text: str
    encoders: tuple[AttentionScores, ...]
    device: str
    dtype: str
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The fields, with the fingerprints of the encoders."""
        fingerprints = {row.encoder: row.fingerprint for row in self.encoders}
        return super().to_json() | {"fingerprints": fingerprints}

    def blocks(self) -> list[Block]:
        """One row per encoder."""
        columns = ("encoder", "grid", "roll-out entropy", "image-text cosine", "patch-text cosine")
        rows = []
        for row in self.encoders:
            cosines = row.no_similarity or "-"
            if row.similarity is not None:
                cosines = f"{row.similarity.min():.3f} to {row.similarity.max():.3f}"
            rows.append(
                (
                    row.encoder, f"{row.grid[0]} x {row.grid[1]}",
                    row.no_attention or f"{row.rollout_entropy:.3f}",
                    "-" if row.image_text_cosine is None else f"{row.image_text_cosine:.3f}",
                    cosines,
                )
            )  # fmt: skip
        about = (
            f"{self.image} with “{self.text}”\n"
            "roll-out: share of each patch in CLS, or in the mean patch where there is no CLS\n"
            "entropy: 0 a single patch, 1 all alike"
        )
        return [Table(columns, tuple(rows)), about]


@takes(Attention)
def run(settings: Attention, out: Path | None = None) -> AttentionResult:
    """Roll-out and patch-text similarity of each encoder; writes the overlays to `out` if given.

    `seed` has no effect: nothing is random here.

    Returns:
        Both maps (h, w) of each encoder, with roll-out entropy and cosines.

    Raises:
        MissingError: the image or a model is not there.
        UsageError: an encoder twice, an image of one's own without a text, or a file that is no
            image.
    """
    from encoderlab.alignment.plots import attention as plots
    from encoderlab.data.decode import ImageError, open_image
    from encoderlab.data.vlm_dataset import SAMPLE_DATA
    from encoderlab.encoders.vision import load_vision
    from encoderlab.plots.style import save

    check_names("encoder", settings.encoders)
    text = settings.text
    if settings.image is None:
        from encoderlab.data.chat import read_chat

        sample = read_chat(SAMPLE_DATA / "labels.jsonl", SAMPLE_DATA / "images")[1]
        path, text = Path(str(sample.image)), text or sample.texts[0]
    else:
        path = Path(settings.image)
        if not path.is_file():
            raise MissingError(
                "no such image", got=settings.image, want="an image file that exists"
            )
        if not text:
            raise UsageError(
                "a text to compare with is missing", got='--text ""', want='--text "a red circle"'
            )
    try:
        picture = open_image(path)
    except ImageError as error:
        raise UsageError("the image cannot be read", got=f"{path}: {error.reason}") from error
    scores, where = [], ("cpu", "float32")
    for name in settings.encoders:
        encoder = load_vision(
            name, settings.device, settings.dtype, trust_remote_code=settings.trust_remote_code
        )
        scores.append(_scores(encoder, picture, text))
        where = encoder.where
        del encoder
    result = AttentionResult(str(path), text, tuple(scores), *where)
    if out is not None:
        drawn = plots.overlays(
            {row.encoder: row.view for row in scores if row.view is not None},
            text,
            [row.to_json() for row in scores],
            {row.encoder: row.similarity for row in scores if row.similarity is not None},
            {row.encoder: row.rollout for row in scores if row.rollout is not None},
        )
        result = replace(result, figures=save([drawn], out, svg=settings.svg))
    return result


def _scores(encoder: VisionEncoder, picture: Any, text: str) -> AttentionScores:
    import numpy as np
    import torch
    import torch.nn.functional as F

    from encoderlab.encoders.dual import FAMILIES, load_dual
    from encoderlab.encoders.load_spec import options_of
    from encoderlab.encoders.rollout import attention_rollout

    blocks = range(1, encoder.n_layers + 1)
    no_attention = rollout = entropy = None
    try:
        features = encoder.encode([picture], attention=blocks)
    except UsageError as error:
        no_attention = error.what
        features = encoder.encode([picture])
    if no_attention is None:
        maps = [features.attention[k][0] for k in blocks]
        rollout = attention_rollout(maps, encoder.special_tokens, encoder.has_cls)
        rollout = rollout.reshape(features.grid)
        share = rollout / rollout.sum()
        entropy = float(-(share * np.log(np.maximum(share, 1e-12))).sum() / np.log(share.size))
    similarity = whole = None
    no_similarity = None
    if encoder.name.startswith(UNTRAINED):
        no_similarity = "untrained: no text tower goes with it"
    elif encoder.family not in FAMILIES:
        no_similarity = "no text tower: attention only"
    if no_similarity is None:
        with torch.inference_mode():
            patches = encoder.embed_patches(features.patches)
        if patches is None:
            no_similarity = "no text tower: attention only"
        else:
            dual = load_dual(
                str(encoder.checkpoint.name),
                *encoder.where,
                allow_untrained=True,
                **options_of(encoder).vision,
            )
            embedding = torch.from_numpy(dual.embed_texts([text])[0])
            cosine = F.normalize(patches[0].float().cpu(), dim=-1) @ embedding
            similarity = cosine.numpy().reshape(features.grid)
            whole = float(F.normalize(features.pooled[0].float().cpu(), dim=-1) @ embedding)
    return AttentionScores(
        encoder.name, encoder.family, encoder.fingerprint, features.grid, rollout, similarity,
        entropy, whole, no_attention, no_similarity, encoder.preprocess.view(picture),
    )  # fmt: skip
