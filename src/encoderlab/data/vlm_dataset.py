"""The five typed data sets of VLM training in the chat format, and the bundled samples.

Knows where the label files and images of each type lie under a data root.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from encoderlab.core.progress import note
from encoderlab.core.project import load_config
from encoderlab.data.chat import read_chat
from encoderlab.data.sample import Sample, Samples
from encoderlab.errors import MissingError, unknown

SAMPLE_DATA = Path(__file__).parent / "sample_data"
ROOT_VARIABLE = "VLM_DATA_ROOT"


@dataclass(frozen=True)
class TypedSet:
    """Where one data type lies below the root: its label file and its image folder."""

    labels: str
    images: str


TYPED_SETS = {
    "chart": TypedSet("label_v2/bichallava_instruct_230k_chart_v2_axolotl.jsonl",
                      "images/bichallava_instruct_230k_chart"),
    "table": TypedSet("label_v2/table-VQA-ko-60k.jsonl", "images/table-VQA-ko-60k"),
    "visualization": TypedSet("label_v2/AIHUB_Visualization_v2_axolotl.jsonl",
                              "images/AIHUB_Visualization"),
    "text": TypedSet("label_v2/AIHUB_subjectmaterial_text_modify_v2_axolotl.jsonl",
                     "images/AIHUB_subjectmaterial_text_modify"),
    "math": TypedSet("label_v2/AIHUB_mathproblem_multiple_v2_axolotl.jsonl",
                     "images/AIHUB_mathproblem_multiple"),
}  # fmt: skip


def typed_sets() -> dict[str, TypedSet]:
    """The data sets by type: `TYPED_SETS`, updated with those of the project's configuration."""
    own = {name: TypedSet(*where) for name, where in load_config().datasets.items()}
    return TYPED_SETS | own


class VLMDataset:
    """Samples by data type from a root of chat-format sets, or the bundled samples.

    The root is the first that is given of `data_root`, the environment's VLM_DATA_ROOT and the
    root of the project's configuration; without any, the nine built-in samples are used. The choice
    is noted on stderr.

    Args:
        data_root: a folder with label files and images.

    Raises:
        MissingError: a root was named and is not there.
    """

    def __init__(self, data_root: str | Path | None = None) -> None:
        project = load_config()
        self.samples = _sample_folder(project.sample_dir)
        chosen, why = _choose_root(data_root, project.data_root)
        self.is_built_in = chosen is None
        self.root = chosen or self.samples
        self.sets = typed_sets()
        note(f"data: {'built-in samples' if self.is_built_in else self.root} ({why})")
        self._samples: dict[str, Samples] = {}

    @property
    def data_types(self) -> tuple[str, ...]:
        """The types that have a label file under the root."""
        if self.is_built_in:
            return tuple(dict.fromkeys(s.label for s in self._built_in() if s.label))
        return tuple(
            name for name, where in self.sets.items() if (self.root / where.labels).is_file()
        )

    def load_samples(self, data_type: str, n_samples: int | None = None) -> Samples:
        """The first samples of a data type.

        Args:
            data_type: one of `data_types`.
            n_samples: how many; None for all.

        Returns:
            The samples, with those of the type that were skipped.

        Raises:
            UsageError: no such type, or a damaged label file.
            MissingError: the type's files are not under the root.
        """
        if data_type not in self._samples:
            self._samples[data_type] = self._read(data_type)
        samples = self._samples[data_type]
        return Samples(samples[:n_samples], samples.skipped)

    def load_mixed(
        self, n_per_type: int | None = None, data_types: Sequence[str] | None = None
    ) -> list[Sample]:
        """The first samples of several data types.

        Args:
            n_per_type: how many of each; None for all.
            data_types: which; None for all.

        Returns:
            The samples, type by type.

        Raises:
            UsageError: no such type, or a damaged label file.
        """
        types = self.data_types if data_types is None else data_types
        return [sample for name in types for sample in self.load_samples(name, n_per_type)]

    @staticmethod
    def get_images_and_texts(samples: Sequence[Sample]) -> tuple[list[Image.Image], list[str]]:
        """The decoded images and the texts of each as one string.

        Args:
            samples: with texts.

        Returns:
            (RGB images, one string per sample).

        Raises:
            ImageError: an image that cannot be used.
        """
        return [sample.load() for sample in samples], [" ".join(s.texts) for s in samples]

    def _read(self, data_type: str) -> Samples:
        if self.is_built_in:
            if data_type not in self.data_types:
                kind = "data type of the built-in samples"
                raise unknown(kind, data_type, self.data_types, "encoderlab ls datasets")
            return Samples(sample for sample in self._built_in() if sample.label == data_type)
        if data_type not in self.sets:
            raise unknown("data type", data_type, list(self.sets), "encoderlab ls datasets")
        where = self.sets[data_type]
        return read_chat(self.root / where.labels, self.root / where.images, label=data_type)

    def _built_in(self) -> Samples:
        return read_chat(self.samples / "labels.jsonl", self.samples / "images")


def _choose_root(
    argument: str | Path | None, configured: str | Path | None
) -> tuple[Path | None, str]:
    """The data root, None for the built-in samples, and why."""
    candidates = (
        (argument, "as asked"),
        (os.environ.get(ROOT_VARIABLE), f"from {ROOT_VARIABLE}"),
        (configured, "from the configuration"),
    )
    for root, why in candidates:
        if root:
            if not Path(root).is_dir():
                raise MissingError(
                    "the data root is not there",
                    got=f"{root} ({why})",
                    want="a folder with label_v2/ and images/",
                )
            return Path(root), why
    return None, f"{ROOT_VARIABLE} is not set"


def _sample_folder(configured: str | None) -> Path:
    """The folder of built-in samples: that of the project's configuration if it is there."""
    if configured and (Path(configured) / "labels.jsonl").is_file():
        return Path(configured)
    if configured and configured != SAMPLE_DATA.name:
        raise MissingError(
            "the folder of samples is not there",
            got=f"{configured} (data.sample_dir of the configuration)",
            want="a folder with labels.jsonl and images/",
        )
    return SAMPLE_DATA
