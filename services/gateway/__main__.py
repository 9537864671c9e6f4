"""`python -m services.gateway`: settings, doors, cameras."""

import sys

from common.server.server import run_service
from common.server.settings import settings_or_exit
from common.telemetry.logs import configure_logs
from services.gateway.settings import GatewaySettings

PROGRAM = "python -m services.gateway"


def main() -> None:
    """Run the service until SIGTERM."""
    settings = settings_or_exit(GatewaySettings, PROGRAM)
    configure_logs(settings.log_format, settings.log_level)
    # Wrong settings are told without waiting for a web framework.
    try:
        from services.gateway.service import serve_gateway
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"{PROGRAM}: the package {error.name} is not installed: pip install "
            "'tandem-detr[gateway]'\n"
        )
        raise SystemExit(2) from None
    run_service(lambda: serve_gateway(settings), PROGRAM)


if __name__ == "__main__":
    main()
