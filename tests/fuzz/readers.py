"""Which commands read which file of the world; each ends within seconds."""

from __future__ import annotations

from world import COMMANDS, FAST, OWN

MODEL_FILES = (
    "config.json", "cutbert.json", "tokenizer.json", "tokenizer_config.json", "shape.json", "model.safetensors",
)  # fmt: skip
SERVED_FILES = ("config.json", "cutbert.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx")
TEXTS = "--input data/dev.tsv --text text --threads 1"
ASKED = "--input data/squad/dev-v1.1.json --threads 1"
# What reads a folder that is served from ONNX, by its name in the world.
SERVING = {
    "onnx": (f"predict onnx {TEXTS} --out out.jsonl",),
    "tagger": (
        f"predict tagger {TEXTS} --out out.jsonl",
        "predict tagger --input data/dev.conll --text 0 --out out.conll --threads 1",
        f"predict tagger {TEXTS} --out out.parquet",
    ),
    "reader": (f"predict reader {ASKED} --out out.json", f"predict reader {ASKED} --out out.parquet"),
    "scorer": ("predict scorer --input data/pairs.csv --text a --text-pair b --out out.tsv --threads 1",),
    "vectors": (f"predict vectors {TEXTS} --out out.npy", f"predict vectors {TEXTS} --prompt query --out out.parquet"),
}
EMBEDDING = "--objective embedding --train data/text.txt --max-length 16"
PAIRS = "--dev data/pairs.csv --text a --text-pair b --label score"
RETRIEVAL = "--queries data/queries.jsonl --corpus data/corpus.jsonl --relevant data/relevant.tsv"
JUDGED = f"measure vectors {EMBEDDING} {PAIRS} {RETRIEVAL} --rounds 1 --length 4 --threads 1"
TRIMMED = "export vectors --onnx --trim-vocab --out out --threads 1"
LAID_OUT = "export vectors --for sentence-transformers --onnx --out out --threads 1"
RERANKER = "finetune scorer --train data/groups.jsonl --dev data/pairs.csv --text a --text-pair b --label score"
PLANNED = f"fit model {OWN} --plan fit --max-latency-ms 0.0001 --threads 1 --out out"  # too few: ends once it is read
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
    **{f"{name}/{file}": commands for name, commands in SERVING.items() if name != "onnx" for file in SERVED_FILES},
    **{f"onnx/{file}": SERVING["onnx"] for file in SERVED_FILES[:-1]},
    **{
        f"vectors/{file}": (*SERVING["vectors"], JUDGED, TRIMMED, LAID_OUT)
        for file in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json")
    },
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
    "fit/plan.json": (PLANNED,),
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
    **{f"data/{name}": (JUDGED,) for name in ("pairs.csv", "queries.jsonl", "corpus.jsonl", "relevant.tsv")},
    "data/groups.jsonl": (f"{RERANKER} --group group --out out --max-length 16 {FAST}",),
    "data/dev.conll": SERVING["tagger"][1:2],
    "data/squad/dev-v1.1.json": SERVING["reader"],
    "data/text.txt": (COMMANDS["pretrain"], JUDGED, "predict model --input data/text.txt --out out.csv --threads 1"),
}
