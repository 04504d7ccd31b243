"""Serve the dashboard of a store on 127.0.0.1: `python -P -m polylm.dashboard --port 4201`; the store is `POLYLM_STORE`."""

import argparse
import threading

import uvicorn
from starlette.responses import PlainTextResponse

from polylm.dashboard.app import create_app
from polylm.dashboard.gates import stage_of
from polylm.deployments.settings import Settings


def serve(settings: Settings, port: int, prefect_url: str = "") -> None:
    """Serve until the process ends; nobody but this machine can ask."""
    threading.Thread(
        target=stage_of, args=("",), daemon=True
    ).start()  # importing them takes seconds, which no page should wait for
    app = create_app(settings, prefect_url=prefect_url)
    app.add_api_route("/health", lambda: PlainTextResponse("well"), include_in_schema=False)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2, ws="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=4201)
    parser.add_argument("--prefect-url", default="", help="Where pages link to for approvals.")
    arguments = parser.parse_args()
    serve(Settings(), arguments.port, arguments.prefect_url)


if __name__ == "__main__":
    main()
