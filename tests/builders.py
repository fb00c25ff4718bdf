"""Things of the domain with ordinary values: a test names only what it is about."""

import hashlib
import io
from datetime import UTC, datetime

from PIL import Image

from gateway.domain.billing import Tariff
from gateway.domain.caching import Sought, plan_name
from gateway.domain.flights import Lead
from gateway.domain.image import ImageOrder, ImagePlan, ImageRef, ImageRequest, PaidPicture, Picture
from gateway.domain.job import Job
from gateway.domain.keys import PREFIX, Caller, StoredKey, compose, digest
from gateway.domain.limits import Limit, Room
from gateway.domain.mapping import MappingRules
from gateway.domain.picture_urls import PictureFile
from gateway.domain.projects import DEFAULT_ID, DEFAULT_NAME, Project
from gateway.domain.quota import Claim, Limits, Reservation, Subject, subject_names
from gateway.domain.upstream import Account, CallFailure, Fault
from gateway.domain.usage import Outcome, UsageEvent
from gateway.service.deliver import Delivery, InMemory
from gateway.service.generation import Run
from gateway.service.offers import Offer
from gateway.service.ports_upstream import CallFailed
from gateway.settings.models import load_catalog

PEPPER = b"a pepper for tests"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PRICE = 100_000  # of a picture, in millionths


def hash_user(user):
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def mapping_rules(**changes):
    return MappingRules(**{"hash_user": hash_user, **changes})


def a_request(**changes):
    return ImageRequest(**{"prompt": "a red fox in the snow", **changes})


def a_plan(**changes):
    ordinary = {"model": "glm-image", "prompt": "a red fox in the snow", "size": "1280x1280", "quality": "hd"}
    return ImagePlan(**{**ordinary, **changes})


def an_order(**changes):
    return ImageOrder(**{"plan": a_plan(), "n": 1, "response_format": "b64_json", "stream": False, **changes})


def an_account(name="main", concurrency=1, **changes):
    return Account(**{"name": name, "concurrency": concurrency, "fingerprint": f"key of {name}", **changes})


def an_offer(*accounts, catalog=None):
    """These accounts, and the models of the gateway's own file or of another catalog."""
    return Offer(catalog=catalog or load_catalog(), accounts=accounts, longest_call=200.0)


def a_paid_picture(name="1", **changes):
    return PaidPicture(**{"url": f"https://cdn.z.ai/{name}.png", "request_id": f"request-{name}", **changes})


def a_picture(content=b"bytes", media="png", size=(1280, 1280), account="main", **changes):
    image = an_image(content, media, size)
    return Picture(paid=a_paid_picture(**changes), account=account, image=image)


def an_image(content=b"bytes", media="png", size=(1280, 1280)):
    name = hashlib.sha256(content).hexdigest()
    return ImageRef(name=name, media=media, width=size[0], height=size[1], bytes=len(content))


def a_delivery(content=b"bytes", *, origin="http://gateway", **changes):
    """A picture that is ready to be handed over."""
    picture = a_picture(content, **changes)
    file = PictureFile.of(picture.image, None)
    return Delivery(picture=picture, url=f"{origin}/{file}", content=InMemory(file=file, held=content))


def failed(fault=Fault.INTERNAL, code="500", status=500, **more):
    """The exception of a call that gave no picture."""
    return CallFailed(CallFailure(fault=fault, code=code, status=status, **more))


def image_file(kind="PNG", size=(64, 48)):
    """The bytes of a picture with enough detail that its file has some length."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, kind)
    return file.getvalue()


def a_secret(key_id="abcDEF012345", random="r" * 32):
    return compose(key_id, random)


def a_project(**changes):
    return Project(**{"id": DEFAULT_ID, "name": DEFAULT_NAME, "created_at": NOW, **changes})


def a_stored_key(secret=None, **changes):
    secret = secret or a_secret()
    key_id = secret[len(PREFIX) : len(PREFIX) + 12]
    ordinary = {
        "id": key_id,
        "project": a_project(),
        "name": "tests",
        "prefix": secret[: len(PREFIX) + 4],
        "last_four": secret[-4:],
        "digest": digest(PEPPER, secret),
        "created_at": NOW,
    }
    return StoredKey(**{**ordinary, **changes})


def a_caller(**changes):
    ordinary = {"project_id": DEFAULT_ID, "project_name": DEFAULT_NAME, "key_id": "abcDEF012345", "key_name": "tests"}
    return Caller(**{**ordinary, **changes})


def a_line(event_id="request-1", outcome=Outcome.DELIVERED, **changes):
    """A line of the ledger."""
    ordinary = {
        "request_id": event_id,
        "time": NOW,
        "project_id": DEFAULT_ID,
        "key_id": "abcDEF012345",
        "requested_model": "glm-image",
        "upstream_model": "glm-image",
        "pictures_requested": 1,
        "cost_currency": "CNY",
        "currency": "CNY",
    }
    return UsageEvent(event_id=event_id, outcome=outcome, **{**ordinary, **changes})


def a_claim(request_id="request-1", *, pictures=1, price=PRICE, key=None, project=None, project_id=DEFAULT_ID):
    """What a request wants of a key and its project with these limits."""
    line = a_line(request_id, Outcome.ABANDONED, project_id=project_id)
    names = subject_names(line.key_id, project_id)
    subjects = tuple(
        Subject(name=name, limits=Limits(**(given or {}))) for name, given in zip(names, (key, project), strict=True)
    )
    return Claim(project_id=project_id, subjects=subjects, pictures=pictures, price=price, abandoned=line)


def a_room(limit=Limit.IMAGES_PER_MINUTE, **changes):
    return Room(
        **{"subject": "key.abcDEF012345", "limit": limit, "value": 10, "used": 4, "resets_in": 30_000, **changes}
    )


def a_job(order=None, **changes):
    order = order or an_order()
    ordinary = {
        "caller": a_caller(),
        "order": order,
        "tariff": Tariff(price=PRICE, currency="CNY"),
        "sought": Sought(plan=plan_name(order.plan), scope="project"),
        "line": a_line("request-1", Outcome.ABANDONED, pictures_requested=order.n, cost=order.n * PRICE),
        "came": NOW,
    }
    return Job(**{**ordinary, **changes})


def a_run(order=None, **reservation):
    """A job without tasks that leads all its pictures."""
    job = a_job(order)
    leads = tuple(Lead(index=index) for index in range(job.order.n))
    taken = {"day": "2026-11-23", "month": "2026-11", "moment": 1000, "leads": leads, **reservation}
    return Run(job=job, reservation=Reservation(claim=job.claim(lead=True), **taken))
