"""OpenAI's usage and costs, read with the stock SDK's admin client through several pages."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import openai
import pytest
from openai import OpenAI
from openai.types.admin.organization.usage_costs_response import DataResultOrganizationCostsResult
from openai.types.admin.organization.usage_images_response import DataResultOrganizationUsageImagesResult

from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.domain.usage import Outcome
from tests import servers
from tests.builders import a_line
from tests.servers import http

ADMIN_KEY = "sk-admin-chosen-for-the-usage-tests"
START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86_400
SINCE = int(START.timestamp())
TENTH = {"price": 100_000, "cost": 60_000, "pictures_delivered": 1, "pictures_paid": 1}


def lines():
    """Twenty days of March: ten pictures a day, a hit, and every fifth day an abandoned job; two hours in."""
    for day in range(20):
        at = START + timedelta(days=day, hours=2)
        for number in range(10):
            names = {"project_id": f"proj_{number % 2}", "key_id": f"key_{number % 3}", "size": "1280x1280"}
            cost_currency = "USD" if number == 9 else "CNY"
            yield a_line(f"{day}-{number}", time=at, **names, **TENTH, cost_currency=cost_currency)
        yield a_line(f"{day}-hit", Outcome.HIT, time=at, project_id="proj_0", key_id="key_0", size="1024x1024")
        yield a_line(f"{day}-0~1", Outcome.FAILED, time=at, project_id="proj_0", key_id="key_0", size="1024x1024")
    for currency in ("CNY", "USD"):  # the installation's currency was another one until that day
        yield a_line(currency, time=START + timedelta(days=40), **TENTH, cost_currency="CNY", currency=currency)
    yield a_line("lost", Outcome.ABANDONED, time=START, project_id="proj_2", cost=60_000, end_user_hash="somebody")


async def write(url):
    engine = open_engine(url)
    await SqlLedger(engine).write(list(lines()))
    await engine.dispose()


@pytest.fixture(scope="module")
def place(tmp_path_factory, shared_simulator):
    """A gateway whose ledger has those lines."""
    folder = tmp_path_factory.mktemp("usage")
    with servers.gateway(folder, shared_simulator, GLM_GATEWAY_ADMIN_KEY=ADMIN_KEY) as gateway:
        asyncio.run(write(f"sqlite:///{gateway.data_dir}/gateway.db"))
        yield gateway


@pytest.fixture
def usage(place):
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with OpenAI(admin_api_key=ADMIN_KEY, base_url=place.base_url, max_retries=0, http_client=http_client) as client:
        yield client.admin.organization.usage


def all_pages(ask, **words):
    """Every bucket, asked for page by page."""
    page = ask(**words)
    yield page
    while page.has_more:
        page = ask(**words, page=page.next_page)
        yield page


def asked(place, path, key=ADMIN_KEY):
    status, _, content = http(
        "GET", f"{place.base_url}/organization/{path}", headers={"Authorization": f"Bearer {key}"}
    )
    return SimpleNamespace(status=status, **json.loads(content))


def test_images_are_counted_day_by_day_through_pages(usage):
    pages = list(all_pages(usage.images, start_time=SINCE, end_time=SINCE + 20 * DAY))
    assert [len(page.data) for page in pages] == [7, 7, 6]
    assert pages[-1].next_page is None
    buckets = [bucket for page in pages for bucket in page.data]
    assert [(one.start_time, one.end_time) for one in buckets] == [
        (SINCE + day * DAY, SINCE + (day + 1) * DAY) for day in range(20)
    ]
    results = [result for bucket in buckets for result in bucket.results]
    assert {type(result) for result in results} == {DataResultOrganizationUsageImagesResult}
    assert [(result.images, result.num_model_requests) for result in results] == [(10, 12)] + 19 * [(10, 11)]
    assert {(one.project_id, one.api_key_id, one.user_id, one.model, one.size, one.source) for one in results} == {
        (None,) * 6
    }


def test_groups_and_filters_are_lists_with_brackets(usage):
    words = {"start_time": SINCE, "end_time": SINCE + DAY, "group_by": ["project_id", "model", "source", "user_id"]}
    [bucket] = usage.images(**words).data
    assert [(one.project_id, one.images, one.num_model_requests, one.user_id) for one in bucket.results] == [
        ("proj_0", 5, 6, None),
        ("proj_1", 5, 5, None),
        ("proj_2", 0, 1, "somebody"),
    ]
    assert {(one.model, one.source, one.size) for one in bucket.results} == {("glm-image", "image.generation", None)}
    filters = {"project_ids": ["proj_1", "proj_2"], "api_key_ids": ["key_0", "key_1"], "models": ["glm-image"]}
    [bucket] = usage.images(**words, **filters, sizes=["1280x1280"], sources=["image.generation"]).data
    assert [(one.project_id, one.images) for one in bucket.results] == [("proj_1", 4)]
    [bucket] = usage.images(**words, user_ids=["somebody"]).data
    assert [one.project_id for one in bucket.results] == ["proj_2"]


@pytest.mark.parametrize("written", ["group_by[]=project_id&group_by[]=size", "group_by=project_id&group_by=size"])
def test_lists_may_be_written_in_three_ways(place, written):
    path = f"usage/images?start_time={SINCE}&end_time={SINCE + DAY}&"
    assert asked(place, path + written).data == asked(place, path + "group_by=project_id,size").data
    assert len(asked(place, path + written).data[0]["results"]) == 4


def test_hours_and_minutes_begin_and_end_with_the_range(usage):
    hours = usage.images(start_time=SINCE + 1800, bucket_width="1h", limit=3)
    assert [(one.start_time - SINCE, one.end_time - SINCE, len(one.results)) for one in hours.data] == [
        (1800, 3600, 0),
        (3600, 7200, 0),
        (7200, 10800, 1),
    ]
    minutes = usage.images(start_time=SINCE + 7190, end_time=SINCE + 7230, bucket_width="1m")
    assert [(one.end_time - one.start_time, len(one.results)) for one in minutes.data] == [(10, 0), (30, 1)]
    assert not minutes.has_more


def test_costs_are_what_was_charged_as_numbers(usage, place):
    words = {"start_time": SINCE, "end_time": SINCE + 20 * DAY}
    pages = list(all_pages(usage.costs, **words, limit=9, group_by=["line_item", "project_id"]))
    results = [one for page in pages for bucket in page.data for one in bucket.results]
    assert {type(one) for one in results} == {DataResultOrganizationCostsResult}
    charged = [one for one in results if one.amount.value]
    assert {(one.amount.value, one.amount.currency) for one in charged} == {(0.5, "cny")}
    assert {(one.line_item, one.quantity, one.quantity_unit) for one in charged} == {("glm-image", 5, "images")}
    assert (len(pages), len(charged)) == (3, 40)
    [bucket] = asked(place, f"costs?start_time={SINCE}&end_time={SINCE + DAY}").data
    [result] = bucket["results"]
    assert result["amount"] == {"value": 1.0, "currency": "cny"}
    assert (result["quantity"], result["line_item"]) == (None, None)


def test_what_was_charged_in_two_currencies_is_one_number_of_images_and_two_amounts(usage):
    words = {"start_time": SINCE + 40 * DAY, "end_time": SINCE + 41 * DAY}
    for group_by in ([], ["model", "size"]):
        [result] = usage.images(**words, group_by=group_by).data[0].results
        assert (result.images, result.num_model_requests) == (2, 2)
    amounts = [(one.amount.value, one.amount.currency) for one in usage.costs(**words).data[0].results]
    assert amounts == [(0.1, "cny"), (0.1, "usd")]


def test_a_month_without_an_end_reaches_to_the_end_of_today(usage):
    tomorrow = (int(datetime.now(UTC).timestamp()) // DAY + 1) * DAY
    [yesterday, today] = usage.images(start_time=tomorrow - 2 * DAY).data
    assert (today.start_time, today.end_time, today.results) == (tomorrow - DAY, tomorrow, [])
    assert yesterday.results == []


@pytest.mark.parametrize(
    ("path", "param"),
    [
        (f"usage/images?start_time={SINCE}&limit=32", "limit"),
        (f"usage/images?start_time={SINCE}&bucket_width=1h&limit=169", "limit"),
        (f"costs?start_time={SINCE}&limit=0", "limit"),
        (f"usage/images?start_time={SINCE}&group_by[]=line_item", "group_by"),
        (f"costs?start_time={SINCE}&group_by=model", "group_by"),
        (f"costs?start_time={SINCE}&page=page_7", "page"),
        (f"costs?start_time={SINCE}&models=glm-image", "models"),
        (f"costs?start_time={SINCE}&user_ids[]=somebody", "user_ids"),
        (f"usage/images?start_time={SINCE}&line_items[]=glm-image", "line_items"),
        (f"usage/images?start_time={SINCE}&end_time={SINCE}", "end_time"),
        (f"costs?start_time={SINCE}&end_time={10**12}", "end_time"),
        ("costs?start_time=-1", "start_time"),
        (f"usage/images?start_time={10**12}", "start_time"),
        (f"costs?start_time={SINCE}&project_ids[]=a%00", "project_ids"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(place, path, param):
    answer = asked(place, path)
    assert (answer.status, answer.error["param"], answer.error["type"]) == (400, param, "invalid_request_error")


@pytest.mark.parametrize("path", ["usage/images", "costs"])
def test_a_time_to_begin_with_is_asked_for_by_name(place, path):
    answer = asked(place, path)
    assert answer.error["message"].endswith("Missing required parameter: 'start_time'.")
    assert (answer.status, answer.error["param"], answer.error["code"]) == (
        400,
        "start_time",
        "missing_required_parameter",
    )


@pytest.mark.parametrize("query", ["", "start_time=yesterday", f"start_time={SINCE}&bucket_width=1w", "start_time=-1"])
def test_what_is_no_time_is_refused(place, query):
    assert asked(place, f"usage/images?{query}").status == 400
    assert asked(place, f"costs?{query}").status == 400


def test_only_an_admin_key_reads_usage(place):
    for path in (f"usage/images?start_time={SINCE}", f"costs?start_time={SINCE}"):
        assert asked(place, path, key=place.key).status in {401, 403}
        assert asked(place, path, key="sk-admin-another").status == 401
