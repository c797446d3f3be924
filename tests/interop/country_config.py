"""A country config that speaks the wire of OpenCRVS's: 1.6, 1.7, the branch of pull request 7559, or 1.9.

    python country_config.py VERSION PORT GATEWAY_URL ISSUER [HOW]

Written for the tests, from what real ones were seen to do, their quirks included: it calls back before it answers, copies
the headers it got into the callback, does not look at what it should, and draws a new number each time (1.9). HOW, for
1.9: "now" (the default) answers with the number, "later" with 202 after it has called `accept`.
"""

import base64
import gzip
import http.client
import json
import secrets
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

VERSION, PORT, GATEWAY, ISSUER = sys.argv[1:5]
HOW = sys.argv[5] if len(sys.argv) > 5 else "now"
AUDIENCE = "opencrvs:countryconfig-user"
UNAUTHORIZED = {"statusCode": 401, "error": "Unauthorized", "message": "Missing authentication"}
CONFIRM = (
    "\n      mutation confirmRegistration(\n        $id: ID!\n        $details: ConfirmRegistrationInput!\n      ) {"
    "\n        confirmRegistration(id: $id, details: $details)\n      }\n    "
)


class Keys:
    """The public key, fetched at the start and at most once a minute after a token that does not fit."""

    def __init__(self):
        self.lock = threading.Lock()
        self.fetch()

    def fetch(self):
        self.at = time.monotonic()
        with urllib.request.urlopen(f"{GATEWAY}/.well-known") as answer:
            self.key = load_pem_public_key(answer.read())

    def signed(self, signature, signed):
        try:
            self.key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        except InvalidSignature:
            return False

    def check(self, token):
        def part(text):
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

        head, claims, signature = token.split(".")
        signed = f"{head}.{claims}".encode()
        if not self.signed(part(signature), signed):
            with self.lock:
                if time.monotonic() - self.at > 60:
                    self.fetch()
            if not self.signed(part(signature), signed):
                return None
        claims = json.loads(part(claims))
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        good = claims["iss"] == ISSUER and AUDIENCE in audience and claims["exp"] > time.time()
        return claims if good else None


class Failed(Exception):
    """What the stock one answers with 500."""


def call(method, path, headers, body=b""):
    """One request whose headers are sent as they are, in order, twice if they are there twice."""
    url = urllib.parse.urlsplit(GATEWAY)
    connection = http.client.HTTPConnection(url.hostname, url.port)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, gzip.decompress(said) if answer.getheader("content-encoding") == "gzip" else said
    finally:
        connection.close()


def copied(inbound, length):
    """The headers of the request that came, for the callback: with its own Content-Type before, and another length."""
    skipped = ("content-length", "content-type") if VERSION == "1.6" else ("content-length",)
    return (
        [("Content-Type", "application/json")]
        + [(name, value) for name, value in inbound if name.lower() not in skipped]
        + [("content-length", str(length))]
    )


def register(bundle, inbound):
    """1.6 to 1.8: the number is made of the year and the tracking id, and confirmed before the answer."""
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "document":
        raise Failed("Invalid FHIR bundle found")
    composition = bundle["entry"][0]["resource"]
    if composition["resourceType"] not in ("Composition", "Task"):
        raise Failed("Unable to find Task Bundle from the provided data")
    task = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Task" and "extension" in e["resource"])
    event = task["code"]["coding"][0]["code"]
    system = f"http://opencrvs.org/specs/id/{event.lower()}-tracking-id"
    found = [i["value"] for i in task["identifier"] if i.get("system") == system]
    if not found:
        raise Failed("Didn't find any identifier for tracking id")
    number = f"{datetime.now(timezone.utc).year}{found[0]}"
    children = [{"type": f"BIRTH_CONFIGURABLE_IDENTIFIER_{n}", "value": ""} for n in (1, 2, 3)] if event == "BIRTH" else None
    if VERSION == "1.6":
        body = {"trackingId": found[0], "registrationNumber": number, "compositionId": composition["id"]}
        path = "/confirm/registration"
        body |= {"childIdentifiers": children} if children else {}
    else:
        details = {"registrationNumber": number}
        if children:
            details = {"childIdentifiers" if VERSION == "7559" else "identifiers": children} | details
        if VERSION == "7559":
            details["trackingId"] = found[0]
        body = {"variables": {"id": composition["id"], "details": details}, "query": CONFIRM}
        path = "/graphql"
    body = json.dumps(body, separators=(",", ":")).encode()
    status, answer = call("POST", path, copied(inbound, len(body)), body)
    if VERSION == "1.6":
        return  # It does not look.
    if not 200 <= status < 300:
        raise Failed(f"not ok: {answer.decode()}")
    json.loads(answer)


def trpc(token):
    return [
        ("host", urllib.parse.urlsplit(GATEWAY).netloc),
        ("connection", "keep-alive"),
        ("content-type", "application/json"),
        ("Authorization", f"Bearer {token}"),
        ("accept", "*/*"),
        ("accept-language", "*"),
        ("sec-fetch-mode", "cors"),
        ("user-agent", "node"),
        ("accept-encoding", "gzip, deflate"),
    ]


def unwrapped(status, body):
    answer = json.loads(body)[0]
    if status != 200 or "error" in answer:
        raise Failed(answer["error"]["json"]["message"])
    return answer["result"]["data"]["json"]


def trigger(event, action, token):
    """1.9: looks for what is asked in the event, and for the office; a registration gets a random number."""
    confirmed = {a.get("originalActionId") for a in event["actions"]}
    pending = [a for a in event["actions"] if a["status"] == "Requested" and a["id"] not in confirmed]
    if len(pending) != 1 or event["actions"][0]["type"] != "CREATE" or pending[0]["type"] != action:
        raise Failed("no pending action")
    asked = urllib.parse.urlencode({"batch": 1, "input": '{"0":{"json":null,"meta":{"values":["undefined"]}}}'})
    offices = unwrapped(*call("GET", f"/events/locations.list?{asked}", trpc(token)))
    if not isinstance(offices, list):
        raise Failed("locations")
    if action != "REGISTER":
        return 200, None
    number = "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(12))
    if HOW == "now":
        return 200, {"registrationNumber": number}
    said = pending[0] | {
        "transactionId": str(uuid.uuid4()),
        "eventId": event["id"],
        "actionId": pending[0]["id"],
        "registrationNumber": number,
    }
    body = json.dumps({"0": {"json": said}}, separators=(",", ":")).encode()
    path = "/events/event.actions.register.accept?batch=1"
    stands = unwrapped(*call("POST", path, trpc(token) + [("content-length", str(len(body)))], body))
    if stands["id"] != event["id"]:
        raise Failed("another event")
    return 202, None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or KEYS.check(token) is None:
            return self.answer(401, UNAUTHORIZED)
        try:
            if self.path == "/event-registration":
                register(json.loads(body), self.headers.items())
                return self.answer(202, None)
            _, _, _, kind, _, action = self.path.split("/")
            event = json.loads(body)
            if event["type"] != kind:
                raise Failed("another event")
            return self.answer(*trigger(event, action, token))
        except json.JSONDecodeError:
            self.answer(400, {"statusCode": 400, "error": "Bad Request", "message": "Invalid request payload JSON format"})
        except Exception as error:  # As the framework does.
            self.answer(500, {"statusCode": 500, "error": "Internal Server Error", "msg": str(error)})

    def answer(self, status, body):
        body = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if body:
            self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if __name__ == "__main__":
    KEYS = Keys()
    Server(("127.0.0.1", int(PORT)), Handler).serve_forever()
