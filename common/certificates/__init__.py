"""A small authority for Tandem's own certificates: who its services and their callers are.

Users with a public key infrastructure of their own need none of this; docs/security.md tells what
their certificates have to hold.
"""

# First, since it keeps what `cryptography` says about Python 3.8 to itself.
from common.security import certificates  # noqa: F401
