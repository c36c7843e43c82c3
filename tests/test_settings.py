"""Settings: every mistake that can be known without data or weights, in one table; and what all settings keep to."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cutbert.analysis.settings import AnalyzeSettings
from cutbert.api.table import TABLE, VERBS, CostSettings
from cutbert.bench.settings import LatencySettings, MeasureSettings
from cutbert.data.settings import AugmentSettings, DataSettings
from cutbert.data.text_settings import TextSettings
from cutbert.errors import BudgetError, DataError, InputError, RunError
from cutbert.exporters.settings import ExportSettings
from cutbert.fronts.search_settings import SearchSettings
from cutbert.fronts.settings import FrontSettings, PickSettings
from cutbert.methods.demo_settings import DemoSettings
from cutbert.methods.depth_settings import DepthSettings
from cutbert.methods.dynabert_settings import DynabertSettings
from cutbert.methods.pretrain_settings import PretrainSettings
from cutbert.methods.schubert_settings import SchubertSettings
from cutbert.methods.undivided_settings import UndividedSettings
from cutbert.options import options_of
from cutbert.quantities import SUFFIXES
from cutbert.settings import GROUPS
from cutbert.shape.budget import Limits
from cutbert.sweeps.settings import SweepSettings
from cutbert.train.predict_settings import OUT_FORMATS, PredictSettings
from cutbert.train.settings import TrainSettings

BACKENDS = "torch, torch-bf16, onnx, onnx-int8"
ONE_OF = "schubert must have one of --budget NAME=X and --from-paper NAME"
NOTHING = "one of --logit-weight and --hidden-weight must be above 0: nothing else is trained for"
WAYS = "undivided must have one of --ffn-every, --pattern, --ffn-keep and --num-ffn, got"
HALF: dict[str, Any] = {"budget": "macs=0.5"}
ONE: dict[str, Any] = {"num_ffn": 1}
GRADUAL: dict[str, Any] = {"num_ffn": 1, "removal": "gradual"}
NEW: dict[str, Any] = {"from_scratch": "shape.json", "num_ffn": 1}
LABELS: dict[str, Any] = {"input": "i.tsv", "text": "t"}

# Settings, what is given, and every mistake, in order.
MISTAKES: list[tuple[type[Any], dict[str, Any], list[str]]] = [
    (
        TrainSettings,
        {
            "epochs": -1.0, "dropout": 1.0, "batch_size": 0, "accumulation": 0, "max_grad_norm": 0.0, "seed": -1,
            "device": "tpu", "threads": 0, "learning_rate": float("inf"), "precision": "fp16",
        },
        [
            "--seed must lie in 0..4294967295, got -1",
            "--threads must be at least 1, got 0",
            "--device must be auto, cpu, cuda or cuda:N, got 'tpu'",
            "--precision must be one of auto, float32, bf16, got 'fp16'",
            "--epochs must be at least 0, got -1.0",
            "--batch-size must be at least 1, got 0",
            "--learning-rate must be above 0 and finite, got inf",
            "--dropout must lie in [0, 0.99], got 1.0",
            "--max-grad-norm must be above 0, got 0.0",
            "--accumulation must be at least 1, got 0",
        ],
    ),
    (
        DynabertSettings,
        {
            "width_mult": (1.0, 7.0), "depth_mult": (0.0,), "depths": (3, 0), "logit_weight": -1.0,
            "final_epochs": float("nan"), "temperature": 0.0, "augment_probability": 1.5, "augment_rounds": 0,
            "subnets_per_step": -1, "augment": "words", "augment_model": "bert",
        },
        [
            "--logit-weight must be at least 0, got -1.0",
            "--temperature must be above 0, got 0.0",
            "--width-mult must lie in (0, 1], got 7.0",
            "--depth-mult must lie in (0, 1], got 0.0",
            "--depths must be at least 1, got 0",
            "--subnets-per-step must be at least 0, got -1",
            "--final-epochs must be at least 0 and finite, got nan",
            "--augment-probability must lie in (0, 1], got 1.5",
            "--augment-rounds must be at least 1, got 0",
            "--augment-model must come with --augment mlm",
            "--augment words must come with --augment-words",
        ],
    ),
    (DynabertSettings, {"logit_weight": 0.0, "hidden_weight": 0.0}, [NOTHING]),
    (SchubertSettings, {}, [ONE_OF]),
    (SchubertSettings, {**HALF, "from_paper": "99M"}, [ONE_OF]),
    (
        SchubertSettings,
        {"budget": "speed=0.5"},
        ["--budget must be NAME=X with NAME one of params, params_encoder, macs, bytes, latency_ms, got 'speed=0.5'"],
    ),
    (
        SchubertSettings,
        {"budget": "macs=half"},
        ["--budget macs must be a number above 0, such as 0.5 or 15M, got 'half'"],
    ),
    (
        SchubertSettings,
        {"budget": "bytes=8M"},
        ["--budget bytes must be a number above 0, such as 0.5 or 8MB, got '8M'"],
    ),
    (SchubertSettings, {**HALF, "rounds": 0}, ["--rounds must be at least 1, got 0"]),
    (SchubertSettings, {**HALF, "rounds": 2, "last_share": 0}, ["--last-share must lie in (0, 1], got 0"]),
    (SchubertSettings, {**HALF, "last_share": 0.5}, ["--last-share must come with --rounds of at least 2"]),
    (SchubertSettings, {**HALF, "length": 9}, ["--length must come with --budget latency_ms=X"]),
    (SchubertSettings, {"budget": "latency_ms=0.5", "length": 0}, ["--length must be at least 1, got 0"]),
    (SchubertSettings, {**HALF, "gate_learning_rate": 0.0}, ["--gate-learning-rate must be above 0, got 0.0"]),
    (SchubertSettings, {**HALF, "logit_weight": 0.0, "hidden_weight": 0.0}, [NOTHING]),
    (SchubertSettings, {**HALF, "dims": ()}, ["--dims must name some of h, f, a, k, v, got none"]),
    (
        SchubertSettings,
        {"from_paper": "12M"},
        ["--from-paper must be one of 99M, 88M, 77M, 66M, 55M, 43M, 33M, got '12M'"],
    ),
    (
        SchubertSettings,
        {"from_paper": "99M", "uniform": True, "dims": ("f",)},
        [f"{name} must not be given with --from-paper, which names every size" for name in ("--dims", "--uniform")],
    ),
    (SchubertSettings, {**HALF, "gamma": 1e-4}, ["--gamma must come with --recipe paper"]),
    (SchubertSettings, {**HALF, "recipe": "paper", "gamma": 0.0}, ["--gamma must be above 0, got 0.0"]),
    (UndividedSettings, {}, [f"{WAYS} none"]),
    (UndividedSettings, {"ffn_every": 2, "num_ffn": 1}, [f"{WAYS} --ffn-every and --num-ffn"]),
    (UndividedSettings, {"ffn_every": 0}, ["--ffn-every must be at least 1, got 0"]),
    (UndividedSettings, {"num_ffn": -1}, ["--num-ffn must be at least 0, got -1"]),
    (UndividedSettings, {"pattern": "AB"}, ["--pattern must be a string of A and F, got 'AB'"]),
    (UndividedSettings, {"ffn_keep": (1, 1)}, ["--ffn-keep must name each layer once, got 1, 1"]),
    (UndividedSettings, {"ffn_keep": (-1,)}, ["--ffn-keep must be at least 0, got -1"]),
    (UndividedSettings, {"ffn_every": 2, "choose": "cka"}, ["--choose must come with --num-ffn"]),
    (
        UndividedSettings,
        {**ONE, "choose": "even", "choose_samples": 9},
        ["--choose-samples must come with --num-ffn and --choose importance or cka"],
    ),
    (UndividedSettings, {**ONE, "choose": "cka", "choose_samples": 0}, ["--choose-samples must be at least 1, got 0"]),
    (
        UndividedSettings,
        {**ONE, "removal_rounds": 2, "removal_share": 0.2},
        [f"{name} must come with --removal gradual" for name in ("--removal-rounds", "--removal-share")],
    ),
    (
        UndividedSettings,
        {**GRADUAL, "removal_share": 0.0, "removal_rounds": 0},
        ["--removal-rounds must be at least 1, got 0", "--removal-share must lie in (0, 1], got 0.0"],
    ),
    (UndividedSettings, {**GRADUAL, "heal": False}, ["--removal gradual must come with healing, got --no-heal"]),
    (UndividedSettings, {**ONE, "equal_params": True}, ["--equal-params must come with --from-scratch"]),
    (UndividedSettings, {**ONE, "temperature": 0.0}, ["--temperature must be above 0, got 0.0"]),
    (UndividedSettings, {**ONE, "final_epochs": -1.0}, ["--final-epochs must be at least 0, got -1.0"]),
    (UndividedSettings, {**ONE, "logit_weight": 0.0, "hidden_weight": 0.0}, [NOTHING]),
    (
        UndividedSettings,
        {**NEW, "removal": "gradual", "choose": "cka", "backend": "onnx"},
        [
            f"{name} must not be given with --from-scratch, where nothing is cut"
            for name in ("--removal", "--backend", "--choose")
        ],
    ),
    (
        UndividedSettings,
        {**NEW, "heal": False},
        ["--no-heal must not be given with --from-scratch, where nothing is cut"],
    ),
    (
        UndividedSettings,
        {"from_scratch": "shape.json", "equal_params": True},
        ["--equal-params must come with one of --ffn-every, --pattern, --ffn-keep and --num-ffn"],
    ),
    *(
        (
            DataSettings,
            {**data, "pooling": "mean"},
            ["--pooling is for labels of whole texts; a head of this data reads every token, got mean"],
        )
        for data in ({"task": "squad"}, {"train": "a", "dev": "b", "text": "0", "label": "1", "tagging": True})
    ),
    (DepthSettings, {"depth": 0}, ["--depth must be at least 1, got 0"]),
    (
        DepthSettings,
        {"depth": 2, "selector": "scatter", "epsilon": 0.1},
        [f"{name} must not be given with --depth, which chooses nothing" for name in ("--selector", "--epsilon")],
    ),
    (
        DepthSettings,
        {"selector": "scatter", "least_gain": 0.1},
        ["--least-gain must come with --selector probe or with --all-selectors"],
    ),
    (DepthSettings, {"least_gain": 1.5}, ["--least-gain must lie in [0, 1], got 1.5"]),
    (
        DepthSettings,
        {"selector": "half", "epsilon": 0.1},
        ["--epsilon must not be given with --selector half, which looks at no score"],
    ),
    (
        DepthSettings,
        {"selector": "half", "num_examples": 30},
        ["--num-examples must come with a selector that looks at the model"],
    ),
    (
        DepthSettings,
        {"epsilon": -0.1, "margin": -1.0, "against_full": True, "num_examples": 9, "seeds": (-1,)},
        [
            "--epsilon must be at least 0, got -0.1",
            "--num-examples must be at least 10, got 9",
            "--seeds must lie in 0..4294967295, got -1",
            "--margin must be at least 0, got -1.0",
        ],
    ),
    (DepthSettings, {"margin": 0.1}, ["--margin must come with --against-full or --all-depths"]),
    (DepthSettings, {"seeds": (1, 1)}, ["--seeds must differ, got 1, 1"]),
    (DepthSettings, {"selector": "knn"}, ["--selector must be one of probe, scatter, half, full, got 'knn'"]),
    (
        PretrainSettings,
        {"from_scratch": "s.json", "from_paper": "99M"},
        ["--from-scratch and --from-paper must not be given together"],
    ),
    (DemoSettings, {"data_dir": "x"}, ["--data-dir must come with --task"]),
    (DemoSettings, {"task": "squad"}, ["--task of the demo must classify or score whole texts, got squad"]),
    (
        LatencySettings,
        {
            "backend": "tpu", "length": 0, "threads": 0, "rounds": 0, "throughput_batch_size": 0, "seed": -1,
            "device": "tpu",
        },
        [
            f"--backend must be one of {BACKENDS}, got 'tpu'",
            "--seed must lie in 0..4294967295, got -1",
            "--threads must be at least 1, got 0",
            "--device must be auto, cpu, cuda or cuda:N, got 'tpu'",
            "--length must be at least 1, got 0",
            "--rounds must be at least 1, got 0",
            "--throughput-batch-size must be at least 1, got 0",
        ],
    ),
    (
        LatencySettings,
        {"backend": "onnx", "device": "cuda:1"},
        ["--device must be auto or cpu with ONNX, which runs on the CPU, got cuda:1"],
    ),
    (MeasureSettings, {"backend": ()}, [f"--backend must name at least one of {BACKENDS}, got none"]),
    (FrontSettings, {"length": 9}, ["--length must come with --measure"]),
    (PickSettings, {"backend": "onnx"}, ["--backend must come with --max-latency-ms"]),
    (
        Limits,
        {"max_latency_ms": float("nan"), "max_params": 0, "max_macs": 1.5, "max_bytes": True, "min_score": 90},
        [
            "--max-latency-ms must be above 0 and finite, got nan",
            "--max-params must be at least 1, got 0",
            "--max-macs must be an integer, got 1.5",
            "--max-bytes must be an integer, got True",
            "--min-score must lie in [-1, 1], got 90",
        ],
    ),
    (
        SearchSettings,
        {
            "trials": 0, "sample": 0, "keep": 0, "train_steps": -1, "backend": "tpu", "max_macs": 0,
            "learning_rate": 0.0, "batch_size": 0, "remeasure": True,
        },
        [
            f"--backend must be one of {BACKENDS}, got 'tpu'",
            "--max-macs must be at least 1, got 0",
            "--trials must be at least 1, got 0",
            "--sample must be at least 1, got 0",
            "--keep must be at least 1, got 0",
            "--train-steps must be at least 0, got -1",
            "--learning-rate must be above 0, got 0.0",
            "--batch-size must be at least 1, got 0",
            "--remeasure must come with --max-latency-ms or --cost latency_ms",
        ],
    ),
    (SearchSettings, {"learning_rate": 1e-5}, ["--learning-rate must come with --train-steps"]),
    (ExportSettings, {}, ["export must have one of --onnx, --int8, --for and --stock, got none"]),
    (
        ExportSettings,
        {"stock": True, "max_drop": -1, "calibration_samples": 3, "gate": False},
        [
            "--max-drop must lie in [0, 100] points, got -1",
            "--max-drop must come with --int8",
            "--no-gate must come with --int8",
            "--calibration-samples must come with --calibration static",
            "--stock must come with --out: it writes a whole model folder",
        ],
    ),
    (
        AnalyzeSettings,
        {"num_examples": 3, "bandwidth": 0.5},
        ["--num-examples must be at least 8, got 3", "--bandwidth must come with --kernel rbf"],
    ),
    (AnalyzeSettings, {"probe_examples": 7}, ["--probe-examples must be 0 or at least 8, got 7"]),
    (AnalyzeSettings, {"bandwidth": 0.0, "kernel": "rbf"}, ["--bandwidth must be above 0, got 0.0"]),
    (
        AnalyzeSettings,
        {"estimator": "exact"},
        ["with --estimator exact --num-examples times --tokens-per-text must be at most 3000 rows, got 8000"],
    ),
    (
        AnalyzeSettings,
        {"batch_size": 751},
        ["--batch-size times --tokens-per-text must be at most 3000 rows, got 3004"],
    ),
    (AnalyzeSettings, {"pictures": "png"}, ["--pictures png must come with --out"]),
    (
        TextSettings,
        {"sequence_length": 7, "mask_probability": 1.0, "dataset_config": "c", "text_column": "body"},
        [
            "--sequence-length must be at least 8, got 7",
            "--mask-probability must lie in (0, 1), got 1.0",
            "text must be given: --train FILE, or --dataset NAME",
            "--dataset-config must come with --dataset",
            "--text-column must come with --dataset",
        ],
    ),
    (TextSettings, {"train": "a.txt", "dataset": "b"}, ["--train and --dataset must not be given together"]),
    (
        AugmentSettings,
        {"num_candidates": 0, "num_rounds": 0, "replace_prob": 1.5},
        [
            "--augment-candidates must be at least 1, got 0",
            "--augment-probability must lie in (0, 1], got 1.5",
            "--augment-rounds must be at least 1, got 0",
        ],
    ),
    (
        PredictSettings,
        {**LABELS, "out": "o.xls"},
        [f"--out must end in one of {', '.join(OUT_FORMATS)}, or be -, got o.xls"],
    ),
    (PredictSettings, {**LABELS, "out": "o.csv", "max_length": 1}, ["--max-length must be at least 4, got 1"]),
    (CostSettings, {"sequence_length": 0}, ["--sequence-length must be at least 1, got 0"]),
    (SweepSettings, {"show": "x", "out": "y"}, ["--out must not be given with --show"]),
    (SweepSettings, {"ray_address": "here"}, ["--ray-address must come with --engine ray"]),
]  # fmt: skip
ERRORS = {
    AugmentSettings: DataError,
    DataSettings: DataError,
    Limits: BudgetError,
    PickSettings: RunError,
    TextSettings: DataError,
}


@pytest.mark.parametrize(("kind", "given", "mistakes"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_mistake_is_said_together(kind: type[Any], given: dict[str, Any], mistakes: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        kind(**given).check()
    assert list(caught.value.mistakes) == mistakes
    assert type(caught.value) is ERRORS.get(kind, InputError)


@pytest.mark.parametrize("kind", dict.fromkeys(kind for verb in TABLE for kind in verb.settings))
def test_what_all_settings_keep_to(kind: type[Any]) -> None:
    for option in options_of(kind).values():
        assert option.group in GROUPS and option.help.endswith(".")
        assert option.unit is None or option.unit in {*SUFFIXES, "points"}
    for name in ("threads", "device", "seed", "precision"):
        known = [each for each in fields(kind) if each.name == name]
        assert all(each.metadata is fields_of_train()[name].metadata for each in known)


def test_a_default_of_none_is_explained_where_the_method_or_its_recipe_decides() -> None:
    train, dynabert, schubert = options_of(TrainSettings), options_of(DynabertSettings), options_of(SchubertSettings)
    decided = ("epochs", "batch_size", "learning_rate", "warmup_ratio", "weight_decay", "schedule", "dropout")
    assert all(train[name].help.endswith("efault: the method's own.") for name in decided)
    assert all(dynabert[name].help.endswith("efault: the recipe's own.") for name in ("stock", "logit_weight"))
    assert schubert["logit_weight"].help == "Weight of the logit loss. At least 0; default 1."


def fields_of_train() -> dict[str, Any]:
    return {each.name: each for each in fields(TrainSettings)}


def test_defaults_are_right(tmp_path: Path) -> None:
    for verb in VERBS.values():
        for kind in verb.settings:
            given = {name: str(tmp_path / "new.tsv") for name, each in options_of(kind).items() if each.is_required}
            made = kind(**given)
            if not list(made.missing()):
                made.check()


@pytest.mark.parametrize("out", ["full", "file/x"])
def test_a_folder_that_cannot_be_written_is_refused(out: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    for kind, given in ((ExportSettings, {"onnx": True}), (PickSettings, {})):
        with pytest.raises(InputError, match=r"--out must (be absent or an empty folder|lie in a folder), but"):
            kind(out=str(tmp_path / out), **given).check()
