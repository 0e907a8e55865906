"""Where encoders look in an image, and which patches agree with a text. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import UNTRAINED, check_names
from encoderlab.alignment.settings import Attention
from encoderlab.core.results import Block, Table, as_text
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from encoderlab.encoders.vision import VisionEncoder


@dataclass(frozen=True)
class AttentionScores:
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
    view: Image.Image | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = {name: value for name, value in vars(self).items() if name != "view"}
        maps = {
            name: None if getattr(self, name) is None else getattr(self, name).round(5).tolist()
            for name in ("rollout", "similarity")
        }
        return {**values, **maps}


@dataclass(frozen=True)
class AttentionResult:
    """Every encoder on one image."""

    image: str
    text: str
    encoders: tuple[AttentionScores, ...]
    device: str
    dtype: str
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "image": self.image,
            "text": self.text,
            "device": self.device,
            "dtype": self.dtype,
            "encoders": [one.to_json() for one in self.encoders],
            "fingerprints": {one.encoder: one.fingerprint for one in self.encoders},
            "figures": list(self.figures),
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        columns = ("encoder", "grid", "roll-out entropy", "image-text cosine", "patch-text cosine")
        rows = []
        for one in self.encoders:
            found = one.similarity
            rows.append(
                (
                    one.encoder, f"{one.grid[0]} x {one.grid[1]}",
                    one.no_attention or f"{one.rollout_entropy:.3f}",
                    "-" if one.image_text_cosine is None else f"{one.image_text_cosine:.3f}",
                    one.no_similarity or (
                        "-" if found is None else f"{found.min():.3f} to {found.max():.3f}"),
                )
            )  # fmt: skip
        said = (
            f"{self.image} with “{self.text}”\n"
            "roll-out: share of each patch in CLS, or in the mean patch where there is no CLS\n"
            "entropy: 0 a single patch, 1 all alike"
        )
        return [Table(columns, tuple(rows)), said]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(Attention)
def run(settings: Attention, out: Path | None = None) -> AttentionResult:
    """Roll-out and patch-text similarity of each encoder; writes the overlays to `out` if given.

    `seed` is taken for the sake of the common face: nothing is random here.

    Raises:
        MissingError: the image or a model is not there.
        UsageError: an encoder twice, an image of one's own without a text, or a file that is no
            image.
    """
    text = settings.text
    import gc

    from encoderlab.alignment.plots import attention as plots
    from encoderlab.data.decode import ImageError, open_image
    from encoderlab.data.vlm_dataset import SAMPLE_DATA
    from encoderlab.encoders.vision import load_vision
    from encoderlab.errors import MissingError
    from encoderlab.plots.style import save

    check_names("encoder", settings.encoders)
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
    found, where = [], ("cpu", "float32")
    for name in settings.encoders:
        encoder = load_vision(
            name, settings.device, settings.dtype, trust_remote_code=settings.trust_remote_code
        )
        found.append(_look(encoder, picture, text))
        where = encoder.where
        del encoder
        gc.collect()
    result = AttentionResult(str(path), text, tuple(found), *where)
    if out is not None:
        drawn = plots.overlays(
            {one.encoder: one.view for one in found if one.view is not None},
            text,
            [one.to_json() for one in found],
            {one.encoder: one.similarity for one in found if one.similarity is not None},
            {one.encoder: one.rollout for one in found if one.rollout is not None},
        )
        result = replace(result, figures=save([drawn], out, svg=settings.svg))
    return result


def _look(encoder: VisionEncoder, picture: Any, text: str) -> AttentionScores:
    import numpy as np
    import torch
    import torch.nn.functional as F

    from encoderlab.encoders.rollout import attention_rollout

    blocks = range(1, encoder.n_layers + 1)
    no_attention = None
    rollout = entropy = None
    try:
        seen = encoder.encode([picture], attention=blocks)
    except UsageError as error:
        no_attention = error.what
        seen = encoder.encode([picture])
    if no_attention is None:
        maps = [seen.attention[k][0] for k in blocks]
        rollout = attention_rollout(maps, encoder.special_tokens, encoder.has_cls)
        rollout = rollout.reshape(seen.grid)
        share = rollout / rollout.sum()
        entropy = float(-(share * np.log(np.maximum(share, 1e-12))).sum() / np.log(share.size))
    similarity = whole = None
    no_similarity = _why_no_similarity(encoder)
    if no_similarity is None:
        with torch.inference_mode():
            patches = encoder.embed_patches(seen.patches)
        if patches is None:
            no_similarity = "no text tower: attention only"
        else:
            from encoderlab.encoders.dual import load_dual
            from encoderlab.encoders.load_spec import options_of

            dual = load_dual(
                str(encoder.checkpoint.name),
                *encoder.where,
                allow_untrained=True,
                **options_of(encoder).vision,
            )
            said = torch.from_numpy(dual.embed_texts([text])[0])
            cosine = F.normalize(patches[0].float().cpu(), dim=-1) @ said
            similarity = cosine.numpy().reshape(seen.grid)
            whole = float(F.normalize(seen.pooled[0].float().cpu(), dim=-1) @ said)
    return AttentionScores(
        encoder.name, encoder.family, encoder.fingerprint, seen.grid, rollout, similarity, entropy,
        whole, no_attention, no_similarity, encoder.preprocess.view(picture),
    )  # fmt: skip


def _why_no_similarity(encoder: VisionEncoder) -> str | None:
    from encoderlab.encoders.dual import FAMILIES

    if encoder.name.startswith(UNTRAINED):
        return "untrained: no text tower goes with it"
    return None if encoder.family in FAMILIES else "no text tower: attention only"
