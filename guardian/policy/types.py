"""The kinds of values a policy is made of: each a pydantic type with its check and its cure. No I/O."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from guardian.policy.units import (
    AMOUNT_PATTERN,
    DELAY_PATTERN,
    DURATION_PATTERN,
    PACE_PATTERN,
    TIMES_PATTERN,
    Amount,
    Pace,
    Times,
    parse_amount,
    parse_duration,
    parse_pace,
    parse_times,
    show,
    write_amount,
    write_duration,
    write_pace,
    write_times,
)
from guardian.wire.networks import V1_NAMES, network_of

FROM_FILE: Final = {"from_file": True}
"""Validation context of values that a person wrote: units are part of the value there."""

RESERVED: Final = frozenset(
    {"verify", "settle", "supported", "facilitators", "payments", "discovery", "healthz", "readyz"}
    | {"metrics", "api"}
)
"""First path segments that the data port serves itself or hands to a facilitator."""

_CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_REASON = re.compile(r"[A-Za-z0-9_.:-]{1,100}", re.ASCII)
_STATUS = re.compile(r"[1-5](\d\d|xx)", re.ASCII)
_EVM_ASSET = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
ASSET = re.compile(r"[A-Za-z0-9:._-]{3,128}", re.ASCII)
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_YAML_1_1: Final = {
    **dict.fromkeys(("on", "On", "ON", "yes", "Yes", "YES"), True),
    **dict.fromkeys(("off", "Off", "OFF", "no", "No", "NO"), False),
}
"""What was a flag to YAML until 1.2, and still is to many a person's fingers."""

_NAMES_SHOWN: Final = 24


