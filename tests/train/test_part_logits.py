"""What parts share with the whole network is computed once, and changes no bit of their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cutbert.model.encoder import Encoder
from cutbert.shape.head import HeadSpec
from cutbert.shape.subnet import KeptLayer, Subnet
from cutbert.train.evaluate import predict_logits
from cutbert.train.part_logits import PartLogits
from tiny_families import OTHERS, family_model
from tiny_models import CLASSES, random_model
from tiny_runs import tiny_tokens

MODELS = {
    "bert": random_model(),
    "tokens": random_model(HeadSpec("token", ("A", "B", "C"))),
    **{family: family_model(family, CLASSES) for family in OTHERS},
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_answer_as_they_do_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = MODELS[name], tiny_tokens()
    whole = Subnet.full(model.shape)
    shorter = [Subnet(whole.layers[:n], whole.hidden_size) for n in (0, 2)]
    without = [Subnet((*whole.layers[:i], *whole.layers[i + 1 :]), whole.hidden_size) for i in range(4)]
    first = whole.layers[0].shape
    thinner = KeptLayer(0, type(first)(2, first.key_dim, first.value_dim, 7))
    parts = [whole, *shorter, *without, Subnet((thinner, *whole.layers[1:]), whole.hidden_size)]
    wanted = [predict_logits(model, tokens, subnet=each, max_tokens=50) for each in parts]
    logits_of, run_layers, ran = PartLogits.of(model, tokens, max_tokens=50), Encoder.run_layers, set[int]()

    def counted(self: Encoder, x: Any, mask: Any, subnet: Subnet, *others: Any) -> Any:
        ran.add(len(subnet.layers))
        return run_layers(self, x, mask, subnet, *others)

    monkeypatch.setattr(Encoder, "run_layers", counted)
    for part, alone, num_run in zip(parts, wanted, (1, 0, 0, 3, 2, 1, 0, 4), strict=True):
        ran.clear()
        np.testing.assert_array_equal(logits_of(part), alone)
        assert ran == {num_run}
