"""What each failure of the upstream means: glm-image-api.md section 3, row by row, outward as design.md section 6."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import errors
from gateway.domain.errors import Moderation
from gateway.domain.upstream import (
    FAULT_OF_CODE,
    RULES,
    CallFailure,
    Fault,
    fault_of,
    outward,
    park_of,
    rule_of,
    unusable,
)

BROKEN, OVERLOADED, RATE = errors.UpstreamBroken, errors.UpstreamOverloaded, errors.UpstreamRateLimited
ACCOUNT, REJECTED, UNKNOWN = errors.AccountUnusable, errors.UpstreamRejected, errors.OutcomeUnknown

# code: (its HTTP status; where the table says "?", a likely one), what the client is told.
ROWS = {
    "500": (500, BROKEN),
    "1000": (401, ACCOUNT),
    "401": (401, ACCOUNT),
    "1001": (401, ACCOUNT),
    "1002": (401, ACCOUNT),
    "1003": (401, ACCOUNT),
    "1004": (401, ACCOUNT),
    "1005": (401, ACCOUNT),
    "1100": (500, BROKEN),
    "1110": (429, ACCOUNT),
    "1111": (429, ACCOUNT),
    "1112": (429, ACCOUNT),
    "1113": (429, ACCOUNT),
    "1120": (429, ACCOUNT),
    "1121": (429, ACCOUNT),
    "1200": (500, BROKEN),
    "1210": (400, REJECTED),
    "1211": (400, errors.ModelNotFound),
    "1212": (400, REJECTED),
    "1213": (400, REJECTED),
    "1214": (400, REJECTED),
    "1215": (400, REJECTED),
    "1220": (403, ACCOUNT),
    "1221": (400, ACCOUNT),  # "502/503": the operator's to mend, whatever the class of the status
    "1222": (400, ACCOUNT),
    "1230": (500, BROKEN),
    "1231": (400, BROKEN),  # cannot be the client's: the gateway sends no request_id
    "1234": (500, BROKEN),
    "1261": (400, errors.TextTooLong),
    "1300": (400, errors.ContentRefused),
    "1301": (400, errors.ContentRefused),
    "1302": (429, RATE),
    "1303": (429, RATE),
    "1304": (429, ACCOUNT),
    "1305": (429, OVERLOADED),
    "1308": (429, ACCOUNT),
    "1309": (429, ACCOUNT),
    "1310": (429, ACCOUNT),
    "1311": (429, ACCOUNT),
    "1312": (429, OVERLOADED),
    "1313": (429, ACCOUNT),
    "1314": (429, ACCOUNT),
    "1315": (429, ACCOUNT),
    "1316": (429, ACCOUNT),
    "1317": (429, ACCOUNT),
    "1318": (429, ACCOUNT),
    "1319": (429, ACCOUNT),
    "1320": (429, ACCOUNT),
    "1321": (429, ACCOUNT),
}
NEVER, AGAIN, ELSEWHERE = "never", "again here", "elsewhere"
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)  # 17:30 in China
MINUTES, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 24, 16, tzinfo=UTC)  # of China
CHANGED = "until the key changes"
# What is done about each code: columns R, K and N of section 3.
POLICY = {
    **dict.fromkeys(["500", "1100", "1200", "1230", "1231", "1234"], AGAIN),
    **dict.fromkeys(["1305", "1312"], AGAIN),
    **dict.fromkeys(["1302", "1303"], ELSEWHERE),
    **dict.fromkeys(["401", "1000", "1001", "1002", "1003", "1004", "1005"], CHANGED),
    **dict.fromkeys(["1113", "1221", "1222"], HOUR),
    "1120": MINUTES,
    **dict.fromkeys(["1110", "1111", "1112", "1121", "1220"], DAY),
    **dict.fromkeys(["1309", "1311", "1313", "1314", "1315"], DAY),
    "1304": MIDNIGHT,
    **dict.fromkeys(
        ["1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321"], HOUR
    ),  # without a time in the text
    **dict.fromkeys(["1210", "1211", "1212", "1213", "1214", "1215", "1261", "1300", "1301"], NEVER),
}


def failure_of(code, status, detail=""):
    return CallFailure(fault=fault_of(code, status), code=code, status=status, detail=detail)


def milliseconds(moment):
    return round(moment.timestamp() * 1000)


def outcome(code, status):
    return outward(CallFailure(fault=fault_of(code, status), code=code, status=status))


@pytest.mark.parametrize("code", ROWS)
def test_every_row_of_the_table(code):
    status, kind = ROWS[code]
    assert type(outcome(code, status)) is kind


@pytest.mark.parametrize("code", ROWS)
@pytest.mark.parametrize("status", [200, 400, 429, 502, 503])
def test_the_code_decides_before_the_status(code, status):
    """The official table has moved before, and an error may come with status 200 (section 1.4)."""
    assert type(outcome(code, status)) is ROWS[code][1]


def test_no_other_code_is_known():
    assert set(FAULT_OF_CODE) == set(ROWS)


def test_every_row_has_a_policy():
    assert POLICY.keys() == ROWS.keys()


@pytest.mark.parametrize("code", ROWS)
def test_what_is_done_about_each_row(code):
    failure, policy = failure_of(code, ROWS[code][0]), POLICY[code]
    rule, park = rule_of(failure), park_of(failure, "main", NOW)
    assert bool(rule.waits) is (policy == AGAIN)
    assert rule.elsewhere is (policy == ELSEWHERE)
    if policy in {NEVER, AGAIN, ELSEWHERE}:
        assert park is None
        return
    ends = {CHANGED: 0, MIDNIGHT: milliseconds(MIDNIGHT)}
    until = ends[policy] if policy in ends else milliseconds(NOW + policy)
    assert (park.seat, park.code, park.until) == ("main", code, until)


@pytest.mark.parametrize("code", [code for code, policy in POLICY.items() if policy == CHANGED or code == "1220"])
def test_a_fault_of_a_key_leaves_the_other_keys_of_its_account_alone(code):
    assert not park_of(failure_of(code, ROWS[code][0]), "main", NOW).whole


@pytest.mark.parametrize("code", ["1113", "1304", "1308", "1313", "1120"])
def test_a_fault_of_an_account_is_one_of_all_its_keys(code):
    assert park_of(failure_of(code, 429), "main", NOW).whole


@pytest.mark.parametrize(
    ("detail", "until"),
    [
        ("已达到使用上限。您的限额将在 2026-11-24 20:00:00 重置。", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("Your limit will reset at 2026-12-01 00:00:00", datetime(2026, 11, 30, 16, tzinfo=UTC)),
        ("it was reset at 2026-11-24 17:29:59", NOW + HOUR),  # over already
        ("it will reset at 2026-99-01 00:00:00", NOW + HOUR),
        ("soon", NOW + HOUR),
        ("Your limit will reset at 2099-01-01 00:00:00", NOW + timedelta(days=31)),
    ],
)
def test_a_plan_is_left_alone_until_the_time_that_its_text_names_in_chinas_time(detail, until):
    assert park_of(failure_of("1308", 429, detail), "main", NOW).until == milliseconds(until)


@pytest.mark.parametrize(("status", "until"), [(401, 0), (403, None), (404, None), (434, None)])
def test_an_account_fault_without_a_code_is_judged_by_its_status(status, until):
    park = park_of(failure_of("", status), "main", NOW)
    assert park.until == (milliseconds(NOW + HOUR) if until is None else until)
    assert park.code == str(status)


def test_what_was_never_sent_leaves_the_key_alone_for_a_moment_where_another_one_is_left():
    """Its own place was not reached: other keys of the account may be used elsewhere."""
    unsent = CallFailure(fault=Fault.UNREACHABLE, code="", status=0)
    assert type(outward(unsent)) is errors.UpstreamUnreachable
    park = park_of(unsent, "main", NOW)
    assert (park.code, park.until, park.whole) == ("unreachable", milliseconds(NOW + timedelta(seconds=30)), False)
    assert park.lenient
    assert rule_of(unsent).waits


@pytest.mark.parametrize("code", ROWS)
def test_no_answer_of_the_upstreams_is_taken_for_a_call_that_was_not_sent(code):
    park = park_of(failure_of(code, ROWS[code][0]), "main", NOW)
    assert park is None or not park.lenient
    assert fault_of(code, 0) is not Fault.UNREACHABLE


def test_why_no_account_is_left_is_said_in_our_own_words():
    parks = [park_of(failure_of(code, 429, "the upstream's words"), "main", NOW) for code in ("1113", "401", "1113")]
    assert unusable(parks).message == (
        "No upstream account can make the picture now (an account has no balance left or is refused by the upstream; "
        "an account's key is not valid). Nothing was charged; tell the gateway's operator."
    )


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("", 400, REJECTED),
        ("9999", 400, REJECTED),
        ("", 401, ACCOUNT),
        ("9999", 401, ACCOUNT),
        ("", 403, ACCOUNT),
        ("", 404, ACCOUNT),
        ("", 429, RATE),
        ("9999", 429, RATE),
        ("", 413, REJECTED),
        ("9999", 422, REJECTED),
        ("", 434, ACCOUNT),
        ("9999", 500, BROKEN),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(code, status, kind):
    assert type(outcome(code, status)) is kind


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 200),  # an empty body, HTML, or JSON without a picture
        ("200", 200),  # the host's envelope of a success (section 1.4: `code`, `msg`, `success`) without a picture
        ("", 500),
        ("", 502),
        ("", 503),
        ("", 504),
        ("502", 502),  # a proxy's own JSON is no more a word of the upstream's than its HTML
        ("504", 504),
        ("9999", 503),
        ("9999", 502),
        ("GatewayTimeout", 504),
        ("", 520),
        ("", 524),
        ("", 0),  # the connection was cut
    ],
)
def test_what_may_hide_a_paid_picture_is_unknown_and_never_tried_again(code, status):
    """Section 3: "a sync read-timeout or 502/504 after ~60 s may have produced and billed an image"."""
    rule = rule_of(failure_of(code, status))
    assert (rule.waits, rule.elsewhere, rule.rest) == ((), False, None)
    assert type(outcome(code, status)) is UNKNOWN


@pytest.mark.parametrize("waits", [rule.waits for rule in RULES if rule.waits])
def test_the_waits_grow_and_end(waits):
    assert list(waits) == sorted(waits)
    assert waits[0] > 0
    assert 1 <= len(waits) <= 4
    assert sum(waits) <= 10


@given(code=st.text(max_size=8) | st.sampled_from(sorted(ROWS)), status=st.integers(0, 999))
def test_whatever_comes_has_an_outward_form(code, status):
    failure = outcome(code, status)
    assert isinstance(failure, errors.GatewayError)
    assert type(failure) is not errors.GatewayError
    assert failure.message


def test_a_refused_content_keeps_where_it_was_stopped():
    moderation = Moderation(stage="input")
    failure = outward(CallFailure(fault=Fault.CONTENT, code="1301", status=400, moderation=moderation))
    assert failure.moderation == moderation


@pytest.mark.parametrize(("code", "param"), [("1261", "prompt"), ("1211", "model")])
def test_the_place_is_named_where_it_is_known(code, param):
    assert outcome(code, 400).param == param


@pytest.mark.parametrize("code", ROWS)
def test_the_upstreams_own_text_is_for_the_log_only(code):
    secret = "0123456789abcdef.SecretOfTheAccount"
    failure = outward(CallFailure(fault=fault_of(code, ROWS[code][0]), code=code, status=ROWS[code][0], detail=secret))
    assert secret not in failure.message


@pytest.mark.parametrize("fault", Fault)
def test_nothing_was_charged_is_said_of_calls_that_were_refused_before_the_work_began_only(fault):
    said = outward(CallFailure(fault=fault, code="", status=500)).message
    assert ("Nothing was charged" in said) is (
        fault in {Fault.ACCOUNT, Fault.OVERLOADED, Fault.RATE, Fault.UNREACHABLE}
    )
