"""From entries of the configuration to an albumentations pipeline, with errors that name the entry."""

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeAlias

import pydantic

from detector.errors import UserError

KeyPath: TypeAlias = tuple[str | int, ...]
Origins: TypeAlias = Mapping[KeyPath, str]

_NESTING = ("OneOf", "RandomOrder", "Sequential", "SomeOf")
_UNSUITABLE = {
    "Compose": "data.augment is a composition already; nest with Sequential",
    "FromFloat": "images must stay uint8",
    "Lambda": "it takes a Python function, which a configuration file cannot hold",
    "Normalize": "images must stay uint8; the detector normalises them itself",
    "ReplayCompose": "data.augment is a composition already; nest with Sequential",
    "ToFloat": "images must stay uint8; the detector normalises them itself",
    "ToTensorV2": "images must stay uint8 arrays; the loader makes tensors itself",
}
_ABSTRACT = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D")


def build_pipeline(augment: Sequence[Mapping[str, Any]], origins: Origins) -> Any:
    """Build an albumentations ``Compose`` that takes ``image``, ``bboxes`` (xyxy pixels) and ``numbers`` (one a box).

    Args:
        augment: entries ``{"name": ..., argument: value, ...}``, at least one.
        origins: where each entry was written; may be empty.

    Returns:
        The pipeline. Boxes pass through unchanged where no transform moves pixels.

    Raises:
        UserError: names or arguments are wrong; a line for every wrong entry.
    """
    library = _import_albumentations()
    transforms = _build_entries(library, augment, ("data", "augment"), origins)
    box_params = library.BboxParams(
        format="pascal_voc", label_fields=["numbers"], clip=True, filter_invalid_bboxes=True
    )
    colours_only = library.Compose(transforms)
    if "bboxes" not in colours_only.available_keys:
        return _IgnoringBoxes(colours_only)
    return library.Compose(transforms, bbox_params=box_params)


class _IgnoringBoxes:
    """A pipeline of colour transforms, which albumentations warns about when it is handed boxes."""

    def __init__(self, pipeline: Any) -> None:
        self.set_random_state = pipeline.set_random_state
        self._pipeline = pipeline

    def __call__(self, *, image: Any, **boxes: Any) -> dict[str, Any]:
        return {**self._pipeline(image=image), **boxes}


def _import_albumentations() -> ModuleType:
    # Its import asks the package index for a newer version, and waits for it, unless this is set before.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    module: ModuleType = albumentations
    return module


@dataclass(frozen=True)
class _Place:
    """Where an entry stands, to say so in errors."""

    path: KeyPath
    origins: Origins
    name: str = ""

    def error(self, problem: str, argument: str = "") -> UserError:
        """Return "x.yaml:31: data.augment[0] HorizontalFlip: problem", with the line of the argument if it is known."""
        origin = self._origin((*self.path, argument) if argument else self.path)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)[1:]
        return UserError(f"{origin}{': ' if origin else ''}{key} {self.name}".rstrip() + f": {problem}")

    def _origin(self, path: KeyPath) -> str:
        """Return the origin of a key, or of the name beside it, or of anything in it, or of what holds it."""
        for length in range(len(path), 0, -1):
            start = path[:length]
            inside = (key for key in self.origins if key[:length] == start)
            key = next((k for k in (start, (*start, "name")) if k in self.origins), None) or next(inside, None)
            if key is not None:
                return self.origins[key]
        return ""


def _build_entries(library: ModuleType, entries: Any, path: KeyPath, origins: Origins) -> list[Any]:
    transforms, problems = [], []
    for i, entry in enumerate(entries):
        try:
            transforms.append(_build_entry(library, entry, _Place((*path, i), origins)))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return transforms


def _build_entry(library: ModuleType, entry: Any, place: _Place) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise place.error(f"expected {{name: TRANSFORM, argument: value, ...}}, found {entry!r}")
    place = replace(place, name=entry["name"])
    arguments = {key: value for key, value in entry.items() if key != "name"}
    transform_class = _transform_class(library, place)
    _check_arguments(transform_class, arguments, place)
    if place.name in _NESTING:
        nested = arguments.get("transforms")
        if not isinstance(nested, list | tuple) or not nested:
            raise place.error(f"expected a list of transforms, found {nested!r}", "transforms")
        arguments["transforms"] = _build_entries(library, nested, (*place.path, "transforms"), place.origins)
    transform = _construct(transform_class, arguments, place)
    missing = sorted(set(getattr(transform, "targets_as_params", ())) - {"image", "bboxes"})
    if missing:
        raise place.error(f"it needs {', '.join(missing)}, which a detection dataset does not have")
    return transform


def _transform_class(library: ModuleType, place: _Place) -> Any:
    name = place.name
    if name in _UNSUITABLE:
        raise place.error(f"cannot be used here: {_UNSUITABLE[name]}")
    usable = {key: value for key, value in vars(library).items() if _is_usable(library, key, value)}
    if name in usable:
        return usable[name]
    lowered = {key.lower(): key for key in usable}
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise place.error(f"albumentations {library.__version__} has no such transform of images{hint}")


def _is_usable(library: ModuleType, name: str, value: Any) -> bool:
    if name in _NESTING:
        return True
    if name in _ABSTRACT or not inspect.isclass(value) or not issubclass(value, library.BasicTransform):
        return False
    targets = getattr(value, "_targets", ())  # one or several
    return any(target.value == "Image" for target in (targets if isinstance(targets, tuple) else (targets,)))


def _check_arguments(transform_class: Any, arguments: Mapping[str, Any], place: _Place) -> None:
    """Refuse arguments that the constructor does not have; albumentations only warns about them."""
    known = list(inspect.signature(transform_class).parameters)
    for key in arguments:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise place.error(f"unknown argument {key}{hint} (it takes {', '.join(known)})", str(key))


def _construct(transform_class: Any, arguments: dict[str, Any], place: _Place) -> Any:
    with warnings.catch_warnings():
        # Its UserWarnings say that a value was refused and replaced by another; only this one is mere advice.
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case")
        try:
            return transform_class(**arguments)
        except Exception as error:  # what third-party constructors raise is not listed anywhere
            cause = error.__cause__
            if not isinstance(cause, pydantic.ValidationError):
                raise place.error(str(error)) from error
            problems = cause.errors()
            argument = str(problems[0]["loc"][0]) if problems[0]["loc"] else ""
            raise place.error("; ".join(map(_problem, problems)), argument) from error


def _problem(problem: Any) -> str:
    found = "" if problem["type"] == "missing" else f", found {problem['input']!r}"
    return f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}{found}"
