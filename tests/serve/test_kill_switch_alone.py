"""The kill switch of a gateway without students: whoever throws it in a hurry gets what was asked for."""

from __future__ import annotations

ADMIN = "oX7-2kfLqP9zR4tVbN8wAa"


def test_throwing_it_where_there_is_no_student_is_done_already(start) -> None:
    gateway = start(teacher="http://127.0.0.1:1/v1#m", admin_key=ADMIN)
    for killed in (True, True, False):
        answered = gateway.post(
            "/v1/potstill/kill-switch", {"killed": killed, "by": "nina"}, authorization=f"Bearer {ADMIN}"
        )
        assert answered.status == 200
        assert answered.json["kill_switch"]["killed"] is False
        assert "at their teachers" in answered.json["note"]
    frozen = gateway.post("/v1/potstill/routes/any/freeze", {}, authorization=f"Bearer {ADMIN}")
    assert frozen.status == 409
