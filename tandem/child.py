"""Runs a service as a child that never outlives its parent.

`python -m tandem.child MODULE ARGUMENTS...` runs `MODULE` as `python -m MODULE` would. Standard
input must be a pipe whose other end only the parent holds: the kernel closes it however the
parent ends, SIGKILL included, and this process then ends itself. A pipe is used, not
prctl(PR_SET_PDEATHSIG), since that is Linux's alone, and is sent when the parent's *thread* ends.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_SECONDS = 5.0


def main() -> None:
    """Run the module that the first argument names, for as long as the parent lives."""
    del sys.argv[0]
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
