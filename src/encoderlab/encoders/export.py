"""An encoder as ONNX files that run without torch, checked back against it.

`vision.onnx`: standardised pixels (b, 3, h, w) to patches (b, n, d), pooled (b, p) and, beside a
text side, image_embedding (b, p). `text.onnx`: token ids (b, t) to text_embedding (b, p).
Embeddings have unit length: the dot product of two is their cosine. All in fp32, any batch.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.core.progress import detail, note
from encoderlab.encoders import onnx_graph
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.compile import pictures
from encoderlab.encoders.dual import FAMILIES, DualEncoder, load_dual
from encoderlab.encoders.vision import UNTRAINED, VisionEncoder, load_vision
from encoderlab.errors import UsageError, WorkError
from encoderlab.models.clip import Tokenizer
from encoderlab.models.clip.conversion import write_json, write_tokenizer
from encoderlab.models.preprocessing import as_record

ABOUT = "export.json"
FORMAT = 1
# fp32 against fp32: what is less alike was exported wrongly.
LEAST_COSINE = 0.9999
OTHER_WAY = "try another --opset, or a newer onnxscript and onnxruntime"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """One output of an ONNX file against torch, over all batches that were tried.

    Args:
        batches: their sizes.
        cosine: the smallest between two vectors (of an image, a text or a patch).
        difference: the largest between two numbers.
    """

    file: str
    output: str
    batches: tuple[int, ...]
    cosine: float
    difference: float


@dataclass(frozen=True)
class Exported:
    """What was written: sizes of files in bytes, and how near each output is to torch."""

    folder: Path
    fingerprint: str
    files: dict[str, int]
    checks: tuple[Checked, ...]


def export(
    name: str,
    out: Path,
    *,
    text: bool = True,
    opset: int = onnx_graph.OPSET,
    batch_sizes: Sequence[int] = (1, 3, 8),
    trust_remote_code: bool = False,
) -> Exported:
    """Writes the encoder called `name` into the folder of its name below `out`, whole or not at
    all; an earlier export there is replaced.

    Args:
        text: the text side too, where the model has one.
        opset: version of the ONNX operators.
        batch_sizes: at which the files are checked against torch.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Raises:
        MissingError: the model, or a package of the extra `onnx`, is not there.
        UsageError: a family that cannot be exported, or something else in the folder's place.
        WorkError: a file does not give what torch gives.
    """
    onnx_graph.require_onnx()
    if not batch_sizes or min(batch_sizes) < 1:
        raise UsageError("batch sizes must be positive", got=list(batch_sizes))
    place = out / folder_name(name)
    _require_free(place)
    vision = load_vision(name, "cpu", "float32", trust_remote_code=trust_remote_code)
    dual = _text_side(name, vision.checkpoint.family, text, trust_remote_code)
    sizes = tuple(dict.fromkeys(batch_sizes))
    with atomic_folder(place) as folder:
        files = {"vision.onnx": _write_vision(vision, dual is not None, folder, opset)}
        checks = _check(
            folder,
            "vision.onnx",
            _Vision(vision, dual is not None),
            sizes,
            {onnx_graph.PIXELS: pictures(vision.preprocess, max(sizes), vision.device)},
        )
        if dual is not None:
            files["text.onnx"] = _write_text(dual, folder, opset)
            ids = {"input_ids": _sentences(dual, max(sizes))}
            checks += _check(folder, "text.onnx", _Text(dual), sizes, ids)
            _write_tokenizer(name, dual, folder)
        write_json(folder / "preprocessor_config.json", as_record(vision.preprocess))
        write_json(folder / ABOUT, _about(vision, dual, files, checks, opset))
        _require_alike(name, checks)
    written = {file.name: file.stat().st_size for file in sorted(place.iterdir())}
    return Exported(place, vision.fingerprint, written, tuple(checks))


def folder_name(name: str) -> str:
    """The last part of a model's name, as a folder may be called."""
    plain = name.removeprefix(UNTRAINED)
    # A path such as ".." has another last part than what it leads to.
    last = Path(plain).resolve() if Path(plain).exists() else Path(plain)
    prefix = "untrained-" if name.startswith(UNTRAINED) else ""
    return prefix + last.name.removesuffix(".ckpt").replace("@", "-")


class _Vision(nn.Module):
    """The outputs of vision.onnx."""

    def __init__(self, encoder: VisionEncoder, embeds: bool) -> None:
        super().__init__()
        self.side, self.special = encoder.image_side(), encoder.special_tokens
        self.outputs = ("patches", "pooled", "image_embedding") if embeds else ("patches", "pooled")

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        tokens, pooled = self.side(pixels)
        found = tokens[:, self.special :], pooled
        return (*found, F.normalize(pooled, dim=-1)) if len(self.outputs) == 3 else found


class _Text(nn.Module):
    """The output of text.onnx."""

    outputs = ("text_embedding",)

    def __init__(self, dual: DualEncoder) -> None:
        super().__init__()
        self.network, self.encode = dual.model.text_network, dual.model.encode_text

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        return (F.normalize(self.encode(input_ids), dim=-1),)


def _text_side(name: str, family: str, wanted: bool, trusted: bool) -> DualEncoder | None:
    if not wanted or name.startswith(UNTRAINED) or family not in FAMILIES:
        return None
    return load_dual(name, "cpu", "float32", allow_untrained=True, trust_remote_code=trusted)


