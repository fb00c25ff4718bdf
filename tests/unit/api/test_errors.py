"""Every failure has a row in the one table, and every row is OpenAI's error object."""

import json
from types import SimpleNamespace

import pytest
import structlog
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from gateway.api.errors import TABLE, encode_defect, error_object, on_defect, on_failure, on_http_exception, wire_of
from gateway.domain import errors
from gateway.domain.errors import ContentRefused, GatewayError, LimitReached, Moderation
from tests.builders import a_room

REQUEST = SimpleNamespace(
    method="PUT",
    scope={"path": "/v1/{foo}"},
    app=SimpleNamespace(request_max_body_size=1234),
    state=SimpleNamespace(),
)


def every_class(kind=GatewayError):
    return {kind}.union(*map(every_class, kind.__subclasses__()))


CLASSES = sorted((kind for kind in every_class() if kind.__module__ == errors.__name__), key=lambda kind: kind.__name__)


def an_example(kind):
    if kind is ContentRefused:
        return kind(Moderation(stage="input"))
    return kind("what to do", a_room()) if issubclass(kind, LimitReached) else kind("what to do", param="size")


def check_error_object(body):
    assert set(body) == {"error"}
    error = body["error"]
    assert (
        {"message", "type", "param", "code"} <= set(error) <= {"message", "type", "param", "code", "moderation_details"}
    )
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_failure_has_a_row_of_its_own(kind):
    assert kind in TABLE
    assert wire_of(an_example(kind)) is TABLE[kind]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_failure_is_an_error_object_of_openais(kind):
    response = on_failure(REQUEST, an_example(kind))
    wire = TABLE[kind]
    body = json.loads(response.content)
    check_error_object(body)
    assert response.status_code == wire.status
    assert response.media_type == "application/json"
    assert (body["error"]["type"], body["error"]["code"]) == (wire.type, wire.code)
    assert body["error"]["param"] == an_example(kind).param
    assert ("moderation_details" in body["error"]) is (kind is ContentRefused)


def test_a_class_without_a_row_is_answered_as_the_nearest_above_it():
    class Nearby(errors.InvalidValue):
        pass

    assert wire_of(Nearby("what to do")) is TABLE[errors.InvalidValue]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_headers_tell_clients_what_they_understand(kind):
    """409 is retried, 422 is none of OpenAI's, and a retry-after above 60 s is ignored (sections 4, 5.3, 8)."""
    wire = TABLE[kind]
    assert wire.status not in {409, 422}
    assert 400 <= wire.status < 600
    assert set(wire.headers) <= {"retry-after", "x-should-retry", "www-authenticate", "connection"}
    assert 1 <= int(wire.headers.get("retry-after", "1")) <= 60
    assert wire.headers.get("x-should-retry", "false") == "false"
    assert ("www-authenticate" in wire.headers) is (wire.status == 401)
    if wire.status in {429, 503} and kind is not LimitReached:  # which is raised as one of its two kinds only
        answered = on_failure(REQUEST, an_example(kind)).headers
        assert {"retry-after", "x-should-retry"} & set(answered)
        assert 1 <= int(answered.get("retry-after", "1")) <= 60


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code"),
    [
        (errors.ContentRefused, 400, "image_generation_user_error", "content_policy_violation"),
        (errors.AccountUnusable, 503, None, "upstream_unavailable"),
        (errors.UpstreamUnreachable, 503, None, None),
        (errors.UpstreamOverloaded, 503, "service_unavailable_error", "server_is_overloaded"),
        (errors.UpstreamRateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.QueueTimedOut, 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.UpstreamBroken, 503, "server_error", "server_error"),
        (errors.OutcomeUnknown, 504, None, "upstream_outcome_unknown"),
        (errors.ImageDownloadFailed, 502, None, "image_download_failed"),
        (errors.UnsupportedEndpoint, 400, "invalid_request_error", "unsupported_endpoint"),
        (errors.RetiredEndpoint, 410, "invalid_request_error", None),
        (errors.ModelNotFound, 404, "invalid_request_error", "model_not_found"),
        (errors.UpstreamRejected, 400, "invalid_request_error", "invalid_value"),
        (errors.RateLimitReached, 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.QuotaExhausted, 429, "insufficient_quota", "insufficient_quota"),
        (errors.QuotaStoreDown, 503, "server_error", None),
        (errors.ModelNotAllowed, 403, "invalid_request_error", "model_not_found"),
        (errors.AddressNotAllowed, 403, "request_forbidden", "ip_not_authorized"),
        (errors.InvalidKey, 401, "invalid_request_error", "invalid_api_key"),
        (errors.MissingKey, 401, "invalid_request_error", None),
        (errors.TextTooLong, 400, "invalid_request_error", "string_above_max_length"),
        (errors.MissingParameter, 400, "invalid_request_error", "missing_required_parameter"),
        (errors.InvalidValue, 400, "invalid_request_error", "invalid_value"),
        (errors.NumberTooLarge, 400, "invalid_request_error", "integer_above_max_value"),
        (errors.UnknownParameter, 400, "invalid_request_error", "unknown_parameter"),
        (errors.MalformedBody, 400, "invalid_request_error", None),
        (errors.GatewayError, 500, "server_error", "server_error"),
    ],
)
def test_the_rows_that_the_documents_fix(kind, status, type_, code):
    """Design.md section 6 ("Upstream failures outward", "Retries"); openai-images-api.md section 4."""
    wire = TABLE[kind]
    assert wire.status == status
    assert type_ in {None, wire.type}
    assert code in {None, wire.code}


