"""The gateway: doors to Tandem for people and programs that do not speak its gRPC.

It is an ordinary client of the orchestrator, on Python 3.11, in a process of its own: if it ends,
no other client notices.

How to add a door
-----------------

A door is a module, or a package, of `services.gateway` with one class that derives from
`services.gateway.door.Door`. It gets a `Gateway`, by which it reaches all else:

- `gateway.client` is the `DetectorClient`, with the gateway's own identity. A door streams what its
  callers send by `gateway.client.detect(...)`.
- `gateway.cameras` tells what is found in the cameras that the gateway runs itself:
  `gateway.cameras.subscribe(...)`.
- `gateway.settings`, `gateway.registry` (of metrics, for the door's own) and `gateway.draining`,
  which is set once SIGTERM has come.

1. Give `settings.GatewaySettings` a flag with the door's name, False by default, and its limits:
   `NAME_max_sessions`, `NAME_max_requests_per_second` and, for requests with a body,
   `NAME_max_kibibytes`. They become a `limits.DoorLimits`.
2. Derive from `Door`. Its `name`, `limits`, `paths` and `roles` say what of HTTP is its own, how
   much, and for whom. `gatekeeper.Gatekeeper` enforces that for each request before the door sees
   it, and answers by the door's `refusal`. `add_routes` adds routes to the FastAPI application.
   `add_services` adds gRPC servicers to the gateway's gRPC server: their methods need a line each
   in `common.server.authorization.ALLOWED`, and they call `self.guard.admitted(...)` themselves.
   `run` is background work, such as a connection to a broker.
3. Add it to `service.doors_of`, the one place that knows all doors.
4. Tell of it: `docs/gateway.md`, `CHANGELOG.md`, and `docker-compose.yml` if Compose is to open it.
"""
