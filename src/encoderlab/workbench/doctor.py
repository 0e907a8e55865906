"""Reports what is installed, cached and missing, and tests the bundled models on two pictures.

Changes nothing. With `deep` it also checks our own networks and losses; with a model it measures
the patch tokens of that one. Downloads nothing but a model that is named and not there.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.progress import counted
from encoderlab.core.results import Block, Result, Table
from encoderlab.core.run_folder import versions
from encoderlab.core.spec import takes
from encoderlab.encoders.checkpoint import bundled_models
from encoderlab.errors import EncoderLabError
from encoderlab.workbench.settings import Doctor

if TYPE_CHECKING:
    from encoderlab.data.synthetic.item import SyntheticItem
    from encoderlab.metrics.token_scale import TokenScale

EXTRAS = {
    "demo": ("skimage", "photographs for `make demo`"),
    "heic": ("pi_heif", "HEIC photographs"),
    "umap": ("umap", "embedding --method umap"),
    "gw": ("ot", "compare --gw"),
    "gpu": ("bitsandbytes", "8-bit and 4-bit language models, device_map"),
    "onnx": ("onnxruntime", "export"),
    "wandb": ("wandb", "--logger wandb"),
    "ray": ("ray", "--engine ray"),
    "judges": ("mteb", "judge mteb"),
    "sweep": ("hydra_plugins.hydra_joblib_launcher", "hydra/launcher=joblib"),
    "bench": ("faiss", "the benchmarks"),
}
OK, MISSING, WRONG = "ok", "missing", "wrong"
MEASURED, BATCH = 16, 8  # images of each data type; images at once


@dataclass(frozen=True)
class Finding:
    """One check.

    Args:
        what: the thing that was checked.
        state: ok, missing (and not needed for most work) or wrong.
        said: what was found, and how to repair it where something is wrong.
    """

    part: str
    what: str
    state: str
    said: str


Row = tuple[str, str, str]  # what, state, said: a Finding without its part


@dataclass(frozen=True)
class Diagnosis(Result):
    """All findings, in the order in which they were made.

    Args:
        model: the encoder that was measured.
        token_scale: of its patch tokens.
        verbose: whether the text lists the checks that passed.
    """

    findings: tuple[Finding, ...]
    model: str | None = None
    token_scale: TokenScale | None = None
    verbose: bool = field(default=False, metadata={"json": False})

    @property
    def exit_code(self) -> int:
        """1 where something is wrong, else 0."""
        return int(bool(self.warnings))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each thing that is wrong."""
        return tuple(f"{f.what}: {f.said}" for f in self.findings if f.state == WRONG)

    def to_json(self) -> dict[str, Any]:
        """part -> thing -> state and text."""
        parts: dict[str, Any] = {}
        for finding in self.findings:
            thing = {"state": finding.state, "said": finding.said}
            parts.setdefault(finding.part, {})[finding.what] = thing
        if self.token_scale:
            problems = list(self.token_scale.problems())
            measured = {**self.token_scale.to_json(), "problems": problems}
            parts["encoder"] = {"model": self.model, **measured}
        return {"healthy": not self.warnings, **parts}

    def blocks(self) -> list[Block]:
        """The verdict, then a line per finding; those that are fine only if `verbose`."""
        listed = [f for f in self.findings if self.verbose or f.state != OK]
        width = max((len(finding.what) for finding in listed), default=0) + 2
        signs = {OK: " ", MISSING: "-", WRONG: "!"}
        parts = {
            part: [f"{signs[f.state]} {f.what:<{width}}{f.said}".rstrip() for f in group]
            for part, group in itertools.groupby(listed, key=lambda finding: finding.part)
        }
        wrong = len(self.warnings)
        passed = sum(finding.state == OK for finding in self.findings)
        verdict = (
            f"{counted(wrong, 'problem')}: the lines with !"
            if wrong
            else "all is well; the lines with - are optional"
        )
        more = "" if self.verbose else f" ({passed} checks passed; --verbose lists them)"
        blocks: list[Block] = [verdict + more]
        blocks += ["\n".join([f"{part}:", *lines]) for part, lines in parts.items()]
        if self.token_scale:
            blocks.append(_as_table(self.model or "", self.token_scale))
        return blocks


