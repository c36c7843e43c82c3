"""Question answering and tagging through every part of a method: steps whatever their split, runs end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_methods_distil import assert_same_gradients, points_of
from tiny_task import command_words, fit_quickly, time_by_macs, weights

import cutbert
from cutbert import api
from cutbert.cli.main import main
from cutbert.data.answers import normalized, right_answers, word_f1
from cutbert.data.batches import Batch, collate, collate_blocks
from cutbert.data.entities import tag_metrics
from cutbert.data.questions import read_squad
from cutbert.data.tasks import QUESTION_TASKS
from cutbert.data.tokens import Tokens
from cutbert.errors import InputError
from cutbert.folders.load import load_model
from cutbert.folders.save import save_model
from cutbert.methods.dynabert_recipes import RECIPES
from cutbert.methods.dynabert_steps import FamilyStep, FinalStep
from cutbert.methods.fit_parts import joined
from cutbert.model.heads import TokenHead
from cutbert.model.task_model import TaskModel
from cutbert.shape.head import IGNORED, HeadSpec
from cutbert.surgery.importance import measure_importance
from cutbert.train.evaluate import teacher_kl
from cutbert.train.loop import StepInfo, TrainingStep
from cutbert.train.working_copy import WorkingCopy
from cutbert.work.distill import LabelStep
from cutbert.work.losses import TaskLosses, Teacher
from known_times import take_known_memory
from tiny_runs import PROVENANCE, WORDS, save_tiny, tiny_model, tiny_tokenizer, tiny_tokens

SPAN, TAGS = HeadSpec("span"), HeadSpec("token", ("B-X", "I-X", "O"))
ROWS = np.arange(7)
SMALL = {"epochs": 1.0, "batch_size": 8, "threads": 1, "precision": "float32"}
FAMILY = {"width_mult": [1.0, 0.5], "depths": [3, 1]}


def labelled(head: HeadSpec) -> Tokens:
    """Return random rows with random labels of the head's kind; one row of tags has none that counts."""
    tokens, rng = tiny_tokens(), np.random.default_rng(0)
    if head.kind == "span":
        spans = np.sort(rng.integers(0, tokens.lengths[:, None], size=(len(tokens), 2)), axis=1)
        return replace(tokens, labels=spans.astype(np.int64))
    labels = rng.integers(0, 3, size=len(tokens.ids))
    labels[rng.random(len(labels)) < 0.4] = IGNORED
    labels[tokens.offsets[2] : tokens.offsets[3]] = IGNORED
    return replace(tokens, labels=None, token_labels=labels)


def steps(net: TaskModel, name: str) -> TrainingStep:
    recipe = replace(RECIPES["default"], subnets_per_step=0)
    stage = recipe.stages[0]
    points = points_of(recipe, stage)
    teacher = Teacher(tiny_model(net.head_spec, seed=1))
    losses_of = partial(TaskLosses, net.head_spec)
    made: dict[str, TrainingStep] = {
        "labels": LabelStep(losses_of),
        "distil": FamilyStep(losses_of, net, teacher, points, stage, recipe),
        "final": FinalStep(losses_of, points, recipe.subnets_per_step),
    }
    return made[name]


def run_split(
    net: TaskModel, name: str, parts: list[np.ndarray], make: Callable[..., Batch]
) -> tuple[TaskModel, dict[str, float]]:
    """Return the network with the gradients of one step in micro-batches, and the losses logged."""
    twin = tiny_model(net.head_spec)
    tokens, work = labelled(net.head_spec), WorkingCopy(twin, torch.float32, dropout=0.0)
    work.refresh()
    totals: dict[str, float] = {}
    for rows in parts:
        batch = make(tokens, rows, pad_token_id=0, use_token_types=False)
        info = StepInfo(
            rows, len(ROWS), int(tokens.lengths[ROWS].sum()), int(tokens.label_counts[ROWS].sum()), 0.0,
            np.random.default_rng(0), 0, ROWS,
        )  # fmt: skip
        for key, value in steps(twin, name)(work, batch, info).items():
            totals[key] = totals.get(key, 0.0) + float(value)
    work.collect()
    return twin, totals


