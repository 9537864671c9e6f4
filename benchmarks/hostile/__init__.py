"""What happens to Tandem, and to others' frames, under attack; `tests/` uses parts of it.

`python -m benchmarks.hostile --minutes 10` starts services on this machine, sends them
what nobody honest sends, and prints what came of it. It talks to loopback alone.
"""
