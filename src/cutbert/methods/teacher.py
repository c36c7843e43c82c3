"""Who is imitated: the fine-tuned model, made first where there is none, or another with the same labels."""

from __future__ import annotations

from dataclasses import replace

from cutbert.data.dataset import Dataset, Examples
from cutbert.data.tokens import Tokens, tokenize_rows
from cutbert.errors import ModelError
from cutbert.hub.load import load_model, output_rows
from cutbert.hub.source import find_source
from cutbert.hub.tokenizer import load_tokenizer
from cutbert.methods.distil import Teacher
from cutbert.methods.finetune import FINETUNE, finetune_stage, save_trained
from cutbert.methods.prepare import Prepared
from cutbert.model.style import EncoderStyle
from cutbert.shape.folder import read_folder_shape
from cutbert.shape.head import HeadSpec
from cutbert.shape.shape import EncoderShape
from cutbert.train.progress import say
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working import frozen_copy


def check_teacher(source: str, model: str, head: HeadSpec, logit_weight: float) -> None:
    """Raise a ModelError unless a teacher has the task's head and, for outputs per token, the model's tokens.

    Where its logits do not count (weight 0), it must have hidden states that can be imitated.
    """
    if output_rows(read_folder_shape(find_source(source).folder).head, head)[0] is None:
        wanted = f"with the labels {', '.join(head.labels)}" if head.labels else f"of kind {head.kind}"
        raise ModelError(f"--teacher {source} must have a head {wanted}")
    if not head.is_sequence and vocabulary_of(source) != vocabulary_of(model):
        raise ModelError(f"--teacher {source} must have the tokenizer of {model}: outputs are imitated token by token")
    if not logit_weight and not gives_states(source, model):
        raise ModelError(
            f"--logit-weight must be above 0 with --teacher {source}, whose hidden states do not match those of "
            f"{model}: it gives nothing but logits"
        )


def gives_states(source: str, model: str) -> bool:
    """Whether a teacher's hidden states can be imitated."""
    one, other = (read_folder_shape(find_source(each).folder).shape for each in (source, model))
    return have_like_states(one, other) and vocabulary_of(source) == vocabulary_of(model)


def have_like_states(one: EncoderShape, other: EncoderShape) -> bool:
    """Whether two encoders give as many hidden states of as many units; of the same tokens, they can be compared."""
    return (one.hidden_size, one.num_layers) == (other.hidden_size, other.num_layers)


def vocabulary_of(source: str) -> dict[str, int]:
    """Return the tokens of a model, without its weights."""
    folder = find_source(source).folder
    facts = read_folder_shape(folder)
    return load_tokenizer(folder, facts.shape, EncoderStyle.from_json(facts.style_data)).get_vocab()


def ensure_finetuned(prepared: Prepared, train: TrainSettings, run: RunFolder) -> None:
    """Fine-tune the model first where its head is new, and keep it in `teacher/`."""
    loaded = prepared.loaded
    if not loaded.has_new_head:
        return
    kept = run.path / "teacher"
    say(
        f"{loaded.source} has no head that fits the labels: fine-tuning a teacher first, "
        f"{FINETUNE.epochs:g} passes, kept in {kept}",
        shown=prepared.engine.is_main,
    )
    defaults = TrainSettings(
        seed=train.seed,
        precision=train.precision,
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        max_grad_norm=train.max_grad_norm,
        checkpoint_seconds=train.checkpoint_seconds,
    )
    finetune_stage(prepared, replace(FINETUNE, name="teacher"), defaults, run)
    if prepared.engine.is_main and not kept.exists():
        save_trained(prepared, loaded.model, None, run, kept.name)


def imitated_teacher(prepared: Prepared, source: str | None, rows: Examples, max_length: int) -> Teacher:
    """Return who is imitated: the fine-tuned model, or another with the same labels.

    Args:
        prepared: the fine-tuned model.
        source: another teacher, or None for the model itself.
        rows: what is imitated on, tokenised anew for a teacher with another vocabulary.
        max_length: in tokens.
    """
    data, own, engine = prepared.data, prepared.loaded, prepared.engine
    if source is None:
        return Teacher(own.model, None, True)
    other = load_model(source, data.head)
    same_words = own.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    has_states = same_words and have_like_states(own.model.shape, other.model.shape)
    if not has_states:
        say("the teacher's hidden states do not match the model's: only logits are imitated", shown=engine.is_main)
    tokens = None if same_words else tokenize_rows(rows, other.tokenizer, other.source, max_length)
    return Teacher(other.model.to(engine.device), tokens, has_states)


def rows_to_imitate(data: Dataset) -> Examples:
    """Return the training rows, and the unlabelled rows where there are any."""
    return data.train if data.unlabeled is None else data.train.joined(data.unlabeled)


def teacher_and_tokens(prepared: Prepared, source: str | None, max_length: int) -> tuple[Teacher, Tokens]:
    """Return who is imitated, as a copy that stands still, and the tokens of the rows to imitate on.

    Arguments as of `imitated_teacher`.
    """
    data = prepared.data
    rows = rows_to_imitate(data)
    tokens = prepared.train if rows is data.train else prepared.tokenize(rows, max_length)
    teacher = imitated_teacher(prepared, source, rows, max_length)
    return replace(teacher, model=frozen_copy(teacher.model, prepared.engine.dtype)), tokens
