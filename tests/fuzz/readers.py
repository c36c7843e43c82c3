"""Which commands read which file of the world; each ends within seconds."""

from __future__ import annotations

from world import COMMANDS, FAST, OWN

MODEL_FILES = (
    "config.json", "cutbert.json", "tokenizer.json", "tokenizer_config.json", "shape.json", "model.safetensors",
)  # fmt: skip
SEARCH = COMMANDS["search"] + " --max-latency-ms 1000"
REPORT_FIT = "report fit --out page.html"
TAGGING = "finetune base --train data/train.conll --dev data/dev.conll --tagging --text 0 --label 1"
QUESTIONS = "finetune base --task squad --data-dir data/squad --max-length 32 --stride 2"
SCRATCH = "pretrain model --from-scratch shape.json --train data/text.txt --sequence-length 9"
OF_FRONT = (
    "front run", COMMANDS["front"], COMMANDS["pick"], "pick run --max-latency-ms 1000", "pick run --max-macs 1",
    "pick run --stock --min-score 0 --out out", COMMANDS["report"], "pick run --max-params 90000 --repair --out out",
)  # fmt: skip


def predict(model: str, rows: str = "dev.tsv") -> str:
    return f"predict {model} --input data/{rows} --text text --out out.csv --threads 1"


def of_model(model: str) -> tuple[str, ...]:
    """Return what reads a model folder."""
    return (
        f"cost {model}",
        predict(model),
        f"measure {model} {OWN} --rounds 1 --length 4 --threads 1",
        f"export {model} --out out --threads 1",
        f"predict {model} --input data/dev.tsv --text text --out out.jsonl --max-length 8",
    )


def of_rows(part: str, kind: str) -> tuple[str, ...]:
    """Return what reads a file of rows in some format."""
    trains = COMMANDS["finetune"].replace(f"{part}.tsv", f"{part}.{kind}")
    return (trains, predict("model", f"dev.{kind}")) if part == "dev" else (trains,)


READERS: dict[str, tuple[str, ...]] = {
    **{f"{model}/{name}": of_model(model) for model in ("model", "free") for name in MODEL_FILES},
    **{f"base/{name}": (COMMANDS["finetune"], COMMANDS["depth"]) for name in ("config.json", "tokenizer.json")},
    "pickled/pytorch_model.bin": ("measure pickled --rounds 1 --length 4 --threads 1",),
    "sharded/model.safetensors.index.json": (predict("sharded"),),
    "sentences/1_Pooling/config.json": (COMMANDS["finetune"].replace("base", "sentences"), "cost sentences"),
    "sentences/modules.json": (
        COMMANDS["finetune"].replace("base", "sentences"),
        "export sentences --out out --onnx --threads 1",
    ),
    "teacher/config.json": (f"{COMMANDS['finetune']} --teacher teacher",),
    "picked/cutbert.json": ("export picked --out out --threads 1", predict("picked")),
    "onnx/onnx/*.onnx": (predict("onnx"), "measure onnx --backend onnx --rounds 1 --length 4"),
    "shape.json": ("cost shape.json", f"{SCRATCH} --out out {FAST}"),
    "run/front.json": OF_FRONT,
    "run/run.json": (*OF_FRONT, COMMANDS["dynabert"].replace("--out out", "--out run"), COMMANDS["search"]),
    "run/model/config.json": OF_FRONT,
    "run/predictions/*.json": OF_FRONT,
    "run/log.jsonl": (COMMANDS["report"],),
    "run/latency/*.json": (SEARCH.replace("--trials 3", "--trials 2"),),
    "run/searches/*/run.json": (SEARCH, COMMANDS["report"]),
    **{f"fit/{name}.json": (REPORT_FIT,) for name in ("leaderboard", "run")},
    **{f"sweep/{name}": ("sweep plan.toml --out sweep",) for name in ("sweep.json", "runs/*/run.json")},
    "plan.toml": (COMMANDS["sweep"],),
    "words.txt": (f"{COMMANDS['dynabert']} --augment words --augment-words words.txt --augment-rounds 1",),
    **{
        f"data/{part}.{kind}": of_rows(part, kind)
        for part in ("train", "dev")
        for kind in ("tsv", "csv", "jsonl", "parquet")
    },
    "data/train.conll": (f"{TAGGING} --out out --max-length 16 {FAST}",),
    "data/squad/train-v1.1.json": (f"{QUESTIONS} --out out {FAST}",),
    "data/text.txt": (COMMANDS["pretrain"], "predict model --input data/text.txt --out out.csv --threads 1"),
}
