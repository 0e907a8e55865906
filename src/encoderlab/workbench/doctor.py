"""Says what is installed, cached and missing, and tests the embedded models on two pictures.

Looks and tells; changes nothing and downloads nothing. With `deep`, checks our own networks and
losses as well.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.core.run_folder import versions
from encoderlab.core.spec import takes
from encoderlab.errors import EncoderLabError
from encoderlab.workbench.ls import embedded
from encoderlab.workbench.settings import Doctor

if TYPE_CHECKING:
    from encoderlab.data.synthetic.item import SyntheticItem

EXTRAS = {
    "demo": ("skimage", "photographs for `make demo`"),
    "heic": ("pi_heif", "HEIC photographs"),
    "umap": ("umap", "embedding --method umap"),
    "gpu": ("bitsandbytes", "8-bit and 4-bit language models, device_map"),
    "onnx": ("onnxruntime", "export"),
    "wandb": ("wandb", "--logger wandb"),
    "ray": ("ray", "--engine ray"),
    "sweep": ("hydra_plugins.hydra_joblib_launcher", "hydra/launcher=joblib"),
    "bench": ("faiss", "the benchmarks"),
}
OK, MISSING, WRONG = "ok", "missing", "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: the thing.
        state: ok, missing (and not needed for most work) or wrong.
        said: what was found, and the mend where there is something to mend.
    """

    part: str
    what: str
    state: str
    said: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 where something is wrong, else 0."""
        return int(any(one.state == WRONG for one in self.findings))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each thing that is wrong."""
        return tuple(f"{one.what}: {one.said}" for one in self.findings if one.state == WRONG)

    def to_json(self) -> dict[str, Any]:
        """part -> thing -> state and words."""
        parts: dict[str, Any] = {}
        for one in self.findings:
            parts.setdefault(one.part, {})[one.what] = {"state": one.state, "said": one.said}
        return {"healthy": not self.warnings, **parts}

    def to_text(self) -> str:
        """One line per finding, grouped, and the verdict last."""
        width = max(len(one.what) for one in self.findings) + 2
        signs = {OK: " ", MISSING: "-", WRONG: "!"}
        lines: list[str] = []
        part = None
        for one in self.findings:
            if one.part != part:
                lines += ["", f"{one.part}:"] if part else [f"{one.part}:"]
                part = one.part
            lines.append(f"{signs[one.state]} {one.what:<{width}}{one.said}".rstrip())
        wrong = len(self.warnings)
        verdict = "all is well" if not wrong else f"{wrong} to mend: the lines with !"
        return "\n".join([*lines, "", verdict])


@takes(Doctor)
def run(settings: Doctor, out: Path | None = None) -> Diagnosis:
    """Looks at the installation, the machine, the models and the data.

    Raises:
        MissingError: the GPU that was asked for is not there.
    """
    from encoderlab.encoders.hardware import choose_device

    choose_device(settings.device)
    return Diagnosis(
        tuple(
            [
                *_installation(),
                *_machine(),
                *_models(),
                *_data(),
                *_self_test(settings.device, settings.seed),
                *(_networks() if settings.deep else []),
            ]
        )
    )


