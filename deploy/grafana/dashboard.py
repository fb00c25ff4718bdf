"""Writes the dashboard: `.venv/bin/python deploy/grafana/dashboard.py`. A test compares the file with this."""

from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Graph
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE = Path(__file__).parent / "dashboards" / "glm-gateway.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
JOB = '{job=~"$job"}'
ROUTE = '{job=~"$job",route=~".+/images/generations"}'


class Query(NamedTuple):
    """An expression of PromQL, and how its series are called."""

    expr: str
    legend: str = ""


class Shown(NamedTuple):
    """A panel: a graph, or with `stat` a number."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    said: str = ""
    stat: bool = False


def per_minute(name: str, by: str, chosen: str = JOB) -> str:
    """Give events of a counter in a minute."""
    return f"60 * sum by ({by}) (rate({name}{chosen}[$__rate_interval]))"


def quantile(share: float, name: str, chosen: str = JOB) -> str:
    """Give a quantile of a histogram, in seconds."""
    return f"histogram_quantile({share}, sum by (le) (rate({name}_bucket{chosen}[$__rate_interval])))"


def hourly(name: str, by: str) -> str:
    """Give what a counter has grown by in an hour."""
    return f"sum by ({by}) (increase({name}{JOB}[1h]))"


def times(name: str, chosen: str = JOB) -> tuple[Query, ...]:
    """Give the median and the slow end of a histogram."""
    return tuple(Query(quantile(share, name, chosen), f"p{round(share * 100)}") for share in (0.5, 0.9, 0.99))


ROWS = {
    "At a glance": (
        Shown("Replicas", "short", (Query(f"count(glm_gateway_build_info{JOB})"),), stat=True),
        Shown(
            "Pictures made in an hour",
            "short",
            (Query(f"sum(increase(glm_gateway_pictures_made_total{JOB}[1h]))"),),
            stat=True,
        ),
        Shown(
            "Charged in an hour",
            "short",
            (Query(f"sum by (currency) (glm_gateway:price:increase1h{JOB})", "{{currency}}"),),
            stat=True,
        ),
        Shown(
            "Generations that fail",
            "percentunit",
            (Query("glm_gateway:generation_errors:ratio_rate5m" + JOB),),
            stat=True,
        ),
        Shown("Queue", "short", (Query(f"max by (model) (glm_gateway_queue_length{JOB})", "{{model}}"),), stat=True),
        Shown(
            "Upstream keys left alone",
            "short",
            (Query(f"sum(glm_gateway:upstream_parked:max{JOB}) or vector(0)"),),
            stat=True,
        ),
    ),
    "Requests": (
        Shown(
            "Generations a minute",
            "short",
            (Query(per_minute("glm_gateway_requests_total", "status", ROUTE), "{{status}}"),),
        ),
        Shown(
            "Refusals and failures a minute",
            "short",
            (Query(per_minute("glm_gateway_requests_total", "code", '{job=~"$job",code!=""}'), "{{code}}"),),
            "By error code.",
        ),
        Shown(
            "Refused by limits, a minute",
            "short",
            (Query(per_minute("glm_gateway_quota_refusals_total", "limit"), "{{limit}}"),),
        ),
        Shown(
            "Under way",
            "short",
            (
                Query(f"sum(glm_gateway_jobs_in_flight{JOB})", "jobs"),
                Query(f"sum(glm_gateway_requests_in_flight{JOB})", "requests"),
                Query(f"sum(glm_gateway_reservations_open{JOB})", "reservations"),
            ),
        ),
    ),
    "Times": (
        Shown("Time to answer", "s", times("glm_gateway_request_seconds", ROUTE)),
        Shown("Wait in the queue", "s", times("glm_gateway_queue_seconds")),
        Shown("Paid upstream calls", "s", times("glm_gateway_upstream_seconds")),
        Shown(
            "The gateway's own time",
            "s",
            times("glm_gateway_own_seconds", ROUTE),
            "Without queue, upstream and download.",
        ),
    ),
    "Pictures and money": (
        Shown(
            "Pictures a minute",
            "short",
            (
                Query(f"60 * sum(rate(glm_gateway_pictures_made_total{JOB}[$__rate_interval]))", "made"),
                Query(f"60 * sum(rate(glm_gateway_pictures_cached_total{JOB}[$__rate_interval]))", "from memory"),
                Query(f"60 * sum(rate(glm_gateway_pictures_coalesced_total{JOB}[$__rate_interval]))", "joined"),
            ),
        ),
        Shown(
            "Jobs a minute by end", "short", (Query(per_minute("glm_gateway_jobs_total", "outcome"), "{{outcome}}"),)
        ),
        Shown(
            "Charged and paid in an hour",
            "short",
            (
                Query(hourly("glm_gateway_price_total", "currency"), "charged {{currency}}"),
                Query(hourly("glm_gateway_cost_total", "currency"), "paid at most {{currency}}"),
            ),
        ),
        Shown(
            "Charged pictures in an hour",
            "short",
            (Query(hourly("glm_gateway_pictures_charged_total", "project, key"), "{{project}} {{key}}"),),
            "By project or key with metrics.by.",
        ),
    ),
    "Upstream": (
        Shown(
            "Calls a minute by end",
            "short",
            (Query(per_minute("glm_gateway_upstream_calls_total", "account, outcome"), "{{account}} {{outcome}}"),),
        ),
        Shown(
            "Pictures that wait for a slot",
            "short",
            (Query(f"max by (model) (glm_gateway_queue_length{JOB})", "{{model}}"),),
        ),
        Shown(
            "Left alone",
            "bool",
            (Query("glm_gateway:upstream_parked:max" + JOB, "{{upstream}} {{model}}"),),
            "1 while a key is parked.",
        ),
        Shown(
            "Downloads and the store",
            "short",
            (
                Query(
                    hourly("glm_gateway_fetch_failures_total", "given_up"), "download failed, given up: {{given_up}}"
                ),
                Query(hourly("glm_gateway_store_failures_total", "operation"), "store: {{operation}}"),
            ),
            "Failures in an hour.",
        ),
    ),
    "Parts": (
        Shown(
            "Well",
            "bool",
            (Query(f"min by (part) (glm_gateway_part_up{JOB})", "{{part}}"),),
            "0 where any replica cannot use the part.",
        ),
        Shown(
            "Ledger",
            "short",
            (
                Query(f"max(glm_gateway_ledger_backlog{JOB})", "records that wait"),
                Query(f"max(glm_gateway_ledger_lag_seconds{JOB})", "seconds behind"),
                Query(f"sum(glm_gateway_settlements_unsaved{JOB})", "in memory only"),
            ),
        ),
        Shown("Outages met, a minute", "short", (Query(per_minute("glm_gateway_outages_total", "part"), "{{part}}"),)),
        Shown(
            "Defects and losses in an hour",
            "short",
            (
                Query(f"sum(increase(glm_gateway_crashes_total{JOB}[1h]))", "crashes"),
                Query(
                    f"sum(increase(glm_gateway_reservations_expired_total{JOB}[1h]))", "reservations of dead replicas"
                ),
                Query(hourly("glm_gateway_ledger_lines_set_aside_total", "why"), "lines set aside: {{why}}"),
            ),
        ),
    ),
}


def panel(shown: Shown) -> Graph | Stat:
    """Build one panel."""
    kind = Stat if shown.stat else Graph
    built = kind().title(shown.title).description(shown.said).unit(shown.unit).datasource(SOURCE).min(0)
    built = built.height(4 if shown.stat else 8).span(4 if shown.stat else 12)
    for number, query in enumerate(shown.queries):
        target = Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(chr(ord("A") + number))
        built = built.with_target(target)
    return built


def build() -> str:
    """Give the dashboard as the JSON that Grafana reads."""
    job = (
        QueryVariable("job").label("Installation").query("label_values(glm_gateway_build_info, job)").datasource(SOURCE)
    )
    board = (
        Dashboard("GLM-Image gateway")
        .uid("glm-gateway")
        .tags(["glm-gateway"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(job.include_all(include_all=True).all_value(".*"))
    )
    for title, row in ROWS.items():
        board = board.with_row(Row(title))
        for shown in row:
            board = board.with_panel(panel(shown))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(build(), "utf-8")
