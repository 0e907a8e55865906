"""An encoder as ONNX files that run without torch, or a CLIP as a folder of open_clip; checked
against torch.

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

from encoderlab.core.aliases import UNTRAINED
from encoderlab.core.atomic_io import atomic_folder
from encoderlab.core.progress import detail, note
from encoderlab.encoders import onnx_graph
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.compile import pictures
from encoderlab.encoders.dual import FAMILIES, DualEncoder, load_dual
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import UsageError, WorkError
from encoderlab.models import open_clip
from encoderlab.models.clip import CLIP, Tokenizer
from encoderlab.models.clip.conversion import write_json, write_tokenizer
from encoderlab.models.preprocessing import as_record

ABOUT = "export.json"
FORMAT = 1
# The least cosine of torch and ONNX Runtime, both in fp32.
LEAST_COSINE = 0.9999
CHECKED = 8  # images and texts, where the size of the batch makes no difference
OTHER_WAY = "try another --opset, or a newer onnxscript and onnxruntime"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """One output of an ONNX file against torch, over all batches.

    Args:
        file, output: which one.
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
    """The files written with their sizes in bytes, and how close each output is to torch."""

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
    """Writes the encoder called `name` into the folder of its name below `out`, atomically; an
    earlier export there is replaced.

    Args:
        name: as `load_vision` takes it.
        out: the folder that gets the folder of the export.
        text: whether to export the text side too, where the model has one.
        opset: version of the ONNX operators.
        batch_sizes: at which the files are checked against torch.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Returns:
        The files and how near they are to torch.

    Raises:
        MissingError: the model, or a package of the extra `onnx`, is missing.
        UsageError: a family that cannot be exported, or a folder there that is no export.
        WorkError: an exported file differs from torch.
    """
    onnx_graph.require_onnx()
    if not batch_sizes or min(batch_sizes) < 1:
        raise UsageError("batch sizes must be positive", got=list(batch_sizes))
    path = _free_place(name, out)
    vision = load_vision(name, "cpu", "float32", trust_remote_code=trust_remote_code)
    dual = None
    if text and not name.startswith(UNTRAINED) and vision.family in FAMILIES:
        dual = load_dual(
            name, "cpu", "float32", allow_untrained=True, trust_remote_code=trust_remote_code
        )
    sizes = tuple(dict.fromkeys(batch_sizes))
    with atomic_folder(path) as folder:
        files = {"vision.onnx": _write_vision(vision, dual is not None, folder, opset)}
        pixels = pictures(vision.preprocess, max(sizes), vision.device)
        checks = _check(folder / "vision.onnx", _Vision(vision, dual is not None), sizes, pixels)
        if dual is not None:
            files["text.onnx"] = _write_text(dual, folder, opset)
            checks += _check(folder / "text.onnx", _Text(dual), sizes, _sentences(dual, max(sizes)))
            _write_tokenizer(name, dual, folder)
        write_json(folder / "preprocessor_config.json", as_record(vision.preprocess))
        write_json(folder / ABOUT, _about(vision, dual, files, checks, opset))
        _require_parity(name, checks)
    return Exported(path, vision.fingerprint, _sizes(path), tuple(checks))


def export_open_clip(name: str, out: Path, *, trust_remote_code: bool = False) -> Exported:
    """Writes the CLIP called `name` into the folder of its name below `out` as open_clip loads it,
    atomically; an earlier export there is replaced.

    Args:
        name: as `load_dual` takes it.
        out: the folder that gets the folder of the export.
        trust_remote_code: whether Python that comes with the checkpoint may run.

    Returns:
        The files, and how near the folder that is read back is to the model.

    Raises:
        MissingError: the model is missing.
        UsageError: no CLIP, one that open_clip does not have, or a folder there that is no export.
        WorkError: the folder does not give what the model gives.
    """
    path = _free_place(name, out)
    dual = load_dual(
        name, "cpu", "float32", allow_untrained=True, trust_remote_code=trust_remote_code
    )
    if not isinstance(dual.model, CLIP):
        raise UsageError(
            "only a CLIP can be written for open_clip",
            got=f"{name} ({dual.family})",
            want="a CLIP, or a training run of one",
        )
    pixels, ids = pictures(dual.preprocess, CHECKED, dual.device), _sentences(dual, CHECKED)
    with atomic_folder(path) as folder:
        open_clip.save(dual.model, folder)
        back = open_clip.read(folder)
        with torch.inference_mode():
            outputs = {
                "image_embedding": (dual.model.encode_image(pixels), back.encode_image(pixels)),
                "text_embedding": (dual.model.encode_text(ids), back.encode_text(ids)),
            }
        checks = [
            Checked(
                open_clip.NAMES[0],
                output,
                (CHECKED,),
                float(F.cosine_similarity(ours, theirs, dim=-1).min().clamp(max=1)),
                float((ours - theirs).abs().max()),
            )
            for output, (ours, theirs) in outputs.items()
        ]
        write_json(
            folder / ABOUT,
            {
                "format": FORMAT,
                "model": dual.name,
                "family": dual.family,
                "fingerprint": dual.fingerprint,
                **_parity(checks, "open_clip's folder read back", ("encoderlab", "torch")),
            },
        )
        _require_parity(name, checks)
    return Exported(path, dual.fingerprint, _sizes(path), tuple(checks))


def _free_place(name: str, out: Path) -> Path:
    """The folder of the export, in which nothing but an earlier export may be."""
    path = out / folder_name(name)
    is_export = (path / ABOUT).is_file()
    if path.exists() and not is_export and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(
            "something that is no export is in the way",
            got=str(path),
            want="no folder there, an empty one, or an earlier export",
            hint="choose another folder with --output-dir",
        )
    return path


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


