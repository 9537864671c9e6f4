"""What every Tandem service shares at run time; runs on Python 3.8 and never imports torch.

Importing it sets environment variables of gRPC, which reads them once, when it is imported. So each
program first imports this package, or one that imports it. Variables that are already set stay as
they are.
"""

import os

# The system's resolver, because gRPC's own knows neither mDNS (`tx2.local`) nor anything else that
# nsswitch.conf names.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
# gRPC's fork handlers stop its threads around a fork, and have hung there (grpcio 1.70). Our
# processes fork only to execute another program, for which they are not needed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What gRPC's core has to say of a lost connection goes to stderr, amid what we tell of it, and
# means something to its developers only.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