@pytest.mark.parametrize("kind", [errors.OutcomeUnknown, errors.ImageDownloadFailed])
def test_what_may_have_been_paid_is_not_to_be_sent_again(kind):
    assert TABLE[kind].headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stage", ["input", "output", "unknown"])
def test_a_refused_content_says_where_it_was_stopped(stage):
    body = error_object(ContentRefused(Moderation(stage=stage, categories=("violence",))))
    details = body["error"]["moderation_details"]
    assert details == {"moderation_stage": stage, "categories": ("violence",)}


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (NotFoundException(), 404, "Invalid URL (PUT /v1/{foo})"),
        (MethodNotAllowedException(), 405, "Not allowed to PUT on /v1/{foo}."),
        (HTTPException(status_code=HTTP_413_REQUEST_ENTITY_TOO_LARGE), 413, "1234 bytes"),
        (ValidationException("a {detail} of it"), 400, "a {detail} of it"),
        (HTTPException(status_code=418, detail="short {and} stout"), 418, "short {and} stout"),
    ],
)
def test_what_the_framework_refuses_is_an_error_object_too(failure, status, says):
    response = on_http_exception(REQUEST, failure)
    body = json.loads(response.content)
    check_error_object(body)
    assert response.status_code == status
    assert response.media_type == "application/json"
    assert says in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "failure", [InternalServerException("s3cret"), HTTPException(status_code=503, detail="s3cret")]
)
def test_a_failure_of_the_framework_is_a_defect(failure):
    with structlog.testing.capture_logs() as logged:
        response = on_http_exception(REQUEST, failure)
    assert response.status_code == 500
    assert response.content == encode_defect()
    assert logged[0]["exc_info"] is failure


def test_a_defect_is_logged_and_not_explained_to_the_client():
    defect = KeyError("s3cret")
    with structlog.testing.capture_logs() as logged:
        response = on_defect(REQUEST, defect)
    assert response.status_code == 500
    body = json.loads(response.content)
    check_error_object(body)
    assert body["error"]["code"] == "server_error"
    assert b"s3cret" not in response.content
    assert logged == [{"event": "request_crashed", "log_level": "error", "exc_info": defect}]