@takes(Doctor)
def run(settings: Doctor, out: Path | None = None) -> Diagnosis:
    """Checks the installation, the machine, the models and the data; measures the model.

    Returns:
        The findings, and the scale of the model's patch tokens if one is named.

    Raises:
        MissingError: the GPU or the model is not there.
        UsageError: a model that is no vision encoder, or a data root that cannot be read.
    """
    from encoderlab.encoders.hardware import choose_device

    choose_device(settings.device)
    scale = _measured(settings) if settings.model else None
    parts = {
        "installation": _installation(),
        "machine": _machine(),
        "models": _models(),
        "data": _data(),
        "self-test": _self_test(settings.device, settings.seed),
        "networks and losses": _networks() if settings.deep else (),
    }
    findings = tuple(Finding(part, *row) for part, rows in parts.items() for row in rows)
    return Diagnosis(findings, settings.model, scale, settings.verbose)


def _measured(settings: Doctor) -> TokenScale:
    """The scale of the patch tokens of sample images, in fp32: bf16 would hide its own rounding."""
    from encoderlab.core.progress import progress
    from encoderlab.data.typed_samples import typed_samples
    from encoderlab.encoders.vision import load_vision
    from encoderlab.metrics.token_scale import token_scale

    encoder = load_vision(
        settings.model or "",
        settings.device,
        "float32",
        trust_remote_code=settings.trust_remote_code,
    )
    samples = typed_samples(n_per_type=MEASURED, seed=settings.seed).samples
    tokens = []
    with progress("measuring tokens", len(samples), "image") as bar:
        for start in range(0, len(samples), BATCH):
            batch = [sample.image for sample in samples[start : start + BATCH]]
            features = encoder.encode(batch)
            pairs = zip(features.patches.cpu(), features.grids, strict=True)
            tokens += [patches[: h * w] for patches, (h, w) in pairs]
            bar.advance(len(batch))
    return token_scale(tokens)


def _as_table(model: str, scale: TokenScale) -> Table:
    massive = len(scale.massive_channels)
    rows = (
        ("norm of a token", f"{scale.norm_mean:.4g} ± {scale.norm_sd:.3g}"),
        ("standard deviation of the values", f"{scale.sd:.3g}"),
        ("outlier tokens", f"{scale.outlier_share:.2%}"),
        ("massive channels", f"{massive} of {scale.width}"),
        ("effective rank", f"{scale.effective_rank:.1f} of {scale.width}"),
        ("largest value", f"{scale.largest:.4g}"),
        ("channels below the resolution of bf16", f"{scale.below_bf16} of {scale.width}"),
    )
    problems = scale.problems() or (
        f"token standard deviation is {scale.sd:.3g}: a projector needs no normalisation",
    )
    return Table(("patch tokens", "value"), rows, f"{model}, {scale.tokens:,} tokens:", problems)


def _installation() -> Iterator[Row]:
    yield "python", OK, platform.python_version()
    for name, version in versions().items():
        yield name, OK, version
    for extra, (module, use) in EXTRAS.items():
        if _is_importable(module):
            yield f"extra {extra}", OK, f"installed, for {use}"
        else:
            install = f'pip install "encoderlab[{extra}]"'
            yield f"extra {extra}", MISSING, f"not installed; for {use}: {install}"
    if _is_importable("torchvision"):
        yield "torchvision", OK, "installed, and not used"


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _machine() -> Iterator[Row]:
    import torch

    from encoderlab.encoders.hardware import cpu_has_bf16

    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    yield "cpu", OK, f"{os.cpu_count()} cores, torch uses {threads}; {capability}"
    if cpu_has_bf16():
        amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
        yield "bf16 on the cpu", OK, f"in hardware{' (AMX)' if amx else ''}"
    else:
        yield "bf16 on the cpu", MISSING, "emulated: float32 is faster here"
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        bf16 = ", bf16" if gpu.major >= 8 else ""
        yield f"cuda:{index}", OK, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB{bf16}"
    if not torch.cuda.is_available():
        yield "gpu", MISSING, "no CUDA device found: the CPU is used"
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "disk here", OK if free > 1 else WRONG, f"{free:.0f} GiB free"


