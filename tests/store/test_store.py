"""Deadlines, retries, lost answers and the prefix, on the memory driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from storefs import errors
from storefs.drivers.models import Condition, Part
from storefs.store import transfer
from storefs.store.probe import Memory, probe
from storefs.store.retry import RetryPolicy
from storefs.store.transfer import Activity, Progress
from storefs.store.version import expected_etag, expected_multipart_etag
from tests.support.layers import connection_of, inline_threads, keys, memory_store, put

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

__all__ = ["inline_threads"]


class Fault:
    """Raises for the first `times` requests of a verb; as `after` hook the answer is lost."""

    def __init__(self, verb: str, times: int, error: type[errors.StoreError]) -> None:
        self.verb, self.times, self.error = verb, times, error

    def __call__(self, verb: str, key: str) -> None:
        if verb == self.verb and self.times:
            self.times -= 1
            raise self.error("a fault of the test", key=key)


@given(st.integers(0, 1000), st.floats(0, 1))
def test_delays_grow_to_a_bound(attempt: int, chance: float) -> None:
    policy = RetryPolicy()
    delay = policy.delay_seconds(attempt, errors.StoreUnavailable(), lambda: chance)
    assert delay is not None
    assert 0 <= delay <= policy.most_seconds


def test_what_cannot_get_better_is_not_tried_again() -> None:
    for error in (errors.AccessDenied(), errors.ObjectNotFound(), errors.DeadlineExceeded()):
        assert RetryPolicy().delay_seconds(0, error, lambda: 0.5) is None


def test_a_throttled_request_waits_at_least_a_second() -> None:
    delay = RetryPolicy().delay_seconds(0, errors.Throttled(), lambda: 0.0)
    assert delay is not None
    assert delay >= 1


async def test_a_call_is_tried_again_until_it_is_answered(autojump_clock: MockClock) -> None:
    store = memory_store()
    put(store, "a", b"1")
    connection_of(store).before = Fault("get_object_meta", 3, errors.StoreUnavailable)
    assert (await store.head("a")).size == 1
    assert store.requests["head"] == 4


async def test_a_call_ends_at_its_deadline_and_says_why(autojump_clock: MockClock) -> None:
    store = memory_store(timeout_seconds=10)
    connection_of(store).before = Fault("get_object_meta", 10_000, errors.StoreUnavailable)
    began = trio.current_time()
    with pytest.raises(errors.DeadlineExceeded, match="a fault of the test"):
        await store.head("a")
    assert trio.current_time() - began == pytest.approx(10)


async def test_an_upload_ends_when_every_answer_is_an_error(autojump_clock: MockClock) -> None:
    store = memory_store(timeout_seconds=10)
    connection_of(store).before = Fault("put_object", 10_000, errors.StoreUnavailable)
    began = trio.current_time()
    with pytest.raises(errors.StoreUnavailable):
        await store.put("a", b"1", if_none_match="*")
    assert trio.current_time() - began <= 10


@pytest.mark.parametrize("condition", [{"if_none_match": "*"}, {"if_match": expected_etag(b"old")}])
async def test_a_lost_answer_of_a_put_is_no_conflict(
    autojump_clock: MockClock, condition: dict[str, str]
) -> None:
    store = memory_store()
    if "if_match" in condition:
        put(store, "a", b"old")
    connection_of(store).after = Fault("put_object", 1, errors.StoreUnavailable)
    version = await store.put("a", b"new", **condition)
    assert version.etag == expected_etag(b"new")
    assert not store.outcomes.is_in_doubt("a")


async def test_somebody_elses_version_is_a_conflict_even_after_a_lost_request(
    autojump_clock: MockClock,
) -> None:
    store = memory_store()
    put(store, "a", b"theirs")
    connection_of(store).before = Fault("put_object", 1, errors.StoreUnavailable)
    with pytest.raises(errors.ObjectExists):
        await store.put("a", b"ours", if_none_match="*")


async def test_an_attempt_that_landed_late_is_built_upon(autojump_clock: MockClock) -> None:
    store = memory_store(timeout_seconds=5)
    connection = connection_of(store)
    connection.after = Fault("put_object", 1, errors.StoreUnavailable)

    def only_the_first_arrives(verb: str, key: str) -> None:
        if verb == "put_object" and connection.requests[verb] > 1:
            raise errors.StoreUnavailable("down", key=key)

    connection.before = only_the_first_arrives
    with pytest.raises(errors.StoreUnavailable):
        await store.put("a", b"first", if_none_match="*")
    connection.before = None
    version = await store.put("a", b"second, after more writing", if_none_match="*")
    assert version.etag == expected_etag(b"second, after more writing")


async def test_a_lost_answer_of_a_complete_is_no_conflict(autojump_clock: MockClock) -> None:
    store = memory_store()
    upload = await store.create_multipart("a")
    part = await store.upload_part("a", upload, 1, b"body")
    connection_of(store).after = Fault("complete_multipart_upload", 1, errors.StoreUnavailable)
    version = await store.complete_multipart("a", upload, [part], if_none_match="*")
    assert version.etag == expected_multipart_etag([part])


async def test_a_lost_answer_of_a_delete_is_no_conflict(autojump_clock: MockClock) -> None:
    store = memory_store()
    put(store, "a", b"1")
    connection_of(store).after = Fault("delete_object", 1, errors.StoreUnavailable)
    await store.delete("a", if_match=expected_etag(b"1"))
    assert keys(store) == []


async def test_a_broken_stream_goes_on_where_it_broke(autojump_clock: MockClock) -> None:
    store = memory_store()
    body = bytes(range(256)) * 4096
    put(store, "a", body)
    connection_of(store).before = Fault("download_object_as_stream", 2, errors.StoreUnavailable)
    assert (
        await store.get_range("a", 1000, 500_000, if_match=expected_etag(body))
        == (body[1000:501_000])
    )


async def test_a_replaced_object_is_never_mixed(autojump_clock: MockClock) -> None:
    store = memory_store()
    put(store, "a", b"new bytes")
    with pytest.raises(errors.ObjectChanged):
        await store.get_range("a", 0, 4, if_match=expected_etag(b"old bytes"))


async def test_a_denied_head_is_checked_with_one_list(autojump_clock: MockClock) -> None:
    store = memory_store()
    put(store, "there", b"1")
    connection_of(store).before = Fault("get_object_meta", 2, errors.AccessDenied)
    with pytest.raises(errors.ObjectNotFound):
        await store.head("not-there")
    with pytest.raises(errors.AccessDenied):
        await store.head("there")


async def test_nothing_outside_the_prefix_is_seen_or_touched() -> None:
    store = memory_store("mine/")
    put(store, "other/x", b"1")
    put(store, "mine/a", b"1")
    page, _ = await store.list_page("")
    assert [found.name for found in page] == ["a"]
    await store.put("b", b"2")
    await store.copy("b", "c")
    await store.delete("a")
    assert keys(store) == ["mine/b", "mine/c", "other/x"]


async def test_throttling_lowers_the_number_of_requests_in_flight(
    autojump_clock: MockClock,
) -> None:
    store = memory_store()
    put(store, "a", b"1")
    before = store._calls.limiter.total_tokens
    connection_of(store).before = Fault("get_object_meta", 1, errors.Throttled)
    await store.head("a")
    assert store._calls.limiter.total_tokens == before // 2
    for _ in range(32):
        await store.head("a")
    assert store._calls.limiter.total_tokens == before // 2 + 1


async def test_without_progress_a_transfer_ends_after_its_timeout(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(limit: object, fn: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("storefs.threads.run_abandonable", hang)
    began = trio.current_time()
    with pytest.raises(errors.DeadlineExceeded):
        await transfer.run(
            trio.CapacityLimiter(1),
            lambda: None,
            Progress(Activity()),
            timeout_seconds=8,
            upload=False,
        )
    assert 8 <= trio.current_time() - began <= 10


async def test_a_slow_upload_that_moves_is_never_cut(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(Activity())
    progress.started = True

    async def slow(limit: object, fn: object) -> str:
        for sent in range(1, 200):
            await trio.sleep(2)
            progress(sent * 16384)
        return "stored"

    monkeypatch.setattr("storefs.threads.run_abandonable", slow)
    result = await transfer.run(
        trio.CapacityLimiter(1), lambda: "", progress, timeout_seconds=3, upload=True
    )
    assert result == "stored"


@pytest.mark.parametrize(
    ("ignored", "verb"),
    [
        ("put", "conditional_put"),
        ("complete", "conditional_complete"),
        ("copy", "conditional_copy"),
        ("delete", "conditional_delete"),
    ],
)
async def test_the_probe_sees_a_verb_whose_condition_is_ignored(
    ignored: str, verb: str, tmp_path: Path
) -> None:
    store = memory_store()
    connection_of(store).ignored_conditions = frozenset({ignored})
    found = await probe(store)
    assert getattr(found, verb) is Condition.NONE
    others = {"conditional_put", "conditional_complete", "conditional_copy"} - {verb}
    if ignored != "delete":
        assert found.conditional_delete is Condition.ETAG
    for other in others:
        assert getattr(found, other) is Condition.ETAG, other
    assert keys(store) == []
    assert not open_uploads(store)
    memory = Memory(tmp_path / "stores.json")
    memory.note("server", found)
    assert memory.recall("server", store.capabilities) == found
    assert memory.recall("another", store.capabilities) is None


def open_uploads(store: object) -> list[object]:
    """Uploads that were left open."""
    from storefs.store import Store

    assert isinstance(store, Store)
    return list(store.driver.list_multipart_uploads(store.connection, store.container))


def test_the_etag_of_a_multipart_object_is_computed_from_its_parts() -> None:
    parts = [Part(1, expected_etag(b"a"), 1), Part(2, expected_etag(b"b"), 1)]
    etag = expected_multipart_etag(parts)
    assert etag is not None
    assert etag.endswith("-2")
    assert expected_multipart_etag([Part(1, "not an md5", 1)]) is None