def _require_parity(name: str, checks: Sequence[Checked]) -> None:
    for check in checks:
        if not check.cosine >= LEAST_COSINE:
            raise WorkError(
                "the exported file differs from torch, so it was not kept",
                got=f"{name}: {check.file}, {check.output}: smallest cosine {check.cosine:.6f}",
                want=f"at least {LEAST_COSINE}",
                hint=OTHER_WAY if check.file.endswith(".onnx") else None,
            )


def _parity(checks: Sequence[Checked], read_by: str, packages: Sequence[str]) -> dict[str, Any]:
    return {
        "parity": {
            "against": "torch, float32", "with": read_by, "limit": LEAST_COSINE,
            "checks": [dataclasses.asdict(check) for check in checks],
        },
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }  # fmt: skip


def folder_name(name: str) -> str:
    """The name of a model's folder: the last part of the model's name."""
    plain = name.removeprefix(UNTRAINED)
    # A path such as ".." is resolved first.
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
        outputs = tokens[:, self.special :], pooled, F.normalize(pooled, dim=-1)
        return outputs[: len(self.outputs)]


class _Text(nn.Module):
    """The output of text.onnx."""

    outputs = ("text_embedding",)

    def __init__(self, dual: DualEncoder) -> None:
        super().__init__()
        self.network, self.encode = dual.model.text_network, dual.model.encode_text

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        return (F.normalize(self.encode(input_ids), dim=-1),)


def _write_vision(encoder: VisionEncoder, embeds: bool, folder: Path, opset: int) -> dict[str, Any]:
    module = _Vision(encoder, embeds)
    note(f"export: writing the image side of {encoder.name}")
    shape = (3, *encoder.preprocess.shape)
    called = f"{encoder.name} ({encoder.family})"
    file = folder / "vision.onnx"
    onnx_graph.write(
        module, {"pixels": torch.zeros(2, *shape)}, module.outputs, file, called, opset
    )
    n, d, p = encoder.grid[0] * encoder.grid[1], encoder.width, encoder.pooled_width
    shapes = {"patches": ["batch", n, d], "pooled": ["batch", p], "image_embedding": ["batch", p]}
    return {
        "inputs": {"pixels": {"type": "float32", "shape": ["batch", *shape]}},
        "outputs": {name: {"type": "float32", "shape": shapes[name]} for name in module.outputs},
    }


def _write_text(dual: DualEncoder, folder: Path, opset: int) -> dict[str, Any]:
    module = _Text(dual)
    note(f"export: writing the text side of {dual.name}")
    ids = _sentences(dual, 2)
    called = f"the text side of {dual.name} ({dual.family})"
    onnx_graph.write(
        module, {"input_ids": ids}, module.outputs, folder / "text.onnx", called, opset
    )
    return {
        "inputs": {"input_ids": {"type": "int64", "shape": ["batch", ids.shape[1]]}},
        "outputs": {"text_embedding": {"type": "float32", "shape": ["batch", dual.dim]}},
    }


def _sentences(dual: DualEncoder, count: int) -> Tensor:
    """Token ids of captions of different lengths, the same each time."""
    from encoderlab.data.synthetic import generate

    return dual.tokenizer([generate(i, split="test").captions[0] for i in range(count)])


def _check(file: Path, module: Any, sizes: tuple[int, ...], inputs: Tensor) -> list[Checked]:
    """Every output of the file, at every size of batch, against the module."""
    try:
        session = onnx_graph.session(file)
    except Exception as error:  # its errors have no other common class
        raise WorkError(
            "ONNX Runtime does not take the exported file, so nothing was kept",
            got=f"{file.name}: {str(error).splitlines()[0][:200]}",
            hint=OTHER_WAY,
        ) from error
    cosines: dict[str, list[Tensor]] = {name: [] for name in module.outputs}
    gaps: dict[str, list[Tensor]] = {name: [] for name in module.outputs}
    for size in sizes:
        with torch.inference_mode():
            expected = module(inputs[:size])
        outputs = session.run(None, {session.get_inputs()[0].name: inputs[:size].numpy()})
        for name, ours, array in zip(module.outputs, expected, outputs, strict=True):
            theirs = torch.from_numpy(array)
            cosine = F.cosine_similarity(ours, theirs, dim=-1).min()
            gap = (ours - theirs).abs().max()
            detail(f"{file.name} {name}, batch of {size}: cosine {cosine:.7f}, off by {gap:.1e}")
            cosines[name].append(cosine)
            gaps[name].append(gap)
    # torch's minimum and maximum keep NaN.
    return [
        Checked(
            file.name,
            name,
            sizes,
            float(torch.stack(cosines[name]).min().clamp(max=1)),
            float(torch.stack(gaps[name]).max()),
        )
        for name in module.outputs
    ]


def _write_tokenizer(name: str, dual: DualEncoder, folder: Path) -> None:
    """Copies the checkpoint's own files; writes those of a training run."""
    source = resolve(name).path
    files = [file for part in TOKENIZER_FILES if (file := source / part).is_file()]
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
        # Some families read padding, so texts are always padded to the length of the graph.
        "tokenizer": None if dual is None else {
            "padding": "max_length", "length": files["text.onnx"]["inputs"]["input_ids"]["shape"][1]
        },
        "logit_scale": None if dual is None else dual.logit_scale,
        **_parity(
            checks, "onnxruntime",
            ("encoderlab", "torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
        ),
    }  # fmt: skip
