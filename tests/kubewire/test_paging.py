"""Lists in pages."""

import json
from typing import Any

import pytest

from kubewire.errors import Forbidden, Gone, Unreachable
from kubewire.paging import PAGE_BYTES, Pager, next_limit
from kubewire.requests import Response
from kubewire.resources import PODS


def page(names: list[str], token: str | None = None, version: str = "7") -> Response:
    """One page of pods as the server answers it."""
    metadata: dict[str, Any] = {"resourceVersion": version}
    if token:
        metadata["continue"] = token
    items = [{"metadata": {"name": name}} for name in names]
    return Response(
        status=200, body=json.dumps({"kind": "PodList", "metadata": metadata, "items": items}).encode()
    )


def failure(code: int, reason: str) -> Response:
    """An error answer."""
    return Response(status=code, body=json.dumps({"kind": "Status", "code": code, "reason": reason}).encode())


def test_pages_follow_the_continue_token_to_the_end() -> None:
    pager = Pager(PODS, "a", label_selector="x=y", page_size=2)
    first = pager.next_request()
    assert first is not None
    assert dict(first.query) == {"labelSelector": "x=y", "limit": "2"}
    pager.feed(page(["a", "b"], "token"))
    second = pager.next_request()
    assert second is not None
    assert dict(second.query) == {"labelSelector": "x=y", "limit": "2", "continue": "token"}
    pager.feed(page(["c"]))
    assert pager.next_request() is None
    result = pager.result()
    assert [item["metadata"]["name"] for item in result.items] == ["a", "b", "c"]
    assert result.resource_version == "7"


def test_items_get_back_what_the_list_left_out() -> None:
    pager = Pager(PODS)
    pager.feed(page(["a"]))
    assert pager.result().items == [{"metadata": {"name": "a"}, "apiVersion": "v1", "kind": "Pod"}]


def test_an_empty_list_may_come_without_items() -> None:
    pager = Pager(PODS)
    pager.feed(Response(status=200, body=b'{"metadata": {"resourceVersion": "1"}, "items": null}'))
    assert pager.result().items == []


@pytest.mark.parametrize(
    "body", [b'{"items": {"a": 1}}', b'{"items": [1]}', b'{"items": [], "metadata": "x"}']
)
def test_what_is_no_list_of_objects_did_not_come_from_kubernetes(body: bytes) -> None:
    with pytest.raises(Unreachable, match="not a list of objects"):
        Pager(PODS).feed(Response(status=200, body=body))


def test_an_expired_token_starts_the_list_over_once() -> None:
    pager = Pager(PODS)
    pager.feed(page(["old"], "token"))
    pager.feed(failure(410, "Expired"))
    again = pager.next_request()
    assert again is not None
    assert "continue" not in dict(again.query)
    pager.feed(page(["new"], "token", "8"))
    with pytest.raises(Gone):
        pager.feed(failure(410, "Expired"))


def test_after_a_restart_nothing_is_there_twice() -> None:
    pager = Pager(PODS)
    pager.feed(page(["a"], "token"))
    pager.feed(failure(410, "Expired"))
    pager.feed(page(["a"], "token", "8"))
    pager.feed(page(["b"], None, "8"))
    result = pager.result()
    assert [item["metadata"]["name"] for item in result.items] == ["a", "b"]
    assert result.resource_version == "8"


def test_other_errors_end_the_list() -> None:
    with pytest.raises(Forbidden):
        Pager(PODS).feed(failure(403, "Forbidden"))
    with pytest.raises(Gone):
        Pager(PODS, resource_version="3").feed(failure(410, "Expired"))


def test_an_unfinished_list_is_not_given_out() -> None:
    pager = Pager(PODS)
    pager.feed(page(["a"], "token"))
    with pytest.raises(RuntimeError, match="not complete"):
        pager.result()


def test_large_objects_make_the_pages_smaller_and_small_ones_larger_again() -> None:
    assert next_limit(500, 500, PAGE_BYTES // 2) == 500
    assert next_limit(500, 500, PAGE_BYTES * 5) == 100
    assert next_limit(500, 100, PAGE_BYTES // 10) == 500
    assert next_limit(500, 1, PAGE_BYTES * 50) == 10
    assert next_limit(5, 5, PAGE_BYTES * 50) == 5
    assert next_limit(500, 0, 100) == 500


def test_a_page_has_at_least_one_object() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pager(PODS, page_size=0)