class Misplaced(ValueError):
    """A fault at another place than the value being checked. at: path of the value to blame."""

    def __init__(self, at: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.at = at


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The cure for a word that is not known: the nearest one that is, or all of them."""
    names = list(known)
    lowered = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=cutoff)
    if near:
        return f"did you mean {lowered[near[0]]}?"
    return f"known here: {', '.join(names[:_NAMES_SHOWN])}" if names else "none is known here"


def _duration(value: object, info: ValidationInfo) -> object:
    return parse_duration(value) if info.context or isinstance(value, str) else value


def _name(value: object) -> str:
    if isinstance(value, bool | int | float):
        raise ValueError(f"{show(value)} is not a text to YAML; put it in quotes")
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{show(value)} is not a name; use 1 to 63 letters, digits, - or _")
    return value


def whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{show(value)} is not a whole number; write it without quotes, fraction or unit")
    return value


def _flag(value: object) -> object:
    found = _YAML_1_1.get(value, value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError(f"{show(value)} is neither true nor false")
    return found


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{show(value)} is not a number; write it without quotes or unit")
    return value


def _finality(value: object) -> object:
    if value in ("safe", "finalized") or (type(value) is int and 1 <= value <= 100_000):
        return value
    raise ValueError(f"{show(value)} is no finality; write a number of blocks from 1, safe or finalized")


def _network(value: object) -> str:
    id = network_of(value) if isinstance(value, str) else None
    if isinstance(value, str) and value.endswith(":*") and _CAIP2.fullmatch(value[:-1] + "0"):
        return value
    if id is None or not _CAIP2.fullmatch(id):
        raise ValueError(f"{show(value)} is not a network; write the CAIP-2 id, such as eip155:8453")
    return id


def _sentence(value: object) -> str:
    if not isinstance(value, str) or len(value) > 300 or not value.isprintable():
        raise ValueError(f"{show(value)} is not a sentence; write one line of at most 300 characters")
    return value


def _reason(value: object) -> str:
    if not isinstance(value, str) or not _REASON.fullmatch(value):
        raise ValueError(f"{show(value)} is not a reason; write the facilitator's errorReason as it sends it")
    return value


def _status(value: object) -> str:
    text = str(value) if type(value) in (int, str) else ""
    if not _STATUS.fullmatch(text):
        raise ValueError(f"{show(value)} is not an HTTP status; write one like 503, or a class like 5xx")
    return text


def _text_glob(value: object) -> str:
    words = value.replace("*", "") if isinstance(value, str) else ""
    if not isinstance(value, str) or len(words.strip()) < 4 or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{show(value)} is too little to know a text by; write 4 to 200 characters of it")
    return value.lower()


def _amount(value: object) -> Amount:
    return value if isinstance(value, Amount) else parse_amount(value)


def _pace(value: object) -> Pace:
    return value if isinstance(value, Pace) else parse_pace(value)


def _times(value: object) -> Times:
    return value if isinstance(value, Times) else parse_times(value)


def _env(value: object) -> str:
    """Never echoed: somebody may have put the secret itself here."""
    if not isinstance(value, str) or not _ENV.fullmatch(value):
        raise ValueError("not the name of an environment variable; write a name like FACILITATOR_TOKEN")
    return value


def _secret_file(value: object) -> str:
    """Never echoed: somebody may have put the secret itself here."""
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 1024 or "\0" in value:
        raise ValueError("not the path of a file; write it from the root, like /run/secrets/token")
    return value


def _header(value: object) -> str:
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise ValueError(f"{show(value)} is not the name of a header; write it like x-api-key")
    return value.lower()


def _written(value: object, info: ValidationInfo) -> object:
    if value is None and info.context:
        raise ValueError("nothing stands here; write a value, or leave the key out")
    return value


def _as_tuple(value: object, info: ValidationInfo) -> object:
    if value == [] and info.context:
        raise ValueError("an empty list would hold for everything; name one, or leave the key out")
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def network_id(key: str, at: tuple[str | int, ...] = ()) -> str:
    """The CAIP-2 id for such an id or a known v1 name; raises Misplaced."""
    id = network_of(key)
    if id is None or not _CAIP2.fullmatch(id):
        near = nearest(key, V1_NAMES, cutoff=0.6)
        cure = near if near.startswith("did") else "write the CAIP-2 id, such as eip155:8453 for Base"
        raise Misplaced(at, f"{show(key)} is not a network; {cure}")
    return id


def asset_id(network: str, key: str, at: tuple[str | int, ...] = ()) -> str:
    """A token's address as payments are compared by it; raises Misplaced."""
    if network.startswith("eip155:"):
        if not _EVM_ASSET.fullmatch(key):
            raise Misplaced(at, f"{show(key)} is not a token's address; write 0x and 40 hex digits")
        return key.lower()
    if not ASSET.fullmatch(key):
        raise Misplaced(at, f"{show(key)} is not a token's address; write it as payments name it")
    return key


def account_id(value: object) -> str:
    """An account's or token's address as payments are compared by it; raises ValueError."""
    if not isinstance(value, str) or not ASSET.fullmatch(value):
        raise ValueError(f"{show(value)} is not an address; write it in quotes, as payments name it")
    if value[:2].lower() == "0x":
        if not _EVM_ASSET.fullmatch(value):
            raise ValueError(f"{show(value)} is not an address; write 0x and 40 hex digits")
        return value.lower()
    return value


def host_name(value: object) -> str:
    """A host as URLs are compared by it; raises ValueError."""
    if not isinstance(value, str) or not HOST.fullmatch(value):
        raise ValueError(f"{show(value)} is not a host; write it like api.example.com, without a port")
    return value.lower()


def reserved_route(name: str, facilitator_urls: Sequence[str]) -> str:
    """Why a route may not have this name; empty when it may."""
    if name.lower() in RESERVED:
        return "collides with a path of the data port"
    prefixes = {urlsplit(url).path.strip("/").partition("/")[0].lower() for url in facilitator_urls}
    return "collides with the path of a facilitator's URL" if name.lower() in prefixes - {""} else ""


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


_AS_DURATION = PlainSerializer(write_duration, return_type=str, when_used="json")

Delay = Annotated[
    float,
    Field(ge=0, le=3650 * 86400),
    BeforeValidator(_duration),
    _AS_DURATION,
    _text_schema(DELAY_PATTERN, "1s"),
]
Duration = Annotated[
    float,
    Field(gt=0, le=3650 * 86400),
    BeforeValidator(_duration),
    _AS_DURATION,
    _text_schema(DURATION_PATTERN, "25s"),
]
Written = BeforeValidator(_written)
"""For a value that may be left out: in a file its key never stands without one."""
AmountValue = Annotated[
    Amount,
    PlainValidator(_amount),
    PlainSerializer(write_amount, return_type=str, when_used="json"),
    _text_schema(AMOUNT_PATTERN, "$0.001"),
]
PaceValue = Annotated[
    Pace,
    PlainValidator(_pace),
    PlainSerializer(write_pace, return_type=str, when_used="json"),
    _text_schema(PACE_PATTERN, "50 per s"),
]
TimesValue = Annotated[
    Times,
    PlainValidator(_times),
    PlainSerializer(write_times, return_type=str, when_used="json"),
    _text_schema(TIMES_PATTERN, "2x"),
]
EnvName = Annotated[str, BeforeValidator(_env), _text_schema(f"^{_ENV.pattern}$", "FACILITATOR_TOKEN")]
SecretFile = Annotated[str, BeforeValidator(_secret_file), _text_schema("^/", "/run/secrets/token")]
HeaderName = Annotated[str, BeforeValidator(_header), _text_schema(f"^{_HEADER.pattern}$", "x-api-key")]
Flag = Annotated[
    bool,
    BeforeValidator(_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(_YAML_1_1)}]}),
]
Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(whole)]
Factor = Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False), BeforeValidator(_number)]
Name = Annotated[
    str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
NetworkName = Annotated[
    str,
    BeforeValidator(_network),
    _text_schema(r"^([-a-z0-9]{3,8}:(\*|[-_a-zA-Z0-9]{1,32})|[A-Za-z][-A-Za-z0-9]*)$", "eip155:8453"),
]
"""A CAIP-2 id or known v1 name, kept as the id; `eip155:*` matches a family."""
Sentence = Annotated[
    str,
    BeforeValidator(_sentence),
    WithJsonSchema({"type": "string", "maxLength": 300, "pattern": r"^[^\r\n]*$"}),
]
ReasonText = Annotated[
    str, BeforeValidator(_reason), WithJsonSchema({"type": "string", "pattern": f"^{_REASON.pattern}$"})
]
"""A facilitator's reason string, exactly."""
Status = Annotated[
    str,
    BeforeValidator(_status),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": f"^{_STATUS.pattern}$"},
            ]
        }
    ),
]
"""An HTTP status, or a class of them: `503` or `5xx`; kept as text."""
TextGlob = Annotated[
    str,
    BeforeValidator(_text_glob),
    WithJsonSchema({"type": "string", "minLength": 4, "maxLength": 200, "pattern": r"^[^\r\n]*$"}),
]
"""Words that a reply's text contains, upper and lower case alike; `*` stands for anything between."""
Finality = Annotated[
    int | Literal["safe", "finalized"],
    BeforeValidator(_finality),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 100_000}, {"enum": ["safe", "finalized"]}]}
    ),
]


class _OneOrItems:
    """A list's schema that takes one item as well."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        if "maxLength" in many:  # the limit of the tuple, told for a text
            many["maxItems"] = many.pop("maxLength")
        many["minItems"] = 1
        return {"anyOf": [many["items"], many]}


Item = TypeVar("Item")
OneOrMore = Annotated[tuple[Item, ...], BeforeValidator(_as_tuple), Field(max_length=64), _OneOrItems]
"""One value, or a list of which any may hold."""
