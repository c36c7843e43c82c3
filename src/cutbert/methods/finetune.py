"""Fine-tunes a full-size model on a task: the teacher of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cutbert.data.batches import Batch
from cutbert.data.settings import DataSettings
from cutbert.fronts.front import Entry
from cutbert.fronts.outputs import interval_fact
from cutbert.fronts.score import score_points, whole_point
from cutbert.hub.provenance import extend_provenance
from cutbert.hub.save import save_model
from cutbert.methods.finetune_settings import FinetuneSettings
from cutbert.methods.prepare import Prepared, check_inputs, prepare
from cutbert.methods.recipes import override_plan
from cutbert.model.losses import task_loss
from cutbert.model.task_model import TaskModel
from cutbert.train.loop import Stage, StepInfo, Work, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import StagePlan, TrainSettings

FINETUNE = StagePlan(
    name="finetune",
    epochs=3.0,
    batch_size=32,
    learning_rate=5e-5,
    warmup_ratio=0.06,
    weight_decay=0.01,
    schedule="linear",
    dropout=0.1,
    token_table="rows",
)


@dataclass(frozen=True)
class LabelStep:
    """One step of ordinary fine-tuning: the whole network against true labels."""

    model: TaskModel

    def __call__(self, work: Work, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        logits = work.model(batch.input_ids, batch.attention_mask, batch.token_type_ids, blocks=batch.blocks).logits
        mean = task_loss(
            self.model.head_spec, logits, batch.labels, attention_mask=batch.attention_mask, blocks=batch.blocks
        )
        loss = mean * info.label_share(batch)
        loss.backward()
        return {"labels": loss.detach()}


def finetune(
    model: str, data: DataSettings, train: TrainSettings, settings: FinetuneSettings, run: RunFolder
) -> dict[str, Any]:
    """Fine-tune a model on a task and store it in the run's `model/`.

    Args:
        model: hub id, model folder or run folder.
        data: the task.
        train: training flags.
        settings: of the method.
        run: opened run folder.

    Returns:
        The result with the keys out, score, select_score, metric, metrics, params, macs, seconds.

    Raises:
        InputError: mistakes in settings, model or data, all together, before anything is made.
    """
    dataset = check_inputs(data, train, models=(model,))
    with run.start():
        prepared = prepare(model, dataset, data.length_limit, train, run)
        with run.timing("finetune"):
            finetune_stage(prepared, FINETUNE, train, run)
        if prepared.engine.is_main:
            with run.timing("score"):
                entry = score_whole(prepared, run)
            save_trained(prepared, prepared.loaded.model, entry, run, "model")
            run.finish(
                {
                    "out": str(run.path),
                    "score": entry.score,
                    "select_score": entry.select_score,
                    "metric": dataset.metric,
                    "metrics": entry.metrics,
                    "params": entry.params,
                    "macs": entry.macs,
                    "seconds": run.seconds,
                }
            )
        prepared.engine.accelerator.wait_for_everyone()
    return RunFolder.read(run.path).result or {}


def finetune_stage(prepared: Prepared, plan: StagePlan, train: TrainSettings, run: RunFolder) -> None:
    """Train the prepared model on labels, in place."""
    model = prepared.loaded.model
    stage = Stage(override_plan(plan, train), prepared.train, LabelStep(model))
    train_stage(model, stage, prepared.engine, train, run)


def score_whole(prepared: Prepared, run: RunFolder) -> Entry:
    """Score the whole model on select and dev; its dev outputs go to predictions/teacher.json."""
    model = prepared.loaded.model
    point = whole_point(model.shape)
    metric = prepared.data.metric
    return score_points(run, model, [point], select=prepared.select, dev=prepared.dev, metric=metric)[0]


def save_trained(prepared: Prepared, model: TaskModel, entry: Entry | None, run: RunFolder, name: str) -> None:
    """Write a model into a folder of the run, with where it comes from and its scores where it has any."""
    data = prepared.data
    scores = {} if entry is None else {data.metric: entry.score, f"select_{data.metric}": entry.select_score}
    task = {name: value for name, value in run.settings.get("data", {}).items() if value not in (None, [], False)}
    facts = {"task": task, **({} if entry is None else interval_fact(run.path, entry.name, data.metric))}
    provenance = extend_provenance(prepared.loaded.provenance, run.line, data=data.files, scores=scores, facts=facts)
    save_model(run.path / name, model, prepared.loaded.tokenizer, provenance=provenance)