def _installation() -> list[Finding]:
    part = "installation"
    found = [Finding(part, "python", OK, platform.python_version())]
    found += [Finding(part, name, OK, version) for name, version in versions().items()]
    for extra, (module, use) in EXTRAS.items():
        there = _is_importable(module)
        mend = f'not installed; for {use}: pip install "encoderlab[{extra}]"'
        found.append(
            Finding(
                part,
                f"extra {extra}",
                OK if there else MISSING,
                f"installed, for {use}" if there else mend,
            )
        )
    if _is_importable("torchvision"):
        found.append(Finding(part, "torchvision", OK, "installed, and not used"))
    return found


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _machine() -> list[Finding]:
    import torch

    part = "machine"
    found = [
        Finding(
            part,
            "cpu",
            OK,
            f"{os.cpu_count()} cores, torch uses "
            f"{torch.get_num_threads()}; {torch.backends.cpu.get_cpu_capability()}",
        )
    ]
    from encoderlab.encoders.hardware import cpu_has_bf16

    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    fast = cpu_has_bf16()
    found.append(
        Finding(
            part,
            "bf16 on the cpu",
            OK if fast else MISSING,
            f"in hardware{' (AMX)' if amx else ''}" if fast else "emulated: float32 is faster here",
        )
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            bf16 = ", bf16" if facts.major >= 8 else ""
            found.append(
                Finding(
                    part,
                    f"cuda:{index}",
                    OK,
                    f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB{bf16}",
                )
            )
    else:
        found.append(Finding(part, "gpu", MISSING, "no CUDA device found: the CPU is used"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found.append(Finding(part, "disk here", OK if free > 1 else WRONG, f"{free:.0f} GiB free"))
    return found


def _models() -> list[Finding]:
    part = "models"
    found = [
        Finding(part, name, OK, f"embedded, {made_of}")
        for language in (False, True)
        for name, made_of in embedded(language)
    ]
    if not found:
        found.append(
            Finding(
                part, "embedded models", WRONG, "none: the package is incomplete, install it again"
            )
        )
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cache = Path(HF_HUB_CACHE)
    names = sorted(
        folder.name.removeprefix("models--").replace("--", "/")
        for folder in cache.glob("models--*")
    )
    listed = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    found.append(
        Finding(
            part,
            "Hugging Face cache",
            OK if names else MISSING,
            f"{cache}: {listed}" if names else f"{cache}: empty",
        )
    )
    found.append(
        Finding(
            part,
            "network",
            OK,
            "not to be used (HF_HUB_OFFLINE)"
            if HF_HUB_OFFLINE
            else "used for hub ids that are not cached; --offline forbids it",
        )
    )
    return found


def _data() -> list[Finding]:
    from encoderlab.data.vlm_dataset import VLMDataset

    part = "data"
    try:
        data = VLMDataset()
    except EncoderLabError as error:
        return [Finding(part, "data root", WRONG, str(error))]
    where = "the built-in samples" if data.is_built_in else str(data.root)
    types = ", ".join(data.data_types)
    return [
        Finding(
            part,
            "data root",
            OK if types else WRONG,
            f"{where}: {types or 'no label file of any known type'}",
        )
    ]


def _self_test(device: str, seed: int) -> list[Finding]:
    """Tries every embedded model on two pictures and their captions."""
    part = "self-test"
    models = [*embedded(language=False), *embedded(language=True)]
    if not models:
        return [Finding(part, "embedded models", MISSING, "nothing to test")]
    from encoderlab.data.synthetic import generate

    picture, other = (generate(seed, split="test", kind=kind) for kind in ("scene", "table"))
    found = []
    for name, made_of in models:
        clock = time.perf_counter()
        try:
            if made_of in ("CLIPModel", "SiglipModel"):
                good, said = _prefers_its_own(name, device, picture, other)
            elif made_of.endswith("ForCausalLM"):
                good, said = _tells_sentences_apart(name, device, picture)
            else:
                good, said = _keeps_the_contract(name, device)
        except EncoderLabError as error:
            found.append(Finding(part, name, WRONG, str(error)))
            continue
        seconds = time.perf_counter() - clock
        found.append(Finding(part, name, OK if good else WRONG, f"{said} ({seconds:.1f} s)"))
    return found


def _networks() -> list[Finding]:
    from encoderlab import selftest

    part = "networks and losses"
    return [
        Finding(part, one.name, OK if one.ok else WRONG, one.comparison) for one in selftest.run()
    ]


def _prefers_its_own(
    name: str, device: str, picture: SyntheticItem, other: SyntheticItem
) -> tuple[bool, str]:
    from encoderlab.encoders.dual import load_dual

    encoder = load_dual(name, device=device)
    images = encoder.embed_images([picture.image, other.image])
    own, foreign = map(float, images @ encoder.embed_texts([picture.captions[0]])[0])
    return own > foreign, (
        f"a sentence has cosine {own:.2f} with its own image, {foreign:.2f} with another"
    )


def _keeps_the_contract(name: str, device: str) -> tuple[bool, str]:
    from encoderlab.encoders import check
    from encoderlab.encoders.vision import load_vision

    found = check(load_vision(name, device, "float32"), strict=False)
    kept = sum(one.kept for one in found.findings)
    return found.kept, f"keeps {kept} of {len(found.findings)} promises of the vision contract"


def _tells_sentences_apart(name: str, device: str, picture: SyntheticItem) -> tuple[bool, str]:
    """A caption is nearer to another of the same picture than to one in another language."""
    import torch.nn.functional as F

    from encoderlab.encoders.text import load_text

    texts = [*picture.captions[:2], picture.captions_ko[0]]
    vectors = F.normalize(load_text(name, device).encode(texts).pooled.float(), dim=-1)
    near, far = map(float, vectors[1:] @ vectors[0])
    return near > far, (
        f"a caption has cosine {near:.2f} with another of its picture, {far:.2f} with a Korean one"
    )
