"""Names, strings and passwords as statements have them."""

import base64
import hashlib
import hmac
import os

ITERATIONS = 4096
SALT_BYTES = 16


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL has it, in whatever session."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def verifier(password: str) -> str:
    """What the server stores for a password (RFC 5803): sent instead of the password, which no log
    can then show."""
    salt = os.urandom(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"
