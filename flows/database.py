"""A PostgreSQL database for Prefect's server: its address as people give it, and whether it can be used."""

import asyncio

_SCHEMES = ("postgresql", "postgresql+asyncpg", "postgres")
_DRIVER = "postgresql+asyncpg"  # which Prefect needs
_SECONDS = 10.0


def reachable(postgres: str) -> str:
    """The address with the driver that Prefect needs, once that database has answered; "" for none.

    Raises ValueError with the server's reason, and without the password: what is told ends in logs.
    """
    if not postgres:
        return ""
    # These cost a second, and only where --postgres is given.
    from asyncpg import InterfaceError, PostgresError  # type: ignore[import-untyped]
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    expected = "expected postgresql://USER:PASSWORD@HOST/DATABASE"
    scheme, _, rest = postgres.partition("://")
    if scheme not in _SCHEMES or not rest:
        raise ValueError(f"--postgres {scheme if '@' in postgres else postgres}: {expected}")
    try:
        url = make_url(f"{_DRIVER}://{rest}")
    except (ValueError, SQLAlchemyError) as error:
        raise ValueError(f"--postgres {scheme}://...: it cannot be read as an address; {expected}") from error
    try:
        asyncio.run(_connect(f"{_DRIVER}://{rest}"))
    except (OSError, PostgresError, InterfaceError, SQLAlchemyError, TypeError) as error:
        shown = url.set(drivername="postgresql").render_as_string()  # *** for a password
        why = str(error).partition("\n")[0] or f"no answer within {_SECONDS:.0f} s"
        raise ValueError(f"--postgres {shown}: {why}; start that server or mend the address, then try again") from error
    return f"{_DRIVER}://{rest}"


async def _connect(address: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    engine = create_async_engine(address, poolclass=NullPool, connect_args={"timeout": _SECONDS})
    async with engine.connect():
        pass
