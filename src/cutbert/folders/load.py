"""Loading a model of any family, or one of ours, as a TaskModel with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from cutbert.errors import Mistakes, ModelError
from cutbert.files import read_json
from cutbert.folders.config import OUR_PREFIX
from cutbert.folders.families import TOKEN_TABLE, family_of
from cutbert.folders.family import Family
from cutbert.folders.provenance import FILE_NAME, first_provenance, read_provenance
from cutbert.folders.sentence import CROSS_ENCODER_FACT, read_cross_encoder, read_embedder
from cutbert.folders.tokenizer import load_tokenizer
from cutbert.folders.weights import modern_name, read_weights, weight_files
from cutbert.model.activations import ACTIVATIONS
from cutbert.model.style import EncoderStyle
from cutbert.model.task_model import TaskModel
from cutbert.shape.cost import cost_of
from cutbert.shape.folder import FolderShape
from cutbert.shape.head import HeadSpec
from cutbert.shape.pooling import READS
from cutbert.shape.shape import EncoderShape
from cutbert.shape.source import ModelSource, check_tokenizer, find_model
from cutbert.shape.stock_config import STOCK_FAMILIES, STOCK_POOLING

BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
BIAS_HEADS = "attention.bias_heads"  # a family's own files have none: there heads and columns are in one order
OUR_PARTS = (f"{OUR_PREFIX}encoder.", f"{OUR_PREFIX}head.")
DENSE, NORM, OUTPUT = "head.dense.", "head.norm.", "head.out."
ROOM_FOR_MISSING = 10**7  # parameters; so much is made first, and then named one by one


@dataclass(frozen=True)
class Loaded:
    """A loaded model, ready to run.

    Args:
        model: as loaded: float32, on the CPU, in evaluation mode.
        tokenizer: fast, with padding and truncation off.
        source: as the user gave it.
        notes: for the user: which parts were left out or are new, one sentence each.
        provenance: contents of cutbert.json, or new provenance where the folder has none.
        has_new_head: whether weights of the head are new, so that it must be trained before use.
    """

    model: TaskModel
    tokenizer: PreTrainedTokenizerFast
    source: str
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    has_new_head: bool = False


def load_model(
    model: str | Path | ModelSource, head: HeadSpec | None = None, *, seed: int = 0, revision: str | None = None
) -> Loaded:
    """Load a model folder, a run folder's model, a hub id, or a resolved reference.

    The checkpoint's head is kept where it fits the wanted one: the same kind, and the same label names in any
    order and letter case (outputs are reordered), or the same number of labels where the checkpoint's names are
    only LABEL_0, LABEL_1, ... Otherwise the output layer is new, and the dense layer before it is the checkpoint's
    where it has one (BERT's pooler) that was trained and reads what the new head reads. A head of whole texts that
    reads something else than the source asks for is new. The notes list what is new or left out.

    Args:
        model: as in `find_model`.
        head: the wanted head; None for the checkpoint's own.
        seed: of weights that are new.
        revision: branch, tag or commit of a hub id.

    Raises:
        ModelError: the files are missing, have an architecture we cannot express or weights we do not
            know, or lack weights of the encoder; or a new head cannot read texts as the folder says.
    """
    source = find_model(model, revision)
    refuse_remote_code(source)
    check_tokenizer(source.folder)
    files = weight_files(source.folder)
    tensors = read_weights(files)
    check_sizes(source, tensors)
    stored = Stored.of(tensors, source.facts)
    network = new_model(source, head or stored.own_head(), seed)
    notes, new = fill(network, stored)
    tokenizer = load_tokenizer(source.folder, network.shape, network.style)
    if (source.folder / FILE_NAME).is_file():
        provenance = read_provenance(source.folder)
    else:
        provenance = first_provenance(source.name, source.folder, files, source.commit)
    provenance.pop(CROSS_ENCODER_FACT, None)
    if network.head_spec.is_sequence and not new and (said := read_cross_encoder(source.folder)) is not None:
        provenance[CROSS_ENCODER_FACT] = said
    return Loaded(network.eval(), tokenizer, source.name, tuple(notes), provenance, bool(new))


def new_loaded(source: ModelSource, shape: EncoderShape, head: HeadSpec, *, seed: int = 0) -> Loaded:
    """Return a new network of any shape, with random weights, and with the style and tokenizer of a model.

    Args:
        source: the model; its weights are not read.
        shape: of the new network; must hold the tokenizer's vocabulary.
        head: the wanted head.
        seed: of the weights.

    Raises:
        ModelError: the files have an architecture we cannot express, or the tokenizer does not fit.
    """
    refuse_remote_code(source)
    network = new_model(replace(source, facts=replace(source.facts, shape=shape)), head, seed)
    tokenizer = load_tokenizer(source.folder, shape, network.style)
    base = f"none: new weights, with the tokenizer of {source.name}"
    provenance = first_provenance(base, source.folder, (), source.commit)
    notes = [f"all weights are new; tokenizer and style are those of {source.name}"]
    if len(tokenizer) < shape.vocab_size:
        notes.append(
            f"the tokenizer has {len(tokenizer):,} tokens, the shape {shape.vocab_size:,} rows: some are never used"
        )
    return Loaded(network.eval(), tokenizer, source.name, tuple(notes), provenance, has_new_head=True)


@dataclass
class Stored:
    """The weights of a checkpoint by the family's names without prefix; and which of them have been used."""

    tensors: dict[str, Tensor]
    family: Family
    head: HeadSpec
    pooling: str  # what its dense layer reads
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], facts: FolderShape) -> Stored:
        family = family_of(str(facts.family))
        by_name: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            by_name |= family.parted(family.in_file(family_name(name, family, facts.head)), tensor)
        pooling = facts.style_data.get("pooling", STOCK_POOLING) if facts.head.is_sequence else STOCK_POOLING
        return cls(by_name, family, facts.head, pooling)

    def own_head(self) -> HeadSpec:
        """Return the head the checkpoint was saved with; none where weights of a pooler or a masked LM are missing.

        A sentence-transformers model names the class it was made from, a masked LM, whose head it no longer has.
        """
        if self.head.kind in ("pooler", "masked_lm"):
            return (
                self.head if self.family.name_of(DENSE + "weight", self.head.kind) in self.tensors else HeadSpec("none")
            )
        return self.head

    def aliases(self, ours: str) -> list[str]:
        """Return further names under which the family may store a second copy of a parameter."""
        return [name for name, known in self.family.decoder.items() if known == ours]

    def take(self, *names: str) -> Tensor | None:
        """Return the first tensor that has one of these names, and mark all of them as used."""
        self.used.update(names)
        return next((self.tensors[name] for name in names if name in self.tensors), None)

    def leftovers(self) -> list[str]:
        return sorted(name for name in self.tensors if name not in self.used and name not in BUFFERS)


