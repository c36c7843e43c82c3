"""The address of a cluster is tried before Ray, which waits for minutes, is asked."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from cutbert.errors import InputError
from cutbert.train.ray_cluster import check_answers, connect


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused_before_ray_is_asked(prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{prefix}127.0.0.1:{server.getsockname()[1]}"
        check_answers(address)
    asked: list[Any] = []
    ray = SimpleNamespace(init=lambda **options: asked.append(options))
    with pytest.raises(InputError) as caught:
        connect(ray, address)
    assert str(caught.value) == f"--ray-address must be a Ray cluster that answers, got {address}: Connection refused"
    assert not asked


@pytest.mark.parametrize("address", ["nowhere:1:2", f"{'a' * 70}.b:1"])
def test_a_host_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=f"--ray-address must be a Ray cluster that answers, got {address}: "):
        check_answers(address)


@pytest.mark.parametrize("address", [None, "auto", "local", "ray://head", "head"])
def test_an_address_without_a_port_is_left_to_ray(address: str | None) -> None:
    check_answers(address)
