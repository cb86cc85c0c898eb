"""The service's errors: status, code and text as the vendor's page lists them.

Source: https://www.alibabacloud.com/help/en/model-studio/error-code
"""

from dataclasses import dataclass
from typing import Final


class Refusal(Exception):  # noqa: N818  the service's answer to a request, not a defect of ours
    """A request answered with an HTTP error in the API's own JSON."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task FAILED; a task may fail with neither code nor message."""

    code: str | None
    message: str | None


_BAD = "InvalidParameter"

CATALOGUE: Final[dict[str, tuple[int, str]]] = {
    "InvalidApiKey": (401, "Invalid API-key provided."),
    "NOT AUTHORIZED": (
        401,
        (
            "Access denied: Either you are not authorized to access this workspace, "
            "or the workspace does not exist."
        ),
    ),
    "AccessDenied": (403, "Access denied."),
    "AccessDenied.Unpurchased": (
        403,
        "Access to model denied. Make sure you are eligible for using the model.",
    ),
    "Model.AccessDenied": (403, "Model access denied."),
    "Workspace.AccessDenied": (403, "Workspace access denied."),
    "App.AccessDenied": (403, "App access denied."),
    "AllocationQuota.FreeTierOnly": (403, "The free tier of the model has been exhausted."),
    "Arrearage": (400, "Access denied, make sure your account is in good standing."),
    "CommodityNotPurchased": (429, "Commodity has not purchased yet."),
    "PrepaidBillOverdue": (429, "The prepaid bill is overdue."),
    "PostpaidBillOverdue": (429, "The postpaid bill is overdue."),
    "ModelNotFound": (404, "Model can not be found."),
    "WorkSpaceNotFound": (404, "WorkSpace can not be found."),
    "NotFound": (404, "Not found!"),
    _BAD: (400, "The size is not match."),
    "InvalidParameter.DataInspection": (
        400,
        "Unable to download the media resource during the data inspection process.",
    ),
    "InvalidURL": (400, "Invalid URL provided in your request."),
    "InvalidURL.ConnectionRefused": (400, "Connection to the URL refused, please provide an available URL."),
    "InvalidURL.Timeout": (400, "Download timeout, check network connection."),
    "InvalidFile.DownloadFailed": (400, "The file cannot be downloaded."),
    "BadRequest.InputDownloadFailed": (400, "Failed to download the input file."),
    "InvalidFile.Resolution": (400, "Invalid video resolution."),
    "InvalidFile.FPS": (400, "The video FPS must be 15 ~ 60."),
    "InvalidFile.Size": (400, "file size must be less than 100MB."),
    "InvalidFile.Duration": (400, "file duration must be 2 s ~ 10 s."),
    "InvalidFile.AspectRatio": (400, "Invalid file aspect ratio."),
    "InvalidFile.Format": (400, "Invalid file format."),
    "InvalidFile.Openerror": (400, "Invalid file, unable to open."),
    "BadRequest.EmptyInput": (400, "Required input parameter missing from request."),
    "BadRequest.EmptyParameters": (400, 'Required parameter "parameters" missing from request.'),
    "BadRequest.EmptyModel": (400, 'Required parameter "model" missing from request.'),
    "BadRequest.IllegalInput": (400, "The input parameter is illegal."),
    "BadRequest.TooLarge": (400, "Payload Too Large."),
    "DataInspectionFailed": (400, "Input data may contain inappropriate content."),
    "IPInfringementSuspect": (400, "Input data is suspected of being involved in IP infringement."),
    "CustomRoleBlocked": (400, "Input or output data may contain inappropriate content with custom rule."),
    "FaqRuleBlocked": (400, "Input or output data is blocked by faq rule."),
    "UnsupportedOperation": (
        400,
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    ),
    "Throttling": (429, "Requests throttling triggered."),
    "Throttling.RateQuota": (429, "Requests rate limit exceeded, please try again later."),
    "Throttling.BurstRate": (
        429,
        (
            "Request rate increased too quickly. To ensure system stability, please adjust your client logic "
            "to scale requests more smoothly over time."
        ),
    ),
    "Throttling.AllocationQuota": (429, "Free allocated quota exceeded."),
    "InternalError": (500, "An internal error has occured, try again later or contact service support."),
    "InternalError.Algo": (500, "inference internal error."),
    "InternalError.Upload": (500, "Failed to upload result."),
    "InternalError.FileUpload": (500, "oss upload error."),
    "InternalError.Timeout": (
        500,
        "An internal timeout error has occured during execution, try again later.",
    ),
    "RewriteFailed": (500, "Failed to rewrite content for prompt."),
    "RequestTimeOut": (500, "Request timed out, try again later."),
    "SystemError": (500, "An system error has occured, try again later."),
    "ModelServiceFailed": (500, "Failed to request model service."),
    "ModelServingError": (
        503,
        "Too many requests. Your requests are being throttled due to system capacity limits.",
    ),
    "ModelUnavailable": (503, "Model is unavailable, try again later."),
}
"""Code to (HTTP status, usual message). `Throttling.AllocationQuota` shows its hopeless variant."""


def refusal(code: str, message: str | None = None) -> Refusal:
    """Give the refusal for a catalogued code, with its usual message unless another is given."""
    status, usual = CATALOGUE[code]
    return Refusal(status, code, message or usual)


def failure(code: str, message: str | None = None) -> Failure:
    """Give the task failure for a code, with its usual message unless another is given."""
    return Failure(code, message or CATALOGUE[code][1])
