"""Promises of arm status: every listed code is told in words, and whatever is not known to be well is a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.robot.arm_status import ARM_STATUS, find_status_table, load_status_table

PIPER = find_status_table("piper")
WELL: dict[str, int | bool] = {"arm_status": 0, "ctrl_mode": 1, "err_code": 0, **dict.fromkeys(PIPER.flags, False)}


def test_a_healthy_arm_is_well() -> None:
    status = PIPER.read(WELL)
    assert status.ok
    assert status.fault == ""
    status.require_ok("left")


@pytest.mark.parametrize("code", range(1, 16))
def test_every_other_code_of_the_vendor_is_a_fault_told_in_words(code: int) -> None:
    status = PIPER.read({**WELL, "arm_status": code})
    assert not status.ok
    assert status.fault == f"arm_status {code}: {PIPER.codes['arm_status'][code].text}"


@given(field=st.sampled_from(sorted(PIPER.codes)), code=st.integers(16, 2**31))
def test_a_code_that_nobody_listed_is_a_fault(field: str, code: int) -> None:
    status = PIPER.read({**WELL, field: code})
    assert not status.ok
    assert f"{field} {code} is not in the table piper" in status.fault


@pytest.mark.parametrize("flag", sorted(PIPER.flags))
def test_every_flag_is_a_fault(flag: str) -> None:
    assert PIPER.read({**WELL, flag: True}).problems == (f"{flag}: {PIPER.flags[flag]}",)


@pytest.mark.parametrize("field", sorted(WELL))
def test_a_message_that_lacks_a_field_is_a_fault(field: str) -> None:
    message = {name: value for name, value in WELL.items() if name != field}
    assert PIPER.read(message).problems == (f"the status has no field {field}",)


def test_a_leader_arm_and_an_arm_guided_by_hand_are_not_commanded() -> None:
    for mode in (2, 6):
        assert not PIPER.read({**WELL, "ctrl_mode": mode}).ok


def test_the_refusal_says_what_to_do_and_that_a_reset_drops_the_arm() -> None:
    with pytest.raises(BodyError, match=r"FV-ROB-002: the right arm reports: arm_status 7: collision") as caught:
        PIPER.read({**WELL, "arm_status": 7}).require_ok("right")
    assert "do not reset" in caught.value.message
    assert "falls" in caught.value.message


def test_an_unknown_table_and_a_bad_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-ROB-003.*'piper'"):
        find_status_table("pipr")
    path = tmp_path / "piper.yaml"
    text = (ARM_STATUS / "piper.yaml").read_text()
    path.write_text(text.replace('    1: {ok: false, text: "emergency stop"}', '    one: {ok: false, text: "x"}'))
    with pytest.raises(SetupError, match=r"FV-ROB-004.*'one'"):
        load_status_table(path)
    path.write_text(text.replace('{ok: true, text: "normal"}', '{ok: fine, text: "normal"}'))
    with pytest.raises(SetupError, match="FV-CFG-006"):
        load_status_table(path)
