"""From entries of the configuration to an albumentations pipeline, with errors that name the entry."""

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
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


def _build_entries(library: ModuleType, entries: Any, path: KeyPath, origins: Origins) -> list[Any]:
    transforms, problems = [], []
    for i, entry in enumerate(entries):
        try:
            transforms.append(_build_entry(library, entry, (*path, i), origins))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return transforms


def _build_entry(library: ModuleType, entry: Any, path: KeyPath, origins: Origins) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        hint = f"expected {{name: ..., argument: value}}, found {dict(entry) if isinstance(entry, Mapping) else entry!r}"
        raise UserError(f"{_where(path, origins)}: {hint}")
    name = entry["name"]
    arguments = {key: value for key, value in entry.items() if key != "name"}
    where = f"{_where(path, origins)} {name}"
    transform_class = _transform_class(library, name, where)
    _check_arguments(transform_class, arguments, path, origins, where)
    if name in _NESTING:
        if not isinstance(arguments.get("transforms"), Sequence) or isinstance(arguments["transforms"], str):
            raise UserError(f"{where}: transforms: expected a list of transforms")
        arguments["transforms"] = _build_entries(library, arguments["transforms"], (*path, "transforms"), origins)
    transform = _construct(transform_class, arguments, where)
    missing = sorted(set(getattr(transform, "targets_as_params", ())) - {"image", "bboxes"})
    if missing:
        raise UserError(f"{where}: it needs {', '.join(map(repr, missing))}, which a detection dataset does not have")
    return transform


def _transform_class(library: ModuleType, name: str, where: str) -> Any:
    if name in _UNSUITABLE:
        raise UserError(f"{where}: cannot be used here: {_UNSUITABLE[name]}")
    names = {key: value for key, value in vars(library).items() if _is_usable(library, key, value)}
    if name in names:
        return names[name]
    lowered = {key.lower(): key for key in names}
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3)]
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "Any image transform of albumentations can be."
    raise UserError(f"{where}: no such transform in albumentations {library.__version__}. {hint}")


def _is_usable(library: ModuleType, name: str, value: Any) -> bool:
    if name in _NESTING:
        return True
    if not inspect.isclass(value) or not issubclass(value, library.BasicTransform) or name in _ABSTRACT:
        return False
    targets = value._targets
    return any(t.value == "Image" for t in (targets if isinstance(targets, tuple) else (targets,)))


def _check_arguments(
    transform_class: Any, arguments: Mapping[str, Any], path: KeyPath, origins: Origins, where: str
) -> None:
    """Refuse arguments that the constructor does not have; albumentations only warns about them."""
    known = list(inspect.signature(transform_class).parameters)
    for key in arguments:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            where_key = where.replace(_where(path, origins), _where((*path, key), origins, shown=path), 1)
            raise UserError(f"{where_key}: unknown argument {key!r}.{hint} It takes: {', '.join(known)}")


def _construct(transform_class: Any, arguments: dict[str, Any], where: str) -> Any:
    with warnings.catch_warnings():
        # Its UserWarnings mean that a value was refused and replaced by another; only this one is mere advice.
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case")
        try:
            return transform_class(**arguments)
        except Exception as error:  # what third-party constructors raise is not listed anywhere
            cause = error.__cause__
            if not isinstance(cause, pydantic.ValidationError):
                raise UserError(f"{where}: {error}") from error
            details = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {_found(e)}" for e in cause.errors())
            raise UserError(f"{where}: {'; '.join(details)}") from error


def _found(error: Any) -> str:
    return "nothing" if error["type"] == "missing" else repr(error["input"])


def _where(path: KeyPath, origins: Origins, shown: KeyPath | None = None) -> str:
    """Return "file:line: data.augment[0]": the origin of the path, of its name, of anything in it, or of what holds it."""
    text = ".".join(str(part) for part in (shown or path)).replace(".augment.", ".augment[", 1)
    return text
