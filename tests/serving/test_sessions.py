from __future__ import annotations

import itertools

import pytest

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.transport.refusal import Reason, Refusal
from policy_server.sessions import REMEMBERED_REQUESTS, SessionTable


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table(clock: ManualClock) -> SessionTable[str]:
    ids = (f"id{i}" for i in itertools.count())
    return SessionTable(clock, lambda: next(ids), max_sessions=2, idle_timeout_s=10.0)


def test_a_reset_makes_everything_of_the_old_episode_stale(table: SessionTable[str]) -> None:
    session = table.open("tiny", None, 0, "")
    assert session.epoch == 1
    table.claim("id0", 1, "r")[0].set_result("old")
    assert table.reset("id0", None, 5).epoch == 2
    with pytest.raises(Refusal) as caught:
        table.check("id0", 1)
    assert caught.value.reason is Reason.STALE_EPOCH
    answer, mine = table.claim("id0", 2, "r")
    assert mine
    assert not answer.done()


def test_a_repeated_request_gets_the_first_answer_and_a_failed_one_is_computed_again(table: SessionTable[str]) -> None:
    table.open("tiny", None, 0, "")
    first, mine = table.claim("id0", 1, "r")
    assert mine
    again, mine_again = table.claim("id0", 1, "r")
    assert again is first
    assert not mine_again
    first.set_exception(ValueError())
    fresh, mine_fresh = table.claim("id0", 1, "r")
    assert mine_fresh
    assert fresh is not first


def test_only_so_many_answers_are_remembered(table: SessionTable[str]) -> None:
    table.open("tiny", None, 0, "")
    for number in range(REMEMBERED_REQUESTS + 1):
        table.claim("id0", 1, str(number))[0].set_result("x")
    assert table.claim("id0", 1, "0")[1]
    assert not table.claim("id0", 1, str(REMEMBERED_REQUESTS))[1]


def test_idle_sessions_make_room_and_used_ones_stay(table: SessionTable[str], clock: ManualClock) -> None:
    table.open("tiny", None, 0, "a")
    table.open("tiny", None, 0, "b")
    with pytest.raises(Refusal) as caught:
        table.open("tiny", None, 0, "c")
    assert caught.value.reason is Reason.TOO_MANY_SESSIONS
    clock.advance_s(6)
    table.check("id0", 1)
    clock.advance_s(6)
    table.open("tiny", None, 0, "c")
    assert table.check("id0", 1).label == "a"
    with pytest.raises(Refusal) as gone:
        table.check("id1", 1)
    assert gone.value.reason is Reason.UNKNOWN_SESSION


def test_a_client_cannot_ask_for_a_longer_idle_time_than_the_server_grants(table: SessionTable[str]) -> None:
    assert table.open("tiny", None, 1e9, "").idle_timeout_s == 10.0
    assert table.open("tiny", None, 2.0, "").idle_timeout_s == 2.0


def test_a_reset_keeps_the_instruction_unless_a_new_one_comes(table: SessionTable[str]) -> None:
    first = Instruction("put the red block", InstructionKind.RAW)
    second = Instruction("put the blue block", InstructionKind.RAW)
    table.open("tiny", first, 0, "")
    assert table.reset("id0", None, 1).instruction == first
    assert table.reset("id0", second, 1).instruction == second


def test_a_closed_session_is_unknown(table: SessionTable[str]) -> None:
    table.open("tiny", None, 0, "")
    table.close("id0")
    with pytest.raises(Refusal) as caught:
        table.close("id0")
    assert caught.value.reason is Reason.UNKNOWN_SESSION
