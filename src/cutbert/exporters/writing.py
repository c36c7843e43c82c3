"""Where an export is written: beside the model, as a new model folder, or as a folder in other loaders' layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from cutbert.exporters.folder import FLOAT_FILE, FOLDER, add_files, longest_text, write_example
from cutbert.exporters.layouts import Graphs, triton_name, write_layouts
from cutbert.exporters.settings import ExportSettings
from cutbert.files import change_json, put_back_on_error, replacing_folder
from cutbert.folders.card import CARD, write_card
from cutbert.folders.load import Loaded
from cutbert.folders.provenance import FILE_NAME, extend_provenance, read_provenance
from cutbert.folders.save import save_for_loaders, save_model
from cutbert.folders.sentence import Sentence, read_cross_encoder
from cutbert.shape.source import ModelSource
from cutbert.train.progress import say

GraphFiles = Mapping[str, onnx.ModelProto]  # by their names


@dataclass(frozen=True, eq=False)
class Writing:
    """What is known of an export before its graphs are made.

    Args:
        source: the model.
        sentence: how a bare encoder's states become vectors; None where nothing says it.
        settings: the folder and the layouts.
        line: the command, for provenance.
    """

    source: ModelSource
    sentence: Sentence | None
    settings: ExportSettings
    line: str

    def write(self, loaded: Loaded, files: GraphFiles, result: dict[str, Any]) -> dict[str, Any]:
        """Write graphs with their model, whole or not at all, and return the --json object.

        Args:
            loaded: the model.
            files: graphs by their files' names.
            result: of the checks.
        """
        int8 = {key: value for key, value in result.items() if "score" in key or key == "metric"}
        facts: dict[str, Any] = {}
        if self.settings.wants_int8 and int8:
            facts = {"int8": {**int8, "calibration": self.settings.calibration}}
        if self.settings.layouts:
            return result | self.write_for_loaders(loaded, files, facts)
        if self.settings.out is not None:
            folder = Path(self.settings.out)
            self.write_new(folder, loaded, files, facts)
        else:
            folder = self.source.folder
            self.add_to_model(loaded, files, facts)
        names = [str(folder / FOLDER / name) for name in files] or [str(folder / "model.safetensors")]
        return {"out": str(folder), **result, "files": names}

    def write_new(self, folder: Path, loaded: Loaded, files: GraphFiles, facts: Mapping[str, Any]) -> None:
        """Write a new model folder."""
        provenance = extend_provenance(loaded.provenance, self.line, facts=facts)
        provenance.pop("layouts", None)  # of MODEL's folder
        with replacing_folder(folder, is_new=True) as aside:
            save_model(aside, loaded.model, loaded.tokenizer, provenance=provenance, sentence=self.sentence)
            add_files(aside, loaded, files, self.sentence)
            write_card(aside)

    def add_to_model(self, loaded: Loaded, files: GraphFiles, facts: Mapping[str, Any]) -> None:
        """Write graphs into MODEL's own folder."""
        folder = self.source.folder

        def provenance_now() -> dict[str, Any]:
            stored = read_provenance(folder) if (folder / FILE_NAME).is_file() else loaded.provenance
            return extend_provenance(stored, self.line, facts=facts)

        with put_back_on_error(folder, (FOLDER, "tokenizer.json", FILE_NAME, CARD)):
            add_files(folder, loaded, files, self.sentence)
            change_json(folder / FILE_NAME, provenance_now)
            write_card(folder)

    def write_for_loaders(self, loaded: Loaded, files: GraphFiles, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write a folder in the layouts asked for; return `out`, `files` and `layouts`."""
        folder, sentence = Path(str(self.settings.out)), self.sentence
        cross_encoder, head = read_cross_encoder(self.source.folder) or {}, loaded.model.head_spec
        is_score = head.is_sequence and head.num_outputs == 1
        if is_score and "sentence-transformers" in self.settings.layouts and "activation_fn" not in cross_encoder:
            say(
                f"{self.source} names no activation: sentence-transformers' CrossEncoder applies a sigmoid to its "
                "output, and nothing to this folder's (activation_fn in config.json); the order of scores is the same"
            )
        int8_name = next((name for name in files if name != FLOAT_FILE), "")
        graphs = Graphs(files.get(FLOAT_FILE), files.get(int8_name), int8_name, triton_name(folder))
        with replacing_folder(folder, is_new=True) as aside:
            layouts = write_layouts(aside, self.settings.layouts, graphs)
            provenance = extend_provenance(loaded.provenance, self.line, facts=facts)
            save_for_loaders(
                aside,
                loaded.model,
                loaded.tokenizer,
                provenance={**provenance, "layouts": layouts},
                longest=longest_text(loaded, sentence),
                sentence=sentence,
                cross_encoder=cross_encoder,
            )
            if (aside / FOLDER).is_dir():
                first = min(path.name for path in (aside / FOLDER).glob("*.onnx"))
                write_example(aside / FOLDER, loaded, first, sentence)
            write_card(aside)
        paths = dict.fromkeys(path for each in layouts.values() for path in each)
        return {
            "out": str(folder),
            "files": [str(folder / path) for path in paths],
            "layouts": {name: [str(folder / path) for path in each] for name, each in layouts.items()},
        }