def _write_vision(encoder: VisionEncoder, embeds: bool, folder: Path, opset: int) -> dict[str, Any]:
    module = _Vision(encoder, embeds)
    note(f"export: writing the image side of {encoder.name}")
    h, w = encoder.preprocess.shape
    example = torch.zeros(2, 3, h, w)
    onnx_graph.write(
        module, {onnx_graph.PIXELS: (example, {0: onnx_graph.any_batch()})}, module.outputs,
        folder / "vision.onnx", module.side.called, opset,
    )  # fmt: skip
    n, d, p = encoder.grid[0] * encoder.grid[1], encoder.width, encoder.pooled_width
    shapes = {"patches": ["batch", n, d], "pooled": ["batch", p], "image_embedding": ["batch", p]}
    return {
        "inputs": {onnx_graph.PIXELS: {"type": "float32", "shape": ["batch", 3, h, w]}},
        "outputs": {one: {"type": "float32", "shape": shapes[one]} for one in module.outputs},
    }


def _write_text(dual: DualEncoder, folder: Path, opset: int) -> dict[str, Any]:
    module = _Text(dual)
    note(f"export: writing the text side of {dual.name}")
    ids = _sentences(dual, 2)
    called = f"the text side of {dual.name} ({dual.family})"
    onnx_graph.write(
        module, {"input_ids": (ids, {0: onnx_graph.any_batch()})}, module.outputs,
        folder / "text.onnx", called, opset,
    )  # fmt: skip
    return {
        "inputs": {"input_ids": {"type": "int64", "shape": ["batch", ids.shape[1]]}},
        "outputs": {"text_embedding": {"type": "float32", "shape": ["batch", dual.dim]}},
    }


def _sentences(dual: DualEncoder, count: int) -> Tensor:
    """Token ids of captions of different lengths, the same each time."""
    from encoderlab.data.synthetic import generate

    return dual.tokenizer([generate(i, split="test").captions[0] for i in range(count)])


def _check(
    folder: Path,
    file: str,
    module: Any,
    sizes: tuple[int, ...],
    inputs: Mapping[str, Tensor],
) -> list[Checked]:
    """Every output of the file, at every size of batch, against the module."""
    try:
        running = onnx_graph.session(folder / file)
    except Exception as error:  # its errors have no common class but this
        raise WorkError(
            "ONNX Runtime does not take the exported file, so nothing was kept",
            got=f"{file}: {str(error).splitlines()[0][:200]}",
            hint=OTHER_WAY,
        ) from error
    worst = {name: (1.0, 0.0) for name in module.outputs}
    for size in sizes:
        part = {name: values[:size] for name, values in inputs.items()}
        with torch.inference_mode():
            expected = module(*part.values())
        found = running.run(None, {name: one.numpy() for name, one in part.items()})
        for name, ours, theirs in zip(module.outputs, expected, found, strict=True):
            theirs = torch.from_numpy(theirs)
            cosine = float(F.cosine_similarity(ours, theirs, dim=-1).min())
            difference = float((ours - theirs).abs().max())
            detail(f"{file} {name}, batch of {size}: cosine {cosine:.7f}, off by {difference:.1e}")
            worst[name] = (
                # NaN stays: it is smaller than nothing, and must not be lost in a minimum.
                cosine if not cosine >= worst[name][0] else worst[name][0],
                difference if not difference <= worst[name][1] else worst[name][1],
            )
    return [Checked(file, name, sizes, *worst[name]) for name in module.outputs]


def _require_alike(name: str, checks: Sequence[Checked]) -> None:
    for one in checks:
        if not one.cosine >= LEAST_COSINE:
            raise WorkError(
                "the exported file does not give what torch gives, so nothing was kept",
                got=f"{name}: {one.file}, {one.output}: smallest cosine {one.cosine:.6f}",
                want=f"at least {LEAST_COSINE}",
                hint=OTHER_WAY,
            )


def _write_tokenizer(name: str, dual: DualEncoder, folder: Path) -> None:
    """The checkpoint's own files; those of a training run are made."""
    source = resolve(name).path
    files = [source / one for one in TOKENIZER_FILES if (source / one).is_file()]
    for file in files:
        shutil.copyfile(file, folder / file.name)
    if not files:
        assert isinstance(dual.tokenizer, Tokenizer)
        write_tokenizer(dual.tokenizer, folder)


def _about(
    vision: VisionEncoder,
    dual: DualEncoder | None,
    files: Mapping[str, Any],
    checks: Sequence[Checked],
    opset: int,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": vision.name,
        "family": vision.family,
        "fingerprint": vision.fingerprint,
        "opset": opset,
        "files": dict(files),
        "grid": list(vision.grid),
        "preprocess": vision.preprocess.to_dict(),
        # Padding counts for some families, so rows are always as long as the graph wants them.
        "tokenizer": None if dual is None else {
            "padding": "max_length", "length": files["text.onnx"]["inputs"]["input_ids"]["shape"][1]
        },
        "logit_scale": None if dual is None else dual.logit_scale,
        "parity": {
            "against": "torch, float32", "with": "onnxruntime", "limit": LEAST_COSINE,
            "checks": [dataclasses.asdict(one) for one in checks],
        },
        "versions": {
            one: importlib.metadata.version(one)
            for one in ("encoderlab", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")
        },
    }  # fmt: skip


def _require_free(place: Path) -> None:
    """An earlier export is replaced; nothing else of the user's is."""
    if not place.exists() or (place / ABOUT).is_file():
        return
    if place.is_dir() and not any(place.iterdir()):
        return
    raise UsageError(
        "something that is no export is in the way",
        got=str(place),
        want="no folder there, an empty one, or an earlier export",
        hint="choose another folder with --output-dir",
    )
