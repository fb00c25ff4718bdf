"""The entry of `glm-gateway` and `python -m gateway`."""

import gc
import sys

# Objects that come into being between two looks for garbage. Reading the code makes a million that all stay, and with
# Python's 700 a fifth of the second that it takes went into looking at them.
YOUNG, MIDDLE, OLD = 100_000, 20, 20


def main() -> None:
    """Run the command line; Ctrl-C during the first second, while it is still being read, ends it quietly too."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    try:
        from gateway.cli import main as command_line  # noqa: PLC0415 - reading it takes most of a second

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
