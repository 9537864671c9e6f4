"""The `tandem` command."""

import sys

PROGRAM = "tandem"


def main() -> None:
    """Run the command line of this process; exits with its code."""
    try:
        from tandem.cli.running import exit_code_of
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(exit_code_of(_run, PROGRAM))


def _run() -> int | None:
    # Importing takes long enough for Ctrl-C to hit it, and has to end as quietly as the rest.
    try:
        from tandem.cli.app import run_command
    except ModuleNotFoundError as error:
        from common.domain.errors import ConfigurationError

        raise ConfigurationError(
            f"the command needs {error.name}, which is not installed: run pip install tandem-detr"
        ) from error
    return run_command(sys.argv[1:])


if __name__ == "__main__":
    main()
