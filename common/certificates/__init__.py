"""A small authority for Tandem's own certificates: who its services and their callers are.

Users with a public key infrastructure of their own need none of this; docs/security.md tells what
their certificates have to hold.
"""
