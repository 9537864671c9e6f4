"""`python -m services.backbone`: settings, engine, stage server."""

import cv2

from common.server.server import run_service
from common.server.settings import settings_or_exit
from common.telemetry.logs import configure_logs
from services.backbone.service import serve_backbone
from services.backbone.settings import BackboneSettings

PROGRAM = "python -m services.backbone"


def main() -> None:
    """Run the service until SIGTERM."""
    settings = settings_or_exit(BackboneSettings, PROGRAM)
    configure_logs(settings.log_format, settings.log_level)
    # Frames are decoded side by side; threads within one would only take the engine's cores.
    cv2.setNumThreads(1)
    run_service(lambda: serve_backbone(settings), PROGRAM)


if __name__ == "__main__":
    main()
