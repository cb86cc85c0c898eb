"""An OpenAPI 3 description of the public API as the emulator serves it."""

from typing import Any, Final

from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.limits import (
    AUDIO_SETTINGS,
    DURATIONS,
    MAX_REFERENCES,
    MAX_SEED,
    RATIOS,
    RESOLUTIONS,
)
from wanbatch.emulator.task import Status

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}
_NUMBER: Final[Json] = {"type": "number"}
_INTEGER: Final[Json] = {"type": "integer"}
_STATUS: Final[Json] = {"type": "string", "enum": [status.value for status in Status]}


def describe(origin: str, config: EmulatorConfig) -> Json:
    """Give the description for an emulator at an address."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Wan video editing, emulated",
            "version": "2.7",
            "description": "Stands in for the API of wan2.7-videoedit. Not the vendor's own description.",
        },
        "servers": [{"url": f"{origin}/api/v1"}],
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(config),
        },
        "paths": {
            "/services/aigc/video-generation/video-synthesis": {"post": _create()},
            "/tasks": {"get": _list()},
            "/tasks/{task_id}": {"get": _operation("queryTask", "Task", [_task_id()])},
            "/tasks/{task_id}/cancel": {"post": _operation("cancelTask", "Accepted", [_task_id()])},
            "/uploads": {"get": _uploads(config)},
        },
    }


def _create() -> Json:
    operation = _operation(
        "createTask",
        "Created",
        [
            _parameter(
                "X-DashScope-Async", {"type": "string", "enum": ["enable"]}, where="header", required=True
            ),
            _parameter(
                "X-DashScope-OssResourceResolve", {"type": "string", "enum": ["enable"]}, where="header"
            ),
            _parameter("X-DashScope-WorkSpace", _STRING, where="header"),
        ],
    )
    body = {"required": True, "content": {"application/json": {"schema": _ref("Submit")}}}
    return {**operation, "requestBody": body}


def _list() -> Json:
    moment = {"type": "string", "pattern": r"^\d{14}$"}
    return _operation(
        "listTasks",
        "List",
        [
            _parameter("task_id", _STRING),
            _parameter("start_time", moment),
            _parameter("end_time", moment),
            _parameter("model_name", _STRING),
            _parameter("status", _STATUS),
            _parameter("page_no", {"type": "integer", "minimum": 1}),
            _parameter("page_size", {"type": "integer", "minimum": 1}),
        ],
    )


def _uploads(config: EmulatorConfig) -> Json:
    return _operation(
        "getUploadPolicy",
        "Policy",
        [
            _parameter("action", {"type": "string", "enum": ["getPolicy"]}, required=True),
            _parameter("model", {"type": "string", "enum": [config.model]}, required=True),
        ],
    )


def _operation(name: str, answer: str, parameters: list[Json]) -> Json:
    return {
        "operationId": name,
        "parameters": parameters,
        "responses": {
            "200": _response("The answer", answer),
            "4XX": _response("Refused", "Error"),
            "5XX": _response("Broken", "Error"),
        },
    }


def _response(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _parameter(name: str, schema: Json, *, where: str = "query", required: bool = False) -> Json:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _task_id() -> Json:
    return _parameter("task_id", {"type": "string", "minLength": 1}, where="path", required=True)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str = "", **properties: Json) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    return {**schema, "required": required.split()} if required else schema


def _schemas(config: EmulatorConfig) -> Json:
    return {**_request_schemas(config), **_answer_schemas()}


def _request_schemas(config: EmulatorConfig) -> Json:
    return {
        "Submit": _object(
            "model input",
            model={"type": "string", "enum": [config.model]},
            input=_object(
                "media",
                prompt=_STRING,
                negative_prompt=_STRING,
                media={
                    "type": "array",
                    "description": f"Exactly one video and at most {MAX_REFERENCES} reference images.",
                    "minItems": 1,
                    "maxItems": 1 + MAX_REFERENCES,
                    "items": _ref("Media"),
                },
            ),
            parameters=_object(
                resolution={"type": "string", "enum": list(RESOLUTIONS), "default": "1080P"},
                ratio={"type": "string", "enum": list(RATIOS)},
                duration={"type": "integer", "enum": list(DURATIONS), "default": 0},
                audio_setting={"type": "string", "enum": list(AUDIO_SETTINGS), "default": "auto"},
                prompt_extend={"type": "boolean", "default": True},
                watermark={"type": "boolean", "default": False},
                seed={"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            ),
        ),
        "Media": _object(
            "type url",
            type={"type": "string", "enum": ["video", "reference_image"]},
            url={"type": "string", "format": "uri"},
        ),
    }


def _answer_schemas() -> Json:
    state = {"task_id": _STRING, "task_status": _STATUS}
    return {
        "Error": _object("code message request_id", code=_STRING, message=_STRING, request_id=_STRING),
        "Accepted": _object("request_id", request_id=_STRING),
        "Created": _object(
            "request_id output",
            request_id=_STRING,
            output=_object("task_id task_status", **state),
        ),
        "Task": _object(
            "request_id output",
            request_id=_STRING,
            output=_object(
                "task_id task_status",
                **state,
                submit_time=_STRING,
                scheduled_time=_STRING,
                end_time=_STRING,
                orig_prompt=_STRING,
                video_url=_STRING,
                code=_STRING,
                message=_STRING,
            ),
            usage=_object(
                "duration input_video_duration output_video_duration video_count SR",
                duration=_NUMBER,
                input_video_duration=_NUMBER,
                output_video_duration=_NUMBER,
                video_count=_INTEGER,
                SR={"oneOf": [_INTEGER, _STRING]},
            ),
        ),
        "List": _object(
            "request_id total total_page page_no page_size data",
            request_id=_STRING,
            total=_INTEGER,
            total_page=_INTEGER,
            page_no=_INTEGER,
            page_size=_INTEGER,
            data={"type": "array", "items": _ref("Row")},
        ),
        "Row": _object(
            "task_id status gmt_create model_name request_id",
            task_id=_STRING,
            status=_STATUS,
            gmt_create=_INTEGER,
            start_time=_INTEGER,
            end_time=_INTEGER,
            model_name=_STRING,
            request_id=_STRING,
        ),
        "Policy": _object("request_id data", request_id=_STRING, data={"type": "object"}),
    }
