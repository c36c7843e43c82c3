"""A graph passes where it answers as torch does, and int8 where its score falls no more than it may."""

from __future__ import annotations

import numpy as np
import pytest

from cutbert.errors import BudgetError, ModelError
from cutbert.exporters.gate import check_drop, checked_diff, tokens_of
from cutbert.exporters.settings import ExportSettings
from cutbert.folders.load import Loaded, load_model
from cutbert.train.runner import TorchRunner
from tiny_runs import save_tiny, tiny_model, tiny_tokens


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_model(save_tiny(tmp_path_factory.mktemp("model") / "m"))


def test_the_difference_to_torch_is_the_largest_of_all_answers(loaded: Loaded) -> None:
    own, tokens = TorchRunner(tiny_model()), tiny_tokens(12)
    assert checked_diff(own, loaded, tokens) == 0.0

    def shifted(input_ids: np.ndarray, *of: np.ndarray, **how: np.ndarray) -> np.ndarray:
        answer = own(input_ids, *of, **how)
        is_last = input_ids.tolist() == [tokens.ids[tokens.offsets[11] : tokens.offsets[12]].tolist()]
        return answer + (5e-5 if is_last else 1e-5)

    assert checked_diff(shifted, loaded, tokens) == pytest.approx(5e-5, rel=0.05)
    with pytest.raises(ModelError, match="ONNX Runtime must answer as torch within"):
        checked_diff(TorchRunner(tiny_model(seed=5)), loaded, tokens)


def test_without_a_task_answers_are_compared_on_demo_texts(loaded: Loaded) -> None:
    parts = tokens_of(loaded, None, None, ExportSettings(onnx=True))
    assert parts.dataset is parts.select is parts.train is None
    assert len(parts.dev) > 100 and parts.dev.lengths.max() <= loaded.tokenizer.model_max_length


def test_int8_may_lose_so_much_and_no_more() -> None:
    result = {"metric": "accuracy", "select_score_before": 0.75, "select_score_after": 0.5}
    check_drop(result, ExportSettings(int8=True, max_drop=25.0))
    with pytest.raises(BudgetError) as caught:
        check_drop(result, ExportSettings(int8=True, max_drop=24.0))
    assert str(caught.value) == (
        "int8 may lose --max-drop 24 points of accuracy on select, it loses 25.00 (75.00 to 50.00); nothing was "
        "written; --calibration static may lose less"
    )
    with pytest.raises(BudgetError, match=r"nothing was written$"):
        check_drop(result, ExportSettings(int8=True, max_drop=24.0, calibration="static"))
