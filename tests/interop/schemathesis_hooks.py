"""What OpenAPI cannot say of a request, done to those requests that schemathesis means to be accepted.

A transaction id is in the header or in the body, not in neither, and the same in both; it is new. An attachment's bytes
are a picture or a PDF, and what its contentType says. A cursor is one that was given out. Waits are granted, but only a
few are asked for, or this would take for ever.
"""

import copy
import itertools
import re
import uuid

import schemathesis
from schemathesis.generation.modes import GenerationMode

PICTURES = [
    ("image/png", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="),
    ("image/gif", "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
    ("application/pdf", "JVBERi0xLjQKJSVFT0YK"),
]
KEY = "Idempotency-Key"
cursors = []
waits = itertools.chain([1, 1, 1], itertools.repeat(0))


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = copy.deepcopy(case.body)
        attachments = list(inline(case.body.get("declaration")))
        attachments += [each for each in case.body.get("attachments") or [] if "data" in each]
        for number, attachment in enumerate(attachments):
            fill(attachment, *PICTURES[number % len(PICTURES)])
    if any(parameter.name == KEY for parameter in case.operation.headers):
        name(case)
    if case.operation.definition.raw["operationId"] == "readChanges":
        follow(case)
    if "Prefer" in case.headers:
        case.headers["Prefer"] = re.sub("(?i)(wait *= *)[0-9]+", lambda found: found[1] + str(next(waits)), case.headers["Prefer"])


@schemathesis.hook
def after_call(context, case, response):
    if case.operation.definition.raw["operationId"] == "readChanges" and response.status_code == 200:
        cursors.append(response.json()["cursor"])


def follow(case):
    """Goes on where an earlier answer ended."""
    if "cursor" in case.query:
        case.query["cursor"] = cursors[len(cursors) // 2] if cursors else None
        if not cursors:
            del case.query["cursor"]
    if "wait" in case.query:
        case.query["wait"] = next(waits)


def name(case):
    """Gives the request a transaction id where it had one."""
    new = f"schemathesis-{uuid.uuid4()}"
    in_body = isinstance(case.body, dict) and case.body.get("transactionId") is not None
    if in_body:
        case.body["transactionId"] = new
    if KEY in case.headers or not in_body:
        quoted = case.headers.get(KEY, "").startswith('"')
        case.headers[KEY] = f'"{new}"' if quoted else new


def inline(declaration):
    """The attachments in a bundle."""
    if not isinstance(declaration, dict) or declaration.get("resourceType") != "Bundle":
        return
    for entry in declaration["entry"][1:]:
        if entry["resource"]["resourceType"] == "DocumentReference":
            for content in entry["resource"].get("content", []):
                if "data" in content["attachment"]:
                    yield content["attachment"]


def fill(attachment, content_type, data):
    attachment["data"] = data
    if isinstance(attachment.get("contentType"), str):
        attachment["contentType"] = content_type
