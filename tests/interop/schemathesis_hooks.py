"""What OpenAPI cannot say of a request, done to those requests that schemathesis means to be accepted.

A transaction id is in the header or in the body, not in neither, and the same in both; it is new. An attachment's bytes
are a picture or a PDF, and what its contentType says; a digest is that of the bytes, or of some that were uploaded. A cursor is one that was given out, for the same query. Who waits for
a verdict has one status. The token that is exchanged is that of a record, and names it. Waits are granted, but only a few are asked for, or this would take for ever.

And what an answer with many results cannot be checked for by its status: `results_per_item`.
"""

import base64
import copy
import hashlib
import itertools
import json
import os
import re
import uuid

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.modes import GenerationMode

PICTURES = [
    ("image/png", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="),
    ("image/gif", "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
    ("application/pdf", "JVBERi0xLjQKJSVFT0YK"),
]
KEY = "Idempotency-Key"
uploaded = []
pages = {}
cursors = []
waits = itertools.chain([1, 1, 1], itertools.repeat(0))
turns = itertools.count()


def operation_of(case):
    return case.operation.definition.raw["operationId"]


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = copy.deepcopy(case.body)
        for submission in case.body.get("items", [case.body]):
            show(submission)
    if any(parameter.name == KEY for parameter in case.operation.headers):
        name(case)
    elif operation_of(case) == "submitRecords":
        for item in case.body["items"]:
            item["transactionId"] = new()
    elif operation_of(case) == "readChanges":
        follow(case)
    elif operation_of(case) in ("findRecords", "countRecords"):
        find(case)
    elif operation_of(case) == "exchangeToken":
        exchange(case.body)
    elif operation_of(case) == "uploadAttachment":
        case.body = base64.b64decode(PICTURES[next(turns) % len(PICTURES)][1])
        case.path_parameters["sha256"] = hashlib.sha256(case.body).hexdigest()
    if "Prefer" in case.headers:
        case.headers["Prefer"] = re.sub(r"(?i)(wait *= *)\d+", lambda found: found[1] + str(next(waits)), case.headers["Prefer"])


@schemathesis.hook
def after_call(context, case, response):
    if operation_of(case) == "uploadAttachment" and response.status_code == 201:
        uploaded.append(response.json())
    if response.status_code != 200:
        return
    if operation_of(case) == "readChanges":
        cursors.append(response.json()["cursor"])
    elif operation_of(case) == "findRecords" and (cursor := response.json()["cursor"]):
        pages.setdefault(next(turns), ({**case.query, "cursor": cursor}))


@schemathesis.check
def results_per_item(ctx, response, case):
    """A bad item is refused by itself, and a good one is not."""
    if response.status_code != 207 or case.meta is None:
        return
    results = response.json()["items"]
    refused = [result for result in results if result["status"] not in (202, 403, 409, 503)]
    if case.meta.is_negative_at(ParameterLocation.BODY):
        assert refused, "a bad item was accepted"
    else:
        assert not refused, f"a good item was refused: {refused[0]}"


def follow(case):
    """Goes on where an earlier answer ended."""
    if case.query.pop("cursor", None) is not None and cursors:
        case.query["cursor"] = cursors[len(cursors) // 2]
    if "wait" in case.query:
        case.query["wait"] = next(waits)


def find(case):
    """Mostly what may be found: one's own; and with a cursor the next page of what was asked before."""
    if case.query.pop("cursor", None) is not None and pages:
        case.query.clear()
        case.query.update(pages[max(pages)])
        return
    if case.query.get("status") and "waitingLongerThan" in case.query:
        case.query["status"] = ["waiting_validation"]
    if next(turns) % 4:
        case.query["createdBy"] = "registrar"


def exchange(form):
    """Offers a token that may be exchanged, for what it is for."""
    token = os.environ["CRVS_RECORD_TOKEN"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    form["subject_token"] = token
    for member, claim in [("record_id", "recordId"), ("event_id", "recordId"), ("action_id", "actionId")]:
        if member in form:
            form[member] = claims[claim]


def new():
    return f"schemathesis-{uuid.uuid4()}"


def name(case):
    """Gives the request a transaction id where it had one."""
    id = new()
    in_body = isinstance(case.body, dict) and case.body.get("transactionId") is not None
    if in_body:
        case.body["transactionId"] = id
    if KEY in case.headers or not in_body:
        quoted = case.headers.get(KEY, "").startswith('"')
        case.headers[KEY] = f'"{id}"' if quoted else id


def show(submission):
    """Fills its attachments."""
    attachments = list(inline(submission.get("declaration")))
    for attachment in submission.get("attachments") or []:
        if "sha256" in attachment and not uploaded:
            attachment["data"] = attachment.pop("sha256")
        if "data" in attachment:
            attachments.append(attachment)
        else:
            attachment["sha256"] = uploaded[-1]["sha256"]
            if isinstance(attachment.get("contentType"), str):
                attachment["contentType"] = uploaded[-1]["contentType"]
    for number, attachment in enumerate(attachments):
        content_type, attachment["data"] = PICTURES[number % len(PICTURES)]
        if isinstance(attachment.get("contentType"), str):
            attachment["contentType"] = content_type


def inline(declaration):
    """The attachments in a bundle."""
    if not isinstance(declaration, dict) or declaration.get("resourceType") != "Bundle":
        return
    for entry in declaration["entry"][1:]:
        if entry["resource"]["resourceType"] == "DocumentReference":
            for content in entry["resource"].get("content", []):
                if "data" in content["attachment"]:
                    yield content["attachment"]