def _models() -> Iterator[Row]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    models = bundled_models()
    for name, architecture in models.items():
        yield name, OK, f"bundled, {architecture}"
    if not models:
        yield "bundled models", WRONG, "none: the package is incomplete, install it again"
    names = sorted(
        folder.name.removeprefix("models--").replace("--", "/")
        for folder in Path(HF_HUB_CACHE).glob("models--*")
    )
    listed = (", ".join(names[:8]) + (" ..." if len(names) > 8 else "")) or "empty"
    yield "Hugging Face cache", OK if names else MISSING, f"{HF_HUB_CACHE}: {listed}"
    offline, online = (
        "not to be used (HF_HUB_OFFLINE)",
        "used for hub ids that are not cached; --offline forbids it",
    )
    yield "network", OK, offline if HF_HUB_OFFLINE else online


def _data() -> Iterator[Row]:
    from encoderlab.data.vlm_dataset import VLMDataset

    try:
        data = VLMDataset()
    except EncoderLabError as error:
        yield "data root", WRONG, str(error)
        return
    root = "the built-in samples" if data.is_built_in else str(data.root)
    types = ", ".join(data.data_types)
    state = OK if types else WRONG
    yield "data root", state, f"{root}: {types or 'no label file of any known type'}"


def _self_test(device: str, seed: int) -> Iterator[Row]:
    """Tries every bundled model on two pictures and their captions."""
    from encoderlab.data.synthetic import generate

    models = bundled_models()
    if not models:
        yield "bundled models", MISSING, "nothing to test"
        return
    picture, other = (generate(seed, split="test", kind=kind) for kind in ("scene", "table"))
    for name, architecture in models.items():
        clock = time.perf_counter()
        try:
            if architecture in ("CLIPModel", "SiglipModel"):
                passed, text = _test_dual_encoder(name, device, picture, other)
            elif architecture.endswith("ForCausalLM"):
                passed, text = _test_language_model(name, device, picture)
            elif architecture.endswith("VLM"):
                passed, text = _test_vlm(name, device)
            else:
                passed, text = _test_vision_encoder(name, device)
        except EncoderLabError as error:
            yield name, WRONG, str(error)
            continue
        seconds = time.perf_counter() - clock
        yield name, OK if passed else WRONG, f"{text} ({seconds:.1f} s)"


def _networks() -> Iterator[Row]:
    from encoderlab import selftest

    for check in selftest.run():
        yield check.name, OK if check.ok else WRONG, check.comparison


def _test_dual_encoder(
    name: str, device: str, picture: SyntheticItem, other: SyntheticItem
) -> tuple[bool, str]:
    from encoderlab.encoders.dual import load_dual

    encoder = load_dual(name, device=device)
    images = encoder.embed_images([picture.image, other.image])
    own, foreign = map(float, images @ encoder.embed_texts([picture.captions[0]])[0])
    return own > foreign, (
        f"a sentence has cosine {own:.2f} with its own image, {foreign:.2f} with another"
    )


def _test_vlm(name: str, device: str) -> tuple[bool, str]:
    from encoderlab.data.synthetic import generate
    from encoderlab.vlm.model import VLM

    page = generate(3, split="test", kind="document")
    answer = VLM.load(name, device).answer(page.image, page.question, candidates=0)
    return answer.text == page.answer, f"{page.question} {answer.text}"


def _test_vision_encoder(name: str, device: str) -> tuple[bool, str]:
    from encoderlab.encoders import check
    from encoderlab.encoders.vision import load_vision

    report = check(load_vision(name, device, "float32"), strict=False)
    applies = [finding.kept for finding in report.findings if finding.kept is not None]
    return report.kept, f"keeps {sum(applies)} of {len(applies)} promises of the vision contract"


def _test_language_model(name: str, device: str, picture: SyntheticItem) -> tuple[bool, str]:
    """A caption is nearer to another of the same picture than to one in another language."""
    import torch.nn.functional as F

    from encoderlab.encoders.text import load_text

    texts = [*picture.captions[:2], picture.captions_ko[0]]
    vectors = F.normalize(load_text(name, device).encode(texts).pooled.float(), dim=-1)
    near, far = map(float, vectors[1:] @ vectors[0])
    return near > far, (
        f"a caption has cosine {near:.2f} with another of its picture, {far:.2f} with a Korean one"
    )
