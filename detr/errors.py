"""Errors of model import and export."""

from __future__ import annotations

from common.domain.errors import CallerError, ServiceError


class WeightsError(CallerError):
    """A weights file cannot be taken: unreadable, unsafe, or its keys or shapes are not DETR's."""


class ExportError(ServiceError):
    """The exported halves do not compute what the model computes."""
