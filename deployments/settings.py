"""Where work happens and how fast. Nothing here may change what a stage makes."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def cache_folder() -> Path:
    """Models, built programs and compiled kernels: `$XDG_CACHE_HOME/polylm`, else `~/.cache/polylm`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polylm"


def _named(path: str | Path) -> str | Path:
    if path == "":
        raise ValueError("the path of a folder was expected, . for this one")
    if not str(path).isascii() and str(path) != str(path).encode("utf-8", "replace").decode():
        raise ValueError("a path whose name is UTF-8 was expected")  # it is written into records
    return path


class Placement(BaseSettings):
    """How training ranks are laid out on this machine, or on several; never part of a key."""

    model_config = SettingsConfigDict(env_prefix="POLYLM_", frozen=True, extra="ignore")

    data_parallel: int = Field(default=2, ge=1, description="Copies of the model that read different rows.")
    tensor_parallel: int = Field(default=1, ge=1, description="Ranks that share each copy (AutoTP).")
    zero_stage: int = Field(default=1, ge=1, le=3, description="DeepSpeed ZeRO stage.")
    micro_batch: int = Field(default=8, ge=1, description="Most rows that a copy holds at a time.")
    devices: int = Field(default=0, ge=0, description="GPUs of a machine to use; 0 trains on CPUs.")
    threads: int = Field(default=1, ge=1, description="CPU threads of a rank.")
    hosts: str = Field(
        default="",
        description="Machines that train together: names with commas, or a hostfile; none is this one alone.",
    )
    launcher: Literal["ssh", "srun"] = Field(default="ssh", description="What starts the ranks on the hosts.")
    interface: str = Field(
        default="", description="Network interface between hosts, such as ib0; none: found by itself."
    )
    port: int = Field(default=29_500, ge=1_024, le=65_535, description="Of the first host, where ranks meet.")


class Settings(BaseSettings):
    """Read from the environment (`POLYLM_STORE`, `POLYLM_WORKERS`, ...); the command line's options come first."""

    model_config = SettingsConfigDict(env_prefix="POLYLM_", frozen=True, extra="ignore")

    store: Annotated[Path, BeforeValidator(_named)] = Field(
        default=Path("store"), description="The folder of artifacts; all workers must see it."
    )
    workers: int = Field(
        default=os.cpu_count() or 1, ge=0, le=10_000, description="Worker processes; 0 works in this process."
    )
    engine: Literal["processes", "dask"] = Field(default="processes", description="What runs the jobs.")
    scheduler: str = Field(default="", description="A Dask scheduler: tcp://HOST:PORT, or the path of its file.")
    models: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        default_factory=cache_folder, description="Where adopted files are looked up by name; all workers must see it."
    )
    dashboard: str = Field(default="", description="Address of a dashboard on this store, which runs link to.")
    placement: Placement = Field(default_factory=Placement)


def store_option(root: Path) -> list[str]:
    """The words that name a store on a command line; none of the one that commands take by themselves."""
    return [] if root.absolute() == Settings().store.absolute() else ["--store", str(root.absolute())]
