"""`python -m services.transformer`: settings, engine, stage server."""

from common.server.server import run_service
from common.server.settings import settings_or_exit
from common.telemetry.logs import configure_logs
from services.transformer.service import TransformerSettings, serve_transformer

PROGRAM = "python -m services.transformer"


def main() -> None:
    """Run the service until SIGTERM."""
    settings = settings_or_exit(TransformerSettings, PROGRAM)
    configure_logs(settings.log_format, settings.log_level)
    run_service(lambda: serve_transformer(settings), PROGRAM)


if __name__ == "__main__":
    main()
