"""Holds what the service signs against other people's implementations of Standard Webhooks.

Arguments: a JSON file, which tests/it/signing.rs writes, and docs/webhooks.md. Prints how many checks accepted and how
many refused; ends with an AssertionError at the first that does not do what it should.
"""

import base64
import json
import re
import sys
import time
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from standardwebhooks import Webhook, WebhookVerificationError

CONTENT_DIFFERS = "No matching signature found"


def by_secret(secret, headers, body):
    """None if the official verifier accepts, else what it says."""
    try:
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    except WebhookVerificationError as error:
        return str(error)
    return None


def by_key(jwks, headers, body):
    """None if a published Ed25519 key accepts, else why not."""
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        return "the time"
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    for jwk in jwks["keys"]:
        if (jwk["kty"], jwk.get("crv"), jwk["alg"]) != ("OKP", "Ed25519", "EdDSA"):
            continue
        key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
        for signature in headers["webhook-signature"].split(" "):
            version, value = signature.split(",")
            try:
                if version == "v1a":
                    key.verify(base64.b64decode(value), content)
                    return None
            except InvalidSignature:
                pass
    return CONTENT_DIFFERS


def by_documented_code(path):
    """The Python that receivers are told to use."""
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", Path(path).read_text(), re.DOTALL).group(1), namespace)

    def ran(function):
        def check(key, headers, body):
            try:
                assert function(key, headers, body) == json.loads(body)
            except (ValueError, WebhookVerificationError) as error:
                return str(error)
            return None

        return check

    return ran(namespace["verify_v1"]), ran(namespace["verify_v1a"])


def changed(headers, body):
    """The request with one byte changed: each of the id and of the body, and the timestamp's last."""

    def flipped(text, at):
        return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]

    name, at = "webhook-id", "webhook-timestamp"
    for n in range(len(headers[name])):
        yield {**headers, name: flipped(headers[name], n)}, body
    yield {**headers, at: flipped(headers[at], len(headers[at]) - 1)}, body
    for n, byte in enumerate(body):
        if byte < 0x80:  # the official verifier reads UTF-8 only
            yield headers, body[:n] + bytes([byte ^ 1]) + body[n + 1 :]


def main(told, docs):
    documented_v1, documented_v1a = by_documented_code(docs)
    keys = {**told["secrets"], "v1a": told["jwks"]}
    counts = {"accepted": 0, "refused": 0}
    for request in told["requests"]:
        headers, body = request["headers"], base64.b64decode(request["body"])
        for name, key in keys.items():
            check, documented = (by_key, documented_v1a) if name == "v1a" else (by_secret, documented_v1)
            refusal = check(key, headers, body)
            fits = name in request["fits"]
            assert (refusal is None) == fits, f"{name}: {refusal}, {request}"
            assert (documented(key, headers, body) is None) == fits, f"the documented code, {name}: {request}"
            counts["accepted" if fits else "refused"] += 1
            for other_headers, other_body in changed(headers, body) if fits else ():
                refusal = check(key, other_headers, other_body)
                assert refusal == CONTENT_DIFFERS, f"{name}: {refusal}, {other_headers}, {other_body}"
                assert documented(key, other_headers, other_body) is not None
                counts["refused"] += 1
    key = load_pem_private_key(Path(told["key_file"]).read_bytes(), None).public_key()
    raw = base64.urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode().rstrip("=")
    assert raw in [jwk.get("x") for jwk in told["jwks"]["keys"]], "the key in the file is not the published one"
    print(json.dumps(counts))


main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
