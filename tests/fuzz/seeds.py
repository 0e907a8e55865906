"""The valid inputs that cases spoil: each made once, small, and by the project's own writers."""

import contextlib
import csv
import io
import json
import tarfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoderlab.cli.main import main

CAPTIONS = ("a red circle", "파란 사각형, 큰", 'a "quoted" star', "a table of 3 rows")


class Seeds:
    """Valid inputs, made when first asked for.

    Args:
        folder: where they are made; cases only read there.
        room: a folder that every case may write to: caches and temporary files.
    """

    def __init__(self, folder: Path, room: Path) -> None:
        self.folder, self.room = folder, room

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """A small picture in every format that is read, and some of their rarer forms."""
        rng = np.random.default_rng(0)
        rgb = Image.fromarray(rng.integers(0, 256, (24, 31, 3), dtype=np.uint8))
        grey = Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16))
        clear = Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        return {
            "rgb.png": _saved(rgb, "PNG"),
            "interlaced.png": _saved(rgb.quantize(16), "PNG", transparency=3),
            "deep.png": _saved(grey, "PNG"),
            "clear.png": _saved(clear, "PNG"),
            "turned.jpg": _saved(rgb, "JPEG", exif=exif, quality=70),
            "progressive.jpg": _saved(rgb.convert("CMYK"), "JPEG", progressive=True),
            "lossy.webp": _saved(rgb, "WEBP"),
            "moving.gif": _saved(rgb.quantize(8), "GIF", save_all=True,
                                 append_images=[rgb.quantize(4)], duration=3),
            "plain.bmp": _saved(rgb, "BMP"),
            "packed.tiff": _saved(rgb, "TIFF", compression="tiff_lzw"),
            "float.tiff": _saved(Image.fromarray(rng.random((6, 5)).astype(np.float32)), "TIFF"),
            "tiles.tiff": _saved(grey, "TIFF", compression="tiff_deflate"),
        }  # fmt: skip

    @cached_property
    def images(self) -> Path:
        """A folder of four pictures in two classes."""
        folder = self.folder / "images"
        rng = np.random.default_rng(1)
        for i, name in enumerate(("a/0.png", "a/1.jpg", "b/2.png", "b/그림 3.png")):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)).save(path)
        return folder

    @property
    def names(self) -> list[str]:
        """The pictures of `images`, from there."""
        return ["a/0.png", "a/1.jpg", "b/2.png", "b/그림 3.png"]

    @cached_property
    def table(self) -> str:
        """A CSV of captions with labels, its paths from `images`."""
        return _table(
            [("image_path", "caption", "label")]
            + [
                (name, caption, name[0])
                for name, caption in zip(self.names, CAPTIONS, strict=True)
                for caption in (caption, caption + " again")
            ]
        )

    @cached_property
    def labels(self) -> str:
        """A CSV of classes."""
        return _table([("image_path", "label"), *((name, name[0]) for name in self.names)])

    @cached_property
    def scores(self) -> str:
        """A CSV of one's own benchmark results."""
        rows = [("tiny-clip", "tiny-llama", "mine", 0.5), ("tiny-clip", "tiny-qwen", "mine", 0.7)]
        return _table([("encoder", "llm", "benchmark", "score"), *rows])

    @cached_property
    def chat(self) -> str:
        """Chat records, one a line, their pictures from `images`."""
        return "".join(
            json.dumps(chat_record(name, caption), ensure_ascii=False) + "\n"
            for name, caption in zip(self.names, CAPTIONS, strict=True)
        )

    @cached_property
    def tar(self) -> bytes:
        """A WebDataset shard."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as shard:
            for i, (name, caption) in enumerate(zip(self.names, CAPTIONS, strict=True)):
                about = {"caption": caption, "label": i, "captions": [caption, "more"]}
                for ending, content in (
                    ("png", (self.images / name).read_bytes()),
                    ("txt", caption.encode()),
                    ("json", json.dumps(about).encode()),
                    ("cls", b"3"),
                ):
                    member = tarfile.TarInfo(f"part/{i:04d}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
        return out.getvalue()

    @cached_property
    def parquet(self) -> bytes:
        """A table of images, as Hugging Face keeps them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        cells = [{"bytes": (self.images / name).read_bytes(), "path": name} for name in self.names]
        kept = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
        table = pa.table({"image": cells, "caption": list(CAPTIONS), "label": [0, 1, 1, 0]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(kept)})
        out = io.BytesIO()
        pq.write_table(table, out, row_group_size=2)
        return out.getvalue()

    # -- what the project itself writes ----------------------------------------------------------

    def checkpoint(self, family: str) -> Path:
        """A small checkpoint folder of a family: clip, siglip, dinov2, vit, llama, ours."""
        return self._made(f"checkpoint-{family}", lambda folder: _checkpoint(family, folder))

    @cached_property
    def index(self) -> Path:
        """An index of `images` by tiny-clip."""
        return self._made("index", lambda folder: self._typed(
            "index", self.images, "--db", folder, "--output-dir",
            self.folder / "index-run"))  # fmt: skip

    @cached_property
    def store(self) -> Path:
        """A feature store with two tables."""
        return self._made("store", lambda folder: self._typed(
            "features", "extract", self.images, "--encoders", "tiny-clip", "--what", "pooled",
            "patches@-2:int8", "--output-dir", folder))  # fmt: skip

    @cached_property
    def run(self) -> Path:
        """The folder of a run of `evaluate`."""
        return self._made("run", lambda folder: self._typed(
            "evaluate", "--csv", self._written("pairs.csv", self.table), "--img-root", self.images,
            "--output-dir", folder))  # fmt: skip

    @cached_property
    def training(self) -> Path:
        """The folder of a training run of one epoch of a network that is hardly one."""
        return self._made("training", lambda folder: self._typed(*self.training_words,
            "--output-dir", folder))  # fmt: skip

    @cached_property
    def training_words(self) -> list[Any]:
        """The command line of `training`, without the folder."""
        return [
            "train", "--train-csv", self._written("pairs.csv", self.table), "--img-root",
            self.images, "--epochs", 1, "--batch-size", 2, "--image-size", 16, "--patch-size", 8,
            "--vision-width", 8, "--vision-layers", 1, "--vision-heads", 1, "--text-width", 8,
            "--text-layers", 1, "--text-heads", 1, "--embed-dim", 8, "--context-length", 8,
            "--vocab-size", 260, "--logger", "none", "--precision", "fp32",
        ]  # fmt: skip

    @cached_property
    def compressor(self) -> Path:
        """A shipped compressor."""
        from encoderlab.compression.compressor import shipped

        return shipped()["tiny-clip-12to3"]

    @cached_property
    def moments(self) -> bytes:
        """A saved state of streaming moments."""
        import torch

        from encoderlab.metrics.moments import Moments

        state = Moments()
        state.update({"a": torch.randn(6, 3), "b": torch.randn(6, 2)})
        path = self.folder / "moments.npz"
        state.save(path)
        return path.read_bytes()

    def warm_up(self) -> None:
        """Imports what is imported late, so that no case pays for it or is blamed for it."""
        from encoderlab.encoders.text import load_text
        from encoderlab.encoders.vision import load_vision

        load_text(str(self.checkpoint("llama"))).encode(["w1"])
        load_vision(str(self.checkpoint("siglip"))).encode([Image.new("RGB", (32, 32))])
        assert self.index and self.store and self.run

    def _typed(self, *words: Any) -> None:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            code = main([str(word) for word in words])
        assert code == 0, said.getvalue()

    def _written(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        folder = self.folder / name
        if not folder.exists():
            make(folder)
        return folder


def chat_record(name: str, caption: str) -> dict[str, Any]:
    """One record of the chat format."""
    asked = [{"type": "text", "text": "what is it?"}, {"type": "image", "image": name}]
    said = [{"type": "text", "text": caption}]
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    }


def _checkpoint(family: str, folder: Path) -> None:
    from tests import small_checkpoints, small_models

    if family == "ours":
        small_models.make_clip().save_pretrained(folder)
    elif family in small_checkpoints.TEXT:
        small_checkpoints.save_text(family, folder)
    else:
        small_checkpoints.save_vision(family, folder)
        if family in ("clip", "siglip"):
            small_checkpoints.save_tokenizer(folder, pad=True, end=family == "clip")


def _saved(image: Image.Image, format: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **more)
    return out.getvalue()


def _table(rows: list[tuple]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
