"""`python -m services.orchestrator`: settings, routes, gRPC server."""

from common.server.server import run_service
from common.server.settings import settings_or_exit
from common.telemetry.logs import configure_logs
from services.orchestrator.service import serve_orchestrator
from services.orchestrator.settings import OrchestratorSettings

PROGRAM = "python -m services.orchestrator"


def main() -> None:
    """Run the service until SIGTERM."""
    settings = settings_or_exit(OrchestratorSettings, PROGRAM)
    configure_logs(settings.log_format, settings.log_level)
    run_service(lambda: serve_orchestrator(settings), PROGRAM)


if __name__ == "__main__":
    main()