@pytest.mark.parametrize("name", ["labels", "distil", "final"])
@pytest.mark.parametrize("head", [SPAN, TAGS], ids=lambda head: head.kind)
def test_the_split_of_a_step_changes_nothing(head: HeadSpec, name: str) -> None:
    net = tiny_model(head)
    wanted, losses = run_split(net, name, [ROWS], collate)
    for parts in ([ROWS[:1], ROWS[1:2], ROWS[2:3], ROWS[3:]], [ROWS[::2], ROWS[1::2]]):
        got, found = run_split(net, name, parts, collate_blocks)
        assert_same_gradients(got, wanted)
        assert found == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("head", [SPAN, TAGS], ids=lambda head: head.kind)
def test_padding_to_a_length_and_importance_in_blocks_change_nothing(head: HeadSpec) -> None:
    net, tokens = tiny_model(head), labelled(head)
    wanted, losses = run_split(net, "labels", [ROWS], collate)

    def padded(*words: Any, **options: Any) -> Batch:
        return collate(*words, **options, pad_to=32)

    got, found = run_split(net, "labels", [ROWS], padded)
    assert_same_gradients(got, wanted)
    assert found == pytest.approx(losses, rel=1e-4)
    batches = [make(tokens, ROWS, pad_token_id=0, use_token_types=False) for make in (collate, collate_blocks)]
    first, second = (measure_importance(net, [batch]) for batch in batches)
    for ours, theirs in zip(first.neurons, second.neurons, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def squad_file(path: Path, count: int, seed: int) -> Path:
    """Write texts of 10 to 60 words with two questions each, about a word of the text."""
    rng, paragraphs = np.random.default_rng(seed), []
    for i in range(count):
        words = [str(word) for word in rng.choice(WORDS, size=rng.integers(10, 60))]
        asked = []
        for number in (0, 1):
            place = int(rng.integers(len(words)))
            answer = {"text": words[place], "answer_start": len(" ".join([*words[:place], ""]))}
            asked.append({"id": f"{seed}-{i}-{number}", "question": "a very film", "answers": [answer]})
        paragraphs.append({"context": " ".join(words), "qas": asked})
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


def conll_file(path: Path, count: int, seed: int) -> Path:
    """Write sentences in which `film` and `book` are entities that `very` goes on with."""
    rng, lines = np.random.default_rng(seed), []
    for _ in range(count):
        before = "O"
        for word in rng.choice(WORDS, size=rng.integers(2, 9)):
            before = "B-X" if word in ("film", "book") else "I-X" if word == "very" and before != "O" else "O"
            lines.append(f"{word} {before}")
        lines.append("")
    path.write_text("\n".join(lines))
    return path


def task_of(kind: str, folder: Path) -> dict[str, Any]:
    """Write a task's files and return what names them."""
    if kind == "squad":
        for name, count in (("train", 24), ("dev", 6)):
            squad_file(folder / "SQuAD" / f"{name}-v1.1.json", count, len(name))
        return {"task": "squad", "data_dir": str(folder), "max_length": 40, "stride": 8, **SMALL}
    files = {
        name: str(conll_file(folder / f"{name}.conll", count, count)) for name, count in (("train", 60), ("dev", 9))
    }
    return {**files, "tagging": True, "text": "0", "label": "-1", "max_length": 16, **SMALL}


@pytest.fixture(scope="module", params=["squad", "tagging"])
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any], api.Run, api.Run]:
    """A task, its teacher and the teacher's family."""
    folder = tmp_path_factory.mktemp(request.param)
    task = task_of(request.param, folder)
    base = save_tiny(folder / "base", tiny_model(HeadSpec("pooler")))
    with pytest.MonkeyPatch.context() as patch:
        time_by_macs(patch)
        teacher = cutbert.finetune(base, out=str(folder / "teacher"), **{**task, "epochs": 3.0})
        family = cutbert.dynabert(folder / "teacher", out=str(folder / "family"), **FAMILY, **task)
    return request.param, task, teacher, family


Runs = tuple[str, dict[str, Any], api.Run, api.Run]


def test_a_teacher_and_its_family(runs: Runs) -> None:
    kind, _, teacher, family = runs
    wanted = {"f1", "exact_match"} if kind == "squad" else {"f1", "precision", "recall", "accuracy"}
    assert teacher["metric"] == family["metric"] == "f1" and teacher["metrics"].keys() == wanted
    assert family["teacher"]["score"] == teacher["score"]
    assert len(family["subnets"]) == 6 and all(each["latency_ms"] > 0 for each in family["subnets"])
    head = load_model(family.path).model.head_spec
    assert head == (SPAN if kind == "squad" else TAGS)
    assert_distilled(family.path)


