"""The documented HTTP interface, for programs: submit, look, fetch, cancel (docs/web.md)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from console.web.door import OPEN, Door, DoorError, told


def add_routes(app: FastAPI, door: Door) -> None:
    """Put ``/api/…`` on an application; every answer is JSON, but for the video."""

    @app.post("/api/jobs", status_code=202)
    async def submit(
        image: UploadFile,
        audio: UploadFile,
        prompt: Annotated[str | None, Form()] = None,
        preset: Annotated[str | None, Form()] = None,
        size: Annotated[str | None, Form()] = None,
        num_clip: Annotated[int | None, Form()] = None,
        infer_frames: Annotated[int | None, Form()] = None,
        sample_steps: Annotated[int | None, Form()] = None,
        base_seed: Annotated[int | None, Form()] = None,
        accept_low_quality: Annotated[bool | None, Form()] = None,
    ) -> dict[str, Any]:
        given = locals()
        values = {name: given[name] for name in (*OPEN, "preset") if given[name] is not None}
        files = [(upload.filename or "", upload.file) for upload in (image, audio)]
        view = await run_in_threadpool(door.submit, values, *files)
        return told(view)

    @app.get("/api/jobs/{ticket}")
    async def look(ticket: str) -> dict[str, Any]:
        return told(await run_in_threadpool(_or_404, door.look, ticket))

    @app.get("/api/jobs/{ticket}/video")
    async def video(ticket: str) -> FileResponse:
        view = await run_in_threadpool(_or_404, door.look, ticket)
        if view.video is None:
            raise HTTPException(409, f"there is no video: the job is {view.row.state}")
        return FileResponse(view.video, media_type="video/mp4", filename=f"{ticket}.mp4")

    @app.delete("/api/jobs/{ticket}")
    async def cancel(ticket: str) -> dict[str, str]:
        return {"message": await run_in_threadpool(_or_404, door.cancel, ticket)}

    @app.exception_handler(DoorError)
    async def refused(_: Any, error: DoorError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409 if error.refused else 422)


def _or_404(function: Any, ticket: str) -> Any:
    try:
        return function(ticket)
    except DoorError as error:
        raise HTTPException(404, str(error)) from error
