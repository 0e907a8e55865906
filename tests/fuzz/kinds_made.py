"""What programs write and users pass on: checkpoints, training states, indexes, stores, runs."""

import io
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.fuzz.cases import Case, Trial, kind
from tests.fuzz.kinds_files import copied, line
from tests.fuzz.mutate import (
    INTERESTING_TEXTS,
    spoil_bytes,
    spoil_json,
    spoil_safetensors,
    spoil_text,
    spoil_value,
)

PICTURE = Image.fromarray(np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3))


# -- checkpoints of others ------------------------------------------------------------------------


@kind("weights", 2)
def weights(case: Case) -> Trial:
    """A checkpoint with spoiled safetensors."""
    family, folder = _checkpoint(case)
    if case.rng.random() < 0.1:
        _sharded(case, folder)
    else:
        case.spoil(folder / "model.safetensors", spoil_safetensors)
    return _loaded(case, family, folder)


@kind("config", 2)
def config(case: Case) -> Trial:
    """A checkpoint whose config.json says something else."""
    family, folder = _checkpoint(case)
    file = folder / "config.json"
    rng, record = case.rng, json.loads(file.read_text())
    how = rng.random()
    if how < 0.12:
        inner = rng.choice([record, *(v for v in record.values() if isinstance(v, dict))])
        inner["model_type"] = rng.choice(
            ("clip", "siglip", "dinov2", "llama", "vit", "gpt2", "internvl", "paligemma",
             "dinov3_vit", "intern_vit_300m", "nosuch", "resnet", "whisper", "", "../x", 3, None)
        )  # fmt: skip
    elif how < 0.2:
        record["auto_map"] = rng.choice(
            ({"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, {"AutoModel": 3}, [], "x",
             {"AutoConfig": "other/repo--evil.Config"})
        )  # fmt: skip
        record["model_type"] = rng.choice(("clip", "evil", None))
        (folder / "evil.py").write_text(f"open({str(case.folder / 'ran')!r}, 'w')\n")
    else:
        case.spoil(file, spoil_json)
        return _loaded(case, family, folder)
    file.write_text(json.dumps(record))
    return _loaded(case, family, folder)


@kind("processor", 1)
def processor(case: Case) -> Trial:
    """A checkpoint whose preprocessing or tokenizer is spoiled."""
    family, folder = _checkpoint(case)
    others = {folder / "config.json", folder / "generation_config.json"}
    case.spoil(case.rng.choice(sorted({*folder.glob("*.json")} - others)), spoil_json)
    return _loaded(case, family, folder)


@kind("checkpoint folder", 1)
def checkpoint_folder(case: Case) -> Trial:
    """A checkpoint with files missing, swapped, or that are folders or links."""
    family, folder = _checkpoint(case)
    _shuffle_files(case, folder)
    return _loaded(case, family, folder)


def _checkpoint(case: Case) -> tuple[str, Path]:
    family = case.rng.choice(("ours", "ours", "clip", "siglip", "dinov2", "vit", "llama", "bert"))
    return family, copied(case.seeds.checkpoint(family), case.given / "model")


def _loaded(case: Case, family: str, folder: Path) -> Trial:
    images = case.seeds.images
    if case.every(12):
        words = (
            ["classify", "--image-dir", images, "--classes", "a,b", "--model", folder],
            ["features", "extract", images, "--encoders", folder],
            ["index", images, "--model", folder, "--db", case.out / "db"],
            ["coral", "--encoders", folder, "--llms", "tiny-llama", "--n-samples", "3",
             "--features-dir", case.out / "f"],
            ["search", "a", "--db", case.seeds.index, "--model", folder],
            ["embedding", "--encoders", "tiny-clip", "--llms", folder, "--method", "pca",
             "--n-samples", "3", "--features-dir", case.out / "f"],
        )  # fmt: skip
        return line(case, case.rng.choice(words))
    how = case.rng.choice(
        {"ours": ("dual", "dual", "vision"), "clip": ("dual", "vision", "text"),
         "siglip": ("dual", "vision", "text"), "llama": ("text",), "bert": ("text",)}
        .get(family, ("vision",))
    )  # fmt: skip

    def act() -> None:
        from encoderlab.encoders.dual import load_dual
        from encoderlab.encoders.text import load_text
        from encoderlab.encoders.vision import load_vision

        if how == "dual":
            both = load_dual(str(folder), "cpu", "float32", allow_untrained=True)
            both.embed_images([PICTURE])
            both.embed_texts(["w1 w2"])
        elif how == "vision":
            load_vision(str(folder), "cpu", "float32").encode([PICTURE])
        else:
            load_text(str(folder), "cpu", "float32").encode(["w1 w2"])

    return Trial(act=act)


def _sharded(case: Case, folder: Path) -> None:
    """Weights behind an index of shards that points elsewhere."""
    names = case.rng.choice(
        ({"a": "../../etc/passwd"}, {"a": "/etc/passwd"}, {"logit_scale": "other.safetensors"}, {},
         {"a": 3}, {"logit_scale": "model.safetensors"}, [], None)
    )  # fmt: skip
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    if case.rng.random() < 0.4:
        case.spoil(index, spoil_json)


def _shuffle_files(case: Case, folder: Path) -> None:
    """One or two files of a folder gone, empty, swapped, a folder, a link, or not to be read."""
    rng = case.rng
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(rng.choice((1, 1, 2))):
        file, other = rng.choice(files), rng.choice(files)
        if not file.is_file() or not other.is_file():
            continue
        data = other.read_bytes()
        how = rng.choice(("gone", "empty", "folder", file.name, "nowhere", "/etc/passwd", "swapped",
                          "bytes", "/dev/null"))  # fmt: skip
        if how == "bytes":
            case.spoil(file, spoil_bytes, [data])
            continue
        file.unlink()
        if how in ("empty", "swapped"):
            file.write_bytes(data if how == "swapped" else b"")
        elif how == "folder":
            file.mkdir()
        elif how != "gone":
            file.symlink_to(how)


# -- our training states --------------------------------------------------------------------------


class Evil:
    """What a pickle may do on being read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@kind("training state", 2)
def training_state(case: Case) -> Trial:
    """A .ckpt of a training run."""
    import torch

    rng = case.rng
    whole = copied(case.seeds.training, case.given / "run")
    file = whole / "checkpoints" / rng.choice(("best.ckpt", "latest.ckpt"))
    how = rng.random()
    if how < 0.3:
        case.spoil(file, spoil_bytes)
    elif how < 0.42:  # a pickle that runs a program, in torch's zip or alone
        evil: Any = rng.choice((Evil(case.folder / "ran"), {"format": Evil(case.folder / "ran")}))
        if rng.random() < 0.5:
            torch.save(evil, file)
        else:
            file.write_bytes(pickle.dumps(evil))
    else:
        torch.save(spoil_value(rng, torch.load(file, weights_only=True)), file)
    images = case.seeds.images
    if case.every(6):
        words = rng.choice(
            (
                [*case.seeds.training_words, "--resume", file],
                ["classify", "--image-dir", images, "--classes", "a,b", "--model", whole],
                ["evaluate", "--csv", case.seeds.folder / "pairs.csv", "--img-root", images,
                 "--model", file],
            )
        )  # fmt: skip
        return line(case, words)

    def act() -> None:
        from encoderlab.encoders.dual import load_dual

        both = load_dual(str(file), "cpu", "float32", allow_untrained=True)
        both.embed_images([PICTURE])
        both.embed_texts(["a red circle"])

    return Trial(act=act)


@kind("compressor", 2)
def compressor(case: Case) -> Trial:
    """A compressor's folder, or the state of its training."""
    import torch

    from encoderlab.compression.compressor import CONFIG, FORMAT, WEIGHTS, Compressor

    rng = case.rng
    folder = copied(case.seeds.compressor, case.given / "compressor")
    how = rng.choice(("config", "config", "weights", "files", "state", "state"))
    if how == "state":
        whole = Compressor.from_pretrained(case.seeds.compressor)
        described = json.loads((folder / CONFIG).read_text())
        record: Any = {
            "format": FORMAT, "identity": {**described["shape"], **described["about"]},
            "weights": dict(whole.model.state_dict()), "history": [], "step": 3,
        }  # fmt: skip
        file = case.given / "best_model.pt"
        torch.save(spoil_value(rng, record), file)
        return Trial(act=lambda: _shown_to(Compressor.from_checkpoint(file)))
    if how == "config":
        case.spoil(folder / CONFIG, spoil_json)
    elif how == "weights":
        case.spoil(folder / WEIGHTS, spoil_safetensors)
    else:
        _shuffle_files(case, folder)
    return Trial(act=lambda: _shown_to(Compressor.from_pretrained(folder)))


def _shown_to(compressor: Any) -> None:
    """Ten tokens' worth of work, as the commands would do it."""
    import torch

    from encoderlab.patch_tokens.reducer import SideInputs

    height, width = compressor.grid
    tokens = torch.zeros(1, height * width, compressor.model.shape.channels)
    kept = compressor.compress(tokens, (height, width), compressor.budgets[0], SideInputs())
    compressor.decode(kept, (height, width))


@kind("moments", 1)
def moments(case: Case) -> Trial:
    """A saved state of streaming moments."""
    from encoderlab.metrics.moments import Moments

    rng, arrays = case.rng, dict(np.load(io.BytesIO(case.seeds.moments)))
    path = case.put("moments.npz", case.seeds.moments)
    if rng.random() < 0.5:
        case.spoil(path, spoil_bytes)
    else:
        name = rng.choice(sorted(arrays))
        other = rng.choice(
            (np.array([]), np.array("text"), np.zeros((1, 1, 1)), np.array([1j]),
             np.array([np.nan]), np.array(Evil(case.folder / "ran"), dtype=object),
             np.array([2**62]))
        )  # fmt: skip
        if rng.random() < 0.3:
            arrays[rng.choice(("x|y|z|w", "mean", "norms|a", "|", "mean|한글"))] = arrays.pop(name)
        else:
            arrays[name] = other
        np.savez(path, **arrays)

    def act() -> None:
        state = Moments.load(path)
        state.cka("a", "b")

    return Trial(act=act)


# -- indexes, stores, runs ------------------------------------------------------------------------


@kind("index", 2)
def index(case: Case) -> Trial:
    """The folder of an index."""
    rng = case.rng
    folder = copied(case.seeds.index, case.folder / "db")
    about = folder / "index.json"
    how = rng.choice(("about", "about", "files", "files", "copy"))
    if how == "about":
        record = json.loads(about.read_text())
        if rng.random() < 0.3:
            record["ann"] = {
                "kind": "IVF_PQ", "partitions": 2, "trained_rows": 4, "rows": 4, "target": 0.9,
                "k": 10, "effort": {"nprobes": 3, "refine": 2}, "recall": {},
            }  # fmt: skip
        about.write_bytes(spoil_json(rng, json.dumps(record)))
    elif how == "copy":
        if (folder / "search.arrow").is_file():
            case.spoil(folder / "search.arrow", spoil_bytes)
    else:
        _shuffle_files(case, folder)
    # Reading repairs nothing: what is damaged is left for its owner to look at.
    words: Sequence[Any]
    if case.every(3):
        words = rng.choice(
            (
                ["search", "a dog", "--db", folder, "-k", 2],
                ["search", "a dog", "--db", folder, "-k", 2, "--where", "width > 1"],
                ["search", "--image", case.seeds.images / "a/0.png", "--db", folder, "--exact"],
                ["index", case.seeds.images, "--db", folder],
            )
        )  # fmt: skip
        kept = () if words[0] == "index" else (folder,)
        return line(case, words, writes=(folder,), kept=kept)

    def act() -> None:
        from encoderlab.retrieval.image_index import Index

        found = Index.open(folder)
        vector = np.ones(int(found.about["dim"]), dtype=np.float32)
        found.search(vector, k=1)
        found.search(vector, k=1, where="caption LIKE '%a%'")

    return Trial(act=act, writes=(folder,))


@kind("store", 2)
def store(case: Case) -> Trial:
    """A feature store."""
    rng = case.rng
    folder = copied(case.seeds.store, case.folder / "store")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    how = rng.choice(("json", "json", "arrays", "files", "names"))
    if how == "json":
        case.spoil(rng.choice([path for path in files if path.suffix == ".json"]), spoil_json)
    elif how == "arrays":
        file = rng.choice([path for path in files if path.suffix == ".npy"])
        case.spoil(file, spoil_bytes, [path.read_bytes() for path in files])
        if rng.random() < 0.3:
            odd = rng.choice((np.zeros((0, 16), np.uint8), np.array(3), np.zeros((4, 3)),
                              np.array([Evil(case.folder / "ran")], dtype=object)))  # fmt: skip
            np.save(file, odd)
    elif how == "files":
        _shuffle_files(case, folder)
    else:
        chunk = rng.choice([path.parent for path in files if path.name == "chunk.json"])
        name = rng.choice(("x", "한글", "0" * 24, ".hidden-1", "a b"))
        chunk.rename(chunk.with_name(name))
        (folder / rng.choice(("key.json", "stray", "x.y"))).write_text("stray")
    words = rng.choice(
        (
            ["features", "ls"], ["features", "verify"], ["features", "prune"],
            ["features", "delete", rng.choice(("tiny-clip", "all", "..", "../..", "/", ""))],
            ["features", "extract", case.seeds.images],
            ["features", "extract", case.seeds.images, "--what", "patches@-2:int8"],
        )
    )  # fmt: skip
    return Trial(words=[*map(str, words), f"--output-dir={folder}"], writes=(folder,))


@kind("run folder", 2)
def run_folder(case: Case) -> Trial:
    """The folder of a run that is to be repeated."""
    rng = case.rng
    folder = copied(case.seeds.run, case.given / "run")
    record = folder / "run.json"
    if rng.random() < 0.85:
        content = json.loads(record.read_text())
        part = rng.choice((None, "settings", "settings", "settings", "result", "command"))
        if part is None:
            data = spoil_json(rng, json.dumps(content))
        else:
            inner = spoil_value(rng, {part: content.pop(part)})
            content |= inner if isinstance(inner, dict) else {}
            # It may name any folder to write to; here only one of its own.
            if isinstance(content.get("settings"), dict):
                content["settings"].pop("output_dir", None)
            data = json.dumps(content).encode(errors="surrogatepass")
        if rng.random() < 0.15:
            command = rng.choice(("ls", "doctor", "rerun", "features", "coral", "tokens"))
            settings = rng.choice(({}, {"n_samples": 2}, {"what": 3}, {"output": 3}))
            settings |= {"llms": ["nowhere/x"]} if command == "coral" else {}
            data = json.dumps(content | {"command": command, "settings": settings}).encode()
        record.write_bytes(data)
    else:
        _shuffle_files(case, folder)
    words = ["rerun", folder, *(["--json"] if rng.random() < 0.3 else [])]
    return line(case, words, writes=(case.folder / "here",))


@kind("kept", 1)
def kept(case: Case) -> Trial:
    """An evaluation that was kept."""
    from encoderlab.compression import stored_evaluation

    rng = case.rng
    content = json.loads(stored_evaluation.SHIPPED.read_text())
    content["result"]["rows"] = content["result"]["rows"][:3]
    path = case.put("run.json", spoil_json(rng, json.dumps(content)))
    return Trial(act=lambda: stored_evaluation.read(path))


@kind("aliases", 1)
def aliases(case: Case) -> Trial:
    """The user's own table of aliases."""
    rng = case.rng
    text = "encoders:\n  mine: tiny-clip\n  other: ./folder\nllms:\n  small: tiny-llama\n"
    more = rng.choice(
        ("", "a: &a [*a]\n", "x: !!python/object/apply:os.system ['touch ran']\n", "- 1\n",
         "encoders: {a: {b: c}}\n", "encoders: [a, b]\n", "llms: 3\n", "? [a]\n: b\n", "\t- x\n",
         "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c]\nencoders: [*d,*d,*d,*d,*d,*d]\n", "[" * 3000,
         "encoders:\n  한글: '" + str(rng.choice(INTERESTING_TEXTS)) + "'\n", "a: 2024-99-99\n",
         "encoders: {1: 2}\n", "a: 0o9\n", "<<: 3\n", "%YAML 9\n---\n", "---\n---\n")
    )  # fmt: skip
    file = case.put("own.yaml", spoil_text(rng, rng.choice((text + more, more + text, more))))
    where = {"ENCODERLAB_ALIASES": str(file)}
    if case.every(3):
        name = rng.choice(("mine", "other", "한글", "nowhere"))
        words = rng.choice((["ls", "encoders", "--json"], ["ls", "llms"],
                            ["classify", "--image-dir", str(case.seeds.images), "--model", name,
                             "--classes", "a,b", f"--output-dir={case.out}"]))  # fmt: skip
        return Trial(words=words, environment=where)

    def act() -> None:
        from encoderlab.core.aliases import encoder_aliases, llm_aliases

        encoder_aliases()
        llm_aliases()

    return Trial(act=act, environment=where)