def assert_distilled(run: Path) -> None:
    """Assert that a run's loss counts logits and hidden states."""
    line = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert line["logits"] > 0 and line["hidden"] > 0


def test_schubert_cuts_them_too(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, task, teacher, _ = runs
    time_by_macs(monkeypatch)
    options = {"budget": "macs=0.5", "gate_steps": 2, "multiple_of": 1, "rounds": 1}
    # At 1 a tiny student's logits are the teacher's but for rounding, and the loss may fall on either side of 0.
    options["temperature"] = {"squad": 0.001, "tagging": 0.01}[kind]
    run = cutbert.schubert(teacher.path, out=tmp_path / "cut", **options, **task)
    (entry,) = run.front
    assert run["metric"] == "f1" and entry.macs <= 0.5 * run.front.teacher.macs
    assert load_model(run.path).model.head_spec == (SPAN if kind == "squad" else TAGS)
    assert_distilled(run.path)


def test_fit_cuts_them_too(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Select, and rows without labels that are shorter than its longest, are judged together."""
    kind, task, teacher, family = runs
    fit_quickly(monkeypatch)
    monkeypatch.setattr("cutbert.methods.fit_proposals.affordable", lambda *args: 2)  # trained however slow
    more = tmp_path / ("more.jsonl" if kind == "squad" else "more.conll")
    more.write_text('{"question": "a film", "context": "not good"}\n' * 2 if kind == "squad" else "not\ngood\n\na\n")
    data = {name: value for name, value in task.items() if name not in ("epochs", "batch_size")}
    options: dict[str, Any] = {"time": 600.0, "rounds": 2, "candidates": 2, "kinds": ["layers", "sizes"]}
    most = int(0.8 * family["teacher"]["params"])
    run = cutbert.fit(teacher.path, out=tmp_path / "run", max_params=most, unlabeled=str(more), **options, **data)
    (chosen,) = run.leaderboard.chosen
    assert run["metric"] == "f1" and chosen.params <= most and chosen.kind != "teacher"
    uncut = {entry.backend: entry for entry in run.leaderboard if entry.kind == "teacher"}
    assert uncut["onnx"].score == pytest.approx(teacher["score"]) and set(uncut["onnx"].metrics) == set(
        teacher["metrics"]
    )
    # A tiny network's logits are the teacher's but for rounding, so that the distance may be 0.
    assert all(0 <= entry.kl < 1 and entry.steps > 0 for entry in run.leaderboard if entry.kind != "teacher")
    rows = {name: value for name, value in task.items() if name not in SMALL}
    options = {"backend": "onnx-int8", "rounds": 1, "throughput_batch_size": 2, "threads": 1}
    found = cutbert.measure(run.path, **options, **rows)["models"][0]
    assert found["score"] == pytest.approx(chosen.score)


def test_a_student_of_them_has_the_models_tokens(runs: Runs, tmp_path: Path) -> None:
    kind, task, teacher, _ = runs
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["extra"])
    save_model(tmp_path / "other", tiny_model(HeadSpec("pooler")), tokenizer, provenance=PROVENANCE)
    save_tiny(tmp_path / "wrong", tiny_model(TAGS if kind == "squad" else HeadSpec("token", ("a", "b"))))
    data = {name: value for name, value in task.items() if name not in ("epochs", "batch_size")}
    students = [str(tmp_path / name) for name in ("other", "wrong")]
    with pytest.raises(InputError) as caught:
        cutbert.fit(teacher.path, out=tmp_path / "run", max_drop=1, student=students, **data)
    wanted, got = (
        ("of kind span", "token (B-X, I-X, O)") if kind == "squad" else ("with the labels B-X, I-X, O", "token (a, b)")
    )
    assert list(caught.value.mistakes) == [
        f"--student {students[0]}: must have the tokenizer of {teacher.path}: outputs are learned per token",
        f"--student {students[1]}: must have no head, or one {wanted}, got {got}",
    ]
    assert not (tmp_path / "run").exists()


def test_logits_of_tokens_are_joined_with_their_rows_ends() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(rows, longest, 3)).astype(np.float32) for rows, longest in ((4, 5), (2, 9))]
    others = [part + rng.normal(size=part.shape).astype(np.float32) for part in parts]
    kls = [teacher_kl(TAGS, ours, theirs) for ours, theirs in zip(others, parts, strict=True)]
    both = teacher_kl(TAGS, joined(others), joined(parts))
    assert both == pytest.approx((20 * kls[0] + 18 * kls[1]) / 38)


def test_the_first_layers_are_tuned_too_but_not_chosen(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, task, teacher, _ = runs
    take_known_memory(monkeypatch)
    base, head = teacher.path.parent / "base", SPAN if kind == "squad" else TAGS
    run = cutbert.depth(base, out=tmp_path / "run", depth=2, **task)
    assert run["chosen_depth"] == 2 and run["metric"] == "f1" and 0 <= run["score"] <= 1
    model = load_model(run.path).model
    assert model.shape.num_layers == 2 and model.head_spec == head
    with pytest.raises(InputError) as caught:
        cutbert.depth(base, out=tmp_path / "chosen", against_full=True, all_selectors=True, **task)
    assert list(caught.value.mistakes) == [
        f"--selector must be half or full with a head of kind {head.kind}, or give --depth K",
        f"--against-full must not be given with a head of kind {head.kind}",
        f"--all-selectors must not be given with a head of kind {head.kind}",
    ]
    assert not (tmp_path / "chosen").exists()


def test_accumulation_gives_the_same_weights(runs: Runs, tmp_path: Path) -> None:
    _, task, teacher, _ = runs
    options = {**task, "epochs": 0.5, "dropout": 0.0, "learning_rate": 5e-5}
    base = teacher.path.parent / "base"
    one, three = (
        weights(cutbert.finetune(base, out=tmp_path / str(parts), accumulation=parts, **options).path / "model")
        for parts in (1, 3)
    )
    flat = (
        "key.bias",
        "qa_outputs.bias",
    )  # a softmax does not see them: their gradient is rounding, which Adam blows up
    for name in (name for name in one if not name.endswith(flat)):
        torch.testing.assert_close(three[name], one[name], atol=1e-5, rtol=0, msg=lambda text, name=name: name + text)


def test_predictions_are_kept_row_by_row(runs: Runs) -> None:
    kind, _, teacher, family = runs
    for run, name in ((teacher, "teacher"), (family, family["subnets"][-1]["name"])):
        stored = json.loads((run.path / "predictions" / f"{name}.json").read_text())
        assert "logits" not in stored
        if kind == "squad":
            assert len(stored["ids"]) == len(set(stored["ids"])) == len(stored["answers"]) == 12
            assert np.mean(stored["f1"]) == pytest.approx(stored["score"])
            assert np.mean(stored["exact_match"]) == pytest.approx(stored["metrics"]["exact_match"])
        else:
            right = [
                a == b
                for key in zip(stored["predicted"], stored["labels"], strict=True)
                for a, b in zip(*key, strict=True)
            ]
            assert len(stored["labels"]) == 9 and np.mean(right) == pytest.approx(stored["metrics"]["accuracy"])


def test_measure_pick_and_predict(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, task, teacher, family = runs
    take_known_memory(monkeypatch)
    family.pick(max_params=10**9).save_pretrained(tmp_path / "small")
    data = {name: value for name, value in task.items() if name not in SMALL}
    found = cutbert.measure(tmp_path / "small", teacher.path, rounds=1, throughput_batch_size=2, threads=1, **data)
    picked = family.pick(max_params=10**9).entry
    assert [each["score"] for each in found["models"]] == pytest.approx([picked.score, teacher["score"]])
    assert max(found["measured"]["lengths"]) <= task["max_length"]
    assert main(["front", str(family.path)]) == 0
    texts = tmp_path / "texts.tsv"
    texts.write_text("text\ngood\n")
    with pytest.raises(InputError, match=r"--out must end in .jsonl or .parquet or .* with a head of kind"):
        cutbert.predict(tmp_path / "small", input=str(texts), text="text", out=str(tmp_path / "out.tsv"))
    (tmp_path / "small" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="must hold a tokenizer"):  # before input and weights are read
        cutbert.predict(tmp_path / "small", input="none.tsv", text="text", out=str(tmp_path / "out.tsv"))


def test_answers_of_an_int8_folder_score_as_measured(runs: Runs, tmp_path: Path) -> None:
    """One text at a time, by the task's own files in and out."""
    kind, task, teacher, _ = runs
    folder = tmp_path / "int8"
    model = teacher.path
    if kind == "tagging":  # so little training finds no entities; random weights with such a bias find some
        tagger = tiny_model(TAGS, seed=3)
        assert isinstance(tagger.head, TokenHead)
        with torch.no_grad():
            tagger.head.out.bias.copy_(torch.tensor([0.92, 0.72, 1.01]))
        model = save_tiny(tmp_path / "random", tagger)
    cutbert.export(model, int8=True, gate=False, out=folder, threads=1)
    data = {name: value for name, value in task.items() if name not in SMALL}
    options = {"backend": "onnx-int8", "threads": 1}
    found = cutbert.measure(folder, rounds=1, throughput_batch_size=2, **options, **data)["models"][0]
    if kind == "squad":
        given, out, more = Path(task["data_dir"]) / "SQuAD" / "dev-v1.1.json", tmp_path / "out.json", {}
    else:
        given, out, more = Path(task["dev"]), tmp_path / "out.conll", {"text": "0"}
    cutbert.predict(folder, input=given, out=out, batch_size=1, **more, **options)
    if kind == "squad":
        questions = read_squad(given, QUESTION_TASKS["squad"], 8, [])
        predicted = json.loads(out.read_text())
        assert list(predicted) == questions.ids
        scores = [
            max(word_f1(normalized(predicted[name]), right, False) for right in right_answers(answers, False))
            for name, answers in zip(predicted, questions.answers or [], strict=True)
        ]
        assert found["score"] == pytest.approx(np.mean(scores)) and found["score"] > 0
        return
    lines = [line.split(" ") for line in out.read_text().split("\n")[:-1]]
    assert [" ".join(line[:2]) for line in lines] == given.read_text().split("\n")[: len(lines)]
    words = [line for line in lines if len(line) == 3]
    counts = [len(sentence.split("\n")) for sentence in out.read_text().strip("\n").split("\n\n")]
    right, ours = (np.array([TAGS.labels.index(line[i]) for line in words]) for i in (1, 2))
    assert found["score"] == pytest.approx(tag_metrics(TAGS.labels, ours, right, counts)["f1"]) and found["score"] > 0


def test_a_finished_run_is_printed_by_its_command(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    _, task, teacher, _ = runs
    words = ["finetune", str(teacher.path.parent / "base"), "--out", str(teacher.path), "--json"]
    options = [word for word in command_words({**task, "epochs": 3.0}) if word != "True"]
    assert main([*words, *options]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == teacher.to_json()


def test_the_releases_recipe_and_further_rows(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, task, teacher, _ = runs
    time_by_macs(monkeypatch)
    more = tmp_path / ("more.jsonl" if kind == "squad" else "more.conll")
    more.write_text('{"question": "a film", "context": "not good"}\n' if kind == "squad" else "not\ngood\n")
    run = cutbert.dynabert(
        teacher.path, out=tmp_path / "run", recipe="release", unlabeled=str(more), final_epochs=0.2, **FAMILY,
        **{**task, "epochs": 0.3, "accumulation": 2},
    )  # fmt: skip
    assert len(run["subnets"]) == 4


def test_what_does_not_go_with_labels_of_words(runs: Runs, tmp_path: Path) -> None:
    kind, task, teacher, _ = runs
    words = tmp_path / "words.txt"
    words.write_text("good\tfine\n")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["extra"])
    head = SPAN if kind == "squad" else TAGS
    save_model(tmp_path / "other", tiny_model(head), tokenizer, provenance=PROVENANCE)
    save_tiny(tmp_path / "wrong")
    options = {"augment": "words", "augment_words": str(words), "teacher": str(tmp_path / "other")}
    with pytest.raises(InputError) as caught:
        cutbert.dynabert(teacher.path, out=tmp_path / "run", **options, **task)
    assert list(caught.value.mistakes) == [
        "--augment must be none where labels are of words in a text, got words",
        f"--teacher {tmp_path / 'other'} must have the tokenizer of {teacher.path}: its outputs are learned per token",
    ]
    wanted = "must have a head of kind span" if kind == "squad" else "must have a head with the labels B-X, I-X, O"
    with pytest.raises(InputError, match=wanted):
        cutbert.dynabert(teacher.path, out=tmp_path / "run", teacher=str(tmp_path / "wrong"), **task)
    assert not (tmp_path / "run").exists()
