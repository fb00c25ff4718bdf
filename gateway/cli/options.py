"""What the commands share: where the settings come from, and how failures end a command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.domain.errors import GatewayError, InvalidRequest, InvalidValue
from gateway.settings import Settings, environment, load

Command = Callable[..., Any]


def text_option(*names: str, **more: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - what click.option takes
    """Add an option whose value is text; an empty one is refused, since it mostly is a variable that is not set."""
    return click.option(*names, callback=_not_empty, **more)


def config_option(command: Command) -> Command:
    """Add --config."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A settings file (GLM_GATEWAY_CONFIG). Every setting is in config/gateway.toml.",
    )(command)


def address_options(command: Command) -> Command:
    """Add --host and --port."""
    port = click.option("--port", type=click.IntRange(0, 65535), help="The port (PORT); 0 takes a free one.")
    return text_option("--host", help="The address to listen on (HOST).")(port(command))


def read_settings(config: Path | None, host: str | None = None, port: int | None = None) -> Settings:
    """Read the settings; the command line wins over the environment."""
    given = {"HOST": host, "PORT": None if port is None else str(port)}
    return load({**environment(), **{name: value for name, value in given.items() if value is not None}}, config)


@contextmanager
def clear_failures() -> Iterator[None]:
    """End the command with one plain sentence: exit code 2 when the arguments are wrong, else 1."""
    try:
        yield
    except GatewayError as failure:
        click.echo(f"Error: {failure.message}", err=True)
        raise SystemExit(2 if isinstance(failure, InvalidRequest) else 1) from None
    except OSError as failure:
        click.echo(f"Error: {failure.strerror or failure}: {failure.filename or 'no file named'}.", err=True)
        raise SystemExit(1) from None


def _not_empty(context: click.Context, option: click.Parameter, value: Any) -> Any:  # noqa: ANN401 - one text or several
    del context
    if any(not text.strip() for text in (value if isinstance(value, tuple) else ("none" if value is None else value,))):
        with clear_failures():
            raise InvalidValue(f"{option.opts[0]} is empty: give it a value, or leave it out.", param=option.name)
    return value
