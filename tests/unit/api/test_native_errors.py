"""Every failure in GLM's own words: its status, its code and its shape, class by class."""

import json
from types import SimpleNamespace

import pytest
from litestar.exceptions import InternalServerException, MethodNotAllowedException, NotFoundException

from gateway.api import native_errors
from gateway.domain import errors
from gateway.domain.errors import ContentRefused, Moderation
from tests.unit.api.test_errors import CLASSES, an_example

NO_RETRY = {"x-should-retry": "false"}
EXPECTED = {
    errors.GatewayError: (500, "500"),
    errors.Misconfigured: (429, "1305"),
    errors.InvalidRequest: (400, "1214"),
    errors.MalformedBody: (400, "1210"),
    errors.MissingParameter: (400, "1213"),
    errors.InvalidType: (400, "1214"),
    errors.InvalidValue: (400, "1214"),
    errors.EmptyText: (400, "1213"),
    errors.TextTooLong: (400, "1261"),
    errors.NumberTooSmall: (400, "1214"),
    errors.NumberTooLarge: (400, "1214"),
    errors.UnknownParameter: (400, "1214"),
    errors.UnsupportedParameter: (400, "1214"),
    errors.UnsupportedEndpoint: (400, "1214"),
    errors.RetiredEndpoint: (400, "1222"),
    errors.IdempotencyKeyReused: (400, "1214"),
    errors.ModelNotFound: (400, "1211"),
    errors.NotFound: (400, "1211"),
    errors.TaskNotFound: (400, "1214"),
    errors.ContentRefused: (400, "1301"),
    errors.UpstreamRejected: (400, "1214"),
    errors.NameTaken: (400, "1214"),
    errors.MissingKey: (401, "401"),
    errors.InvalidKey: (401, "401"),
    errors.NotAllowed: (403, "1220"),
    errors.ModelNotAllowed: (403, "1220"),
    errors.AddressNotAllowed: (403, "1220"),
    errors.DatabaseUnavailable: (429, "1305"),
    errors.LimitReached: (429, "1302"),
    errors.RateLimitReached: (429, "1302"),
    errors.QuotaExhausted: (429, "1113"),
    errors.QuotaStoreDown: (429, "1305"),
    errors.PictureUntold: (429, "1305"),
    errors.LedgerBehind: (429, "1305"),
    errors.PictureStoreUnavailable: (429, "1305"),
    errors.ShuttingDown: (429, "1305"),
    errors.ReplicaFull: (429, "1305"),
    errors.JobCancelled: (429, "1305"),
    errors.QueueTimedOut: (429, "1302"),
    errors.UpstreamFailed: (429, "1305"),
    errors.AccountUnusable: (429, "1305"),
    errors.UpstreamRateLimited: (429, "1302"),
    errors.UpstreamOverloaded: (429, "1305"),
    errors.UpstreamBroken: (429, "1305"),
    errors.UpstreamUnreachable: (429, "1305"),
    errors.OutcomeUnknown: (500, "1234"),
    errors.ImageDownloadFailed: (500, "1234"),
    errors.PictureLost: (500, "1234"),
    errors.ClientLeft: (499, "1210"),
    errors.InvalidPictureUrl: (403, "1220"),
    errors.PictureUrlExpired: (403, "1220"),
    errors.PictureNotFound: (400, "1211"),
}


def request(path="/api/paas/v4/images/generations"):
    return SimpleNamespace(
        method="PUT", scope={"path": path}, app=SimpleNamespace(request_max_body_size=1234), state=SimpleNamespace()
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_every_failure_has_its_status_and_code(kind):
    failure = an_example(kind)
    answer = native_errors.on_failure(request(), failure)
    body = json.loads(answer.content)
    assert (answer.status_code, body["error"]["code"]) == EXPECTED[kind]
    assert body["error"]["message"] == failure.message
    assert set(body["error"]) == {"code", "message"}
    assert answer.media_type == "application/json"


@pytest.mark.parametrize("kind", CLASSES)
def test_the_headers_are_those_of_the_other_path(kind):
    native, other = (
        native_errors.on_failure(request(path), an_example(kind)).headers
        for path in ("/api/paas/v4/images/generations", "/v1/images/generations")
    )
    assert native == other


@pytest.mark.parametrize("kind", [errors.OutcomeUnknown, errors.ImageDownloadFailed, errors.QuotaExhausted])
def test_the_sdks_are_told_not_to_repeat_what_may_be_paid_or_cannot_help(kind):
    answer = native_errors.on_failure(request(), an_example(kind))
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        ("input", {"contentFilter": [{"level": 1, "role": "user"}]}),
        ("output", {"contentFilter": [{"level": 1, "role": "assistant"}]}),
        ("unknown", {}),
    ],
)
def test_a_refused_content_says_whose_it_was(stage, found):
    body = native_errors.error_body(ContentRefused(Moderation(stage=stage)))
    del body["error"]
    assert body == found


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NotFoundException(), 404, "1222"),
        (MethodNotAllowedException(), 405, "1222"),
        (InternalServerException(), 500, "500"),
    ],
)
def test_what_the_framework_refuses_keeps_its_status(failure, status, code):
    answer = native_errors.on_http_exception(request(), failure)
    body = json.loads(answer.content)
    assert (answer.status_code, body["error"]["code"]) == (status, code)


def test_a_defect_says_nothing_of_itself():
    answer = native_errors.on_defect(request(), ValueError("secret"))
    assert answer.status_code == 500
    assert json.loads(answer.content)["error"]["code"] == "500"
    assert b"secret" not in answer.content


@pytest.mark.parametrize("path", ["/v1/images/generations", "/api/paas/v4x/images", "/", "/api/paas"])
def test_other_paths_keep_openais_words(path):
    answers = [
        native_errors.on_failure(request(path), errors.InvalidKey("what to do")),
        native_errors.on_http_exception(request(path), NotFoundException()),
        native_errors.on_defect(request(path), ValueError()),
    ]
    for answer in answers:
        assert "type" in json.loads(answer.content)["error"]
