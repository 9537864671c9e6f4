"""What every Tandem service shares at run time; runs on Python 3.8 and never imports torch.

Importing it chooses how gRPC works in this process, which gRPC reads once, when it is imported
itself. So each program's first import is of this package, or of one that imports it first. Who
sets one of these variables has the last word.
"""

import os

# The system's resolver: gRPC's own knows neither mDNS (`tx2.local`) nor anything else that
# nsswitch.conf names.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
# Its handlers stop gRPC's threads around a fork, and have hung there (grpcio 1.70). Our processes
# fork only to execute another program, which needs none.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
