"""The rules that every section of the configuration follows."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NonEmptyStr = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]

Auto = Literal["auto"]
Cadence = PositiveInt | Literal["epoch"]
"""A number of steps, or once an epoch."""


class Section(BaseModel):
    """A frozen section: unknown keys, wrong types, NaN and infinity are errors; lists are read as tuples.

    Messages of its own checks begin with the key that they are about, ``data.val: ...``; a section that stands in
    several places names its keys with a dot before them, ``.images: ... beside .annotations``.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )
