"""What a log means: signatures as data, the first failure and its victims, what to do about it."""

from engine.triage.catalogue import Catalogue, CatalogueError, Remedy, catalogue
from engine.triage.classifier import Classifier, classify
from engine.triage.findings import Finding

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Classifier",
    "Finding",
    "Remedy",
    "catalogue",
    "classify",
]
