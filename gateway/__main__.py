"""The entry of `glm-gateway` and `python -m gateway`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C during the first second, while it is still being read, ends it quietly too."""
    try:
        from gateway.cli import main as command_line  # noqa: PLC0415 - reading it takes most of a second

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
