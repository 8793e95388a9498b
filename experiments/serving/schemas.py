"""What the service is asked and what it answers, as its OpenAPI description tells it.

These models check the shape alone; `hrnn_jax.ids_and_times` checks ids and times. The description
is in OpenAPI 3.0, which the Swagger UI at hand reads, and so without the null of 3.1.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from hrnn_jax.ids_and_times import MAX_ID_BYTES, MAX_SECONDS
from hrnn_jax.live.events import Outcome

MOST_EVENTS = 1_000  # of one request
MOST_ROWS = 1_000  # users, items or sessions that are listed
_TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,  # of bytes, which OpenAPI does not count
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
}
_ID = {"anyOf": [{"type": "integer", "format": "int64"}, _TEXT]}
_SECONDS = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS - 1}
Id = Annotated[Any, pydantic.WithJsonSchema(_ID)]
MaybeId = Annotated[Any, pydantic.WithJsonSchema(_ID | {"nullable": True})]
MaybeTime = Annotated[Any, pydantic.WithJsonSchema(_SECONDS | {"nullable": True})]
PathId = Annotated[str, pydantic.WithJsonSchema(_TEXT)]


class _Asked(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")  # a slip of the pen is no default


class SessionEvent(_Asked):
    """An event in the session of nobody known."""

    item: Id = pydantic.Field(examples=["i42"])
    time: MaybeTime = pydantic.Field(None, description="Unix seconds; now if there is none")
    event_id: MaybeId = pydantic.Field(
        None, description="any id of the delivery: a second one of the same event changes nothing"
    )


class Event(SessionEvent):
    """An event of a user."""

    user: Id = pydantic.Field(examples=["u1"])
    session: MaybeId = pydantic.Field(
        None, description="an id that changes with the session; without any, idle time opens one"
    )

    @pydantic.field_validator("user")
    @classmethod
    def _is_given(cls, user: Any) -> Any:
        if user is None:
            raise ValueError("give an id; of nobody known, POST to /sessions/SESSION/events")
        return user


class SessionEvents(_Asked):
    """Several, in order."""

    events: list[SessionEvent] = pydantic.Field(min_length=1, max_length=MOST_EVENTS)


class Events(_Asked):
    """Several, a user's in order."""

    events: list[Event] = pydantic.Field(min_length=1, max_length=MOST_EVENTS)


def _how_many(asked: Any) -> str:
    return "several" if isinstance(asked, dict) and "events" in asked else "one"


TAGS = ("one", "several")
_ONE_OR_SEVERAL = pydantic.Discriminator(_how_many)
AnyEvents = Annotated[
    Annotated[Event, pydantic.Tag("one")] | Annotated[Events, pydantic.Tag("several")],
    _ONE_OR_SEVERAL,
]
AnySessionEvents = Annotated[
    Annotated[SessionEvent, pydantic.Tag("one")]
    | Annotated[SessionEvents, pydantic.Tag("several")],
    _ONE_OR_SEVERAL,
]


class Listed(_Asked):
    """The parameters of a listing of users or items."""

    prefix: str = pydantic.Field("", description="of their ids")
    limit: int = pydantic.Field(50, ge=1, le=MOST_ROWS)


class Outcomes(pydantic.BaseModel):
    outcomes: list[Outcome]


class Recommendation(pydantic.BaseModel):
    item: Id
    score: float


class Recommendations(pydantic.BaseModel):
    recommendations: list[Recommendation]


class Step(Recommendations):
    item: Id
    time: float


class Session(pydantic.BaseModel):
    session: int
    events: list[Step]


class History(pydantic.BaseModel):
    sessions: list[Session]


class User(pydantic.BaseModel):
    user: str
    events: int


class Users(pydantic.BaseModel):
    users: list[User]


class Items(pydantic.BaseModel):
    items: list[Id]


class Health(pydantic.BaseModel):
    status: Literal["ok"]
    model: str
    data: str
    simulated: bool
    items: int
    states: int
    given_sessions: bool


class Error(pydantic.BaseModel):
    detail: str = pydantic.Field(description="one line: what is wrong, where, what to do")