def family_name(name: str, family: Family, head: HeadSpec) -> str:
    """Return the family's name without prefix of a weight stored by the family's class or by ours."""
    if name.startswith(OUR_PARTS):
        try:
            return family.name_of(name.removeprefix(OUR_PREFIX), head.kind)
        except KeyError:
            return name
    modern = modern_name(name)
    for prefix in filter(None, (family.prefix, family.old_prefix)):
        modern = modern.removeprefix(f"{prefix}.")
    return modern


def refuse_remote_code(source: ModelSource) -> None:
    """Raise where a config asks for code from the model's repository; none is ever run.

    Raises:
        ModelError: tokenizer_config.json has an auto_map, or config.json, of a family whose class in transformers was
            not made of such code.
    """
    family = STOCK_FAMILIES.get(source.facts.family or "")
    needs_none = family is not None and family.began_as_remote_code
    for name in ("tokenizer_config.json",) if needs_none else ("config.json", "tokenizer_config.json"):
        path = source.folder / name
        data = read_json(path, ModelError) if path.is_file() else {}
        if isinstance(data, dict) and data.get("auto_map"):
            raise ModelError(f"{path}: must not need code from the model's own repository, got an auto_map")


def check_sizes(source: ModelSource, tensors: Mapping[str, Tensor]) -> None:
    """Raise a ModelError where a config's sizes are far beyond its weights, before a network of those sizes is made."""
    wanted, got = cost_of(source.shape).params, sum(tensor.numel() for tensor in tensors.values())
    if wanted > 2 * got + ROOM_FOR_MISSING:
        raise ModelError(
            f"{source.folder}: weights must be of the sizes that config.json gives, {wanted:,} parameters without a "
            f"head, got {got:,}"
        )


def new_model(source: ModelSource, spec: HeadSpec, seed: int) -> TaskModel:
    """Return a network of a folder's shape with seeded random weights; torch's global generator is not changed."""
    if spec.is_sequence:
        source.check_pooling()
    if spec.kind == "embedding":
        spec = replace(spec, normalizes=read_embedder(source.name, source.folder).normalize)
    style = EncoderStyle.from_json(source.style_data)
    for name in (style.activation, style.head_activation):
        if name not in ACTIVATIONS:
            raise ModelError(f"an activation must be one of {', '.join(sorted(ACTIVATIONS))}, got {name!r}")
    family_of(style.family).check_head(spec.kind, style)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TaskModel(source.shape, style, spec)


@torch.no_grad()
def fill(model: TaskModel, stored: Stored) -> tuple[list[str], list[str]]:
    """Copy a checkpoint's weights into a model.

    Returns:
        Notes on reordered outputs, new parts and parts left out; and the names of new weights.

    Raises:
        ModelError: weights of the encoder are missing, have another size, are not finite, or are unknown.
    """
    rows, notes = kept_outputs(model, stored)
    why_new = None if rows is not None or not model.head_spec.is_sequence else unusable_dense(model, stored)
    notes += [] if why_new is None else [f"{why_new}: it is new"]
    mistakes = Mistakes()
    new: list[str] = []
    for ours, target in model.state_dict().items():
        name = stored.family.name_of(ours, model.head_spec.kind)
        is_output = ours.startswith(OUTPUT)
        tensor = None if is_output and rows is None else stored.take(name, *stored.aliases(ours))
        if why_new is not None and ours.startswith((DENSE, NORM)):
            tensor = None
        if tensor is None and ours.endswith(BIAS_HEADS):
            continue
        if tensor is None and ours.startswith("encoder."):
            mistakes.add(f"weights must have {name}, got none")
        elif tensor is None:
            new.append(name)
        elif tensor.shape != target.shape:
            mistakes.add(f"{name} must have the shape {tuple(target.shape)}, got {tuple(tensor.shape)}")
        elif not torch.isfinite(tensor).all():
            mistakes.add(f"{name} must have finite numbers only, got infinity or NaN")
        else:
            target.copy_(tensor[rows] if is_output else tensor)
    if model.head_spec.kind == "masked_lm":
        mistakes.extend(untied(stored))
    left = stored.leftovers()
    unknown = [name for name in left if not stored.family.is_head_name(name)]
    mistakes.extend(f"weights must be of a {stored.family.name}, got {name}, which is not one" for name in unknown)
    mistakes.check(ModelError)
    notes.extend(f"{what}: {modules(names)}" for what, names in (("new, untrained", new), ("left out", left)) if names)
    return notes, new


def kept_outputs(model: TaskModel, stored: Stored) -> tuple[list[int] | None, list[str]]:
    """Return what `output_rows` does; None too where the checkpoint's head reads something else than the model's."""
    rows, notes = output_rows(stored.head, model.head_spec)
    if rows is not None and model.head_spec.is_sequence and stored.pooling != model.pooling:
        return None, [f"the checkpoint's head reads {READS[stored.pooling]}, not {READS[model.pooling]}"]
    return rows, notes


def unusable_dense(model: TaskModel, stored: Stored) -> str | None:
    """Return why a new head of whole texts must not have the checkpoint's dense layer; None where it may, or has none.

    A trained pooler has a bias: transformers draws weights and sets biases to zero, and a model that was trained
    without its pooler, as sentence-transformers' are, still has it as it was drawn.
    """
    weight, bias = (stored.family.name_of(DENSE + each, model.head_spec.kind) for each in ("weight", "bias"))
    is_prediction = model.shape.ingredients.has_prediction_head  # made for every token; a masked LM's is of use here
    if (weight if is_prediction else bias) not in stored.tensors:
        return None
    name = weight.removesuffix(".weight")
    if bias in stored.tensors and not stored.tensors[bias].any():
        what = "the pooler" if name.startswith("pooler.") else name
        return f"{what} was never trained (its bias is all zero)"
    if stored.pooling != model.pooling and (stored.head.is_sequence or not is_prediction):
        return f"the checkpoint's {name} reads {READS[stored.pooling]}, not {READS[model.pooling]}"
    return None


def output_rows(own: HeadSpec, wanted: HeadSpec) -> tuple[list[int] | None, list[str]]:
    """Return for each wanted label the index of the checkpoint's output, and notes.

    Returns:
        None in origin of the indices where the output layer must be new, or the head has none.
    """
    same = list(range(wanted.num_outputs))
    if wanted.num_outputs == 0:
        return None, []
    if own.kind != wanted.kind or own.num_outputs != wanted.num_outputs:
        return None, [f"the checkpoint's head is {own.words}, not {wanted.words}"]
    if own.labels == wanted.labels or own.kind == "span" or own.num_outputs == 1:
        return same, []
    if not own.has_names:
        return same, [f"the checkpoint's labels have no names; taken in order as {wanted.label_words}"]
    ids = {label.casefold(): i for i, label in enumerate(own.labels)}
    names = [label.casefold() for label in wanted.labels]
    if len(ids) == len(same) and sorted(ids) == sorted(names):
        rows = [ids[name] for name in names]
        return rows, [] if rows == same else [f"outputs reordered to {wanted.label_words}"]
    return None, [f"the checkpoint's head is {own.words}, not {wanted.words}"]


def modules(names: list[str]) -> str:
    """Return the modules of some parameters, each once, in order."""
    return ", ".join(dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in names))


def untied(stored: Stored) -> list[str]:
    """Return a mistake for each copy of the token table stored for the output that differs from the table."""
    table = stored.tensors[stored.family.name_of(TOKEN_TABLE, "masked_lm")]
    copies = [stored.take(name) for name in stored.aliases(TOKEN_TABLE)]
    return [
        "the masked-LM output must be tied to the token table, got another table"
        for copy in copies
        if copy is not None and not torch.equal(copy, table)
    ]
