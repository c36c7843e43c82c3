"""The table of verbs, in the order of the help: the command line and the functions are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutbert.analysis.settings import AnalyzeSettings
from cutbert.api.verb import Verb, Word
from cutbert.bench.settings import MeasureSettings
from cutbert.data.settings import RETRIEVAL, DataSettings, ScoredData
from cutbert.data.text_settings import TextSettings
from cutbert.exporters.settings import ExportSettings
from cutbert.fronts.search_settings import SearchSettings
from cutbert.fronts.settings import FrontSettings, PickSettings
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.fit_settings import PLANNED, FitSettings
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.options import option
from cutbert.pages.settings import ReportSettings
from cutbert.settings import MEASURING, RunSettings, Settings
from cutbert.shape.cost import DEFAULT_SEQUENCE_LENGTH
from cutbert.sweeps.settings import SweepSettings
from cutbert.train.predict_settings import PredictSettings
from cutbert.train.settings import TrainSettings
from cutbert.work.finetune_settings import FinetuneSettings


@dataclass(frozen=True, kw_only=True)
class CostSettings(Settings):
    """What costs depend on beside the model."""

    GROUP = MEASURING

    sequence_length: int = field(
        default=DEFAULT_SEQUENCE_LENGTH,
        metadata=option("Length of the one text that MACs are counted for.", least=1, unit="tokens"),
    )


MODEL = Word("MODEL", "a hub id, a model folder, or a run folder (its model/).")
MODELS = Word("MODEL", "hub ids, model folders or run folders.", is_many=True)
RUN = Word("RUN", "a finished run folder with a front.")
RUNS = Word("RUN", "finished run folders; of a demo, its folder.", is_many=True)
SIZES = Word("MODEL", "a model folder, a run folder, a shape file (.json), a hub id, or schuBERT's 99M and others.")
PLAN = Word("PLAN", "a plan file (.toml); none with --show.", is_optional=True)

TABLE = (
    Verb(
        "fit",
        "A model, data and a limit in; the best network under the limit out, exported, with a leaderboard.",
        (MODEL,),
        (RunSettings, DataSettings, FitSettings, TrainSettings),
        without=PLANNED,
        resumes=True,
    ),
    Verb(
        "demo",
        "The main job on an embedded model and data set, in minutes on two cores.",
        (),
        (DemoSettings,),
        resumes=True,
    ),
    Verb(
        "finetune",
        "A full-size model on a task: the teacher.",
        (MODEL,),
        (RunSettings, DataSettings, FinetuneSettings, TrainSettings),
        without=("objective", *RETRIEVAL),
        resumes=True,
    ),
    Verb(
        "dynabert",
        "A family of smaller models, any width and depth, from one run.",
        (MODEL,),
        (RunSettings, DataSettings, TextSettings, DynabertSettings, TrainSettings),
        resumes=True,
    ),
    Verb(
        "schubert",
        "One smaller model under a budget: every size chosen by learned gates.",
        (MODEL,),
        (RunSettings, DataSettings, TextSettings, SchubertSettings, TrainSettings),
        resumes=True,
    ),
    Verb(
        "undivided",
        "Fewer feed-forwards than attention layers: cut from a model and healed, or trained from scratch.",
        (MODEL,),
        (RunSettings, DataSettings, TextSettings, UndividedSettings, TrainSettings),
        resumes=True,
    ),
    Verb(
        "depth",
        "How many layers a task needs, chosen before fine-tuning; fine-tunes the first N alone.",
        (MODEL,),
        (RunSettings, DataSettings, DepthSettings, TrainSettings),
        resumes=True,
    ),
    Verb(
        "pretrain",
        "Masked-LM training of any shape on plain text, from weights or from scratch.",
        (MODEL,),
        (RunSettings, TextSettings, PretrainSettings, TrainSettings),
        resumes=True,
    ),
    Verb(
        "sweep",
        "Many runs from one plan, resumable, here or on a Ray cluster; their scores in one table.",
        (PLAN,),
        (SweepSettings,),
        resumes=True,
    ),
    Verb("front", "The table of subnets of a run: score, params, MACs, measured latency.", (RUN,), (FrontSettings,)),
    Verb("pick", "The best subnet of a run under your limits, written as a model folder.", (RUN,), (PickSettings,)),
    Verb(
        "search",
        "Per-layer subnets of a dynabert run under a budget, beyond its grid; adds to the run's front.",
        (RUN,),
        (SearchSettings,),
        resumes=True,
    ),
    Verb(
        "report",
        "One HTML page of one run or several: fronts, shapes, training, pictures; it opens offline.",
        (RUNS,),
        (ReportSettings,),
    ),
    Verb(
        "predict",
        "Labels, entities, answers, vectors or scores for a file of texts.",
        (MODEL,),
        (PredictSettings,),
        pipes=True,
    ),
    Verb(
        "measure",
        "Params, MACs, latency, throughput, peak memory and score of models, side by side.",
        (MODELS,),
        (MeasureSettings, ScoredData),
        without=("select", "unlabeled", "max_train_samples", "pooling"),
    ),
    Verb(
        "analyze",
        "What layers represent: CKA between layers or models, linear probes, importance by layer.",
        (MODEL,),
        (AnalyzeSettings, DataSettings),
        without=("unlabeled", "pooling", "objective", *RETRIEVAL),
    ),
    Verb(
        "cost",
        "Params, MACs and bytes of a model folder or a shape file, without loading weights.",
        (SIZES,),
        (CostSettings,),
    ),
    Verb(
        "export",
        "ONNX and int8 files that ONNX Runtime loads with no cutbert and no torch.",
        (MODEL,),
        (ExportSettings, DataSettings),
        without=("unlabeled", "pooling"),
    ),
)
VERBS = {verb.name: verb for verb in TABLE}
